"""The queue between callers and the service: the spool, what overflows into memory, and the two threads behind it.

Nothing starts before the first record. After a fork the child begins anew, and what was queued stays the parent's.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import logging
import os
import random
import threading
import time
import weakref
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from turnlog.delivery import TryLaterError, deliver
from turnlog.encoding import encode, now
from turnlog.receipts import Board, FlushReport, Outcome, Place, Receipt
from turnlog.spool import MAX_BYTES, MAX_RECORDS, Chunk, Line, Spool, SpoolFullError, frame
from turnlog.transport import Transport, UnreachableError

log = logging.getLogger("turnlog.client")

EXIT_S = 1.0
MAX_RECORD = 15 << 20  # bytes; the service takes calls of 16 MB
_ADOPT_S = 30.0
_IDLE_S = 1.0
_SYNC_S = 0.1  # records that arrive within it share a sync; a write may have to wait for one, so they are few
_LINGER_S = 0.05  # and a call, unless somebody waits for it
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 60.0
_DISK_AGAIN_S = 1.0
_LETTERS_IN_MEMORY = 1000
_JOIN_S = 0.05
_ATTEMPTS = 5  # at records that make this client fail

Redact = Callable[[dict[str, Any]], Mapping[str, Any] | None]
OnRefused = Callable[[dict[str, Any], Outcome], None]


class Open(Protocol):
    """A turn that has begun and not ended."""

    def abandon(self) -> Any: ...


class _Memory:
    number, durable, synced = 0, False, 0


class Core:
    def __init__(
        self, transport: Transport, folder: Path | None, *, max_bytes: int, max_memory: int, block: float, fsync: bool,
        redact: Redact | None, on_refused: OnRefused | None,
    ) -> None:  # fmt: skip
        self.transport, self.block = transport, block
        self._folder, self._fsync, self._max_bytes, self._max_memory = folder, fsync, max_bytes, max_memory
        self._redact, self._on_refused = redact, on_refused
        self.board = Board()
        self._memory_place: Place = _Memory()
        self._spool: Spool | None = None
        self.generation = 0
        self._begin()
        _cores.add(self)

    def _begin(self) -> None:
        self._pid = os.getpid()
        self.board.condition, self.board.asked = threading.Condition(), threading.Event()
        self._receipts: weakref.WeakValueDictionary[tuple[int, int], Receipt] = weakref.WeakValueDictionary()
        self._busy = 0
        self._deferred: deque[tuple[str, str, bytes, Receipt]] = deque()
        #: Turns that nobody has any more. They wait here, since garbage may be collected in the middle of anything.
        self.orphans: deque[Open] = deque()
        self.open_turns: weakref.WeakSet[Open] = weakref.WeakSet()
        self._counts: Counter[str] = Counter()
        self._memory: deque[Line] = deque()
        self._memory_bytes = 0
        self._letters: deque[dict[str, Any]] = deque(maxlen=_LETTERS_IN_MEMORY)
        self._said: set[str] = set()
        self._put = self._settled = 0
        self._disk_again = 0.0
        self._error: str | None = None
        self._blocked_at = 0
        self._attempts = 0
        self._pending: tuple[Chunk, set[int]] | None = None
        self._flushing = 0
        self._wake, self._written, self._hurry, self._closed = (threading.Event() for _ in range(4))
        self._threads: list[threading.Thread] = []

    def after_fork(self) -> None:
        left = list(self._receipts.values())
        self.generation += 1
        self.transport.leave()
        if self._spool is not None:
            self._spool.leave_to_parent()
        self._begin()
        for receipt in left:
            receipt.settle(Outcome("queued", reason="The process that logged it has its receipt"))

    def put(
        self, kind: str, target: str, record: dict[str, Any], session_id: str, interaction_id: str | None = None
    ) -> Receipt:
        """Queue a record. It outlives this process when this returns, if its receipt is durable. Raises nothing."""
        receipt = Receipt(self.board, session_id, interaction_id)
        self._try_put(kind, target, record, receipt)
        self._put_deferred()
        return receipt

    def _try_put(self, kind: str, target: str, record: dict[str, Any], receipt: Receipt) -> None:
        try:
            if self._pid != os.getpid():  # a fork that Python didn't see
                self.after_fork()
            redacted = self._redact(dict(record)) if self._redact else record
            if redacted is None:
                self._refuse(receipt, record, "redacted")
                return
            said = {name: value for name, value in redacted.items() if value is not None or name == "value"}
            payload = encode(said)
            if len(payload) > MAX_RECORD:
                self._refuse(receipt, record, "too-large")
                return
            self._queue(kind, target, payload, receipt)
        except SpoolFullError:
            self._refuse(receipt, record, "full")
        except Exception as error:  # noqa: BLE001 - whatever it is, the caller's work goes on
            self.failed(error)
            self._refuse(receipt, record, f"{type(error).__name__}: {error}")

    def _put_deferred(self) -> None:
        while self._deferred and self._busy != threading.get_ident():
            kind, target, payload, receipt = self._deferred.popleft()
            try:
                self._queue(kind, target, payload, receipt)
            except SpoolFullError:
                self._refuse(receipt, json.loads(payload), "full")

    def _queue(self, kind: str, target: str, payload: bytes, receipt: Receipt) -> None:
        if self._busy == threading.get_ident():  # a signal's handler logs, in the middle of another record
            self._deferred.append((kind, target, payload, receipt))
            return
        data = frame(kind, target, payload)
        give_up = time.monotonic() + self.block
        with self.board.condition:
            self._busy = threading.get_ident()
            try:
                while True:
                    try:
                        place, end = self._store(kind, target, payload, data)
                        break
                    except SpoolFullError:
                        if (left := give_up - time.monotonic()) <= 0:
                            raise
                        self._start_threads()
                        self._wake.set()
                        self.board.condition.wait(left)
                receipt.locate(place, end)
                self._receipts[place.number, end] = receipt
                self._put += 1
                self._closed.clear()
                self._start_threads()
                self._wake.set()
                if place.durable:
                    self._written.set()
            finally:
                self._busy = 0

    def _store(self, kind: str, target: str, payload: bytes, data: bytes) -> tuple[Place, int]:
        if self._folder is not None and time.monotonic() >= self._disk_again:
            try:
                if self._spool is None:
                    self._spool = Spool(self._folder, self._max_bytes)
                return self._spool.put(data)
            except OSError as error:
                self._disk_again = time.monotonic() + _DISK_AGAIN_S
                self._say("memory", "Records are held in memory, and end with this process: %s", error)
        if self._memory_bytes + len(data) > self._max_memory:
            raise SpoolFullError("Memory is full")
        self._counts["in_memory"] += 1
        self._memory_bytes += len(payload)
        self._memory.append(Line(kind, target, payload, self._counts["in_memory"]))
        return self._memory_place, self._counts["in_memory"]

    def _refuse(self, receipt: Receipt, record: dict[str, Any], reason: str) -> None:
        outcome = Outcome("refused", reason=reason)
        with self.board.condition:
            receipt.settle(outcome)
            self._counts["refused"] += 1
        self._say(f"refused {reason[:20]}", "A record was not logged: %s", reason)
        self._tell(record, outcome)

    def _start_threads(self) -> None:
        if self._threads and all(each.is_alive() for each in self._threads):
            return
        targets = [self._send_all, self._sync_all] if self._fsync and self._folder else [self._send_all]
        alive = [each for each in self._threads if each.is_alive()]
        names = {each.name for each in alive}
        for target in targets:
            if (name := f"turnlog{target.__name__}") not in names:
                thread = threading.Thread(target=target, name=name, args=(self.generation,), daemon=True)
                with contextlib.suppress(RuntimeError):  # the interpreter ends: the spool has the record
                    thread.start()
                    alive.append(thread)
        self._threads = alive

    def _sync_all(self, generation: int) -> None:
        while generation == self.generation and not self._closed.is_set():
            self._written.wait()
            self._closed.wait(_SYNC_S)
            self._written.clear()
            self.sync()

    def sync(self) -> None:
        """Bring what was logged so far to the disk, past the system's cache."""
        if (spool := self._spool) is not None:
            spool.sync()

    def _send_all(self, generation: int) -> None:
        try:
            self._send_until_closed(generation)
        finally:
            if generation == self.generation:
                self.transport.leave()

    def _send_until_closed(self, generation: int) -> None:
        failures, adopt_at = 0, 0.0
        while generation == self.generation and not self._closed.is_set():
            try:
                if time.monotonic() >= adopt_at:
                    adopt_at = time.monotonic() + _ADOPT_S
                    self._adopt()
                if self._pending is None:
                    if 0 < self._put - self._settled < MAX_RECORDS // 4 and not self._flushing:
                        self.board.asked.wait(_LINGER_S)
                    self.board.asked.clear()
                    self._take()
                self._end_orphans()
                if self._pending is None:
                    self._wake.wait(_IDLE_S)
                    self._wake.clear()
                    continue
                self._attempts += 1
                self._deliver(*self._pending)
                self._pending = None
                failures, self._error = 0, None
            except (TryLaterError, UnreachableError) as error:
                failures += 1
                self._pause(error, failures)
            except Exception as error:  # noqa: BLE001 - the thread must not die
                failures += 1
                self.failed(error)
                if failures >= _ATTEMPTS and self._pending is not None:
                    self._give_up(*self._pending, error)
                time.sleep(min(failures, _ATTEMPTS) * 0.1)

    def _end_orphans(self) -> None:
        while self.orphans:
            self.orphans.popleft().abandon()

    def _adopt(self) -> None:
        if self._spool is None and self._folder is not None and self._folder.is_dir():
            with self.board.condition, contextlib.suppress(OSError):
                self._spool = self._spool or Spool(self._folder, self._max_bytes)
        if (spool := self._spool) is not None:
            spool.adopt()

    def _take(self) -> None:
        lines: list[Line] = []
        with self.board.condition:
            size = 0
            while self._memory and len(lines) < MAX_RECORDS and size < MAX_BYTES:
                lines.append(self._memory.popleft())
                size += len(lines[-1].payload)
        chunk = Chunk(None, lines, [], 0, len(lines)) if lines else None
        if chunk is None and (spool := self._spool) is not None:
            chunk = spool.take()
        self._pending = None if chunk is None else (chunk, set())

    def _deliver(self, chunk: Chunk, done: set[int]) -> None:
        """Send what isn't settled of a chunk. It is settled in memory at once, on the disk when all of it is."""
        outcomes: list[tuple[Line, Outcome]] = []

        def settle(line: Line, outcome: Outcome) -> None:
            if line.end not in done:
                done.add(line.end)
                outcomes.append((line, outcome))

        try:
            deliver(self.transport, [line for line in chunk.lines if line.end not in done], settle)
        finally:
            self._settle(chunk, outcomes)
        self._finish(chunk)

    def _finish(self, chunk: Chunk) -> None:
        for line in chunk.damaged:
            self._bury({"kind": "damaged", "line": line.decode(errors="replace"), "at": now()})
        with self.board.condition:  # all at once, so that no report sees a part of it
            if chunk.place is None:
                self._memory_bytes -= sum(len(line.payload) for line in chunk.lines)
            elif self._spool is not None:
                self._spool.ack(chunk)
            self._counts["damaged"] += len(chunk.damaged)
            if chunk.place is None or chunk.place.own:
                self._settled = min(self._put, self._settled + chunk.size)  # a close counts what it leaves
            else:
                self._counts["adopted"] += chunk.size
            self.board.condition.notify_all()

    def _give_up(self, chunk: Chunk, done: set[int], error: Exception) -> None:
        outcome = Outcome("rejected", reason=f"This client failed: {type(error).__name__}: {error}")
        self._settle(chunk, [(line, outcome) for line in chunk.lines if line.end not in done])
        self._pending = None
        self._finish(chunk)

    def _settle(self, chunk: Chunk, outcomes: list[tuple[Line, Outcome]]) -> None:
        own = chunk.place is None or chunk.place.own
        place = self._memory_place.number if chunk.place is None else chunk.place.number
        calls: list[tuple[Callable[[Receipt], None], Receipt]] = []
        for line, outcome in outcomes:  # kept before anybody hears of it
            if outcome.state in {"conflict", "rejected"}:
                self._keep_refused(line, outcome)
        with self.board.condition:
            for line, outcome in outcomes:
                if (own and line.kind != "s") or not outcome.stored:
                    self._counts[outcome.state] += 1
                receipt = self._receipts.pop((place, line.end), None) if own else None
                if receipt is not None:
                    calls += [(call, receipt) for call in receipt.settle(outcome)]
            self.board.condition.notify_all()
        for call, receipt in calls:
            try:
                call(receipt)
            except Exception as error:  # noqa: BLE001, PERF203 - a caller's own
                self.failed(error)

    def _keep_refused(self, line: Line, outcome: Outcome) -> None:
        record = json.loads(line.payload)
        if outcome.reason not in {"erased", "session-erased", "interaction-erased"}:  # what was erased is kept nowhere
            self._bury({
                "kind": line.kind, "target": line.target, "record": record, "at": now(),
                "receipt": outcome.state, "reason": outcome.reason, "fields": list(outcome.fields),
            })  # fmt: skip
        self._say(
            f"{outcome.state} {outcome.reason}", "The service refused a record: %s, %s, fields: %s",
            outcome.state, outcome.reason or "contradicts what is stored", ", ".join(outcome.fields) or "none",
        )  # fmt: skip
        self._tell(record, outcome)

    def _bury(self, letter: dict[str, Any]) -> None:
        if (spool := self._spool) is not None:
            if spool.bury(letter):
                return
        elif len(self._letters) < _LETTERS_IN_MEMORY:
            self._letters.append(letter)
            return
        with self.board.condition:
            self._counts["lost"] += 1
        self._say("lost", "A refused record could not be kept: %s", letter.get("reason"))

    def dead_letters(self) -> Iterator[dict[str, Any]]:
        self._adopt()
        yield from list(self._letters)
        if self._spool is not None:
            yield from self._spool.dead_letters()

    def retry_dead_letters(self) -> int:
        """Queue the dead letters once more; return how many."""
        letters, self._letters = list(self._letters), deque(maxlen=_LETTERS_IN_MEMORY)
        self._adopt()
        paths = [] if self._spool is None else self._spool.take_dead_letters()
        for path in paths:
            letters += [json.loads(line) for line in path.read_bytes().splitlines()]
        count = 0
        for letter in letters:
            if letter["kind"] != "damaged":
                record = letter["record"]
                self.put(letter["kind"], letter["target"], record, record.get("session_id", letter["target"]))
                count += 1
        for path in paths:
            path.unlink(missing_ok=True)
        return count

    def _pause(self, error: TryLaterError | UnreachableError, failures: int) -> None:
        """Wait before the next attempt: at least as long as the service asks, else until somebody flushes."""
        asked = error.pause if isinstance(error, TryLaterError) else None
        is_blocked = isinstance(error, TryLaterError) and error.blocked
        self._error = str(error)
        self._say("blocked" if is_blocked else "waiting", "Records wait to be sent: %s", error)
        with self.board.condition:
            self._blocked_at = self._attempts if is_blocked else 0
            self.board.condition.notify_all()
        self._hurry.clear()
        if asked:
            self._closed.wait(asked)
        longest = (
            _FIRST_PAUSE_S if self._flushing else min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2 ** min(failures - 1, 10))
        )
        self._hurry.wait(random.uniform(longest / 2, longest))  # noqa: S311 - so that clients don't retry all at once

    def flush(self, timeout: float, *, adopt: bool = True) -> FlushReport:
        give_up = time.monotonic() + timeout
        if self._pid != os.getpid():
            self.after_fork()
        self._put_deferred()
        self._end_orphans()
        if adopt:
            with contextlib.suppress(OSError):
                self._adopt()
        with self.board.condition:
            attempts, until = self._attempts, self._put
            if self._is_open_for(until):
                self._flushing += 1
                self._closed.clear()
                self._start_threads()
                self._wake.set()
                self._hurry.set()
                self.board.asked.set()
                self.board.condition.wait_for(
                    lambda: not self._is_open_for(until) or self._blocked_at > attempts,
                    max(0.0, give_up - time.monotonic()),
                )
                self._flushing -= 1
            return self._report()

    def _is_open_for(self, until: int) -> bool:
        """Return whether any of the first records, or of those adopted, isn't settled."""
        return self._settled < until or self._adopted_waiting() > 0

    def _adopted_waiting(self) -> int:
        return 0 if (spool := self._spool) is None else spool.adopted_waiting

    def _report(self) -> FlushReport:
        waiting = self._put - self._settled + self._adopted_waiting()
        durable = self._folder is not None and self._disk_again <= time.monotonic() and self._memory_bytes == 0
        return FlushReport(**self._counts, waiting=waiting, durable=durable, error=self._error if waiting else None)

    def report(self) -> FlushReport:
        with self.board.condition:
            return self._report()

    def close(self, timeout: float = EXIT_S) -> FlushReport:
        """End open turns, send for up to `timeout` seconds, and leave the rest to the next process."""
        for turn in list(self.open_turns):
            turn.abandon()
        if self._put == 0 and self._spool is None:
            return self.report()
        report = self.flush(timeout, adopt=False)
        for event in (self._closed, self._wake, self._written, self._hurry):
            event.set()
        with self.board.condition:
            spool, self._spool, self._pending, self._settled = self._spool, None, None, self._put
            while spool is not None and self._memory:  # the disk may have room again
                line = self._memory.popleft()
                try:
                    spool.put(frame(line.kind, line.target, line.payload))
                except (OSError, SpoolFullError):
                    self._memory.appendleft(line)
                    break
        if spool is not None:
            spool.close()
        if self._memory:
            self._say("ends", "%d records that are in memory only end with this log", len(self._memory))
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(_JOIN_S)  # longer if it is in a call, which may go on
        return report

    def failed(self, error: BaseException) -> None:
        with self.board.condition:
            self._counts["failures"] += 1
        self._say(f"failed {type(error).__name__}", "Logging failed, and the program goes on: %r", error)

    def _say(self, kind: str, message: str, *values: Any) -> None:
        """Log a message once for each kind, so that a trouble that lasts doesn't fill the log."""
        if kind not in self._said and len(self._said) < 100:  # noqa: PLR2004
            self._said.add(kind)
            with contextlib.suppress(Exception):
                log.warning(message, *values)

    def _tell(self, record: dict[str, Any], outcome: Outcome) -> None:
        if self._on_refused is not None:
            try:
                self._on_refused(record, outcome)
            except Exception as error:  # noqa: BLE001 - a caller's own
                self.failed(error)


_cores: weakref.WeakSet[Core] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for core in list(_cores):
        core.after_fork()


def _at_exit() -> None:
    give_up = time.monotonic() + EXIT_S
    for core in list(_cores):
        with contextlib.suppress(Exception):
            core.close(max(0.0, give_up - time.monotonic()))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
atexit.register(_at_exit)
