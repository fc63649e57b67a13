"""The log of one project as somebody may read it."""

from typing import Any

from logging_store import identity
from logging_store.errors import FolderNotFound, Invalid, NotYours, SessionErased, SessionNotFound
from logging_store.identity import Identity
from logging_store.json_values import restore_numbers
from logging_store.ownership import Ownership
from logging_store.store import Store


class LogReader:
    """Reads the log. `ownership`: what somebody reaches of it who only reaches sessions of their own."""

    def __init__(self, store: Store, project: str, ownership: Ownership | None = None) -> None:
        self.store = store
        self.project = project
        self._ownership = ownership

    def session(self, name: str) -> dict[str, Any]:
        """Return a session. Raises `SessionNotFound` or `SessionErased`."""
        who = identity.session(self.project, name)
        found = self.store.session(self.project, who.id)
        if found and self._ownership is not None and found["owner"] != self._ownership.owner_of(who.id):
            raise SessionNotFound  # nobody learns that somebody else's is there
        return restore_numbers(present(found))

    def sessions(self, query: dict[str, Any]) -> dict[str, Any]:
        """Return a page of sessions, newest first: see `Store.sessions`. `folder` names a folder."""
        return restore_numbers(self.store.sessions(self.project, self._reachable(query)))

    def count_sessions(self, query: dict[str, Any]) -> dict[str, Any]:
        """Count the sessions that a query of `sessions` finds: see `Store.count_sessions`."""
        return self.store.count_sessions(self.project, self._reachable(query))

    def recent(self, query: dict[str, Any]) -> dict[str, Any]:
        """Return a page of what arrived last: see `Store.recent`. Raises `NotYours` for who reaches only their own."""
        if self._ownership is not None:
            raise NotYours("Only who may read everything sees what arrives")
        return restore_numbers(self.store.recent(self.project, query))

    def search(self, query: dict[str, Any]) -> dict[str, Any]:
        """Return a page of interactions that say something: see `Store.search`. `session`: its id, or its key."""
        return self.store.search(self.project, self._reachable(query))

    def transcript(self, name: str, query: dict[str, Any]) -> dict[str, Any]:
        """Return a page of a session's interactions. Raises `SessionNotFound` or `SessionErased`."""
        who = self._reached(name)
        try:
            page = self.store.transcript(self.project, who.id, query)
        except Invalid:
            # a thousand turns of megabytes are more than PostgreSQL builds into one answer: a page may be shorter
            if query["limit"] == 1:
                raise
            return self.transcript(name, {**query, "limit": query["limit"] // 2})
        present(page["session"])
        # not in `after`, which is the store's own: rounded, its numbers would name another place
        return {**page, "interactions": restore_numbers(page["interactions"])}

    def outline(self, name: str, query: dict[str, Any]) -> dict[str, Any]:
        """Return which page of a transcript is wanted, and what all of it comes to: see `Store.outline`."""
        outline = self.store.outline(self.project, self._reached(name).id, query)
        return {**outline, "models": restore_numbers(outline["models"])}

    def gaps(self, name: str, ranges: int) -> dict[str, Any]:
        """Return what a session's turn counter lacks: see `Store.gaps`. Raises `SessionNotFound` or `SessionErased`."""
        who = self._reached(name)
        found = self.store.gaps(self.project, who.id, {"ranges": ranges})["sessions"]
        return present(found[0] if found else None)

    def sessions_with_gaps(self, query: dict[str, Any]) -> dict[str, Any]:
        """Return a page of the sessions whose turn counters lack something: see `Store.gaps`."""
        return self.store.gaps(self.project, None, query)

    def participants(self, name: str) -> dict[str, Any]:
        """Return who takes part in a session: see `Store.participants`. Raises `SessionNotFound` or `SessionErased`."""
        who = self._reached(name)
        found = self.store.participants(self.project, who.id)
        present(found["session"])
        return found

    def feedback(self, name: str, query: dict[str, Any]) -> dict[str, Any]:
        """Return a page of what was said of a session's interactions. Raises `SessionNotFound` or `SessionErased`.

        Who only reaches their own is told only what they said themselves: what others note of them isn't for them.
        `query`: limit, and any of interaction (only of that one), interaction_ids, after: see `Store.feedback`.
        """
        who = self._reached(name)
        query = dict(query)
        if (interaction := query.pop("interaction", None)) is not None:
            query["interaction_ids"] = [identity.interaction(self.project, who.id, interaction).id]
        if self._ownership is not None:
            query["author"] = self._ownership.author
        found = self.store.feedback(self.project, who.id, query)
        present(found["session"])
        return found

    def interaction_id(self, session: str, name: str) -> str:
        """Return the id of what a session's interaction is called."""
        return identity.interaction(self.project, identity.session(self.project, session).id, name).id

    def feedback_by(self, author: str, query: dict[str, Any]) -> dict[str, Any]:
        """Return a page of what somebody said in sessions that are not their own: see `Store.feedback`."""
        return self.store.feedback(self.project, None, {**query, "author": author})

    def folder(self, name: str, query: dict[str, Any]) -> dict[str, Any]:
        """Return a folder and a page of its sessions: see `Store.folder`. Raises `FolderNotFound`."""
        who = identity.folder(self.project, name)
        found = self.store.folder(self.project, who.id, query)
        if found["folder"] is None:
            raise FolderNotFound
        return restore_numbers(found)

    def folders(self, query: dict[str, Any]) -> dict[str, Any]:
        """Return a page of folders: see `Store.folders`."""
        return restore_numbers(self.store.folders(self.project, query))

    def overview(self, query: dict[str, Any]) -> dict[str, Any]:
        """Return what went on in a span of time: see `Store.overview`."""
        return self.store.overview(self.project, query)

    def participations(self, user_id: str, query: dict[str, Any]) -> dict[str, Any]:
        """Return a page of others' sessions that a user takes part in: see `Store.participations`."""
        return restore_numbers(self.store.participations(self.project, user_id, query))

    def _reachable(self, query: dict[str, Any]) -> dict[str, Any]:
        """Return a query of a list as the store takes it, for what this caller may read: its names become ids.

        Raises `NotYours` for who has no list.
        """
        query = {**query}
        if folder := query.pop("folder", None):
            query["folder_id"] = identity.folder(self.project, folder).id
        if session := query.pop("session", None):
            query["session_id"] = identity.session(self.project, session).id
        if self._ownership is not None:
            if self._ownership.user_id is None:
                raise NotYours("Only who signed in has a list of sessions")
            query |= {"user_id": self._ownership.user_id, "unclaimed": True}
        return query

    def _reached(self, name: str) -> Identity:
        """Return the identity of a session, which somebody who only reaches their own may read."""
        if self._ownership is not None:
            self.session(name)
        return identity.session(self.project, name)


def present(session: dict[str, Any] | None) -> dict[str, Any]:
    """Return a session. Raises `SessionNotFound` or `SessionErased`."""
    if session is None:
        raise SessionNotFound
    if session["erased_at"] is not None:
        raise SessionErased(session["session_id"], session["erased_at"])
    return session
