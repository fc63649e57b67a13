"""Delivers what the spool holds, beside the live writes.

A thread of each process empties the process' own file and those of dead siblings. While the store is away it only
probes. Records are indifferent to order, so it doesn't matter what is delivered first, or twice.
"""

import logging
import random
import threading
import time
from collections.abc import Callable
from dataclasses import replace

import apsw

from logging_store.batches import Batch, Receipt, receipt_of
from logging_store.errors import Conflict, Invalid, Misconfigured, SpoolFull, StoreError, StoreUnavailable
from logging_store.spool.blocked_sessions import HeldSessions
from logging_store.spool.breaker import CircuitBreaker
from logging_store.spool.dead_letters import DeadLetters, left_out
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
        held: HeldSessions,
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
        self._held = held
        self._look_at = 0.0
        self._awake = threading.Event()
        self._ended = threading.Event()

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
        # also while the store is away: what a killed process left can only be read once it is adopted
        if (now := time.monotonic()) >= self._look_at:
            self._look_at = now + LOOK_FOR_ORPHANS_S * (1 + random.random())  # noqa: S311 - jitter, not a secret
            self._directory.adopt_orphans()
        if not self._breaker.is_closed:
            return self._probe()
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
            except (apsw.CorruptError, apsw.NotADBError, ValueError) as error:
                self._directory.give_up(file, error)
                continue
            except (apsw.FullError, SpoolFull) as error:
                # what was delivered can't be removed: it will be again, which changes nothing
                _log.warning("spool: the disk has no room for what became of the records: %s", error)
                return LOOK_FOR_ORPHANS_S
            if delivered:
                # as long a rest as it took, with full jitter: live writes keep half of the store at least
                return (time.monotonic() - started) * 2 * random.random()  # noqa: S311
        return max(0.05, min([self._look_at - time.monotonic(), *self._held.resting().values()]))

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
        entries = file.oldest(RECORDS_A_CALL, BYTES_A_CALL, self._held.resting())
        if not entries:
            self._directory.retire(file)
            return False
        together = _together(entries)
        try:
            self._deliver(Batch.merge([entry.batch for entry in together]), file, together)
        except (StoreUnavailable, Misconfigured) as error:
            self._part(file, together, error)
        else:
            self._delivered(file, together)
        return True

    def _delivered(self, file: SpoolFile, entries: list[Entry]) -> None:
        file.remove(entries)
        for entry in entries:
            self._held.release(entry.batch)

    def _deliver(self, batch: Batch, file: SpoolFile, entries: list[Entry]) -> None:
        """Write a batch; halve it while data of some record fails it, until the bad one stands alone."""
        try:
            receipts = self._store.write(replace(batch, late=True))
        except (Invalid, Conflict) as error:
            halves = batch.halves()
            for half in halves:
                self._deliver(half, file, entries)
            if not halves:
                self._on_delivered(receipt_of(error))
                self._refused(batch, receipt_of(error), file, entries)
            return
        for row, receipt in zip(batch.rows(), receipts, strict=True):
            if row.get("implicit"):
                continue  # a parent that only came along is no record of its own: its children's receipts tell
            self._on_delivered(receipt)
            # also what was taken in part: nobody but its dead letter tells of the rest
            if not receipt.kept or left_out(receipt):
                self._refused(batch.alone(row), receipt, file, entries)

    def _refused(self, batch: Batch, receipt: Receipt, file: SpoolFile, entries: list[Entry]) -> None:
        """Move a record to the dead letters, if it was not erased meanwhile, before its entry is removed."""
        if receipt.reason == "erased":
            return  # somebody asked for this session to be forgotten: then it is, here as well
        _log.error(
            "spool: the store did not take all of a record that was spooled (%s): it is a dead letter", receipt.receipt
        )
        own = _holding(batch, entries)
        kept_at = min(entry.kept_at for entry in own)
        self._dead_letters.add(batch, receipt, kept_at, lambda: any(file.holds(entry) for entry in own))

    def _answers(self) -> bool:
        try:
            self._store.ping()
        except StoreError:
            return False
        return True

    def _part(self, file: SpoolFile, entries: list[Entry], error: StoreError) -> None:
        """Find what among these is held up by itself, if the store is well, and set it aside."""
        if isinstance(error, SpoolFull):
            raise error  # of the dead letters: no store is to blame
        if not self._answers():
            self._breaker.fail(error)
            return
        if len(entries) > 1:
            for entry in entries:
                try:
                    self._deliver(entry.batch, file, [entry])
                except (StoreUnavailable, Misconfigured) as own_error:
                    self._part(file, [entry], own_error)
                    if not self._breaker.is_closed:
                        return
                else:
                    self._delivered(file, [entry])
            return
        (entry,) = entries
        if halves := entry.batch.halves():
            file.split(entry, halves)
            return
        self._held.hold(entry.batch, HELD_UP_S * (0.5 + random.random()))  # noqa: S311
        _log.warning("spool: a record is held up and tried again later: %s", error)


def _holding(batch: Batch, entries: list[Entry]) -> list[Entry]:
    """Return the entries that a part of what they say together came from; all, if none holds its rows themselves."""
    rows = {id(row) for row in batch.stated()}
    return [entry for entry in entries if any(id(row) in rows for row in entry.batch.rows())] or entries


def _together(entries: list[Entry]) -> list[Entry]:
    """Return what may be delivered with the first entry."""
    return [entry for entry in entries if entries[0].batch.fits(entry.batch)]
