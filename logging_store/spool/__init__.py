"""A store that spools writes to this machine's disk while the inner store is away, and delivers them afterwards.

A batch is synced before its receipts say `spooled`. Nothing is ever dropped to make room: past its limits the spool
raises `SpoolFull`. Records that the store rejects on delivery become dead letters.

    spool = Spool(PostgresStore(conninfo), data_dir / "spool")
    spool.start()
    spool.write(batch)  # receipts: created … or, while PostgreSQL is away, spooled
"""

import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from logging_store import operations as ops
from logging_store.batches import KINDS, Batch, BatchReceipts, Receipt
from logging_store.errors import Misconfigured, SpoolFull, StoreBusy, StoreError, StoreUnavailable
from logging_store.spool import others, overlay
from logging_store.spool.blocked_sessions import BlockedSessions
from logging_store.spool.breaker import CircuitBreaker
from logging_store.spool.dead_letters import DeadLetters
from logging_store.spool.directory import Limits, SpoolDirectory
from logging_store.spool.drain import Drain
from logging_store.spool.purge import Purge
from logging_store.spool.reader import SpoolReader
from logging_store.spool_folders import SpoolFolders
from logging_store.store import Backlog, Store

__all__ = ["CircuitBreaker", "DeadLetters", "Limits", "Spool", "SpoolDirectory"]

_log = logging.getLogger(__name__)

_SPOOLED = Receipt(receipt="spooled")
_STOP_S = 5  # for a delivery in progress; entries that aren't removed yet are delivered again


