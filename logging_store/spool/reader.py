"""Reads the store with the spooled records of this machine merged in.

Each read looks at the spool first and asks the store afterwards. A record that is delivered in between is then seen
twice, and merged by its id; in the other order it could be missed.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import TypeVar

from logging_store import operations as ops
from logging_store.batches import Batch
from logging_store.errors import StoreBusy, StoreError, StoreReconnecting, StoreUnavailable
from logging_store.spool import overlay
from logging_store.spool.breaker import CircuitBreaker
from logging_store.spool.directory import SpoolDirectory
from logging_store.spool.merged_session import MergedSession
from logging_store.store import Store

_Answer = TypeVar("_Answer")
_Transcript = ops.TranscriptPage[ops.SessionRef | None]
_Participants = ops.ParticipantsPage[ops.SessionRef | None]
_Feedback = ops.FeedbackPage[ops.SessionRef | None]
_PAGE = 1000


class SpoolReader(ABC):
    """Reads `inner` and merges in the records that are spooled in `directory`, marked `spooled`."""

    inner: Store
    directory: SpoolDirectory
    breaker: CircuitBreaker

    @abstractmethod
    def _is_away(self, error: StoreError) -> bool:
        """Return whether the store can't be reached after a call failed, and record it."""

    def _session(self, project: str, query: ops.SessionQuery) -> ops.Session | None:
        batches = self.directory.batches_for(project, query["session_id"])
        return self._ask(ops.SESSION, project, query) or _spooled_session(query["session_id"], batches)

    def _transcript(self, project: str, query: ops.TranscriptQuery) -> _Transcript:
        """Return a page of a transcript.

        It isn't `complete` while the store is away, since it has spooled interactions only. One of several pages isn't
        either while interactions are spooled: they may be delivered to a position between two pages.
        """
        session_id = query["session_id"]
        batches = self.directory.batches_for(project, session_id)
        try:
            page = self._ask(ops.TRANSCRIPT, project, query)
        except StoreUnavailable:
            session = _spooled_session(session_id, batches)
            if session is None:
                raise
            return _spooled_transcript(session, batches, query)
        batches = self._drop_false_claims(project, session_id, batches, page["session"])
        if "branches" in query and (spooled := self._spooled_of(session_id, batches, page["session"])):
            after = query.get("after")
            merged = MergedSession(self._stored(project, session_id), spooled, query, pin=_branch_of(after))
            page = {**page, "session": page["session"] or overlay.spooled_session(session_id, batches)}
            return self._branch_page(project, page, merged, limit=query["limit"], index=merged.index_after(after))
        return self._merge_turns(project, session_id, page, batches, is_first=query.get("after") is None)

    def _conversation(self, project: str, query: ops.ConversationQuery) -> ops.Conversation[ops.Session | None]:
        session_id = query["session_id"]
        batches = self.directory.batches_for(project, session_id)
        try:
            found = self._ask(ops.CONVERSATION, project, query)
        except StoreUnavailable:
            session = _spooled_session(session_id, batches)
            if session is None:
                raise
            return {
                "session": session,
                "outline": None,
                "transcript": _spooled_transcript(session, batches, query),
                "participants": None,
                "folder": None,
                "feedback": None,
                "revisions": None,
            }
        session = found["session"] or _spooled_session(session_id, batches)
        outline, page, participants = found["outline"], found["transcript"], found["participants"]
        if not batches or session is None or outline is None or page is None or participants is None:
            return found
        batches = overlay.drop_false_claims(session_id, batches, session["owner"])
        if "branches" in query and (spooled := self._spooled_of(session_id, batches, session)):
            place = query.get("after") or query.get("before")
            stored, target = self._stored(project, session_id), query.get("interaction_id")
            merged = MergedSession(stored, spooled, query, target=target, pin=_branch_of(place))
            outline = merged.outline(query, outline)
            leads = min(outline["index"], 1)
            page = {**page, "session": session}
            page = self._branch_page(
                project, page, merged, limit=query["limit"] + leads, index=outline["index"] - leads
            )
        else:
            page = self._merge_turns(project, session_id, page, batches, is_first=outline["index"] == 0)
        feedback_query: ops.FeedbackQuery = {
            "session_id": session_id,
            "limit": query["feedback"],
            "interaction_ids": [ops.THE_SESSION, *(row["interaction_id"] for row in page["interactions"])],
        }
        if "author" in query:
            feedback_query["author"] = query["author"]
        feedback = self._feedback(project, feedback_query)
        return {
            **found,
            "session": session,
            "outline": outline,
            "transcript": page,
            "participants": _merge_participants(session_id, participants, batches),
            "feedback": feedback,
        }

    def _participants(self, project: str, query: ops.SessionQuery) -> _Participants:
        session_id = query["session_id"]
        batches = self.directory.batches_for(project, session_id)
        found = self._ask(ops.PARTICIPANTS, project, query)
        return _merge_participants(
            session_id, found, self._drop_false_claims(project, session_id, batches, found["session"])
        )

    def _feedback(self, project: str, query: ops.FeedbackQuery) -> _Feedback:
        """Return a page of feedback; spooled feedback that isn't stored yet is on the last page."""
        if "session_id" not in query:
            return self._ask(ops.FEEDBACK, project, query)
        session_id = query["session_id"]
        batches = self.directory.batches_for(project, session_id)
        page = self._ask(ops.FEEDBACK, project, query)
        batches = self._drop_false_claims(project, session_id, batches, page["session"])
        session = page["session"] or overlay.spooled_session(session_id, batches)
        spooled = overlay.spooled_feedback(session_id, batches, query.get("interaction_ids"), query.get("author"))
        if not spooled or (session and session["erased_at"]):
            return {**page, "session": session}
        rows = [overlay.latest(row, spooled.get(overlay.feedback_key(row), row)) for row in page["feedback"]]
        if page["after"] is None:
            stored_query: ops.FeedbackQuery = {
                "session_id": session_id,
                "limit": _PAGE,
                "interaction_ids": sorted({interaction_id or ops.THE_SESSION for interaction_id, _, _ in spooled}),
            }
            stored = ops.pages(lambda next_query: self._ask(ops.FEEDBACK, project, next_query), stored_query)
            known = {overlay.feedback_key(row) for each in stored for row in each["feedback"]}
            rows += [row for key, row in spooled.items() if key not in known]
        return {**page, "session": session, "feedback": rows}

    def _ask(self, operation: ops.Operation[ops.Q, ops.A], project: str | None, query: ops.Q) -> ops.A:
        return self._read(lambda: self.inner.ask(operation, project, query))

    def _read(self, call: Callable[[], _Answer]) -> _Answer:
        """Make a call that can't be spooled; fail at once while the store is away. A read-only store answers reads."""
        if not (self.breaker.is_closed or self.breaker.is_read_only):
            kind = StoreReconnecting if self.breaker.is_reconnecting else StoreUnavailable
            raise kind(f"the store is away: {self.breaker.reason}")
        try:
            return call()
        except StoreUnavailable as error:
            if self._is_away(error) or isinstance(error, StoreBusy):
                raise
            raise StoreBusy(str(error)) from error

    def _drop_false_claims(
        self, project: str, session_id: str, batches: list[Batch], stored: ops.SessionRef | None
    ) -> list[Batch]:
        """Return batches without rows that claim the session for anybody but its owner."""
        if not overlay.has_claims(session_id, batches):
            return batches
        known = self._ask(ops.SESSION, project, ops.SessionQuery(session_id=session_id)) if stored else None
        owner = known["owner"] if known else overlay.spooled_owner(session_id, batches)
        return overlay.drop_false_claims(session_id, batches, owner)

    def _merge_turns(
        self,
        project: str,
        session_id: str,
        page: _Transcript,
        batches: list[Batch],
        *,
        is_first: bool,
    ) -> _Transcript:
        """Merge spooled interactions into a page; new ones are on the last page. `is_first`: it is the first page."""
        spooled = overlay.spooled_interactions(session_id, batches)
        session = page["session"] or overlay.spooled_session(session_id, batches)
        if not spooled or (session and session["erased_at"]):
            return {**page, "session": session}
        rows = [
            overlay.merge_interaction(spooled[row["interaction_id"]], row) if row["interaction_id"] in spooled else row
            for row in page["interactions"]
        ]
        is_last = page["after"] is None
        if is_last:
            known = self._stored_ids(project, session_id)
            new = (overlay.merge_interaction(each) for id_, each in spooled.items() if id_ not in known)
            rows = overlay.sort_transcript([*rows, *new])
        return {**page, "session": session, "interactions": rows, "complete": is_first and is_last}

    def _spooled_of(
        self, session_id: str, batches: list[Batch], session: ops.SessionRef | None
    ) -> dict[str, list[overlay.Row]]:
        """Return the spooled rows of a session by interaction; none of an erased one."""
        if session and session["erased_at"]:
            return {}
        return overlay.spooled_interactions(session_id, batches)

    def _branch_page(
        self, project: str, page: _Transcript, merged: MergedSession, *, limit: int, index: int
    ) -> _Transcript:
        """Return a page of a merged session's branch. `page`: the store's, which may be of another branch."""
        shown = merged.page(limit, index)
        stored = {row["interaction_id"]: row for row in page["interactions"]}
        session = page["session"]
        wanted = {*shown.ids, *filter(None, map(merged.question_of, shown.ids))}
        if session and (missing := merged.stored_ids.intersection(wanted) - stored.keys()):
            stored |= {row["interaction_id"]: row for row in self._stored(project, session["session_id"], missing)}
        return {
            "session": session,
            "interactions": merged.with_texts(shown.ids, stored),
            "branch": merged.through,
            "after": shown.after,
            "complete": index == 0 and shown.after is None,
        }

    def _stored(self, project: str, session_id: str, wanted: set[str] | None = None) -> Iterator[ops.Interaction]:
        """Yield the stored interactions of a session, or those `wanted`."""

        def read(query: ops.TranscriptQuery) -> _Transcript:
            return ops.read_shrinking(lambda smaller: self.inner.ask(ops.TRANSCRIPT, project, smaller), query)

        for page in ops.pages(read, ops.TranscriptQuery(session_id=session_id, limit=_PAGE)):
            yield from (row for row in page["interactions"] if wanted is None or row["interaction_id"] in wanted)

    def _stored_ids(self, project: str, session_id: str) -> set[str]:
        return {row["interaction_id"] for row in self._stored(project, session_id)}


