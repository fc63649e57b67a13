"""The rules of the log over a dictionary: the answers that any store must give, as plainly as possible.

Written from the design and the docstrings, independently of the database, its locks and its SQL.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NamedTuple
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
    "key", "prompt", "context", "response", "model", "provider", "error", "finish_reason", "started_at", "completed_at",
    "latency_ms", "time_to_first_token_ms", "input_tokens", "output_tokens", "cached_input_tokens",
    "cache_write_tokens", "reasoning_tokens", "cost_usd", "participant", "reply_to", "alternative_to", "turn",
    "trace_id", "span_id",
)  # fmt: skip


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


_STATUSES = ("pending", "abandoned", "failed", "completed")
_ATTEMPTS = (1, 2)
_OF_ANSWER = {
    "response", "error", "finish_reason", "completed_at", "latency_ms", "time_to_first_token_ms", "output_tokens",
    "reasoning_tokens", "cost_usd",
}  # fmt: skip
_OF_CALL = {"started_at", "model", "provider", "input_tokens", "cached_input_tokens", "cache_write_tokens"}


class Rank(NamedTuple):
    """How far the record was that a value came with: its status, its response's length, and when it was said."""

    status: int
    length: int | None
    said_at: datetime


class AnswerRule:
    """One record about an interaction, merged into what is stored. `ranks`: those of the stored values."""

    def __init__(self, stored: Facts, ranks: dict[str, Rank], sent: Facts, received_at: datetime) -> None:
        self.stored, self.ranks, self.sent = stored, ranks, sent
        said_at = sent.get("completed_at") or sent.get("started_at") or received_at
        self.rank = Rank(_STATUSES.index(_status_of_record(sent)), _length(sent.get("response")), said_at)
        self.fills: Facts = {}
        self.raised: set[str] = set()  # fields of which this record says the same, and is further
        self.filled: set[str] = set()
        self.conflicts: set[str] = set()
        self.displaced: Facts = {}
        self.outranked: Facts = {}
        self.loses = {"displaced": False, "outranked": False}

    def merge(self) -> ModelReceipt:
        """Change the stored record and its ranks, unless something contradicts."""
        for name, value in self.sent.items():
            if name not in {"status", "created_at"} and value not in ([], {}):
                self._merge_field(name, value)
        if self.conflicts:
            return "conflict", frozenset(self.conflicts)
        new = {**self.stored, **self.fills}
        before = status = _STATUSES.index(_status(self.stored))
        if self.sent.get("status") or self.sent.get("error") or "response" in self.sent:
            status = max(status, self.rank.status)
        stated = None if _STATUSES[status] == _derived_status(new) else _STATUSES[status]
        is_changed, self.stored["status"] = stated != self.stored.get("status"), stated
        for name in (self.fills.keys() - {"tags", "metadata"}) | self.raised:
            self.ranks[name] = self.rank_of(name)
        self.stored.update(self.fills)
        filled = self.fills.keys() | ({"status"} if is_changed and status != before else set())
        return ("filled", frozenset(filled)) if filled else DUPLICATE

    def _merge_field(self, name: str, value: Any) -> None:
        known = self.stored.get(name)
        if name == "error" and not value and known:
            return
        if known is None or (name == "error" and known == "" != value):
            self.fills[name] = value
        elif name in {"tags", "metadata"}:
            facts = {name: known}
            outcome, fields = fill(facts, {name: value})
            if outcome == "conflict":
                self.conflicts |= fields
            elif facts[name] != known:
                self.fills[name] = facts[name]
        elif name == "context":
            if (len(value), json.dumps(value)) > (len(known), json.dumps(known)):
                self.fills[name] = value
        elif known == value:
            if self._is_further(name):
                self.raised.add(name)
        else:
            self._decide(name, known, value)

    def rank_of(self, name: str) -> Rank:
        """Return this record's rank for a field: what is known of a call goes with no status but those of attempts."""
        is_attempt = self.rank.status in _ATTEMPTS
        return (
            self.rank if name not in _OF_CALL or is_attempt else self.rank._replace(status=_STATUSES.index("completed"))
        )

    def _is_further(self, name: str) -> bool:
        """Return whether this record, which says the same of a field, was further, or said it again later."""
        own, theirs = self.rank_of(name), self.ranks[name]
        if own.status == theirs.status and own.status in _ATTEMPTS:
            return own.said_at > theirs.said_at
        return own.status > theirs.status or bool(self._is_longer(name))

    def _is_longer(self, name: str) -> bool | None:
        """Return whether this record's response is longer than the one that a value came with; None if neither is."""
        own, theirs = self.rank.length, self.ranks[name].length
        if self.rank.status != self.ranks[name].status or theirs is None or own is None or theirs == own:
            return None
        return own > theirs

    def _decide(self, name: str, known: Any, value: Any) -> None:
        """Decide between two values of a field."""
        own, theirs = self.rank_of(name), self.ranks[name]
        of_attempt = own.status in _ATTEMPTS or theirs.status in _ATTEMPTS
        if name == "started_at" and of_attempt:
            if value < known:
                self.fills[name] = value
            return
        if name not in _OF_ANSWER and not (name in _OF_CALL and of_attempt):
            self.conflicts.add(name)
            return
        is_newer = self._is_newer(name, known, value)
        if is_newer is None:
            self.conflicts.add(name)
            return
        if is_newer:
            self.fills[name] = value
            self.displaced[name] = known
        else:
            self.outranked[name] = value
        loser, winner = (known, value) if is_newer else (value, known)
        of_one_status = own.status == theirs.status and own.status in _ATTEMPTS
        if not winner.startswith(loser) if name == "response" else name == "error" or of_one_status:
            self.loses["displaced" if is_newer else "outranked"] = True

    def _is_newer(self, name: str, known: Any, value: Any) -> bool | None:
        """Return whether a value has its say over the stored one; None if they contradict each other."""
        own, theirs = self.rank_of(name), self.ranks[name]
        if own.status != theirs.status:
            return own.status > theirs.status
        if own.status in _ATTEMPTS:
            return (own.said_at, json.dumps(value, default=str)) > (theirs.said_at, json.dumps(known, default=str))
        if name == "response":
            return True if value.startswith(known) else False if known.startswith(value) else None
        return self._is_longer(name) if name in _OF_ANSWER else None

    @property
    def lost(self) -> list[Facts]:
        """What isn't shown, of records whose text isn't contained in what is."""
        return [facts for name in ("displaced", "outranked") if self.loses[name] for facts in [getattr(self, name)]]


