"""Reads past the spool: what the store holds, with what waits on this machine in its place.

The spool is always looked at first: what is delivered in between is seen twice, and told apart by its id.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TypeVar

from logging_store import operations as ops
from logging_store.batches import Batch
from logging_store.errors import StoreBusy, StoreUnavailable
from logging_store.spool import overlay
from logging_store.spool.breaker import CircuitBreaker
from logging_store.spool.directory import SpoolDirectory
from logging_store.store import Store

_Answer = TypeVar("_Answer")
_Transcript = ops.TranscriptPage[ops.SessionName | None]
_People = ops.ParticipantsAnswer[ops.SessionName | None]
_Feedback = ops.FeedbackPage[ops.SessionName | None]
_AT_ONCE = 1000


class SpoolReader(ABC):
    """Reads `inner`, and shows what waits in `directory` as if it were there already, marked `spooled`."""

    inner: Store
    directory: SpoolDirectory
    breaker: CircuitBreaker

    @abstractmethod
    def _failed(self, error: Exception) -> None:
        """Note that the store can't be reached."""

    def _session(self, project: str, query: ops.OfSession) -> ops.Session | None:
        batches = self.directory.batches_of(project, query["session_id"])
        return self._ask(ops.SESSION, project, query) or _waiting_session(query["session_id"], batches)

    def _transcript(self, project: str, query: ops.TranscriptQuery) -> _Transcript:
        """Read a page; it isn't `complete` while the store is away, so that only what waits can be shown.

        Nor is one of several while something waits, which may be delivered to a place between pages that were read.
        """
        session_id = query["session_id"]
        batches = self.directory.batches_of(project, session_id)
        try:
            page = self._ask(ops.TRANSCRIPT, project, query)
        except StoreUnavailable:
            session = _waiting_session(session_id, batches)
            if session is None:
                raise
            return _waiting_transcript(session, batches)
        batches = self._reaching(project, session_id, batches, page["session"])
        return self._with_waiting_turns(project, session_id, page, batches, begins=query.get("after") is None)

    def _conversation(self, project: str, query: ops.ConversationQuery) -> ops.Conversation[ops.Session | None]:
        session_id = query["session_id"]
        batches = self.directory.batches_of(project, session_id)
        try:
            found = self._ask(ops.CONVERSATION, project, query)
        except StoreUnavailable:
            session = _waiting_session(session_id, batches)
            if session is None:
                raise
            return {
                "session": session,
                "outline": None,
                "transcript": _waiting_transcript(session, batches),
                "participants": None,
                "folder": None,
                "feedback": None,
            }
        session = found["session"] or _waiting_session(session_id, batches)
        outline, page, people = found["outline"], found["transcript"], found["participants"]
        if not batches or session is None or outline is None or page is None or people is None:
            return found
        batches = overlay.reaching(session_id, batches, session["owner"])
        page = self._with_waiting_turns(project, session_id, page, batches, begins=outline["index"] == 0)
        of_page: ops.FeedbackQuery = {
            "session_id": session_id,
            "limit": query["feedback"],
            "interaction_ids": [row["interaction_id"] for row in page["interactions"]],
        }
        if "author" in query:
            of_page["author"] = query["author"]
        feedback = self._feedback(project, of_page)
        people = _with_waiting_participants(session_id, people, batches)
        return {**found, "session": session, "transcript": page, "participants": people, "feedback": feedback}

    def _participants(self, project: str, query: ops.OfSession) -> _People:
        session_id = query["session_id"]
        batches = self.directory.batches_of(project, session_id)
        found = self._ask(ops.PARTICIPANTS, project, query)
        return _with_waiting_participants(
            session_id, found, self._reaching(project, session_id, batches, found["session"])
        )

    def _feedback(self, project: str, query: ops.FeedbackQuery) -> _Feedback:
        """Read a page; what is new is added to the last one."""
        if "session_id" not in query:
            return self._ask(ops.FEEDBACK, project, query)
        session_id = query["session_id"]
        batches = self.directory.batches_of(project, session_id)
        page = self._ask(ops.FEEDBACK, project, query)
        batches = self._reaching(project, session_id, batches, page["session"])
        session = page["session"] or overlay.session_row(session_id, batches)
        waiting = overlay.feedback_of(session_id, batches, query.get("interaction_ids"), query.get("author"))
        if not waiting or (session and session["erased_at"]):
            return {**page, "session": session}
        rows = [overlay.later(row, waiting.get(overlay.place_of(row), row)) for row in page["feedback"]]
        if page["after"] is None:
            of_these: ops.FeedbackQuery = {
                "session_id": session_id,
                "limit": _AT_ONCE,
                "interaction_ids": sorted({place[0] for place in waiting}),
            }
            stored = ops.pages(lambda asked: self._ask(ops.FEEDBACK, project, asked), of_these)
            known = {overlay.place_of(row) for each in stored for row in each["feedback"]}
            rows += [row for place, row in waiting.items() if place not in known]
        return {**page, "session": session, "feedback": rows}

    def _ask(self, operation: ops.Operation[ops.Q, ops.A], project: str | None, query: ops.Q) -> ops.A:
        return self._read(lambda: self.inner.ask(operation, project, query))

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

    def _reaching(
        self, project: str, session_id: str, batches: list[Batch], stored: ops.SessionName | None
    ) -> list[Batch]:
        """Return what waits of a session, and isn't claimed by somebody whose it is not."""
        if not overlay.is_claimed(session_id, batches):
            return batches
        known = self._ask(ops.SESSION, project, ops.OfSession(session_id=session_id)) if stored else None
        owner = known["owner"] if known else overlay.owner_of(session_id, batches)
        return overlay.reaching(session_id, batches, owner)

    def _with_waiting_turns(
        self,
        project: str,
        session_id: str,
        page: _Transcript,
        batches: list[Batch],
        *,
        begins: bool,
    ) -> _Transcript:
        """Return a page with what waits; the last one also has what is new. `begins`: it is the first one."""
        waiting = overlay.interactions_of(session_id, batches)
        session = page["session"] or overlay.session_row(session_id, batches)
        if not waiting or (session and session["erased_at"]):
            return {**page, "session": session}
        rows = [
            overlay.interaction_row(waiting[row["interaction_id"]], row) if row["interaction_id"] in waiting else row
            for row in page["interactions"]
        ]
        is_last = page["after"] is None
        if is_last:
            known = self._stored_ids(project, session_id)
            new = (overlay.interaction_row(each) for id_, each in waiting.items() if id_ not in known)
            rows = overlay.in_order([*rows, *new])
        return {**page, "session": session, "interactions": rows, "complete": begins and is_last}

    def _stored_ids(self, project: str, session_id: str) -> set[str]:
        def read(query: ops.TranscriptQuery) -> _Transcript:
            return ops.shortened(lambda asked: self.inner.ask(ops.TRANSCRIPT, project, asked), query)

        stored = ops.pages(read, ops.TranscriptQuery(session_id=session_id, limit=_AT_ONCE))
        return {row["interaction_id"] for page in stored for row in page["interactions"]}


def _waiting_session(session_id: str, batches: list[Batch]) -> ops.Session | None:
    owner = overlay.owner_of(session_id, batches)
    return overlay.session_row(session_id, overlay.reaching(session_id, batches, owner))


def _waiting_transcript(session: ops.Session, batches: list[Batch]) -> _Transcript:
    session_id = session["session_id"]
    waiting = overlay.interactions_of(session_id, overlay.reaching(session_id, batches, session["owner"]))
    rows = overlay.in_order(overlay.interaction_row(each) for each in waiting.values())
    return {"session": session, "interactions": rows, "after": None, "complete": False}


def _with_waiting_participants(session_id: str, found: _People, batches: list[Batch]) -> _People:
    session = found["session"] or overlay.session_row(session_id, batches)
    if session is None or session["erased_at"]:
        return {"session": session, "participants": []}
    people = overlay.participants_of(session_id, batches, found["participants"])
    return {"session": session, "participants": people}
