"""Delivers spooled batches in the background, beside the live writes.

One thread per process drains the process's own file and adopted ones. While the store is away it only probes. Writes
are idempotent and indifferent to order, so it doesn't matter what is delivered first, or twice.

Whatever is spooled, everything else is delivered: steps take turns, and what failed is tried alone, one entry a turn.
"""

import logging
import random
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import apsw

from logging_store.batches import GONE, Batch, Receipt, error_receipt
from logging_store.errors import (
    Conflict,
    Invalid,
    Misconfigured,
    OtherDatabase,
    SpoolFull,
    StoreBusy,
    StoreError,
    StoreLocked,
    StoreTimeout,
    StoreUnavailable,
)
from logging_store.spool.blocked_sessions import BlockedSessions
from logging_store.spool.breaker import CircuitBreaker
from logging_store.spool.dead_letters import DeadLetters, unstored_parts
from logging_store.spool.directory import SpoolDirectory
from logging_store.spool.files import Entry, SpoolFile
from logging_store.store import Store

_log = logging.getLogger(__name__)

MAX_RECORDS_PER_CALL, MAX_BYTES_PER_CALL = 1000, 8_000_000
ORPHAN_SCAN_S = 3.0  # plus a jitter of the same length: how long a dead worker's file waits for its adoption
BLOCKED_RETRY_S = 5.0  # about how long an entry waits that failed alone; then twice as long each time, up to:
LONGEST_PAUSE_S = 300.0
LONGEST_LOCK_PAUSE_S = 20.0  # where a lock is the cause, whose end shows only so
MAX_FAILURES = 8  # of a record while the store answers; with these pauses, about a quarter of an hour


class Turn(NamedTuple):
    """What one step delivers: entries of callers with few rights or of others, that have failed before or have not."""

    claimed: bool
    failed: bool


#: In this order, so that what fails holds up nothing else, and pages don't hold up backends.
_TURNS = (
    Turn(claimed=False, failed=False),
    Turn(claimed=False, failed=True),
    Turn(claimed=False, failed=False),
    Turn(claimed=True, failed=False),
    Turn(claimed=False, failed=False),
    Turn(claimed=True, failed=True),
)


class _Retry(NamedTuple):
    """When an entry that has failed is tried again, and its last pause; 0 for one that only failed with others."""

    due: float
    pause_s: float = 0


