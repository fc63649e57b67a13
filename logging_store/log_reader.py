"""The log of one project as somebody may read it."""

from typing import Any, NotRequired, TypeVar, cast

from logging_store import operations as ops
from logging_store.errors import FolderNotFound, NotYours, SessionErased, SessionNotFound
from logging_store.ownership import Ownership
from logging_store.records import identity
from logging_store.records.identity import Identity
from logging_store.store import Store

_Session = TypeVar("_Session", bound=ops.SessionName)


class FiltersOf(ops.SessionFilters):
    """`folder` names one."""

    folder: NotRequired[str]


class SessionsOf(FiltersOf, ops.SessionsQuery):
    pass


class SearchIn(ops.SearchFilters):
    """`session` names one."""

    session: NotRequired[str]


class FeedbackOf(ops.FeedbackPart):
    """`interaction` names the only one that is asked for."""

    interaction: NotRequired[str]


class LogReader:
    """Reads the log. `ownership`: what somebody reaches of it who only reaches sessions of their own.

    Sessions are called by their id or key. What reads one raises `SessionNotFound` or `SessionErased`.
    """

    def __init__(self, store: Store, project: str, ownership: Ownership | None = None) -> None:
        self.store = store
        self.project = project
        self._ownership = ownership

    def session(self, name: str) -> ops.Session:
        who = identity.session(self.project, name)
        return present(self._own(who, self._ask(ops.SESSION, ops.OfSession(session_id=who.id))))

    def sessions(self, query: SessionsOf) -> ops.SessionsPage:
        return self._ask(ops.SESSIONS, self._reachable(query))

    def sessions_by_id(self, query: ops.SessionsByIdQuery) -> ops.SessionsByIdPage:
        return self._ask(ops.SESSIONS_BY_ID, query)

    def count_sessions(self, query: FiltersOf) -> ops.SessionCount:
        return self._ask(ops.COUNT_SESSIONS, self._reachable(query))

    def recent(self, query: ops.RecentQuery) -> ops.RecentPage:
        """Return a page of what arrived last. Raises `NotYours` for who reaches only their own."""
        if self._ownership is not None:
            raise NotYours("Only who may read everything sees what arrives")
        return self._ask(ops.RECENT, query)

    def search(self, query: SearchIn) -> ops.SearchPage:
        return self._ask(ops.SEARCH, self._reachable(query))

    def transcript(self, name: str, query: ops.TranscriptPart) -> ops.TranscriptPage[ops.SessionName]:
        asked: ops.TranscriptQuery = {**query, "session_id": self._reached(name).id}
        page = ops.shortened(lambda shorter: self._ask(ops.TRANSCRIPT, shorter), asked)
        return {**page, "session": present(page["session"])}

    def outline(self, name: str, query: ops.OutlinePart) -> ops.Outline:
        asked: ops.OutlineQuery = {**query, "session_id": self._reached(name).id}
        return self._ask(ops.OUTLINE, asked)

    def conversation(self, name: str, query: ops.ConversationPart) -> ops.Conversation[ops.Session]:
        """Return a page of a session with all that stands beside it, in one call of the store."""
        who = identity.session(self.project, name)
        asked = cast("ops.ConversationQuery", {**query, "session_id": who.id})
        if self._ownership is not None:
            asked |= {"owner": self._ownership.owner_of(who.id), "author": self._ownership.author}
        found = ops.shortened(lambda shorter: self._ask(ops.CONVERSATION, shorter), asked)
        return {**found, "session": present(self._own(who, found["session"]))}

    def gaps(self, name: str, ranges: int) -> ops.Gaps:
        """Return what a session's turn counter lacks."""
        asked: ops.GapsQuery = {"session_id": self._reached(name).id, "ranges": ranges}
        found = self._ask(ops.GAPS, asked)["sessions"]
        return present(found[0] if found else None)

    def sessions_with_gaps(self, query: ops.GapsOfPage) -> ops.GapsPage:
        return self._ask(ops.GAPS, cast("ops.GapsQuery", query))

    def participants(self, name: str) -> ops.ParticipantsAnswer[ops.SessionName]:
        found = self._ask(ops.PARTICIPANTS, ops.OfSession(session_id=self._reached(name).id))
        return {**found, "session": present(found["session"])}

    def feedback(self, name: str, query: FeedbackOf) -> ops.FeedbackPage[ops.SessionName]:
        """Return a page of what was said of a session's interactions.

        Who only reaches their own is told only what they said themselves: what others note of them isn't for them.
        """
        who = self._reached(name)
        asked = cast("ops.FeedbackQuery", {**query, "session_id": who.id})
        if (interaction := query.get("interaction")) is not None:
            asked["interaction_ids"] = [identity.interaction(self.project, who.id, interaction).id]
        if self._ownership is not None:
            asked["author"] = self._ownership.author
        found = self._ask(ops.FEEDBACK, asked)
        return {**found, "session": present(found["session"])}

    def interaction_id(self, session: str, name: str) -> str:
        """Return the id of what a session's interaction is called."""
        return identity.interaction(self.project, identity.session(self.project, session).id, name).id

    def feedback_by(self, query: ops.FeedbackPart) -> ops.FeedbackPage[ops.SessionName | None]:
        """Return a page of what an author said in sessions that are not their own."""
        return self._ask(ops.FEEDBACK, cast("ops.FeedbackQuery", query))

    def folder(self, name: str, query: ops.FolderPart) -> ops.FolderPage[ops.Folder]:
        """Return a folder and a page of its sessions. Raises `FolderNotFound`."""
        asked: ops.FolderQuery = {**query, "folder_id": identity.folder(self.project, name).id}
        found = self._ask(ops.FOLDER, asked)
        if found["folder"] is None:
            raise FolderNotFound
        return {**found, "folder": found["folder"]}

    def folders(self, query: ops.FoldersQuery) -> ops.FoldersPage:
        return self._ask(ops.FOLDERS, query)

    def overview(self, query: ops.OverviewQuery) -> ops.Overview:
        return self._ask(ops.OVERVIEW, query)

    def participations(self, query: ops.ParticipationsQuery) -> ops.SessionsByIdPage:
        return self._ask(ops.PARTICIPATIONS, query)

    def _ask(self, operation: ops.Operation[ops.Q, ops.A], query: ops.Q) -> ops.A:
        return self.store.ask(operation, self.project, query)

    def _reachable(self, query: FiltersOf | SearchIn) -> Any:
        """Return a query of a list as the store takes it, for what this caller may read: its names become ids.

        Raises `NotYours` for who has no list.
        """
        asked: dict[str, Any] = {**query}
        if folder := asked.pop("folder", None):
            asked["folder_id"] = identity.folder(self.project, folder).id
        if session := asked.pop("session", None):
            asked["session_id"] = identity.session(self.project, session).id
        if self._ownership is not None:
            if self._ownership.user_id is None:
                raise NotYours("Only who signed in has a list of sessions")
            asked |= {"user_id": self._ownership.user_id, "unclaimed": True}
        return asked

    def _reached(self, name: str) -> Identity:
        """Return the identity of a session, which somebody who only reaches their own may read."""
        if self._ownership is not None:
            self.session(name)
        return identity.session(self.project, name)

    def _own(self, who: Identity, found: ops.Session | None) -> ops.Session | None:
        """Return a session, if this caller reaches it: nobody learns that somebody else's is there."""
        if found and self._ownership is not None and found["owner"] != self._ownership.owner_of(who.id):
            return None
        return found


def present(session: _Session | None) -> _Session:
    """Return a session. Raises `SessionNotFound` or `SessionErased`."""
    if session is None:
        raise SessionNotFound
    if session["erased_at"] is not None:
        raise SessionErased(session["session_id"], session["erased_at"])
    return session
