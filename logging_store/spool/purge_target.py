"""What an erasure removes from the batches on this machine's disk."""

from dataclasses import dataclass
from typing import Any

from pydantic_core import to_json

from logging_store.batches import Batch, Kind, Row

#: The field that names a person, by the kind of row.
_PERSON_FIELDS: dict[Kind, str] = {
    "folders": "user_id",
    "sessions": "user_id",
    "participants": "participant",
    "interactions": "participant",
    "feedback": "author",
    "spans": "user_id",
}


@dataclass(frozen=True, slots=True)
class PurgeTarget:
    """Sessions of a project, by their ids, and every row that names one of `users`.

    `turn`: the ids of a session and of one of its interactions, which is in the target with the feedback on it.
    `number_ids`: ids derived from the numbers that these sessions have in their folders. A row that names its session
    by such a number belongs to one of them, too.
    """

    project: str
    sessions: frozenset[str] = frozenset()
    number_ids: frozenset[str] = frozenset()
    users: frozenset[str] = frozenset()
    turn: tuple[str, str] | None = None

    def remaining(self, batch: Batch) -> Batch:
        """Return a batch without the rows of the target.

        Spans stay: which of them are of the target, only the store knows, and it rejects those on delivery. So it does
        with calls of which another batch has the session, as long as the span that names it is delivered, too.
        """
        return batch.filter(lambda kind, row: kind == "spans" or not self._includes(kind, row))

    def includes(self, batch: Batch) -> bool:
        """Return whether the record of a batch of one is in the target; an implicit parent goes with its child."""
        if any(self._includes("spans", row) for row in batch.spans):
            return True
        remaining = self.remaining(batch)
        return len(remaining.explicit_rows()) < len(batch.explicit_rows()) or remaining.count == 0

    def condition(self) -> tuple[str, tuple[Any, ...]]:
        """Return an SQL condition with its values that matches all spool entries with rows of the target, or more."""
        ids = to_json([*self.sessions, *self.number_ids, *(self.turn or ())[:1]]).decode()
        of_sessions = "seq in (select seq from entry_sessions where session_id in (select value from json_each(?)))"
        of_users = "".join(" or instr(batch, ?)" for _ in self.users)
        return f"({of_sessions}{of_users})", (ids, *map(as_stored, self.users))

    def _includes(self, kind: Kind, row: Row) -> bool:
        if kind == "folders":
            return row.get(_PERSON_FIELDS[kind]) in self.users
        if kind == "spans":
            named = {row["trace_session"], row.get("stated_session")}
            return not named.isdisjoint(self.sessions) or row.get(_PERSON_FIELDS[kind]) in self.users
        session_id = row["id" if kind == "sessions" else "session_id"]
        return (
            session_id in self.sessions
            or (self.turn is not None and (session_id, _interaction_of(kind, row)) == self.turn)
            or (session_id in self.number_ids and row.get("numbering") == "named")
            or row.get(_PERSON_FIELDS[kind]) in self.users
            or any(row.get("claim") == f"user:{user}" for user in self.users)
        )


def _interaction_of(kind: Kind, row: Row) -> str | None:
    """Return the id of the interaction that a row is, or is feedback on."""
    match kind:
        case "interactions":
            return str(row["id"])
        case "feedback":
            return row.get("interaction_id")
    return None


def as_stored(user: str) -> bytes:
    """Return the bytes of a user's name within a stored batch, where it may also be a part of a claim."""
    return to_json(user)[1:-1]
