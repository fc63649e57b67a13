"""Delivers what the spool holds, beside the live writes.

A thread of each process empties the process' own file and those of dead siblings. While the store is away it only
probes. Records are indifferent to order, so it doesn't matter what is delivered first, or twice.
"""

import logging
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw

from logging_store.errors import Conflict, Invalid, Misconfigured, StoreError, StoreUnavailable
from logging_store.records import MAX_REPEATS, Batch, BatchReceipts, Receipt, receipt_of
from logging_store.spool.breaker import CircuitBreaker
from logging_store.spool.dead_letters import DeadLetters
from logging_store.spool.directory import SpoolDirectory
from logging_store.spool.files import Entry, SpoolFile
from logging_store.store import Store

_log = logging.getLogger(__name__)

RECORDS_A_CALL, BYTES_A_CALL = 1000, 8_000_000
LOOK_FOR_ORPHANS_S = 3.0  # a dead worker's file waits no longer than this, and a jitter as long
HELD_UP_S = 5.0  # an entry that only a lock holds up is tried again after about so long


class Drain:
    """What the delivering thread does. `revive` is called before each probe: see `Spool`."""

    def __init__(
        self,
        store: Store,
        directory: SpoolDirectory,
        dead_letters: DeadLetters,
        breaker: CircuitBreaker,
        *,
        revive: Callable[[], None] | None = None,
        on_delivered: Callable[[Receipt], None] = lambda _: None,
    ) -> None:
        self._store = store
        self._directory = directory
        self._dead_letters = dead_letters
        self._breaker = breaker
        self._revive = revive
        self._on_delivered = on_delivered
        self._aside: dict[tuple[Path, int], float] = {}  # (file, entry) -> when to try again
        self._held: dict[tuple[str, str], float] = {}  # (project, session) -> until when
        self._look_at = 0.0
        self._awake = threading.Event()
        self._ended = threading.Event()

    def held_sessions(self, batch: Batch) -> set[str]:
        """Return the sessions of a batch that somebody's lock holds up at the moment."""
        if not self._held:
            return set()
        now = time.monotonic()
        return {one for one in batch.session_ids() if self._held.get((batch.project, one), 0) > now}

    def run(self) -> None:
        """Deliver until `end` is called."""
        while not self._ended.is_set():
            try:
                pause = self.step()
            except Exception:  # noqa: BLE001 - this thread is all that delivers: it tells, and goes on
                _log.exception("spool: the drain met an unexpected error")
                pause = LOOK_FOR_ORPHANS_S
            self._awake.wait(pause)
            self._awake.clear()

    def wake(self) -> None:
        self._awake.set()

    def begin(self) -> None:
        self._ended.clear()

    def end(self) -> None:
        self._ended.set()
        self._awake.set()

    def step(self) -> float:
        """Do one thing; return after how many seconds to do the next."""
        if not self._breaker.is_closed:
            return self._probe()
        if (now := time.monotonic()) >= self._look_at:
            self._look_at = now + LOOK_FOR_ORPHANS_S * (1 + random.random())  # noqa: S311 - jitter, not a secret
            self._directory.adopt_orphans()
            self._held = {key: until for key, until in self._held.items() if until > now}
        for file in self._directory.to_drain():
            started = time.monotonic()
            try:
                delivered = self._drain_some(file)
            except apsw.IOError as error:
                _log.error("spool: the disk failed under %s: %s", file.path, error)
                self._directory.abandon(file)
                continue
            except OSError as error:
                _log.warning("spool: a file can't be removed now: %s", error)
                continue
            except apsw.FullError:
                # what was delivered can't be removed: it will be again, which changes nothing
                _log.warning("spool: no room on the disk to note what was delivered")
                return LOOK_FOR_ORPHANS_S
            if delivered:
                # as long a rest as it took, with full jitter: live writes keep half of the store at least
                return (time.monotonic() - started) * 2 * random.random()  # noqa: S311
        return max(0.05, min(self._look_at - time.monotonic(), self._next_aside()))

    def _probe(self) -> float:
        if not self._breaker.may_probe():
            return self._breaker.seconds_to_probe() + 0.01
        try:
            if self._revive is not None:
                self._revive()
            self._store.ping()
        except StoreError as error:
            self._breaker.fail(error)
            return self._breaker.seconds_to_probe()
        except BaseException as error:
            self._breaker.fail(StoreUnavailable(f"the probe failed: {error}"))
            raise
        self._breaker.succeed()
        _log.warning("spool: the store answers again, delivering what waits")
        return 0

    def _drain_some(self, file: SpoolFile) -> bool:
        """Deliver the oldest entries of a file; tell whether there were any."""
        now = time.monotonic()
        aside = [seq for (of, seq), until in self._aside.items() if of == file.path and until > now]
        entries = file.oldest(RECORDS_A_CALL, BYTES_A_CALL, aside)
        if not entries:
            if not aside:
                self._directory.retire(file)
            return False
        together = _together(entries)
        try:
            self._deliver(Batch.merge([entry.batch for entry in together]), together)
        except (StoreUnavailable, Misconfigured) as error:
            self._part(file, together, error)
        else:
            file.remove(together)
        return True

    def _deliver(self, batch: Batch, entries: list[Entry]) -> None:
        """Write a batch; halve it while data of some record fails it, until the bad one stands alone."""
        try:
            receipts = self._store.write(batch)
        except (Invalid, Conflict) as error:
            halves = batch.halves()
            for half in halves:
                self._deliver(half, entries)
            if not halves:
                self._refused(batch, receipt_of(error), entries)
            return
        for row, receipt in _records(batch, receipts):
            self._on_delivered(receipt)
            if not receipt.kept:
                self._refused(batch.alone(row), receipt, entries)

    def _refused(self, batch: Batch, receipt: Receipt, entries: list[Entry]) -> None:
        """Move a record to the dead letters; they are on the disk before the entry is removed."""
        if receipt.reason == "erased":
            return  # somebody asked for this session to be forgotten: then it is, here as well
        _log.error("spool: the store refused a record that was spooled: %s", receipt.receipt)
        self._dead_letters.add(batch, receipt, min(entry.kept_at for entry in entries))

    def _answers(self) -> bool:
        try:
            self._store.ping()
        except StoreError:
            return False
        return True

    def _part(self, file: SpoolFile, entries: list[Entry], error: StoreError) -> None:
        """Find what among these is held up by itself, if the store is well, and set it aside."""
        if not self._answers():
            self._breaker.fail(error)
            return
        if len(entries) > 1:
            for entry in entries:
                try:
                    self._deliver(entry.batch, [entry])
                except (StoreUnavailable, Misconfigured) as own_error:
                    self._part(file, [entry], own_error)
                    if not self._breaker.is_closed:
                        return
                else:
                    file.remove([entry])
            return
        (entry,) = entries
        if halves := entry.batch.halves():
            file.split(entry, halves)
            return
        pause = HELD_UP_S * (0.5 + random.random())  # noqa: S311
        self._aside[file.path, entry.seq] = time.monotonic() + pause
        for session_id in entry.batch.session_ids():
            self._held[entry.batch.project, session_id] = time.monotonic() + pause
        _log.warning("spool: a record is held up and tried again later: %s", error)

    def _next_aside(self) -> float:
        now = time.monotonic()
        self._aside = {key: until for key, until in self._aside.items() if until > now - HELD_UP_S}
        return min((until - now for until in self._aside.values()), default=LOOK_FOR_ORPHANS_S)


def _together(entries: list[Entry]) -> list[Entry]:
    """Return what may be delivered with the first entry: of its project, and without weighing one record for ever."""
    chosen: list[Entry] = []
    named: Counter[tuple[str, str]] = Counter()
    for entry in entries:
        if not entries[0].batch.fits(entry.batch):
            continue
        ids = entry.batch.interaction_ids()
        named.update(ids)
        if chosen and any(named[each] > MAX_REPEATS for each in ids):
            break
        chosen.append(entry)
    return chosen


def _records(batch: Batch, receipts: BatchReceipts) -> list[tuple[dict[str, Any], Receipt]]:
    return [
        *zip(batch.sessions, receipts.sessions, strict=True),
        *zip(batch.interactions, receipts.interactions, strict=True),
    ]
