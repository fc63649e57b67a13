"""Delivers spooled batches in the background, beside the live writes.

One thread per process drains the process's own file and adopted ones. While the store is away it only probes. Writes
are idempotent and indifferent to order, so it doesn't matter what is delivered first, or twice.
"""

import logging
import random
import threading
import time
from collections.abc import Callable
from dataclasses import replace

import apsw

from logging_store.batches import Batch, Receipt, error_receipt
from logging_store.errors import Conflict, Invalid, Misconfigured, SpoolFull, StoreError, StoreUnavailable
from logging_store.spool.blocked_sessions import BlockedSessions
from logging_store.spool.breaker import CircuitBreaker
from logging_store.spool.dead_letters import DeadLetters, unstored_parts
from logging_store.spool.directory import SpoolDirectory
from logging_store.spool.files import Entry, SpoolFile
from logging_store.store import Store

_log = logging.getLogger(__name__)

MAX_RECORDS_PER_CALL, MAX_BYTES_PER_CALL = 1000, 8_000_000
ORPHAN_SCAN_S = 3.0  # plus a jitter of the same length: how long a dead worker's file waits for its adoption
BLOCKED_RETRY_S = 5.0  # about how long until an entry is retried that only a lock blocks


class Drain:
    """The drain thread's work. `revive`: called before each probe, see `Spool`."""

    def __init__(
        self,
        store: Store,
        directory: SpoolDirectory,
        dead_letters: DeadLetters,
        breaker: CircuitBreaker,
        blocked: BlockedSessions,
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
        self._blocked = blocked
        self._next_scan = 0.0
        self._wakeup = threading.Event()
        self._stopped = threading.Event()

    def run(self) -> None:
        """Deliver until `stop` is called."""
        while not self._stopped.is_set():
            try:
                pause = self.step()
            except Exception:  # noqa: BLE001 - nothing else delivers: log it and go on
                _log.exception("spool: unexpected error in the drain")
                pause = ORPHAN_SCAN_S
            self._wakeup.wait(pause)
            self._wakeup.clear()

    def wake(self) -> None:
        self._wakeup.set()

    def reset(self) -> None:
        self._stopped.clear()

    def stop(self) -> None:
        self._stopped.set()
        self._wakeup.set()

    def step(self) -> float:
        """Scan, probe or deliver once; return the pause until the next step, in seconds."""
        # also while the store is away: only an adopted file's entries can be read
        if (now := time.monotonic()) >= self._next_scan:
            self._next_scan = now + ORPHAN_SCAN_S * (1 + random.random())  # noqa: S311 - jitter, not a secret
            self._directory.adopt_orphans()
        if not self._breaker.is_closed:
            return self._probe()
        for file in self._directory.drainable_files():
            started = time.monotonic()
            try:
                delivered = self._deliver_oldest(file)
            except apsw.IOError as error:
                _log.error("spool: the disk failed under %s: %s", file.path, error)
                self._directory.abandon(file)
                continue
            except OSError as error:
                _log.warning("spool: a file can't be deleted now: %s", error)
                continue
            except (apsw.CorruptError, apsw.NotADBError, ValueError) as error:
                self._directory.quarantine(file, error)
                continue
            except (apsw.FullError, SpoolFull) as error:
                # the entries can't be removed and will be delivered again: writes are idempotent
                _log.warning("spool: the disk is full, delivered records can't be removed: %s", error)
                return ORPHAN_SCAN_S
            if delivered:
                # on average a rest as long as the delivery, with jitter: live writes keep half of the store
                return (time.monotonic() - started) * 2 * random.random()  # noqa: S311
        return max(0.05, min([self._next_scan - time.monotonic(), *self._blocked.retry_delays().values()]))

    def _probe(self) -> float:
        if not self._breaker.try_probe():
            return self._breaker.seconds_to_probe() + 0.01
        try:
            if self._revive is not None:
                self._revive()
            self._store.ping()
        except StoreError as error:
            self._breaker.record_failure(error)
            return self._breaker.seconds_to_probe()
        except BaseException as error:
            self._breaker.record_failure(StoreUnavailable(f"the probe failed: {error}"))
            raise
        self._breaker.record_success()
        _log.warning("spool: the store answers again; delivering spooled records")
        return 0

    def _deliver_oldest(self, file: SpoolFile) -> bool:
        """Deliver the oldest entries of a file; return whether there were any."""
        entries = file.oldest(MAX_RECORDS_PER_CALL, MAX_BYTES_PER_CALL, self._blocked.retry_delays())
        if not entries:
            self._directory.delete_if_empty(file)
            return False
        mergeable = _mergeable(entries)
        try:
            self._deliver(Batch.merge([entry.batch for entry in mergeable]), file, mergeable)
        except (StoreUnavailable, Misconfigured) as error:
            self._isolate(file, mergeable, error)
        else:
            self._remove(file, mergeable)
        return True

    def _remove(self, file: SpoolFile, entries: list[Entry]) -> None:
        file.remove(entries)
        for entry in entries:
            self._blocked.unblock(entry.batch)

    def _deliver(self, batch: Batch, file: SpoolFile, entries: list[Entry]) -> None:
        """Write a batch. If one record's data fails it, bisect it until that record stands alone."""
        try:
            receipts = self._store.write(replace(batch, late=True))
        except (Invalid, Conflict) as error:
            halves = batch.halves()
            for half in halves:
                self._deliver(half, file, entries)
            if not halves:
                self._on_delivered(error_receipt(error))
                self._add_dead_letter(batch, error_receipt(error), file, entries)
            return
        for row, receipt in zip(batch.rows(), receipts, strict=True):
            if row.get("implicit"):
                continue  # only its children's receipts count
            self._on_delivered(receipt)
            # also a record that was stored in part: its dead letter keeps the rest
            if not receipt.acknowledged or unstored_parts(receipt):
                self._add_dead_letter(batch.single(row), receipt, file, entries)

    def _add_dead_letter(self, batch: Batch, receipt: Receipt, file: SpoolFile, entries: list[Entry]) -> None:
        """Copy a record to the dead letters, unless it was erased meanwhile, before its entry is removed."""
        if receipt.reason == "erased":
            return  # an erased record leaves no dead letter
        _log.error(
            "spool: the store rejected a spooled record, or a part of it (%s); it is a dead letter now", receipt.receipt
        )
        sources = _source_entries(batch, entries)
        spooled_at = min(entry.spooled_at for entry in sources)
        self._dead_letters.add(batch, receipt, spooled_at, lambda: any(file.contains(entry) for entry in sources))

    def _store_answers(self) -> bool:
        try:
            self._store.ping()
        except StoreError:
            return False
        return True

    def _isolate(self, file: SpoolFile, entries: list[Entry], error: StoreError) -> None:
        """Find the entries that a lock blocks, if the store answers otherwise, and retry them later."""
        if isinstance(error, SpoolFull):
            raise error  # from the dead letters: the store isn't the cause
        if not self._store_answers():
            self._breaker.record_failure(error)
            return
        if len(entries) > 1:
            for entry in entries:
                try:
                    self._deliver(entry.batch, file, [entry])
                except (StoreUnavailable, Misconfigured) as own_error:
                    self._isolate(file, [entry], own_error)
                    if not self._breaker.is_closed:
                        return
                else:
                    self._remove(file, [entry])
            return
        (entry,) = entries
        if halves := entry.batch.halves():
            file.split(entry, halves)
            return
        self._blocked.block(entry.batch, BLOCKED_RETRY_S * (0.5 + random.random()))  # noqa: S311
        _log.warning("spool: a record is blocked and will be retried: %s", error)


def _source_entries(batch: Batch, entries: list[Entry]) -> list[Entry]:
    """Return the entries that a part of the merged batch came from; all, if none contains its very rows."""
    rows = {id(row) for row in batch.explicit_rows()}
    return [entry for entry in entries if any(id(row) in rows for row in entry.batch.rows())] or entries


def _mergeable(entries: list[Entry]) -> list[Entry]:
    """Return the entries that can be delivered in one batch with the first."""
    return [entry for entry in entries if entries[0].batch.can_merge(entry.batch)]