def _contains(whole: Facts, part: Facts) -> bool:
    return all(
        name == "completed_at"  # a revision has its own time
        or (name in whole and (whole[name] == value or (name == "response" and whole[name].startswith(value))))
        for name, value in part.items()
    )


def _keep(revisions: list[Facts], lost: Facts) -> bool:
    """Keep what isn't shown, unless it is kept already; what it contains isn't kept beside it."""
    if any(_contains(kept, lost) for kept in revisions):
        return False
    for kept in revisions:
        if _contains(lost, kept):
            kept.update(lost)
            return True
    revisions.append(dict(lost))
    return True


def _length(response: Any) -> int | None:
    return None if response is None else len(response)


def _status_of_record(sent: Facts) -> str:
    """Return the status that a record speaks of; one without prompt and answer speaks of the finished answer."""
    if not any(sent.get(name) is not None for name in ("prompt", "response", "error", "status")):
        return "completed"
    return _status(sent)


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
    ranks: dict[str, dict[str, Rank]] = field(default_factory=dict)
    revisions: dict[str, list[Facts]] = field(default_factory=dict)


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
        if facts.get("status") == _derived_status(facts):
            del facts["status"]  # it follows from the rest
        for name, other in (("reply_to", sent.reply_to), ("alternative_to", sent.alternative_to)):
            if other:
                facts[name] = identity.interaction(self.project, session.id, other).id
        received_at = self._now() + timedelta(microseconds=nth)
        if own.id in session.interactions:
            rule = AnswerRule(session.interactions[own.id], session.ranks[own.id], facts, received_at)
            receipt = rule.merge()
            revisions = session.revisions.setdefault(own.id, [])
            if receipt[0] == "conflict":
                return receipt
            is_kept = [_keep(revisions, lost) for lost in rule.lost]
            return ("revised", frozenset()) if any(is_kept) and receipt == DUPLICATE else receipt
        session.interactions[own.id] = facts | {"created_at": received_at}
        rule = AnswerRule({}, {}, facts, received_at)
        session.ranks[own.id] = {name: rule.rank_of(name) for name in facts}
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
            "earliest_turn_at": earliest_turn(session),
            **{name: session.facts.get(name) for name in _SESSION_FIELDS},
        }

    def listed(self, query: Facts) -> list[str]:
        """Return the ids of the sessions that a query finds, in the order of the list."""

        def at(session: StoredSession) -> datetime:
            return session.facts.get("started_at") or earliest_turn(session) or session.created_at

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
            and query.get("untagged", not session.facts.get("tags")) == (not session.facts.get("tags"))
            and all(
                any((session.facts.get("metadata") or {}).items() >= form.items() for form in forms)
                for forms in query.get("metadata", [])
            )
            and query.get("min_turns", 0) <= len(session.interactions) <= query.get("max_turns", 1000)
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
        """Return the interactions sorted by turn (those without one last), time said and arrival."""

        def place(one: tuple[str, Facts]) -> tuple[float, datetime, datetime, UUID]:
            own_id, facts = one
            turn = facts.get("turn")
            return (
                float("inf") if turn is None else turn,
                said_at(facts),
                facts["created_at"],
                UUID(own_id),
            )

        return [
            {
                "interaction_id": own_id,
                "session_id": session.id,
                "alternatives": [],
                "chosen_at": None,
                "erased_at": None,
                "text_expired_at": None,
                "status": _status(facts),
                "tags": facts.get("tags") or [],
                "metadata": facts.get("metadata") or {},
                "created_at": facts["created_at"],
                **{name: facts.get(name) for name in _INTERACTION_FIELDS},
            }
            for own_id, facts in sorted(session.interactions.items(), key=place)
        ]


def said_at(interaction: Facts) -> datetime:
    """Return when an interaction was said: its start, but no later than its arrival."""
    arrived: datetime = interaction["created_at"]
    return min(interaction.get("started_at") or arrived, arrived)


def earliest_turn(session: StoredSession) -> datetime | None:
    return min(map(said_at, session.interactions.values()), default=None)


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