class Spool(SpoolReader):
    """Writes to `inner`, or to this machine's disk while that is away.

    `path`: the folder until the first answer of `inner` tells which database it is: see `SpoolFolders`.
    `revive`: called before each probe, if this service can restart the store itself.
    `on_delivered`: called with the receipt of each record that was delivered from the spool.
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
        self._folders = SpoolFolders(path.parent, path.name)
        self._revive = revive
        self.directory = SpoolDirectory(self._folders, limits or Limits())
        self.dead_letters = DeadLetters(self.directory)
        self._purge = Purge(self.directory, self.dead_letters)
        self._blocked = BlockedSessions()
        self._drain = Drain(
            inner,
            self.directory,
            self.dead_letters,
            self.breaker,
            self._blocked,
            probe=self._probe,
            on_delivered=on_delivered,
        )
        #: The operations whose answers include records on this disk.
        self._local: dict[ops.OperationName, Callable[[str, Any], Any]] = {
            "session": self._session,
            "transcript": self._transcript,
            "conversation": self._conversation,
            "participants": self._participants,
            "feedback": self._feedback,
            "edit": self._edit,
            "choose": self._choose,
            "erase": self._erase,
            "erase_interaction": self._erase_interaction,
            "erase_user": self._erase_user,
        }
        self._start_lock = threading.Lock()
        self._drain_thread: tuple[int, threading.Thread] | None = None

    def start(self) -> None:
        """Start the drain, which also delivers what earlier processes left. The first spooled write starts it, too."""
        self.inner.start()
        if self._drain_thread is None or self._drain_thread[0] != os.getpid():  # threads don't survive a fork
            with self._start_lock:
                if self._drain_thread is None or self._drain_thread[0] != os.getpid():
                    self._drain.reset()
                    thread = threading.Thread(target=self._run_drain, name="spool-drain", daemon=True)
                    self._drain_thread = (os.getpid(), thread)
                    thread.start()

    def ask(self, operation: ops.Operation[ops.Q, ops.A], project: str | None, query: ops.Q) -> ops.A:
        if project is None or (local := self._local.get(operation.name)) is None:
            return self._ask(operation, project, query)
        answer: ops.A = local(project, query)
        return answer

    def write(self, batch: Batch) -> BatchReceipts:
        """Write a batch to the store, or spool it. Raises `SpoolFull` or `StoreUnavailable` if neither is possible."""
        if batch.dry_run:
            return self._read(lambda: self.inner.write(batch))
        if blocked := self._blocked.blocked_in(batch):
            return self._write_unblocked(batch, blocked)
        if self.breaker.is_closed:
            try:
                return self.inner.write(batch)
            except (StoreUnavailable, Misconfigured) as error:
                if not self._is_away(error):
                    _log.warning("spool: a write is blocked or took too long, and is spooled: %s", error)
                    self._blocked.block(batch)
        return self.enqueue(batch)

    def enqueue(self, batch: Batch) -> BatchReceipts:
        """Spool a batch, whether the store is available or not."""
        self.directory.append(batch)
        self.start()
        self._drain.wake()
        return BatchReceipts.all(_SPOOLED, batch)

    def ping(self) -> ops.ServerSettings:
        settings = self._read(self.inner.ping)
        if self._drain_thread is not None:  # only a service, not a command, decides whose folder is used
            self._identify(settings)
        return settings

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
            sum(other.total for other in others.find(self._folders)),
        )

    def close(self) -> None:
        """Stop the drain and release the files; the next process adopts what isn't delivered."""
        running, self._drain_thread = self._drain_thread, None
        if running and running[0] == os.getpid():
            self._drain.stop()
            running[1].join(_STOP_S)
        try:
            self.directory.close()
        finally:
            self.inner.close()

    def _write_unblocked(self, batch: Batch, blocked: set[str]) -> BatchReceipts:
        """Spool the rows of the blocked sessions and write the others."""
        receipts = {id(row): _SPOOLED for row in batch.rows()}
        unblocked = batch.exclude(blocked)
        if unblocked.explicit_rows():
            receipts |= {id(row): receipt for row, receipt in zip(unblocked.rows(), self.write(unblocked), strict=True)}
        self.enqueue(batch.select(blocked))
        return BatchReceipts(**{kind: [receipts[id(row)] for row in getattr(batch, kind)] for kind in KINDS})

    def _edit(self, project: str, query: ops.EditQuery) -> ops.Session | None:
        is_spooled = bool(self.directory.batches_for(project, query["session_id"]))  # looked up before it is delivered
        edited = self._ask(ops.EDIT, project, query)
        if edited is None and is_spooled:  # "not found" would be wrong
            raise StoreBusy("the session is still spooled; edit it once it is delivered")
        return edited

    def _choose(self, project: str, query: ops.ChooseQuery) -> ops.Choice[ops.SessionRef | None]:
        session_id = query["session_id"]
        batches = self.directory.batches_for(project, session_id)  # looked up before they are delivered
        choice = self._ask(ops.CHOOSE, project, query)
        if not choice["chosen"] and query["interaction_id"] in overlay.spooled_interactions(session_id, batches):
            raise StoreBusy("the interaction is still spooled; choose it once it is delivered")
        return choice

    def _erase(self, project: str, query: ops.EraseQuery) -> ops.Erased | None:
        """Erase a session in the store, then here. One that is only spooled leaves a tombstone in the store, too."""
        erased = self._purge.erase(project, query, lambda step: self._ask(ops.ERASE, project, step))
        if erased is not None:
            self._blocked.unblock(
                Batch(project, [{"id": query["session_id"]}])
            )  # the next write must meet the tombstone at once
        return erased

    def _erase_interaction(self, project: str, query: ops.EraseInteractionQuery) -> ops.InteractionErased:
        """Erase an interaction in the store, then here. One that is only spooled leaves a tombstone, too."""
        erased = self._purge.erase_interaction(
            project, query, lambda step: self._ask(ops.ERASE_INTERACTION, project, step)
        )
        if erased["erased"] is not None and not query.get("dry_run"):
            self._blocked.unblock(Batch(project, [{"id": query["session_id"]}]))
        return erased

    def _erase_user(self, project: str, query: ops.EraseUserQuery) -> ops.UserErased:
        return self._purge.erase_user(
            project,
            query,
            lambda step: self._ask(ops.ERASE_USER, project, step),
            lambda: self._ask(ops.MERGES, project, ops.UserQuery(user_id=query["user_id"]))["guests"],
        )

    def _is_away(self, error: StoreError) -> bool:
        """Return whether the store is away after a call failed: a call may be slow by itself, so only a ping decides.

        The breaker opens if it is.
        """
        if isinstance(error, StoreBusy):
            return False  # the store has said so itself
        try:
            self.inner.ping()
        except Exception as found:  # noqa: BLE001 - also an answer that isn't Turnlog's
            if self.breaker.record_failure(found):
                _log.warning("spool: the store is away, writes are spooled: %s", found)
            self.start()
            self._drain.wake()
            return True
        return False

    def _run_drain(self) -> None:
        """Learn which database answers, then deliver its records. While none answers, the probe learns it."""
        try:
            if self.breaker.is_closed:
                self._identify(self.inner.ping())
        except StoreError as error:
            if self.breaker.record_failure(error):
                _log.warning("spool: the store is away, writes are spooled: %s", error)
        except Exception:  # noqa: BLE001 - the probe meets it again: log it and go on
            _log.exception("spool: unexpected error before the first delivery")
            self.breaker.record_failure(StoreUnavailable("the store could not be asked which database it is"))
        self._drain.run()

    def _probe(self) -> None:
        if self._revive is not None:
            self._revive()
        self._identify(self.inner.ping())

    def _identify(self, settings: ops.ServerSettings) -> None:
        """Use the folders of the database that answers, and no others."""
        before, database = self.directory.database, settings["database_id"]
        own = self._folders.own() if before == database else self._folders.identify(database)
        if own.database != database:
            own = self._folders.identify(database)  # another process met another database meanwhile
        self.directory.follow(own)
        for folder in own.paths[1:]:
            try:
                self.dead_letters.take_over(folder)
            except SpoolFull as error:
                _log.warning("spool: %s", error)
        if before != database:
            for other in others.find(self._folders):
                _log.warning("spool: %s; see `turnlog spool status`", other)
