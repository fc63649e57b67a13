"""Takes in the records of a file: in batches, each a transaction of its own, and counts what became of each.

Every record's identity is known before it is written, so an import that ended anywhere, however it ended, is run again
from the beginning: what is stored already is a duplicate.
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

from conversation.archive.entries import Entry, KeptAside, Place, Refused, Repaired, Stated
from logging_store.batches import KINDS, Kind, Outcome, Receipt
from logging_store.errors import StoreError, StoreUnavailable
from logging_store.records.models import Record
from logging_store.repository import WriteResult

RECORDS_AT_ONCE = 500
_BYTES_AT_ONCE = 4 * 1024 * 1024  # of the records as text: as much as a request may hold
_PAUSES_S = (1, 2, 4, 8)  # until a store that is away is asked again; the last one from then on

_REFUSALS: tuple[Outcome, ...] = ("conflict", "rejected")

Keep = Callable[[Sequence[Record]], list[WriteResult]]
Row = dict[str, Any]


@dataclass
class Tally:
    """What became of the records, by kind; all those up to `place` are stored."""

    kinds: dict[Kind, Counter[Outcome]] = field(default_factory=lambda: {kind: Counter() for kind in KINDS})
    unreadable: int = 0  # documents, or parts of one, of which no record could be made
    repaired: int = 0
    kept_aside: int = 0
    place: Place | None = None

    @property
    def records(self) -> int:
        return sum(counts.total() for counts in self.kinds.values())

    @property
    def refused(self) -> int:
        """How many were rejected, or contradict what is stored."""
        return self.unreadable + sum(counts[each] for counts in self.kinds.values() for each in _REFUSALS)


class Import:
    """One run. `reject` and `report` are handed what was refused and what was repaired, a row of JSON values each.

    `waiting` is told when the store is away, and for how many seconds it is left alone; after `patience_s` seconds of
    it the import ends with `StoreUnavailable`.
    """

    def __init__(
        self,
        keep: Keep,
        *,
        reject: Callable[[Row], None],
        report: Callable[[Row], None],
        waiting: Callable[[StoreUnavailable, float], None],
        patience_s: float,
    ) -> None:
        self.tally = Tally()
        self._keep = keep
        self._reject = reject
        self._report = report
        self._waiting = waiting
        self._patience_s = patience_s
        self._given_up = threading.Event()
        self._writing: tuple[list[Stated], Future[list[WriteResult]]] | None = None

    def run(self, entries: Iterable[Entry]) -> Iterator[Tally]:
        """Store what is stated; yield the tally, which goes on counting, after each batch.

        While one batch is written the next is read, so the store and this process both work.
        """
        with ThreadPoolExecutor(1, thread_name_prefix="import") as writer:
            try:
                for batch in self._batches(entries):
                    if self._writing:
                        self._finish()
                        yield self.tally
                    self._writing = batch, writer.submit(self._keep_patiently, [each.record for each in batch])
                self._finish()
                yield self.tally
            except BaseException:
                # what is on its way to the store when somebody interrupts is stored, and counted, all the same
                self._given_up.set()
                with suppress(StoreError):
                    self._finish()
                raise

    def _batches(self, entries: Iterable[Entry]) -> Iterator[list[Stated]]:
        batch: list[Stated] = []
        size = 0
        for entry in entries:
            match entry:
                case Refused():
                    self.tally.unreadable += 1
                    self._reject(_row(entry.place, reason=entry.reason, text=entry.text))
                case Repaired():
                    self.tally.repaired += 1
                    self._report(_row(entry.place, reason=entry.reason, was=entry.was, session_id=entry.session_id))
                case KeptAside():
                    self.tally.kept_aside += 1
                    self._report(_row(entry.place, reason=entry.reason, column=entry.column))
                case Stated():
                    batch.append(entry)
                    size += _size(entry.record)
            if len(batch) == RECORDS_AT_ONCE or size > _BYTES_AT_ONCE:
                yield batch
                batch, size = [], 0
        if batch:
            yield batch

    def _keep_patiently(self, records: Sequence[Record]) -> list[WriteResult]:
        """Write a batch, again and again while the store is away."""
        give_up = time.monotonic() + self._patience_s
        pauses = iter(_PAUSES_S)
        while True:
            try:
                return self._keep(records)
            except StoreUnavailable as error:
                pause = next(pauses, _PAUSES_S[-1])
                if time.monotonic() + pause > give_up or self._given_up.is_set():
                    raise
                self._waiting(error, pause)
                self._given_up.wait(pause)

    def _finish(self) -> None:
        """Wait for the batch that is being written, and count what became of it."""
        if self._writing is None:
            return
        batch, written = self._writing
        every = written.result()
        self._writing = None
        for entry, kept in zip(batch, every, strict=True):
            receipt = kept.receipt
            self.tally.kinds[entry.kind][receipt.receipt] += 1
            if receipt.receipt in _REFUSALS:
                self._reject(_row(entry.place, reason=_told(receipt), record=entry.record.json_fields()))
        self.tally.place = batch[-1].place


def _size(record: Record) -> int:
    """Return about how many bytes a record has: those of its fields that can be long."""
    parts = (getattr(record, name, None) for name in ("prompt", "response", "error", "metadata"))
    return sum(len(part) if isinstance(part, str) else len(to_json(part)) for part in parts if part)


def _row(place: Place, **more: Any) -> Row:
    return {place.kind: place.number, **more}


def _told(receipt: Receipt) -> str:
    if receipt.reason:
        return f"{receipt.receipt}: {receipt.reason}"
    if receipt.constraint:
        return f"{receipt.receipt}: {receipt.constraint} is held by {receipt.held_by}"
    return f"{receipt.receipt}: another value is stored of {', '.join(receipt.fields)}"
