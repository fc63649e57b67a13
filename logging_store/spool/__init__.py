"""A store that keeps writes on this machine's disk while the inner one is away, and delivers them when it is back.

What is kept is synced before the receipt says `spooled`. Nothing is ever dropped to make room: past its limits the
spool refuses. What the store refuses for good after all goes to the dead letters.
"""

import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from logging_store import operations as ops
from logging_store.batches import KINDS, Batch, BatchReceipts, Receipt
from logging_store.errors import Misconfigured, StoreBusy, StoreUnavailable
from logging_store.spool.blocked_sessions import HeldSessions
from logging_store.spool.breaker import CircuitBreaker
from logging_store.spool.dead_letters import DeadLetters
from logging_store.spool.directory import Limits, SpoolDirectory
from logging_store.spool.drain import Drain
from logging_store.spool.purge import Forgetting
from logging_store.spool.reader import SpoolReader
from logging_store.store import Backlog, Store

__all__ = ["CircuitBreaker", "DeadLetters", "Limits", "Spool", "SpoolDirectory"]

_log = logging.getLogger(__name__)

_SPOOLED = Receipt(receipt="spooled")
_STOP_S = 5  # for a delivery under way; what isn't noted as delivered is delivered again


class Spool(SpoolReader):
    """Writes to `inner`, or to `path` while that is away.

    `revive`: called before the store is asked whether it is back, where this service can start it itself.
    `on_delivered`: told what became of each record that had waited.
    """

    def __init__(
        self,
        inner: Store,
        path: Path,
        limits: Limits | None = None,
        *,
        breaker: CircuitBreaker | None = None,
        revive: Callable[[], None] | None = None,
        on_delivered: Callable[[Receipt], None] = lambda _: None,
    ) -> None:
        self.inner = inner
        self.breaker = breaker or CircuitBreaker()
        self.directory = SpoolDirectory(path, limits or Limits())
        self.dead_letters = DeadLetters(path)
        self._forgetting = Forgetting(self.directory, self.dead_letters)
        self._held = HeldSessions()
        self._drain = Drain(
            inner,
            self.directory,
            self.dead_letters,
            self.breaker,
            self._held,
            revive=revive,
            on_delivered=on_delivered,
        )
        #: The operations that are completed with what is on this disk.
        self._own: dict[ops.Name, Callable[[str, Any], Any]] = {
            "session": self._session,
            "transcript": self._transcript,
            "conversation": self._conversation,
            "participants": self._participants,
            "feedback": self._feedback,
            "edit": self._edit,
            "erase": self._erase,
            "erase_user": self._erase_user,
        }
        self._starting = threading.Lock()
        self._draining: tuple[int, threading.Thread] | None = None

    def start(self) -> None:
        """Begin to deliver what earlier processes left. The first write that is kept starts it as well."""
        self.inner.start()
        if self._draining is None or self._draining[0] != os.getpid():  # threads don't survive a fork
            with self._starting:
                if self._draining is None or self._draining[0] != os.getpid():
                    self._drain.begin()
                    thread = threading.Thread(target=self._drain.run, name="spool-drain", daemon=True)
                    self._draining = (os.getpid(), thread)
                    thread.start()

    def ask(self, operation: ops.Operation[ops.Q, ops.A], project: str | None, query: ops.Q) -> ops.A:
        if project is None or (own := self._own.get(operation.name)) is None:
            return self._ask(operation, project, query)
        answer: ops.A = own(project, query)
        return answer

    def write(self, batch: Batch) -> BatchReceipts:
        """Store a batch, or keep it. Raises `SpoolFull` or `StoreUnavailable` if it can be neither."""
        if batch.dry_run:
            return self._read(lambda: self.inner.write(batch))
        if held := self._held.of(batch):
            return self._write_around(batch, held)
        if self.breaker.is_closed:
            try:
                return self.inner.write(batch)
            except StoreBusy as error:
                _log.warning("spool: a write is held up and kept for later: %s", error)
                self._held.hold(batch)
            except (StoreUnavailable, Misconfigured) as error:
                self._failed(error)
        return self.keep(batch)

    def keep(self, batch: Batch) -> BatchReceipts:
        """Keep a batch for later, whether the store is there or not."""
        self.directory.keep(batch)
        self.start()
        self._drain.wake()
        return BatchReceipts.all(_SPOOLED, batch)

    def ping(self) -> dict[str, Any]:
        return self._read(self.inner.ping)

    def backlog(self) -> Backlog:
        depth = self.directory.depth()
        try:
            self.directory.require_room()
        except StoreUnavailable:
            has_room = False
        else:
            has_room = True
        return Backlog(
            has_room,
            depth.records,
            depth.bytes,
            depth.oldest_s,
            len(self.directory.find_unreadable()),
            self.dead_letters.count(),
        )

    def close(self) -> None:
        """Stop delivering and let go of the files; what still waits is adopted by the next process."""
        draining, self._draining = self._draining, None
        if draining and draining[0] == os.getpid():
            self._drain.end()
            draining[1].join(_STOP_S)
        try:
            self.directory.close()
        finally:
            self.inner.close()

    def _write_around(self, batch: Batch, held: set[str]) -> BatchReceipts:
        """Keep what somebody's lock holds up, and write the rest."""
        receipts = {id(row): _SPOOLED for row in batch.rows()}
        free = batch.rest(held)
        if free.stated():
            receipts |= {id(row): receipt for row, receipt in zip(free.rows(), self.write(free), strict=True)}
        self.keep(batch.part(held))
        return BatchReceipts(**{kind: [receipts[id(row)] for row in getattr(batch, kind)] for kind in KINDS})

    def _edit(self, project: str, query: ops.EditQuery) -> ops.Session | None:
        waits = bool(self.directory.batches_of(project, query["session_id"]))  # before it is delivered
        edited = self._ask(ops.EDIT, project, query)
        if edited is None and waits:  # then nobody may be told that there is none
            raise StoreBusy("the session waits in the spool, and can be changed once it is delivered")
        return edited

    def _erase(self, project: str, query: ops.EraseQuery) -> ops.Erased | None:
        """Erase a session in the store, and then here; one that only waits here leaves a tombstone there, too."""
        erased = self._forgetting.erase(project, query, lambda asked: self._ask(ops.ERASE, project, asked))
        if erased is not None:
            self._held.release(Batch(project, [{"id": query["session_id"]}]))  # a tombstone is to be met at once
        return erased

    def _erase_user(self, project: str, query: ops.EraseUserQuery) -> ops.UserErased:
        return self._forgetting.erase_user(project, query, lambda asked: self._ask(ops.ERASE_USER, project, asked))

    def _failed(self, error: Exception) -> None:
        if self.breaker.fail(error):
            _log.warning("spool: the store is away, writes are kept on this disk: %s", error)
        self.start()
        self._drain.wake()
