"""Writes the records of a source in batches, each a transaction of its own, and counts the outcomes.

Every record's identity is known before it is written, so an interrupted import can simply be run again from the
beginning: records that are stored already count as duplicates.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic_core import to_json

from conversation.archive.entries import (
    AlteredTexts,
    Entry,
    Location,
    MovedToMetadata,
    ParsedRecord,
    PassedOver,
    RejectedEntry,
    RepairedId,
)
from conversation.archive.field_names import is_moving
from logging_store.batches import KINDS, Kind, Outcome, Receipt
from logging_store.errors import StoreError, StoreUnavailable
from logging_store.records.models import Record
from logging_store.repository import WriteResult

RECORDS_AT_ONCE = 500
_BYTES_AT_ONCE = 4 * 1024 * 1024  # of the records' texts, as in the largest request
_PAUSES_S = (1, 2, 4, 8)  # between retries while the store is away; then always the last one

_NOT_STORED: tuple[Outcome, ...] = ("conflict", "rejected")

_Record = TypeVar("_Record", bound=Record)
_Answer = TypeVar("_Answer")

Write = Callable[[Sequence[Record]], list[WriteResult]]
Row = dict[str, Any]


@dataclass
class Tally:
    """The outcomes of the records, by kind; all those up to `location` have been written."""

    kinds: dict[Kind, Counter[Outcome]] = field(default_factory=lambda: {kind: Counter() for kind in KINDS})
    unreadable: int = 0  # documents, or parts of one, that yielded no record
    repaired: int = 0
    moved_to_metadata: int = 0
    passed_over: int = 0  # documents that are no conversations
    altered: int = 0  # documents with texts that were altered so that they can be stored
    location: Location | None = None

    @property
    def records(self) -> int:
        return sum(counts.total() for counts in self.kinds.values())

    @property
    def not_stored(self) -> int:
        """Return how many were rejected or are in conflict with stored records; a file of nothing else counts."""
        nothing_else = 0 if self.records else self.passed_over
        return (
            nothing_else + self.unreadable + sum(counts[each] for counts in self.kinds.values() for each in _NOT_STORED)
        )


class Importer:
    """One run. `reject` and `report` receive what was rejected and what was repaired, as a JSON object each.

    `on_outage` is called before each retry with the error and the pause in seconds; after `patience_s` seconds of
    outage the import ends with `StoreUnavailable`.
    """

    def __init__(
        self,
        write: Write,
        *,
        reject: Callable[[Row], None],
        report: Callable[[Row], None],
        on_outage: Callable[[StoreUnavailable, float], None],
        patience_s: float,
    ) -> None:
        self.tally = Tally()
        self._write = write
        self._reject = reject
        self._report = report
        self._on_outage = on_outage
        self._patience_s = patience_s
        self._aborted = threading.Event()
        self._in_flight: tuple[list[ParsedRecord], Future[list[WriteResult]]] | None = None

    def run(self, entries: Iterable[Entry]) -> Iterator[Tally]:
        """Store all entries; yield the tally, always the same object, after each batch.

        The next batch is read while one is being written.
        """
        with ThreadPoolExecutor(1, thread_name_prefix="import") as writer:
            try:
                for batch in self._batches(entries):
                    if self._in_flight:
                        self._collect()
                        yield self.tally
                    self._in_flight = batch, writer.submit(self._write_with_retries, [each.record for each in batch])
                self._collect()
                yield self.tally
            except BaseException:
                # a batch that is being written when the run is interrupted is still stored, so it is counted
                self._aborted.set()
                with suppress(StoreError):
                    self._collect()
                raise

    def _batches(self, entries: Iterable[Entry]) -> Iterator[list[ParsedRecord]]:
        batch: list[ParsedRecord] = []
        size = 0
        for entry in entries:
            match entry:
                case RejectedEntry():
                    self.tally.unreadable += 1
                    self._reject(_row(entry.location, reason=entry.reason, text=entry.text))
                case RepairedId():
                    self.tally.repaired += 1
                    self._report(_row(entry.location, reason=entry.reason, was=entry.was, session_id=entry.session_id))
                case MovedToMetadata():
                    self.tally.moved_to_metadata += 1
                    self._report(_row(entry.location, reason=entry.reason, column=entry.column))
                case PassedOver():
                    self.tally.passed_over += 1
                    self._report(_row(entry.location, reason=entry.reason))
                case AlteredTexts():
                    self.tally.altered += 1
                    self._report(_row(entry.location, altered=entry.paths))
                case ParsedRecord():
                    batch.append(entry)
                    size += _size(entry.record)
            if len(batch) == RECORDS_AT_ONCE or size > _BYTES_AT_ONCE:
                yield batch
                batch, size = [], 0
        if batch:
            yield batch

    def patiently(self, ask: Callable[[], _Answer]) -> _Answer:
        """Return what a call of the store returns, with retries while the store is away."""
        give_up = time.monotonic() + self._patience_s
        pauses = iter(_PAUSES_S)
        while True:
            try:
                return ask()
            except StoreUnavailable as error:
                pause = next(pauses, _PAUSES_S[-1])
                if time.monotonic() + pause > give_up or self._aborted.is_set():
                    raise
                self._on_outage(error, pause)
                self._aborted.wait(pause)

    def _write_with_retries(self, records: Sequence[Record]) -> list[WriteResult]:
        return self.patiently(lambda: self._write_again_without_moving(records, self._write(records)))

    def _write_again_without_moving(self, records: Sequence[Record], results: list[WriteResult]) -> list[WriteResult]:
        """Write records again that only contradict what is stored in fields that change with their conversation.

        Such a field, when a conversation was last changed for example, keeps the value that was stored first.
        """
        again = {n: _without(records[n], each.receipt.fields) for n, each in enumerate(results) if _has_moved(each)}
        if again:
            for n, result in zip(again, self._write(list(again.values())), strict=True):
                results[n] = result
        return results

    def _collect(self) -> None:
        """Wait for the batch that is being written, and count its outcomes."""
        if self._in_flight is None:
            return
        batch, written = self._in_flight
        every = written.result()
        self._in_flight = None
        for entry, result in zip(batch, every, strict=True):
            receipt = result.receipt
            self.tally.kinds[entry.kind][receipt.receipt] += 1
            if receipt.receipt in _NOT_STORED:
                self._reject(_row(entry.location, reason=_reason_of(receipt), record=entry.record.json_fields()))
        self.tally.location = batch[-1].location


_METADATA = "metadata."


def _has_moved(result: WriteResult) -> bool:
    fields = result.receipt.fields
    return (
        result.receipt.receipt == "conflict"
        and bool(fields)
        and all(each.startswith(_METADATA) and is_moving(each.removeprefix(_METADATA)) for each in fields)
    )


def _without(record: _Record, fields: Sequence[str]) -> _Record:
    """Return a record without some entries of its metadata."""
    left_out = {each.removeprefix(_METADATA) for each in fields}
    metadata = {name: value for name, value in getattr(record, "metadata", {}).items() if name not in left_out}
    return record.model_copy(update={"metadata": metadata or None})


def _size(record: Record) -> int:
    """Return the approximate size of a record in bytes, from the fields that can be long."""
    parts = (getattr(record, name, None) for name in ("prompt", "response", "error", "metadata"))
    return sum(len(part) if isinstance(part, str) else len(to_json(part)) for part in parts if part)


def _row(location: Location, **more: Any) -> Row:
    return {location.kind: location.number, **more}


def _reason_of(receipt: Receipt) -> str:
    if receipt.reason:
        return f"{receipt.receipt}: {receipt.reason}"
    if receipt.constraint:
        return f"{receipt.receipt}: {receipt.constraint} is held by {receipt.held_by}"
    return f"{receipt.receipt}: a different value is stored for {', '.join(receipt.fields)}"
