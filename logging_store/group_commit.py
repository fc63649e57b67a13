"""A store that merges concurrent writes into one transaction, so that one commit is paid by many.

A caller that finds nobody writing writes at once. Who comes meanwhile waits; when that write is done, the first of
those that wait leads the next one, for all of them. So there is no timer and no thread of its own: the load decides
the size of a group, and an idle service adds no delay. Each caller waits for its own receipts, so an acknowledgement
still means committed, and to shut down is to let the callers finish.
"""

import copy
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from logging_store.batches import Batch, BatchReceipts
from logging_store.errors import Conflict, Invalid, SpoolFull, StoreUnavailable
from logging_store.operations import A, Operation, Q
from logging_store.store import Backlog, Store

#: Records of one group: as many as the largest batch of one caller, which alone may exceed it with its sessions.
MAX_RECORDS = 1000
#: Characters of prompts and responses in one group; a single larger batch is written by itself.
MAX_TEXT = 8_000_000


class _Call:
    """A caller's batch, and what became of it: receipts, an error, or the lead of the next group."""

    __slots__ = ("batch", "outcome", "released", "text")

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self.text = _text_of(batch)
        self.outcome: BatchReceipts | Exception | None = None
        self.released = threading.Lock()  # waited for once: cheaper than an event
        self.released.acquire()

    def settle(self, outcome: BatchReceipts | Exception) -> None:
        self.outcome = outcome
        self.released.release()

    def result(self) -> BatchReceipts:
        if isinstance(self.outcome, BatchReceipts):
            return self.outcome
        assert self.outcome is not None  # noqa: S101 - who is released has an outcome
        # a copy: several threads raise what one call ended with
        raise copy.copy(self.outcome) from self.outcome


class GroupCommit:
    """Writes concurrent batches to `inner` as one; everything else passes through.

    `patience_s`: the longest that a call waits for its turn, before its own group is written.
    `overflow`: what takes the batch of a call that has waited so long; without it the call fails.
    `on_written`: told of each write to `inner`: its records, and the seconds it took.
    """

    def __init__(
        self,
        inner: Store,
        patience_s: float,
        *,
        overflow: Callable[[Batch], BatchReceipts] | None = None,
        on_written: Callable[[int, float], None] = lambda _records, _seconds: None,
    ) -> None:
        self.inner = inner
        self._patience_s = patience_s
        self._overflow = overflow
        self._on_written = on_written
        self._lock = threading.Lock()
        self._waiting: deque[_Call] = deque()
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
                self._waiting.append(call)
        if not leads:
            if not self._await_turn(call):
                return self._give_up_waiting(batch)
            leads = call.outcome is None
        if leads:
            self._lead(call)
        return call.result()

    def ask(self, operation: Operation[Q, A], project: str | None, query: Q) -> A:
        return self.inner.ask(operation, project, query)

    def ping(self) -> dict[str, Any]:
        return self.inner.ping()

    def backlog(self) -> Backlog:
        return self.inner.backlog()

    def close(self) -> None:
        self.inner.close()

    def _await_turn(self, call: _Call) -> bool:
        """Wait until the call was written, or shall write; tell whether its turn came in time."""
        if call.released.acquire(timeout=self._patience_s):
            return True
        with self._lock:
            if call in self._waiting:
                self._waiting.remove(call)
                return False
        call.released.acquire()  # its group is being written, within the inner store's deadline, or it leads
        return True

    def _pass_on(self, group: Sequence[_Call]) -> None:
        """Settle calls for which no time is left."""
        for call in group:
            try:
                call.settle(self._give_up_waiting(call.batch))
            except StoreUnavailable as error:
                call.settle(error)

    def _give_up_waiting(self, batch: Batch) -> BatchReceipts:
        if self._overflow is None:
            raise StoreUnavailable("the store is still busy with earlier writes")
        return self._overflow(batch)

    def _lead(self, call: _Call) -> None:
        """Write this call's batch with all that fits of those that wait, then pass the lead on."""
        group = [call]
        try:
            group += self._take_along(call)
            self._write(group, time.monotonic() + self._patience_s)
        finally:
            for left in group:
                if left.outcome is None:  # this thread is being ended: nobody may wait for it
                    left.settle(StoreUnavailable("the write was interrupted"))
            with self._lock:
                if self._waiting:
                    self._waiting.popleft().released.release()
                else:
                    self._writing = False

    def _take_along(self, leader: _Call) -> list[_Call]:
        """Take the calls at the head of the queue that fit into the leader's group."""
        group: list[_Call] = []
        records, text = MAX_RECORDS - leader.batch.size, MAX_TEXT - leader.text
        with self._lock:
            while self._waiting:
                next_ = self._waiting[0]
                records, text = records - next_.batch.size, text - next_.text
                if records < 0 or text < 0 or not leader.batch.fits(next_.batch):
                    break
                group.append(self._waiting.popleft())
        return group

    def _write(self, group: Sequence[_Call], ends: float) -> None:
        """Write a group in one call; if the data of somebody fails it, halve it until that one stands alone.

        If the spool has no room for it, it may have some for what nobody claims.
        """
        together = Batch.merge([call.batch for call in group])
        started = time.monotonic()
        try:
            receipts = self.inner.write(together)
        except (Invalid, Conflict) as error:
            middle = len(group) // 2
            self._write_apart([group[:middle], group[middle:]], error, ends)
        except SpoolFull as error:
            parts = [[call for call in group if call.batch.is_claimed is claimed] for claimed in (False, True)]
            self._write_apart(parts, error, ends)
        except Exception as error:  # noqa: BLE001 - each caller raises it
            for call in group:
                call.settle(error)
        else:
            self._on_written(together.size, time.monotonic() - started)
            for call, own in zip(group, receipts.split([call.batch for call in group]), strict=True):
                call.settle(own)

    def _write_apart(self, parts: Sequence[Sequence[_Call]], error: Exception, ends: float) -> None:
        """Write the parts of a group that failed with an error; if there is one only, that is its outcome."""
        parts = [part for part in parts if part]
        for part in parts:
            if len(parts) == 1:
                for call in part:
                    call.settle(error)
            elif time.monotonic() < ends:
                self._write(part, ends)
            else:
                self._pass_on(part)


def _text_of(batch: Batch) -> int:
    """Return about how many characters a batch's prompts and responses have, which make up most of its size."""
    return sum(
        len(value) if isinstance(value, str) else len(repr(value))
        for row in batch.interactions
        for value in (row.get("prompt"), row.get("response"))
    )
