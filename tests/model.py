"""The rules of the log over a dictionary: the answers that any store must give, as plainly as possible.

Written from the design and the docstrings, independently of the database, its locks and its SQL.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from logging_store.records import identity
from logging_store.records.models import Interaction, Session, SessionChanges

Facts = dict[str, Any]
ModelReceipt = tuple[str, frozenset[str]]  # an outcome and the fields that its receipt names

CREATED: ModelReceipt = ("created", frozenset())
DUPLICATE: ModelReceipt = ("duplicate", frozenset())
REJECTED: ModelReceipt = ("rejected", frozenset())

_SESSION_FIELDS = (
    "key", "user_id", "title", "folder_id", "session_number", "scheduled_on", "started_at", "ended_at",
)  # fmt: skip
_INTERACTION_FIELDS = (
    "key", "prompt", "response", "model", "provider", "error", "finish_reason", "started_at", "completed_at",
    "latency_ms", "time_to_first_token_ms", "input_tokens", "output_tokens", "cached_input_tokens",
    "cache_write_tokens", "reasoning_tokens", "cost_usd", "participant", "reply_to", "alternative_to", "turn",
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


def fill(stored: Facts, sent: Facts) -> ModelReceipt:
    """Fill empty fields of a stored record, unless a sent value contradicts: then change nothing."""
    fills: Facts = {}
    conflicts: set[str] = set()
    for name, value in sent.items():
        if value in ([], {}):
            continue  # an empty value fills nothing
        known = stored.get(name)
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
    stored.update(fills)
    return ("filled", frozenset(fills)) if fills else DUPLICATE


class Model:
    """The log of one project: session id -> session."""

    def __init__(self, project: str, now: Callable[[], datetime]) -> None:
        self.project = project
        self.sessions: dict[str, StoredSession] = {}
        self._now = now

    def find(self, name: str) -> StoredSession | None:
        return self.sessions.get(identity.session(self.project, name).id)

    def create(self, sent: Session) -> ModelReceipt:
        own = identity.session(self.project, sent.session_id)
        facts = _sent_fields(sent) | ({"key": own.key} if own.key else {})
        session = self.sessions.get(own.id)
        if session is None:
            self.sessions[own.id] = StoredSession(own.id, implicit=False, created_at=self._now(), facts=facts)
            return CREATED
        if session.erased:
            return REJECTED
        outcome = fill(session.facts, {name: value for name, value in facts.items() if name not in session.edited})
        if outcome[0] == "conflict":
            return outcome
        was_implicit, session.implicit = session.implicit, False
        return ("filled", outcome[1]) if was_implicit else outcome

    def log(self, interactions: Sequence[Interaction]) -> list[ModelReceipt]:
        for interaction in interactions:
            self.ensure_session(interaction.session_id)
        return [self._log_one(interaction, nth) for nth, interaction in enumerate(interactions)]

    def ensure_session(self, name: str | None) -> None:
        """Ensure a session; a session that is named by its key gains the key."""
        own = identity.session(self.project, name)
        session = self.sessions.setdefault(
            own.id, StoredSession(own.id, implicit=True, created_at=self._now(), facts={})
        )
        if own.key and not session.erased:
            session.facts["key"] = own.key

    def _log_one(self, sent: Interaction, nth: int) -> ModelReceipt:
        session = self.sessions[identity.session(self.project, sent.session_id).id]
        if session.erased:
            return REJECTED
        own = identity.interaction(self.project, session.id, sent.interaction_id)
        facts = _sent_fields(sent) | ({"key": own.key} if own.key else {})
        if facts.get("status") == "pending":
            del facts["status"]  # an interaction is pending until another status is known
        for name, other in (("reply_to", sent.reply_to), ("alternative_to", sent.alternative_to)):
            if other:
                facts[name] = identity.interaction(self.project, session.id, other).id
        if own.id in session.interactions:
            return fill(session.interactions[own.id], facts)
        session.interactions[own.id] = facts | {"created_at": self._now() + timedelta(microseconds=nth)}
        return CREATED

    def edit(self, session: StoredSession, changes: SessionChanges) -> None:
        """Replace fields; later writes no longer fill them."""
        for name in changes.model_fields_set:
            if name == "status":
                session.status = str(changes.status)
            else:
                session.facts[name] = getattr(changes, name)
                session.edited.add(name)

    def erase(self, session: StoredSession) -> int:
        count = len(session.interactions)
        session.facts, session.interactions, session.edited, session.erased = {}, {}, set(), True
        return count

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
            for session in self.sessions.values()
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
        """Return the interactions sorted by turn (those without one last), time and id."""

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


def _sent_fields(record: Session | Interaction) -> Facts:
    return {
        name: getattr(record, name)
        for name in type(record).model_fields
        if name not in {"session_id", "interaction_id", "reply_to", "alternative_to"}
        and getattr(record, name) is not None
    }
