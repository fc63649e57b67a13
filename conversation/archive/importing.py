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
from typing import Any

from pydantic_core import to_json

from conversation.archive.entries import Entry, Location, MovedToMetadata, ParsedRecord, RejectedEntry, RepairedId
from logging_store.batches import KINDS, Kind, Outcome, Receipt
from logging_store.errors import StoreError, StoreUnavailable
from logging_store.records.models import Record
from logging_store.repository import WriteResult

RECORDS_AT_ONCE = 500
_BYTES_AT_ONCE = 4 * 1024 * 1024  # of the records' texts, as in the largest request
_PAUSES_S = (1, 2, 4, 8)  # between retries while the store is away; then always the last one

_NOT_STORED: tuple[Outcome, ...] = ("conflict", "rejected")

Write = Callable[[Sequence[Record]], list[WriteResult]]
Row = dict[str, Any]


@dataclass
class Tally:
    """The outcomes of the records, by kind; all those up to `location` have been written."""

    kinds: dict[Kind, Counter[Outcome]] = field(default_factory=lambda: {kind: Counter() for kind in KINDS})
    unreadable: int = 0  # documents, or parts of one, that yielded no record
    repaired: int = 0
    moved_to_metadata: int = 0
    location: Location | None = None

    @property
    def records(self) -> int:
        return sum(counts.total() for counts in self.kinds.values())

    @property
    def not_stored(self) -> int:
        """Return how many were rejected or are in conflict with stored records."""
        return self.unreadable + sum(counts[each] for counts in self.kinds.values() for each in _NOT_STORED)


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
                case ParsedRecord():
                    batch.append(entry)
                    size += _size(entry.record)
            if len(batch) == RECORDS_AT_ONCE or size > _BYTES_AT_ONCE:
                yield batch
                batch, size = [], 0
        if batch:
            yield batch

    def _write_with_retries(self, records: Sequence[Record]) -> list[WriteResult]:
        """Write a batch, with retries while the store is away."""
        give_up = time.monotonic() + self._patience_s
        pauses = iter(_PAUSES_S)
        while True:
            try:
                return self._write(records)
            except StoreUnavailable as error:
                pause = next(pauses, _PAUSES_S[-1])
                if time.monotonic() + pause > give_up or self._aborted.is_set():
                    raise
                self._on_outage(error, pause)
                self._aborted.wait(pause)

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
