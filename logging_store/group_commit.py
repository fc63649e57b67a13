"""A store that merges concurrent writes into one transaction, so that many calls share one commit.

A call that finds no write in progress writes at once. Calls that arrive meanwhile queue up; when the write ends, the
first one in the queue becomes the leader and writes for all of them. There is no timer and no thread: the load decides
the size of a group, and an idle service adds no delay. Each call waits for its own receipts, so an acknowledgement
still means committed, and a shutdown only has to let the calls finish. Callers with few rights have a queue of their
own: what they send holds up only themselves.
"""

import copy
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from logging_store.batches import Batch, BatchReceipts
from logging_store.errors import Conflict, Invalid, StoreUnavailable
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


class _Lane:
    """The calls that wait for one write after the other, and whether one is under way."""

    __slots__ = ("queue", "writing")

    def __init__(self) -> None:
        self.queue: deque[_Call] = deque()
        self.writing = False


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
        self._lanes = {claimed: _Lane() for claimed in (False, True)}

    def start(self) -> None:
        self.inner.start()

    def write(self, batch: Batch) -> BatchReceipts:
        if batch.dry_run:
            return self.inner.write(batch)
        call = _Call(batch)
        lane = self._lanes[batch.is_claimed]
        with self._lock:
            leads, lane.writing = not lane.writing, True
            if not leads:
                lane.queue.append(call)
        if not leads:
            if not self._await_turn(lane, call):
                return self._overflow_write(batch)
            leads = call.outcome is None
        if leads:
            self._lead(lane, call)
        return call.result()

    def ask(self, operation: Operation[Q, A], project: str | None, query: Q) -> A:
        return self.inner.ask(operation, project, query)

    def ping(self) -> ServerSettings:
        return self.inner.ping()

    def backlog(self) -> Backlog:
        return self.inner.backlog()

    def close(self) -> None:
        self.inner.close()

    def _await_turn(self, lane: _Lane, call: _Call) -> bool:
        """Wait until the call is settled or leads; return whether that happened in time."""
        if call.wakeup.acquire(timeout=self._max_wait_s):
            return True
        with self._lock:
            if call in lane.queue:
                lane.queue.remove(call)
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

    def _lead(self, lane: _Lane, call: _Call) -> None:
        """Write this call's batch with those queued behind it, as many as fit, then wake the next leader."""
        group = [call]
        try:
            group += self._take_followers(lane, call)
            self._write(group, time.monotonic() + self._max_wait_s)
        finally:
            for each in group:
                if each.outcome is None:  # this thread is being stopped: nobody may wait for it
                    each.settle(StoreUnavailable("the write was interrupted"))
            with self._lock:
                if lane.queue:
                    lane.queue.popleft().wakeup.release()
                else:
                    lane.writing = False

    def _take_followers(self, lane: _Lane, leader: _Call) -> list[_Call]:
        """Remove the calls from the head of the queue that fit into the leader's group."""
        followers: list[_Call] = []
        records, text = MAX_RECORDS - leader.batch.size, MAX_TEXT - leader.text
        with self._lock:
            while lane.queue:
                next_ = lane.queue[0]
                records, text = records - next_.batch.size, text - next_.text
                if records < 0 or text < 0 or not leader.batch.can_merge(next_.batch):
                    break
                followers.append(lane.queue.popleft())
        return followers

    def _write(self, group: Sequence[_Call], deadline: float) -> None:
        """Write a group in one call. If one batch's data fails it, bisect the group until that batch stands alone."""
        merged = Batch.merge([call.batch for call in group])
        started = time.monotonic()
        try:
            receipts = self.inner.write(merged)
        except (Invalid, Conflict) as error:
            middle = len(group) // 2
            self._write_parts([group[:middle], group[middle:]], error, deadline)
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
        _length(value)
        for row in (*batch.interactions, *(span["call"] for span in batch.spans if "call" in span))
        for value in (row.get("prompt"), row.get("context"), row.get("response"))
    )


def _length(value: Any) -> int:
    """Return the characters of the texts in a JSON value, and some for each other part."""
    match value:
        case str():
            return len(value)
        case dict():
            return sum(len(key) + _length(item) for key, item in value.items())
        case list():
            return sum(map(_length, value))
    return 8
