"""A service in memory, for tests of applications: the same receipts for the usual cases, without a server."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import unquote

from turnlog.transport import Answer

_STATUSES = ("pending", "abandoned", "failed", "completed")
_OF_ANSWER = frozenset(
    [
        "response",
        "error",
        "finish_reason",
        "completed_at",
        "latency_ms",
        "time_to_first_token_ms",
        "output_tokens",
        "model",
    ]
)


class MemoryService:
    """Fills empty fields, lets answers grow and statuses go forward, and calls the rest a conflict."""

    def __init__(self) -> None:
        self._sessions: dict[str, dict[str, Any]] = {}
        self._interactions: dict[tuple[str, str], dict[str, Any]] = {}
        self._feedback: dict[tuple[str, ...], dict[str, Any]] = {}
        self._messages: dict[str, list[Any]] = {}

    def leave(self) -> None:
        pass

    def sessions(self) -> dict[str, list[dict[str, Any]]]:
        """Return the interactions of each session, in the order in which they were first logged."""
        found: dict[str, list[dict[str, Any]]] = {name: [] for name in (*self._sessions, *self._messages)}
        for (session, _), row in self._interactions.items():
            about = [given for key, given in self._feedback.items() if key[:2] == (session, row["interaction_id"])]
            found.setdefault(session, []).append({**row, "status": _status(row), "feedback": about})
        for session, messages in self._messages.items():
            found[session].append({"messages": messages})
        return found

    def post(self, path: str, body: bytes) -> Answer:
        record = json.loads(body)
        if path == "/v1/interactions/batch":
            receipts = [
                {"index": n, **self._write(self._interactions, (each["session_id"], each["interaction_id"]), each)}
                for n, each in enumerate(record["interactions"])
            ]
            return Answer(200, None, {"receipts": receipts})
        if path == "/v1/sessions":
            return Answer(200, None, self._write(self._sessions, record["session_id"], record))
        if path == "/v1/feedback":
            about = (record["session_id"], str(record.get("interaction_id")), record["name"], str(record.get("author")))
            known = about in self._feedback
            self._feedback[about] = record
            return Answer(200, None, {"receipt": "filled" if known else "created", "fields": []})
        session = unquote(path.split("/")[3])
        known_messages, sent = self._messages.setdefault(session, []), record["messages"]
        start = next(
            (n for n in range(len(known_messages)) if known_messages[n:] == sent[: len(known_messages) - n]), None
        )
        new = sent if start is None else sent[len(known_messages) - start :]
        known_messages += new
        return Answer(200, None, {"receipts": [{"receipt": "created" if new else "duplicate", "fields": []}]})

    def _write(self, rows: dict[Any, dict[str, Any]], key: Any, record: dict[str, Any]) -> dict[str, Any]:
        row = rows.setdefault(key, {})
        if not row:
            row.update(record)
            return {"receipt": "created", "fields": []}
        further = _STATUSES.index(_status(record)) - _STATUSES.index(_status(row))
        filled: dict[str, Any] = {}
        conflicts = []
        for name, value in record.items():
            merged = _merge(name, row.get(name), value, further)
            if merged is None:
                conflicts.append({"path": f"$.interactions[0].{name}", "detail": "Another value is stored"})
            elif merged != row.get(name):
                filled[name] = merged
        if conflicts:
            return {"receipt": "conflict", "fields": conflicts}
        if further > 0 and record.keys() & {"response", "error", "status"}:
            filled["status"] = _status(record)
        row.update(filled)
        return {"receipt": "filled" if filled else "duplicate", "fields": sorted(filled)}


def _merge(name: str, known: Any, value: Any, further: int) -> Any:
    """Return what a field holds after a record; None if the record contradicts it. `further`: than what is stored."""
    if known is None or name == "status":
        return value if known is None else known
    if name in _OF_ANSWER and further:
        return value if further > 0 else known
    if name == "response" and isinstance(value, str) and isinstance(known, str):
        return value if value.startswith(known) else known if known.startswith(value) else None
    if name == "tags":
        return known + [tag for tag in value if tag not in known]
    if name == "metadata" and all(known.get(at, each) == each for at, each in value.items()):
        return {**known, **value}
    return known if known == value else None


def _status(row: dict[str, Any]) -> str:
    derived = "failed" if row.get("error") else "completed" if row.get("response") is not None else "pending"
    return str(row.get("status") or derived)
