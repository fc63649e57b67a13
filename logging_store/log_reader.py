"""Reads the log of one project, limited to what the caller may read."""

from collections.abc import Sequence
from typing import Any, NotRequired, TypeVar, cast

from logging_store import operations as ops
from logging_store.errors import (
    FolderNotFound,
    InteractionNotFound,
    NotOwner,
    SessionErased,
    SessionNotFound,
    StoreUnavailable,
)
from logging_store.ownership import Ownership
from logging_store.records import identity
from logging_store.records.identity import Identity
from logging_store.store import Store

_Session = TypeVar("_Session", bound=ops.SessionRef)


class NamedSessionFilters(ops.SessionFilters):
    """`folder`: a folder's id or key."""

    folder: NotRequired[str]


class NamedSessionsQuery(NamedSessionFilters, ops.SessionsQuery):
    pass


class NamedSessionsByIdQuery(NamedSessionFilters, ops.SessionsByIdQuery):
    pass


class NamedSearchFilters(ops.SearchFilters):
    """`session`: a session's id or key."""

    session: NotRequired[str]


class NamedFeedbackQuery(ops.FeedbackOptions):
    """`interaction`: the id or key of one interaction, to return only its feedback."""

    interaction: NotRequired[str]


class LogReader:
    """Reads the log. `ownership`: limits the caller to sessions of its own.

    `name` is an id or a key. Methods that read one session raise `SessionNotFound` or `SessionErased`; a session that
    the caller doesn't own is not found either.
    """

    def __init__(self, store: Store, project: str, ownership: Ownership | None = None) -> None:
        self.store = store
        self.project = project
        self._ownership = ownership

    def session(self, name: str) -> ops.Session:
        own = identity.session(self.project, name)
        found = self._ask(ops.SESSION, ops.SessionQuery(session_id=own.id))
        return require_session(self._if_owned(own, found))

    def sessions(self, query: NamedSessionsQuery) -> ops.SessionsPage:
        return self._ask(ops.SESSIONS, self._limit_to_caller(query))

    def sessions_by_id(self, query: NamedSessionsByIdQuery) -> ops.SessionsByIdPage:
        return self._ask(ops.SESSIONS_BY_ID, self._limit_to_caller(query))

    def known_sessions(self, names: Sequence[str]) -> set[str]:
        """Return those of some ids and keys whose sessions exist, erased ones too."""
        ids = {name: identity.session(self.project, name).id for name in names}
        query = ops.KnownSessionsQuery(session_ids=list(set(ids.values())))
        found = set(self._ask(ops.KNOWN_SESSIONS, query)["session_ids"])
        return {name for name, session_id in ids.items() if session_id in found}

    def count_sessions(self, query: NamedSessionFilters) -> ops.SessionCount:
        return self._ask(ops.COUNT_SESSIONS, self._limit_to_caller(query))

    def recent(self, query: ops.RecentQuery) -> ops.RecentPage:
        """Return a page of the latest interactions of all sessions. Raises `NotOwner` for a limited caller."""
        if self._ownership is not None:
            raise NotOwner("Only a key with the scope read lists interactions of all sessions")
        return self._ask(ops.RECENT, query)

    def search(self, query: NamedSearchFilters) -> ops.SearchPage:
        return self._ask(ops.SEARCH, self._limit_to_caller(query))

    def transcript(self, name: str, query: ops.TranscriptOptions) -> ops.TranscriptPage[ops.SessionRef]:
        store_query: ops.TranscriptQuery = {**query, "session_id": self._readable(name).id}
        page = ops.read_shrinking(lambda smaller: self._ask(ops.TRANSCRIPT, smaller), store_query)
        return {**page, "session": require_session(page["session"])}

    def latest(self, name: str, most: int) -> tuple[list[ops.Interaction], bool]:
        """Return a session's last interactions, `most` of them, in order, and whether they are all that it has.

        None of a session that doesn't exist, was erased, or isn't the caller's: a write says which. They are not all
        while the store is away, since then only spooled ones are known.
        """
        try:
            page = self.transcript(name, {"limit": most, "latest": True})
        except (SessionNotFound, SessionErased, NotOwner):
            return [], True
        except StoreUnavailable:
            return [], False  # and what is written now is spooled
        return page["interactions"], page["complete"] and not page.get("before", False)

    def branch(self, name: str, query: ops.TranscriptOptions) -> ops.TranscriptPage[ops.SessionRef]:
        """Return a page of the current branch, or of the one that leads through `branch`, with all alternatives.

        `branch` is an id or a key. Raises `InteractionNotFound` if the session has no such interaction.
        """
        query = {"branches": "current", **query}
        if "branch" not in query:
            return self.transcript(name, query)
        query["branch"] = self.interaction_id(name, query["branch"])
        page = self.transcript(name, query)
        if page["branch"] is None:
            raise InteractionNotFound
        return page

    def revisions(self, name: str, interaction: str, query: ops.RevisionsOptions) -> ops.RevisionsPage[ops.SessionRef]:
        """Return a page of the revisions of an interaction, newest first. Raises `InteractionNotFound`."""
        interaction_id = self.interaction_id(name, interaction)
        page = self.session_revisions(name, {**query, "interaction_ids": [interaction_id]})
        if not page["interactions"]:
            raise InteractionNotFound
        return page

    def session_revisions(self, name: str, query: ops.RevisionsOptions) -> ops.RevisionsPage[ops.SessionRef]:
        """Return a page of the revisions of a session's interactions."""
        store_query: ops.RevisionsQuery = {**query, "session_id": self._readable(name).id}
        page = ops.read_shrinking(lambda smaller: self._ask(ops.REVISIONS, smaller), store_query)
        return {**page, "session": require_session(page["session"])}

    def spans(self, name: str, interaction: str, most: int) -> ops.InteractionSpans[ops.SessionRef]:
        """Return the spans of an interaction and those around it in its trace. Raises `InteractionNotFound`."""
        query: ops.SpansQuery = {
            "session_id": self._readable(name).id,
            "interaction_id": self.interaction_id(name, interaction),
            "limit": most,
        }
        found = self._ask(ops.SPANS, query)
        session = require_session(found["session"])
        if found["interaction"] is None:
            raise InteractionNotFound
        return {**found, "session": session}

    def outline(self, name: str, query: ops.OutlineOptions) -> ops.Outline:
        store_query: ops.OutlineQuery = {**query, "session_id": self._readable(name).id}
        return self._ask(ops.OUTLINE, store_query)

    def conversation(self, name: str, query: ops.ConversationOptions) -> ops.Conversation[ops.Session]:
        """Return a page of a session with its outline, participants, folder and feedback, in one call of the store."""
        own = identity.session(self.project, name)
        store_query = cast("ops.ConversationQuery", {**query, "session_id": own.id})
        if self._ownership is not None:
            store_query |= {"owner": self._ownership.owner_of(own.id), "author": self._ownership.author}
        found = ops.read_shrinking(lambda smaller: self._ask(ops.CONVERSATION, smaller), store_query)
        return {**found, "session": require_session(self._if_owned(own, found["session"]))}

    def gaps(self, name: str, ranges: int) -> ops.Gaps:
        """Return the missing and the repeated turns of a session, at most `ranges` of each."""
        store_query: ops.GapsQuery = {"session_id": self._readable(name).id, "ranges": ranges}
        found = self._ask(ops.GAPS, store_query)["sessions"]
        return require_session(found[0] if found else None)

    def sessions_with_gaps(self, query: ops.GapsPageOptions) -> ops.GapsPage:
        return self._ask(ops.GAPS, cast("ops.GapsQuery", query))

    def participants(self, name: str) -> ops.ParticipantsPage[ops.SessionRef]:
        found = self._ask(ops.PARTICIPANTS, ops.SessionQuery(session_id=self._readable(name).id))
        return {**found, "session": require_session(found["session"])}

    def feedback(self, name: str, query: NamedFeedbackQuery) -> ops.FeedbackPage[ops.SessionRef]:
        """Return a page of the feedback on a session and on its interactions, also what was taken back.

        A limited caller only gets its own feedback: what others note about a user isn't for that user.
        """
        own = self._readable(name)
        store_query = cast("ops.FeedbackQuery", {**query, "session_id": own.id})
        if (interaction := query.get("interaction")) is not None:
            store_query["interaction_ids"] = [identity.interaction(self.project, own.id, interaction).id]
        if self._ownership is not None:
            store_query["author"] = self._ownership.author
        found = self._ask(ops.FEEDBACK, store_query)
        return {**found, "session": require_session(found["session"])}

    def interaction_id(self, session: str, name: str) -> str:
        """Return the id of a session's interaction, given the id or key of each. Asks no store."""
        return identity.interaction(self.project, identity.session(self.project, session).id, name).id

    def feedback_by(self, query: ops.FeedbackOptions) -> ops.FeedbackPage[ops.SessionRef | None]:
        """Return a page of an author's feedback in sessions of other users."""
        return self._ask(ops.FEEDBACK, cast("ops.FeedbackQuery", query))

    def folder(self, name: str, query: ops.FolderOptions) -> ops.FolderPage[ops.Folder]:
        """Return a folder and a page of its sessions. Raises `FolderNotFound`."""
        store_query: ops.FolderQuery = {**query, "folder_id": identity.folder(self.project, name).id}
        found = self._ask(ops.FOLDER, store_query)
        if found["folder"] is None:
            raise FolderNotFound
        return {**found, "folder": found["folder"]}

    def folders(self, query: ops.FoldersQuery) -> ops.FoldersPage:
        return self._ask(ops.FOLDERS, query)

    def overview(self, query: ops.OverviewQuery) -> ops.Overview:
        return self._ask(ops.OVERVIEW, query)

    def usage(self, query: ops.UsageQuery) -> ops.Usage:
        return self._ask(ops.USAGE, query)

    def reads(self, query: ops.ReadsQuery) -> ops.ReadsPage:
        return self._ask(ops.READS, query)

    def participations(self, query: ops.ParticipationsQuery) -> ops.SessionsByIdPage:
        return self._ask(ops.PARTICIPATIONS, query)

    def _ask(self, operation: ops.Operation[ops.Q, ops.A], query: ops.Q) -> ops.A:
        return self.store.ask(operation, self.project, query)

    def _limit_to_caller(self, query: NamedSessionFilters | NamedSearchFilters) -> Any:
        """Return a list's query with names replaced by ids, limited to the caller's sessions.

        Raises `NotOwner` for a limited caller without a user.
        """
        store_query: dict[str, Any] = {**query}
        if folder := store_query.pop("folder", None):
            store_query["folder_id"] = identity.folder(self.project, folder).id
        if session := store_query.pop("session", None):
            store_query["session_id"] = identity.session(self.project, session).id
        if self._ownership is not None:
            if self._ownership.user_id is None:
                raise NotOwner("Only a signed-in user has a list of sessions")
            store_query |= {"user_id": self._ownership.user_id, "unclaimed": True}
            if "rating" in store_query or "unrated" in store_query:
                store_query["author"] = self._ownership.author
        return store_query

    def _readable(self, name: str) -> Identity:
        """Return a session's identity. Raises `SessionNotFound` if a limited caller doesn't own it."""
        if self._ownership is not None:
            self.session(name)
        return identity.session(self.project, name)

    def _if_owned(self, own: Identity, found: ops.Session | None) -> ops.Session | None:
        """Return a session if the caller may read it, else None, so that nobody learns of other users' sessions."""
        if found and self._ownership is not None and found["owner"] != self._ownership.owner_of(own.id):
            return None
        return found


def require_session(session: _Session | None) -> _Session:
    """Return a session. Raises `SessionNotFound` for None, `SessionErased` for a tombstone."""
    if session is None:
        raise SessionNotFound
    if session["erased_at"] is not None:
        raise SessionErased(session["session_id"], session["erased_at"])
    return session
