"""A store that keeps writes on this machine's disk while the inner one is away, and delivers them when it is back.

What is kept is synced before the receipt says `spooled`. Nothing is ever dropped to make room: past its limits the
spool refuses. What the store refuses for good after all goes to the dead letters.
"""

import logging
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from logging_store.batches import KINDS, Batch, BatchReceipts, Receipt
from logging_store.errors import Invalid, Misconfigured, StoreBusy, StoreUnavailable
from logging_store.spool import reading
from logging_store.spool.breaker import CircuitBreaker
from logging_store.spool.dead_letters import DeadLetters
from logging_store.spool.directory import Limits, SpoolDirectory
from logging_store.spool.drain import Drain
from logging_store.spool.forgetting import Forgetting
from logging_store.spool.held import HeldSessions
from logging_store.store import Backlog, Store

__all__ = ["CircuitBreaker", "DeadLetters", "Limits", "Spool", "SpoolDirectory"]

_log = logging.getLogger(__name__)

_Answer = TypeVar("_Answer")
_SPOOLED = Receipt(receipt="spooled")
_STOP_S = 5  # for a delivery under way; what isn't noted as delivered is delivered again


class Spool:
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

    def write(self, batch: Batch) -> BatchReceipts:
        """Store a batch, or keep it. Raises `SpoolFull` or `StoreUnavailable` if it can be neither."""
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

    def session(self, project: str, session_id: str) -> dict[str, Any] | None:
        # the spool first: what is delivered in between is seen twice, and not missed
        batches = self.directory.batches_of(project, session_id)
        stored = self._read(lambda: self.inner.session(project, session_id))
        return stored or self._waiting_session(session_id, batches)

    def sessions(self, project: str, query: dict[str, Any]) -> dict[str, Any]:
        return self._read(lambda: self.inner.sessions(project, query))

    def count_sessions(self, project: str, query: dict[str, Any]) -> dict[str, Any]:
        return self._read(lambda: self.inner.count_sessions(project, query))

    def recent(self, project: str, query: dict[str, Any]) -> dict[str, Any]:
        return self._read(lambda: self.inner.recent(project, query))

    def transcript(self, project: str, session_id: str, query: dict[str, Any]) -> dict[str, Any]:
        """Return what `Store.transcript` does; rows with something that waits here are marked `spooled`.

        `complete` is False while the store is away, so that only what waits can be shown, and of a page of several
        while something waits, which may be delivered to a place between pages that were read already.
        """
        # the spool first: what is delivered in between is seen twice, and told apart by its id
        batches = self.directory.batches_of(project, session_id)
        try:
            page = self._read(lambda: self.inner.transcript(project, session_id, query))
        except StoreUnavailable:
            session = self._waiting_session(session_id, batches)
            if session is None:
                raise
            waiting = reading.interactions_of(session_id, reading.reaching(session_id, batches, session["owner"]))
            rows = reading.in_order(reading.interaction_row(each) for each in waiting.values())
            return {"session": session, "interactions": rows, "after": None, "complete": False}
        batches = self._reaching(project, session_id, batches, page["session"])
        waiting = reading.interactions_of(session_id, batches)
        session = page["session"] or reading.session_row(session_id, batches)
        if not waiting or (session and session["erased_at"]):
            return {**page, "session": session}
        rows = [
            reading.interaction_row(waiting[row["interaction_id"]], row) if row["interaction_id"] in waiting else row
            for row in page["interactions"]
        ]
        if page["after"] is None:
            known = self._stored_ids(project, session_id)
            new = (reading.interaction_row(each) for id_, each in waiting.items() if id_ not in known)
            rows = reading.in_order([*rows, *new])
        whole = page["after"] is None and query.get("after") is None
        return {**page, "session": session, "interactions": rows, "complete": whole}

    def outline(self, project: str, session_id: str, query: dict[str, Any]) -> dict[str, Any]:
        return self._read(lambda: self.inner.outline(project, session_id, query))

    def search(self, project: str, query: dict[str, Any]) -> dict[str, Any]:
        return self._read(lambda: self.inner.search(project, query))

    def gaps(self, project: str, session_id: str | None, query: dict[str, Any]) -> dict[str, Any]:
        return self._read(lambda: self.inner.gaps(project, session_id, query))

    def folder(self, project: str, folder_id: str, query: dict[str, Any]) -> dict[str, Any]:
        return self._read(lambda: self.inner.folder(project, folder_id, query))

    def folders(self, project: str, query: dict[str, Any]) -> dict[str, Any]:
        return self._read(lambda: self.inner.folders(project, query))

    def participants(self, project: str, session_id: str) -> dict[str, Any]:
        """Return what `Store.participants` does; those of whom something waits here are marked `spooled`."""
        batches = self.directory.batches_of(project, session_id)  # first: what is delivered in between is seen twice
        found = self._read(lambda: self.inner.participants(project, session_id))
        batches = self._reaching(project, session_id, batches, found["session"])
        session = found["session"] or reading.session_row(session_id, batches)
        if session is None or session["erased_at"]:
            return {"session": session, "participants": []}
        return {
            "session": session,
            "participants": reading.participants_of(session_id, batches, found["participants"]),
        }

    def feedback(self, project: str, session_id: str | None, query: dict[str, Any]) -> dict[str, Any]:
        """Return what `Store.feedback` does; of one session with what waits here of it, marked `spooled`.

        What is new is added to the last page.
        """
        if session_id is None:
            return self._read(lambda: self.inner.feedback(project, None, query))
        batches = self.directory.batches_of(project, session_id)  # first: what is delivered in between is seen twice
        page = self._read(lambda: self.inner.feedback(project, session_id, query))
        batches = self._reaching(project, session_id, batches, page["session"])
        session = page["session"] or reading.session_row(session_id, batches)
        waiting = reading.feedback_of(session_id, batches, query.get("interaction_ids"))
        if not waiting or (session and session["erased_at"]):
            return {**page, "session": session}
        rows = [reading.later(row, waiting.get(reading.place_of(row), row)) for row in page["feedback"]]
        if page["after"] is None:
            of_these = {"interaction_ids": sorted({place[0] for place in waiting})}
            known = {reading.place_of(row) for row in self._all_feedback(project, session_id, of_these)}
            rows += [row for place, row in waiting.items() if place not in known]
        return {**page, "session": session, "feedback": rows}

    def explain(self, batch: Batch) -> BatchReceipts:
        return self._read(lambda: self.inner.explain(batch))

    def edit(self, project: str, session_id: str, changes: dict[str, Any]) -> dict[str, Any] | None:
        return self._change(project, session_id, lambda: self.inner.edit(project, session_id, changes))

    def erase(self, project: str, session_id: str, query: dict[str, Any] | None = None) -> dict[str, Any] | None:
        """Erase a session in the store, and then here; one that only waits here leaves a tombstone there, too."""

        def ask(asked: dict[str, Any]) -> dict[str, Any] | None:
            return self._read(lambda: self.inner.erase(project, session_id, asked))

        erased = self._forgetting.erase(project, session_id, query or {}, ask)
        if erased is not None:
            self._held.release(Batch(project, [{"id": session_id}]))  # a tombstone is to be met at once
        return erased

    def erase_user(self, project: str, user_id: str, query: dict[str, Any]) -> dict[str, Any]:
        def ask(asked: dict[str, Any]) -> dict[str, Any]:
            return self._read(lambda: self.inner.erase_user(project, user_id, asked))

        return self._forgetting.erase_user(project, user_id, query, ask)

    def participations(self, project: str, user_id: str, query: dict[str, Any]) -> dict[str, Any]:
        return self._read(lambda: self.inner.participations(project, user_id, query))

    def overview(self, project: str, query: dict[str, Any]) -> dict[str, Any]:
        return self._read(lambda: self.inner.overview(project, query))

    def report_key(self, project: str) -> str:
        return self._read(lambda: self.inner.report_key(project))

    def forget(self, project: str) -> dict[str, Any]:
        return self._read(lambda: self.inner.forget(project))

    def key(self, digest: str) -> dict[str, Any] | None:
        return self._read(lambda: self.inner.key(digest))

    def origins(self) -> list[str]:
        return self._read(self.inner.origins)

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

    def _read(self, call: Callable[[], _Answer]) -> _Answer:
        """Make a call that can't be kept for later: while the store is away it fails at once."""
        if not self.breaker.is_closed:
            raise StoreUnavailable(f"the store is away: {self.breaker.reason}")
        try:
            return call()
        except StoreBusy:
            raise
        except StoreUnavailable as error:
            self._failed(error)
            raise

    def _waiting_session(self, session_id: str, batches: list[Batch]) -> dict[str, Any] | None:
        owner = reading.owner_of(session_id, batches)
        return reading.session_row(session_id, reading.reaching(session_id, batches, owner))

    def _reaching(
        self, project: str, session_id: str, batches: list[Batch], stored: dict[str, Any] | None
    ) -> list[Batch]:
        """Return what waits of a session, and isn't claimed by somebody whose it is not."""
        if not reading.is_claimed(session_id, batches):
            return batches
        known = self._read(lambda: self.inner.session(project, session_id)) if stored else None
        owner = known["owner"] if known else reading.owner_of(session_id, batches)
        return reading.reaching(session_id, batches, owner)

    def _change(self, project: str, session_id: str, call: Callable[[], _Answer]) -> _Answer:
        """Make a call about a session, which may only wait here: then nobody may be told that there is none."""
        waits = bool(self.directory.batches_of(project, session_id))  # before it is delivered
        answer = self._read(call)
        if answer is None and waits:
            raise StoreBusy("the session waits in the spool, and can be changed once it is delivered")
        return answer

    def _failed(self, error: Exception) -> None:
        if self.breaker.fail(error):
            _log.warning("spool: the store is away, writes are kept on this disk: %s", error)
        self.start()
        self._drain.wake()

    def _all_feedback(self, project: str, session_id: str, query: dict[str, Any]) -> Iterator[dict[str, Any]]:
        query = {**query, "limit": 1000}
        while True:
            page = self._read(lambda: self.inner.feedback(project, session_id, query))
            yield from page["feedback"]
            if page["after"] is None:
                return
            query["after"] = page["after"]

    def _stored_ids(self, project: str, session_id: str) -> set[str]:
        known: set[str] = set()
        query: dict[str, Any] = {"limit": 1000}
        while True:
            try:
                page = self.inner.transcript(project, session_id, query)
            except Invalid:  # more than the database can build into one answer
                if query["limit"] == 1:
                    raise
                query["limit"] //= 2
                continue
            known |= {row["interaction_id"] for row in page["interactions"]}
            if page["after"] is None:
                return known
            query["after"] = page["after"]
