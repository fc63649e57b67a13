"""A session in memory that keeps interactions as the store does: what is empty is filled, what is there stays."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from conversation.turns import planning, shapes
from conversation.turns.message import Message
from conversation.turns.planning import PlannedCall
from logging_store import operations as ops
from logging_store.records import identity
from logging_store.records.models import Interaction

PROJECT = "default"
SESSION = identity.session(PROJECT, "chat").id
_BEGAN = datetime(2026, 11, 21, 6, 30, tzinfo=UTC)
_EMPTY: dict[str, Any] = dict.fromkeys(ops.Interaction.__annotations__)


def read_all(values: Any) -> list[Message]:
    """Return the messages of a list. Raises `InvalidMessageError` for the first item that is none."""
    messages = []
    for each in shapes.read_each(values):
        if isinstance(each, shapes.InvalidMessageError):
            raise each
        messages.append(each)
    return messages


class MemoryLog:
    """`read_most`: how many of its last interactions a call reads."""

    def __init__(self, read_most: int = 1000) -> None:
        self.rows: dict[str, dict[str, Any]] = {}
        self.earlier: list[list[dict[str, Any]]] = [[]]  # what it held after each call
        self._read_most = read_most

    def send(
        self, values: Any, *, from_start: bool = False, read: int | None = None, seen: int = -1
    ) -> list[PlannedCall]:
        """Log a list as a door does.

        `read`: how many of the last interactions are read. `seen`: what the log held after which call, for a call that
        races with others.
        """
        return self.add(read_all(values), from_start=from_start, read=read, seen=seen)

    def add(
        self, messages: Sequence[Message], *, from_start: bool = False, read: int | None = None, seen: int = -1
    ) -> list[PlannedCall]:
        rows: list[Any] = sorted(self.earlier[seen], key=ops.said_at)
        most = self._read_most if read is None else read
        log = planning.Log(PROJECT, SESSION, rows[-most:] if most else [], len(rows) <= most)
        planned = planning.plan(log, messages, from_start=from_start)
        for call in planned:
            if call.has_news:
                self._write(call)
        self.earlier.append([_as_read(row) for row in self.rows.values()])
        return planned

    def _write(self, call: PlannedCall) -> None:
        fields = call.fields()
        record = Interaction.model_validate({"session_id": "chat", "interaction_id": call.name} | fields)
        own = identity.interaction(PROJECT, SESSION, call.name)
        assert own.id == call.id
        at = (_BEGAN + timedelta(seconds=len(self.rows))).isoformat()
        empty: dict[str, Any] = {
            "interaction_id": own.id,
            "key": own.key,
            "session_id": SESSION,
            "tags": [],
            "metadata": {},
        }
        row = self.rows.setdefault(own.id, _EMPTY | empty | {"created_at": at, "spooled": False})
        for name, value in record.json_fields("session_id", "interaction_id").items():
            if name == "metadata":
                row["metadata"] = value | row["metadata"]
            elif name in {"reply_to", "alternative_to"}:
                row[name] = row[name] or identity.interaction(PROJECT, SESSION, value).id
            elif name == "response" and isinstance(row[name], str) and str(value).startswith(row[name]):
                row[name] = value  # an answer grows
            elif row[name] is None:
                row[name] = value

    def exchanges(self) -> list[tuple[Any, Any]]:
        return [(row["prompt"], row["response"]) for row in self.rows.values()]


def _as_read(row: dict[str, Any]) -> dict[str, Any]:
    return row | {"status": row["status"] or ("pending" if row["response"] is None else "completed")}
