"""The rules of the log over a dictionary: what any store has to answer, told as plainly as possible.

Written from the rules as the design and the docstrings state them. It keeps no database, no locks and no SQL in mind.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from logging_store.records import identity
from logging_store.records.models import Interaction, Session, SessionChanges

Facts = dict[str, Any]
Told = tuple[str, frozenset[str]]  # a receipt and the fields that it names

CREATED: Told = ("created", frozenset())
DUPLICATE: Told = ("duplicate", frozenset())
REJECTED: Told = ("rejected", frozenset())

_SESSION_FIELDS = (
    "key", "user_id", "title", "folder_id", "session_number", "scheduled_on", "started_at", "ended_at",
)  # fmt: skip
_INTERACTION_FIELDS = (
    "key", "prompt", "response", "model", "provider", "error", "finish_reason", "started_at", "completed_at",
    "latency_ms", "time_to_first_token_ms", "input_tokens", "output_tokens", "cost_usd", "participant", "reply_to",
    "turn",
)  # fmt: skip


@dataclass
class StoredSession:
    id: str
    implicit: bool
    created_at: datetime
    facts: Facts
    status: str = "open"
    edited: set[str] = field(default_factory=set)
    erased: bool = False
    interactions: dict[str, Facts] = field(default_factory=dict)


def weigh(held: Facts, stated: Facts) -> Told:
    """Let a record gain what is stated, unless some of it contradicts: then it stays as it is."""
    fills: Facts = {}
    conflicts: set[str] = set()
    for name, value in stated.items():
        if value in ([], {}):
            continue  # says nothing
        known = held.get(name)
        if known is None:
            fills[name] = value
        elif name == "tags":
            if more := [tag for tag in value if tag not in known]:
                fills[name] = known + more
        elif name == "metadata":
            conflicts |= {f"metadata.{key}" for key in known.keys() & value.keys() if known[key] != value[key]}
            if value.keys() - known.keys():
                fills[name] = known | value
        elif known != value:
            conflicts.add(name)
    if conflicts:
        return "conflict", frozenset(conflicts)
    held.update(fills)
    return ("filled", frozenset(fills)) if fills else DUPLICATE


class Model:
    """Everything that one project's log holds, by session id."""

    def __init__(self, project: str, now: Callable[[], datetime]) -> None:
        self.project = project
        self.held: dict[str, StoredSession] = {}
        self._now = now

    def find(self, name: str) -> StoredSession | None:
        return self.held.get(identity.session(self.project, name).id)

    def create(self, stated: Session) -> Told:
        who = identity.session(self.project, stated.session_id)
        facts = _stated(stated) | ({"key": who.key} if who.key else {})
        session = self.held.get(who.id)
        if session is None:
            self.held[who.id] = StoredSession(who.id, implicit=False, created_at=self._now(), facts=facts)
            return CREATED
        if session.erased:
            return REJECTED
        told = weigh(session.facts, {name: value for name, value in facts.items() if name not in session.edited})
        if told[0] == "conflict":
            return told
        adopted, session.implicit = session.implicit, False
        return ("filled", told[1]) if adopted else told

    def log(self, interactions: Sequence[Interaction]) -> list[Told]:
        for interaction in interactions:
            self.bring_along(interaction.session_id)
        return [self._log_one(interaction, nth) for nth, interaction in enumerate(interactions)]

    def bring_along(self, name: str | None) -> None:
        """Make sure of the session; if it is called by its key, the key is one more fact about it."""
        who = identity.session(self.project, name)
        session = self.held.setdefault(who.id, StoredSession(who.id, implicit=True, created_at=self._now(), facts={}))
        if who.key and not session.erased:
            session.facts["key"] = who.key

    def _log_one(self, stated: Interaction, nth: int) -> Told:
        session = self.held[identity.session(self.project, stated.session_id).id]
        if session.erased:
            return REJECTED
        who = identity.interaction(self.project, session.id, stated.interaction_id)
        facts = _stated(stated) | ({"key": who.key} if who.key else {})
        if facts.get("status") == "pending":
            del facts["status"]  # pending is what an interaction is while nothing else is known
        if stated.reply_to:
            facts["reply_to"] = identity.interaction(self.project, session.id, stated.reply_to).id
        if who.id in session.interactions:
            return weigh(session.interactions[who.id], facts)
        session.interactions[who.id] = facts | {"created_at": self._now() + timedelta(microseconds=nth)}
        return CREATED

    def edit(self, session: StoredSession, changes: SessionChanges) -> None:
        """Put what is given in the place of what is there; from now on it is the editor's."""
        for name in changes.model_fields_set:
            if name == "status":
                session.status = str(changes.status)
            else:
                session.facts[name] = getattr(changes, name)
                session.edited.add(name)

    def erase(self, session: StoredSession) -> int:
        gone = len(session.interactions)
        session.facts, session.interactions, session.edited, session.erased = {}, {}, set(), True
        return gone

    def view(self, session: StoredSession) -> Facts:
        """Return a session as a reader sees it."""
        logged = session.interactions.values()
        user_id = session.facts.get("user_id")
        return {
            "owner": None if user_id is None else f"user:{user_id}",
            "session_id": session.id,
            "status": session.status,
            "implicit": session.implicit,
            "tags": session.facts.get("tags") or [],
            "metadata": session.facts.get("metadata") or {},
            "created_at": session.created_at,
            "interaction_count": len(logged),
            "failed_count": sum(_status(one) == "failed" for one in logged),
            "last_activity_at": max(
                (one.get("completed_at") or one.get("started_at") or one["created_at"] for one in logged), default=None
            ),
            **{name: session.facts.get(name) for name in _SESSION_FIELDS},
        }

    def listed(self, query: Facts) -> list[str]:
        """Return the ids of the sessions that a query finds, in the order of the list."""

        def at(session: StoredSession) -> datetime:
            return session.facts.get("started_at") or session.created_at

        def arrived(session: StoredSession) -> datetime:
            last: datetime = max(one["created_at"] for one in session.interactions.values())
            return last

        def used(session: StoredSession) -> set[str | None]:
            return {one.get("model") for one in session.interactions.values()}

        def has_errors(session: StoredSession) -> bool:
            return any(_status(one) == "failed" for one in session.interactions.values())

        found = [
            session
            for session in self.held.values()
            if not session.erased
            and query.get("user_id", session.facts.get("user_id")) == session.facts.get("user_id")
            and ("tag" not in query or query["tag"] in (session.facts.get("tags") or []))
            and query.get("status", session.status) == session.status
            and query.get("implicit", session.implicit) == session.implicit
            and ("model" not in query or query["model"] in used(session))
            and query.get("has_errors", has_errors(session)) == has_errors(session)
            and query.get("name", "").lower()
            in f"{session.facts.get('title') or ''}\n{session.facts.get('key') or ''}".lower()
            and ("from" not in query or at(session) >= datetime.fromisoformat(query["from"]))
            and ("to" not in query or at(session) < datetime.fromisoformat(query["to"]))
        ]
        sort = query.get("sort", "newest")
        if sort == "activity":
            found = [session for session in found if session.interactions]
        when = arrived if sort == "activity" else at
        found.sort(key=lambda one: (when(one), UUID(one.id)), reverse=sort != "oldest")
        return [session.id for session in found]

    def transcript(self, session: StoredSession) -> list[Facts]:
        """Return the interactions by turn where there is one, then by time, then by id."""

        def place(one: tuple[str, Facts]) -> tuple[float, datetime, UUID]:
            own_id, facts = one
            turn = facts.get("turn")
            return (
                float("inf") if turn is None else turn,
                facts.get("started_at") or facts["created_at"],
                UUID(own_id),
            )

        return [
            {
                "interaction_id": own_id,
                "session_id": session.id,
                "status": _status(facts),
                "tags": facts.get("tags") or [],
                "metadata": facts.get("metadata") or {},
                "created_at": facts["created_at"],
                **{name: facts.get(name) for name in _INTERACTION_FIELDS},
            }
            for own_id, facts in sorted(session.interactions.items(), key=place)
        ]


def _status(facts: Facts) -> str:
    return str(facts.get("status") or _derived_status(facts))


def _derived_status(facts: Facts) -> str:
    if facts.get("error"):
        return "failed"
    return "pending" if facts.get("response") is None else "completed"


def _stated(record: Session | Interaction) -> Facts:
    return {
        name: getattr(record, name)
        for name in type(record).model_fields
        if name not in {"session_id", "interaction_id", "reply_to"} and getattr(record, name) is not None
    }