class Drain:
    """The drain thread's work.

    `probe`: asks the store whether it answers, and which database it is; raises `StoreError`. By default its ping.
    """

    def __init__(
        self,
        store: Store,
        directory: SpoolDirectory,
        dead_letters: DeadLetters,
        breaker: CircuitBreaker,
        blocked: BlockedSessions,
        *,
        probe: Callable[[], object] | None = None,
        on_delivered: Callable[[Receipt], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._directory = directory
        self._dead_letters = dead_letters
        self._breaker = breaker
        self._ask = probe or store.ping
        self._on_delivered = on_delivered
        self._blocked = blocked
        self._clock = clock
        self._next_scan = 0.0
        self._turns_taken = 0
        self._next_file = dict.fromkeys(_TURNS, 0)
        self._retries: dict[tuple[Path, int], _Retry] = {}  # of entries that have failed
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
        if (now := self._clock()) >= self._next_scan:
            self._next_scan = now + ORPHAN_SCAN_S * (1 + random.random())  # noqa: S311 - jitter, not a secret
            self._directory.adopt_orphans()
        if not self._breaker.is_closed:
            return self._probe()
        files = list(self._directory.drainable_files())
        for _ in _TURNS:
            turn = _TURNS[self._turns_taken % len(_TURNS)]
            self._turns_taken += 1
            first = self._next_file[turn] % max(len(files), 1)
            for file in files[first:] + files[:first]:
                self._next_file[turn] += 1
                pause = self._take_turn(file, turn)
                if pause is not None:
                    return pause
        for file in files:
            with suppress(OSError, apsw.Error):  # a later step deletes it
                if self._directory.delete_if_empty(file):
                    self._retries = {key: retry for key, retry in self._retries.items() if key[0] != file.path}
        now = self._clock()
        waits = [retry.due - now for retry in self._retries.values() if retry.due > now]  # others are blocked or gone
        return max(0.05, min([self._next_scan - now, *self._blocked.retry_delays().values(), *waits]))

    def _take_turn(self, file: SpoolFile, turn: Turn) -> float | None:
        """Deliver what a turn finds in a file; return the pause until the next step, or None if it found nothing."""
        started = self._clock()
        try:
            if not self._deliver_some(file, turn):
                return None
        except apsw.IOError as error:
            _log.error("spool: the disk failed under %s: %s", file.path, error)
            self._directory.abandon(file)
            return None
        except (apsw.CorruptError, apsw.NotADBError, ValueError) as error:
            self._directory.quarantine(file, error)
            return None
        except OtherDatabase as error:
            _log.warning("spool: nothing of %s is delivered: %s", file.path.parent, error)
            return self._meet_other_database()
        except (apsw.FullError, apsw.BusyError, SpoolFull) as error:
            # the disk is full, or somebody has locked the file; what was delivered is delivered again: writes are
            # idempotent
            _log.warning("spool: a file can't be changed now: %s", error)
            return ORPHAN_SCAN_S
        except (StoreUnavailable, Misconfigured):
            return ORPHAN_SCAN_S  # the next entry would most likely fail in the same way
        # on average a rest as long as the delivery, with jitter: live writes keep half of the store
        return min((self._clock() - started) * 2 * random.random(), ORPHAN_SCAN_S)  # noqa: S311

    def _meet_other_database(self) -> float:
        try:
            self._ask()
        except StoreError as error:
            self._breaker.record_failure(error)
        return ORPHAN_SCAN_S

    def _probe(self) -> float:
        if not self._breaker.try_probe():
            return self._breaker.seconds_to_probe() + 0.01
        try:
            self._ask()
        except StoreError as error:
            self._breaker.record_failure(error)
            return self._breaker.seconds_to_probe()
        except BaseException as error:
            self._breaker.record_failure(StoreUnavailable(f"the probe failed: {error}"))
            raise
        self._breaker.record_success()
        _log.warning("spool: the store answers again; delivering spooled records")
        return 0

    def _deliver_some(self, file: SpoolFile, turn: Turn) -> bool:
        """Deliver entries of a file, those of one turn; return whether there were any."""
        entries = self._select(file, turn)
        if not entries:
            return False
        mergeable = self._split_blocked(file, _mergeable(entries))
        if not mergeable:
            return True
        batch = Batch.merge([entry.batch for entry in mergeable])
        # only what has failed alone gets more time: most of what failed with others is quick, and waits for its turn
        failed_alone = len(mergeable) == 1 and mergeable[0].failures > 1 and not batch.halves()
        try:
            self._deliver(replace(batch, patient=failed_alone), file, mergeable)
        except (StoreUnavailable, Misconfigured) as error:
            self._hold_back(file, mergeable, error)
        else:
            self._remove(file, mergeable)
        return True

    def _select(self, file: SpoolFile, turn: Turn) -> list[Entry]:
        """Return the oldest entries that haven't failed, or of those that have the one that is due first, alone."""
        blocked = self._blocked.retry_delays()
        if not turn.failed:
            return file.oldest(MAX_RECORDS_PER_CALL, MAX_BYTES_PER_CALL, claimed=turn.claimed, blocked=blocked)
        now = self._clock()
        due = [
            (retry.due if retry else 0, size, seq)
            for seq, size in file.failed(claimed=turn.claimed, blocked=blocked)
            if (retry := self._retries.get((file.path, seq))) is None or retry.due <= now
        ]
        entry = file.get(min(due)[2]) if due else None
        return [entry] if entry else []

    def _split_blocked(self, file: SpoolFile, entries: list[Entry]) -> list[Entry]:
        """Separate what a lock blocks from the rest of its entry; return the entries without blocked sessions."""
        blocked = self._blocked.retry_delays()
        free = []
        for entry in entries:
            ids = entry.batch.parent_ids() & blocked.keys()
            if not ids:
                free.append(entry)
            elif (rest := entry.batch.exclude(ids)).explicit_rows():
                file.split(entry, [rest, entry.batch.select(ids)])
            else:
                self._wait(file, entry, max(blocked[id_] for id_ in ids), LONGEST_LOCK_PAUSE_S)
        return free

    def _remove(self, file: SpoolFile, entries: list[Entry]) -> None:
        file.remove(entries)
        for entry in entries:
            self._blocked.unblock(entry.batch)
            self._retries.pop((file.path, entry.seq), None)

    def _deliver(self, batch: Batch, file: SpoolFile, entries: list[Entry]) -> None:
        """Write a batch. If one record's data fails it, bisect it until that record stands alone."""
        try:
            receipts = self._store.write(replace(batch, late=True, database=file.database))
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
        """Copy a record to the dead letters, unless it was erased or expired meanwhile, before its entry is removed."""
        if receipt.reason in GONE:
            return  # what is gone leaves no dead letter
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

    def _hold_back(self, file: SpoolFile, entries: list[Entry], error: StoreError) -> None:
        """Decide what becomes of entries whose delivery failed, if the store answers otherwise.

        Of several, each is tried alone; one is halved; a single record that took too long waits longer after each
        failure, and becomes a dead letter in the end. Anything else is no record's fault (a lock, a full disk, no free
        connection, a store that isn't set up): it only waits. Raises the error again if it may meet any record.
        """
        if isinstance(error, SpoolFull):
            raise error  # from the dead letters: the store isn't the cause
        if not isinstance(error, StoreBusy) and not self._store_answers():
            self._breaker.record_failure(error)
            return
        took_too_long = isinstance(error, StoreBusy | StoreTimeout) and not isinstance(error, StoreLocked)
        if len(entries) > 1:
            now = self._clock()
            file.count_failure(entries)
            for entry in entries:
                self._retries[file.path, entry.seq] = _Retry(now)
            return
        (entry,) = entries
        is_locked = isinstance(error, StoreLocked)
        halves = () if is_locked and len(entry.batch.parent_ids()) == 1 else entry.batch.halves()
        if halves:
            file.split(replace(entry, failures=1), halves)
            self._retries.pop((file.path, entry.seq), None)
        elif is_locked:
            pause = self._wait(file, entry, longest_s=LONGEST_LOCK_PAUSE_S)
            self._blocked.block(entry.batch, pause)
            _log.warning("spool: a record is blocked and will be retried in %.0f s: %s", pause, error)
        elif not took_too_long:
            pause = self._wait(file, entry, longest_s=LONGEST_LOCK_PAUSE_S)
            _log.warning("spool: the store writes nothing now; a record will be retried in %.0f s: %s", pause, error)
            raise error
        elif entry.failures < MAX_FAILURES:
            file.count_failure(entries)
            pause = self._wait(file, entry)
            self._blocked.block(entry.batch, min(pause, LONGEST_LOCK_PAUSE_S))
            _log.warning("spool: a record took too long and will be retried in %.0f s: %s", pause, error)
        else:
            receipt = Receipt(
                receipt="rejected", reason=f"The store took too long to write it, {MAX_FAILURES} times: {error}"
            )
            self._on_delivered(receipt)
            self._add_dead_letter(entry.batch, receipt, file, entries)
            self._remove(file, entries)

    def _wait(self, file: SpoolFile, entry: Entry, least_s: float = 0, longest_s: float = LONGEST_PAUSE_S) -> float:
        """Let an entry wait twice as long as the last time, with jitter; return the pause."""
        if entry.failures == 0:
            file.count_failure([entry])  # from now on it is tried alone
        key = file.path, entry.seq
        known = self._retries.get(key)
        pause_s = min(known.pause_s * 2 if known and known.pause_s else BLOCKED_RETRY_S, longest_s)
        pause = max(least_s, pause_s * (0.5 + random.random()))  # noqa: S311
        self._retries[key] = _Retry(self._clock() + pause, pause_s)
        return pause


def _source_entries(batch: Batch, entries: list[Entry]) -> list[Entry]:
    """Return the entries that a part of the merged batch came from; all, if none contains its very rows."""
    rows = {id(row) for row in batch.explicit_rows()}
    return [entry for entry in entries if any(id(row) in rows for row in entry.batch.rows())] or entries


def _mergeable(entries: list[Entry]) -> list[Entry]:
    """Return the entries that can be delivered in one batch with the first."""
    return [entry for entry in entries if entries[0].batch.can_merge(entry.batch)]
