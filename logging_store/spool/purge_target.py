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
}


@dataclass(frozen=True, slots=True)
class PurgeTarget:
    """Sessions of a project, by their ids, and every row that names `user`.

    `number_ids`: ids derived from the numbers that these sessions have in their folders. A row that names its session
    by such a number belongs to one of them, too.
    """

    project: str
    sessions: frozenset[str] = frozenset()
    number_ids: frozenset[str] = frozenset()
    user: str | None = None

    def remaining(self, batch: Batch) -> Batch:
        """Return a batch without the rows of the target."""
        return batch.filter(lambda kind, row: not self._includes(kind, row))

    def includes(self, batch: Batch) -> bool:
        """Return whether the record of a batch of one is in the target; an implicit parent goes with its child."""
        remaining = self.remaining(batch)
        return len(remaining.explicit_rows()) < len(batch.explicit_rows()) or remaining.count == 0

    def condition(self) -> tuple[str, tuple[Any, ...]]:
        """Return an SQL condition with its values that matches all spool entries with rows of the target, or more."""
        ids = to_json([*self.sessions, *self.number_ids]).decode()
        of_sessions = "seq in (select seq from entry_sessions where session_id in (select value from json_each(?)))"
        if self.user is None:
            return of_sessions, (ids,)
        return f"({of_sessions} or instr(batch, ?))", (ids, as_stored(self.user))

    def _includes(self, kind: Kind, row: Row) -> bool:
        if kind == "folders":
            return self._is_user(row.get(_PERSON_FIELDS[kind]))
        session_id = row["id" if kind == "sessions" else "session_id"]
        return (
            session_id in self.sessions
            or (session_id in self.number_ids and row.get("numbering") == "named")
            or self._is_user(row.get(_PERSON_FIELDS[kind]))
            or (self.user is not None and row.get("claim") == f"user:{self.user}")
        )

    def _is_user(self, name: str | None) -> bool:
        return self.user is not None and name == self.user


def as_stored(user: str) -> bytes:
    """Return the bytes of a user's name within a stored batch, where it may also be a part of a claim."""
    return to_json(user)[1:-1]
