"""A store that merges concurrent writes into one transaction, so that many calls share one commit.

A call that finds no write in progress writes at once. Calls that arrive meanwhile queue up; when the write ends, the
first one in the queue becomes the leader and writes for all of them. There is no timer and no thread: the load decides
the size of a group, and an idle service adds no delay. Each call waits for its own receipts, so an acknowledgement
still means committed, and a shutdown only has to let the calls finish.
"""

import copy
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

from logging_store.batches import Batch, BatchReceipts
from logging_store.errors import Conflict, Invalid, SpoolFull, StoreUnavailable
from logging_store.operations import A, Operation, Q, ServerSettings
from logging_store.store import Backlog, Store

#: Records of one group: as many as the largest batch of one call, which may exceed it alone, with its sessions.
MAX_RECORDS = 1000
#: Characters of prompts and responses in one group; a single larger batch is written by itself.
MAX_TEXT = 8_000_000


class _Call:
    """One call's batch and its outcome: receipts, or an error. A call that wakes up without one is the next leader."""

    __slots__ = ("batch", "outcome", "text", "wakeup")

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self.text = _text_size(batch)
        self.outcome: BatchReceipts | Exception | None = None
        self.wakeup = threading.Lock()  # waited for once: cheaper than an event
        self.wakeup.acquire()

    def settle(self, outcome: BatchReceipts | Exception) -> None:
        self.outcome = outcome
        self.wakeup.release()

    def result(self) -> BatchReceipts:
        if isinstance(self.outcome, BatchReceipts):
            return self.outcome
        assert self.outcome is not None  # noqa: S101 - settled before
        # a copy, since several threads raise the same error
        raise copy.copy(self.outcome) from self.outcome


class GroupCommit:
    """Writes concurrent batches to `inner` as one; everything else passes through.

    `max_wait_s`: how long a call waits in the queue before it gives up.
    `overflow`: takes the batch of a call that gave up; without it the call raises `StoreUnavailable`.
    `on_written(records, seconds)`: called after each write to `inner`.
    """

    def __init__(
        self,
        inner: Store,
        max_wait_s: float,
        *,
        overflow: Callable[[Batch], BatchReceipts] | None = None,
        on_written: Callable[[int, float], None] = lambda _records, _seconds: None,
    ) -> None:
        self.inner = inner
        self._max_wait_s = max_wait_s
        self._overflow = overflow
        self._on_written = on_written
        self._lock = threading.Lock()
        self._queue: deque[_Call] = deque()
        self._writing = False

    def start(self) -> None:
        self.inner.start()

    def write(self, batch: Batch) -> BatchReceipts:
        if batch.dry_run:
            return self.inner.write(batch)
        call = _Call(batch)
        with self._lock:
            leads, self._writing = not self._writing, True
            if not leads:
                self._queue.append(call)
        if not leads:
            if not self._await_turn(call):
                return self._overflow_write(batch)
            leads = call.outcome is None
        if leads:
            self._lead(call)
        return call.result()

    def ask(self, operation: Operation[Q, A], project: str | None, query: Q) -> A:
        return self.inner.ask(operation, project, query)

    def ping(self) -> ServerSettings:
        return self.inner.ping()

    def backlog(self) -> Backlog:
        return self.inner.backlog()

    def close(self) -> None:
        self.inner.close()

    def _await_turn(self, call: _Call) -> bool:
        """Wait until the call is settled or leads; return whether that happened in time."""
        if call.wakeup.acquire(timeout=self._max_wait_s):
            return True
        with self._lock:
            if call in self._queue:
                self._queue.remove(call)
                return False
        call.wakeup.acquire()  # already in a group, which the inner store's deadline limits, or leading
        return True

    def _overflow_group(self, group: Sequence[_Call]) -> None:
        for call in group:
            try:
                call.settle(self._overflow_write(call.batch))
            except StoreUnavailable as error:
                call.settle(error)

    def _overflow_write(self, batch: Batch) -> BatchReceipts:
        if self._overflow is None:
            raise StoreUnavailable("the store is still busy with earlier writes")
        return self._overflow(batch)

    def _lead(self, call: _Call) -> None:
        """Write this call's batch with those queued behind it, as many as fit, then wake the next leader."""
        group = [call]
        try:
            group += self._take_followers(call)
            self._write(group, time.monotonic() + self._max_wait_s)
        finally:
            for each in group:
                if each.outcome is None:  # this thread is being stopped: nobody may wait for it
                    each.settle(StoreUnavailable("the write was interrupted"))
            with self._lock:
                if self._queue:
                    self._queue.popleft().wakeup.release()
                else:
                    self._writing = False

    def _take_followers(self, leader: _Call) -> list[_Call]:
        """Remove the calls from the head of the queue that fit into the leader's group."""
        followers: list[_Call] = []
        records, text = MAX_RECORDS - leader.batch.size, MAX_TEXT - leader.text
        with self._lock:
            while self._queue:
                next_ = self._queue[0]
                records, text = records - next_.batch.size, text - next_.text
                if records < 0 or text < 0 or not leader.batch.can_merge(next_.batch):
                    break
                followers.append(self._queue.popleft())
        return followers

    def _write(self, group: Sequence[_Call], deadline: float) -> None:
        """Write a group in one call. If one batch's data fails it, bisect the group until that batch stands alone.

        A full spool may still have room for batches without claims: see `SpoolDirectory.require_room`.
        """
        merged = Batch.merge([call.batch for call in group])
        started = time.monotonic()
        try:
            receipts = self.inner.write(merged)
        except (Invalid, Conflict) as error:
            middle = len(group) // 2
            self._write_parts([group[:middle], group[middle:]], error, deadline)
        except SpoolFull as error:
            parts = [[call for call in group if call.batch.is_claimed is claimed] for claimed in (False, True)]
            self._write_parts(parts, error, deadline)
        except Exception as error:  # noqa: BLE001 - each caller raises it
            for call in group:
                call.settle(error)
        else:
            self._on_written(merged.size, time.monotonic() - started)
            for call, own in zip(group, receipts.split([call.batch for call in group]), strict=True):
                call.settle(own)

    def _write_parts(self, parts: Sequence[Sequence[_Call]], error: Exception, deadline: float) -> None:
        """Write each part of a group that failed. If there is only one part, the error is its outcome."""
        parts = [part for part in parts if part]
        for part in parts:
            if len(parts) == 1:
                for call in part:
                    call.settle(error)
            elif time.monotonic() < deadline:
                self._write(part, deadline)
            else:
                self._overflow_group(part)


def _text_size(batch: Batch) -> int:
    """Return roughly how many characters the prompts and responses have: most of a batch's size."""
    return sum(
        len(value) if isinstance(value, str) else len(repr(value))
        for row in batch.interactions
        for value in (row.get("prompt"), row.get("response"))
    )