def _spooled_session(session_id: str, batches: list[Batch]) -> ops.Session | None:
    owner = overlay.spooled_owner(session_id, batches)
    return overlay.spooled_session(session_id, overlay.drop_false_claims(session_id, batches, owner))


def _spooled_transcript(session: ops.Session, batches: list[Batch], options: ops.BranchOptions) -> _Transcript:
    session_id = session["session_id"]
    spooled = overlay.spooled_interactions(session_id, overlay.drop_false_claims(session_id, batches, session["owner"]))
    if "branches" in options:
        merged = MergedSession((), spooled, options)
        rows = merged.with_texts(merged.page(len(spooled), 0).ids, {})
        return {"session": session, "interactions": rows, "branch": merged.through, "after": None, "complete": False}
    rows = overlay.sort_transcript(overlay.merge_interaction(each) for each in spooled.values())
    return {"session": session, "interactions": rows, "branch": None, "after": None, "complete": False}


def _branch_of(cursor: ops.TurnCursor | None) -> str | None:
    return cursor.get("branch") if cursor else None


def _merge_participants(session_id: str, found: _Participants, batches: list[Batch]) -> _Participants:
    session = found["session"] or overlay.spooled_session(session_id, batches)
    if session is None or session["erased_at"]:
        return {"session": session, "participants": []}
    participants = overlay.merge_participants(session_id, batches, found["participants"])
    return {"session": session, "participants": participants}
