"""Reads past the spool: what the store holds, with what waits on this machine in its place."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from logging_store.batches import Batch
from logging_store.errors import Invalid, StoreBusy, StoreUnavailable
from logging_store.spool import reading
from logging_store.spool.breaker import CircuitBreaker
from logging_store.spool.directory import SpoolDirectory
from logging_store.store import Store

_Answer = TypeVar("_Answer")


class SpoolReader(ABC):
    """Reads `inner`, and shows what waits in `directory` as if it were there already."""

    inner: Store
    directory: SpoolDirectory
    breaker: CircuitBreaker

    @abstractmethod
    def _failed(self, error: Exception) -> None:
        """Note that the store can't be reached."""

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
        waiting = reading.feedback_of(session_id, batches, query.get("interaction_ids"), query.get("author"))
        if not waiting or (session and session["erased_at"]):
            return {**page, "session": session}
        rows = [reading.later(row, waiting.get(reading.place_of(row), row)) for row in page["feedback"]]
        if page["after"] is None:
            of_these = {"interaction_ids": sorted({place[0] for place in waiting})}
            known = {reading.place_of(row) for row in self._all_feedback(project, session_id, of_these)}
            rows += [row for place, row in waiting.items() if place not in known]
        return {**page, "session": session, "feedback": rows}

    def participations(self, project: str, user_id: str, query: dict[str, Any]) -> dict[str, Any]:
        return self._read(lambda: self.inner.participations(project, user_id, query))

    def overview(self, project: str, query: dict[str, Any]) -> dict[str, Any]:
        return self._read(lambda: self.inner.overview(project, query))

    def report_key(self, project: str) -> str:
        return self._read(lambda: self.inner.report_key(project))

    def key(self, digest: str) -> dict[str, Any] | None:
        return self._read(lambda: self.inner.key(digest))

    def origins(self) -> list[str]:
        return self._read(self.inner.origins)

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
