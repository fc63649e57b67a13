"""Records that still wait in the spool, as their readers will see them once they are delivered.

A row of the store gains what a waiting record fills, by the fill rule: the store's value stands where both have one.
Each row that holds something that waits is marked `spooled`.
"""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any, cast, get_args

from logging_store import operations as ops
from logging_store.batches import Batch
from logging_store.records.models import ParticipantState

Row = dict[str, Any]
Place = tuple[str, str | None, str]  # an interaction, an author and a name

_NOT_FACTS = frozenset({"id", "session_id", "created_at", "numbering", "on_conflict", "claim"})
_INTERACTION: Row = dict.fromkeys(
    (
        "interaction_id", "key", "session_id", "prompt", "response", "model", "provider", "status", "error",
        "finish_reason", "started_at", "completed_at", "latency_ms", "time_to_first_token_ms", "input_tokens",
        "output_tokens", "cost_usd", "participant", "reply_to", "turn",
    )
)  # fmt: skip
_ONWARD = (None, *get_args(ParticipantState))
_SESSION: Row = dict.fromkeys(
    (
        "session_id", "key", "user_id", "title", "folder_id", "session_number", "scheduled_on", "started_at",
        "ended_at", "erased_at",
    )
)  # fmt: skip


def interactions_of(session_id: str, batches: Iterable[Batch]) -> dict[str, list[Row]]:
    """Return the waiting statements about each interaction of a session, by id, in the order of arrival."""
    found: dict[str, list[Row]] = {}
    for batch in batches:
        for row in batch.interactions:
            if row["session_id"] == session_id:
                found.setdefault(row["id"], []).append(row)
    return found


def interaction_row(statements: list[Row], stored: ops.Interaction | None = None) -> ops.Interaction:
    """Return an interaction as the transcript shows it, with what waits filled in."""
    first = statements[0]
    row: Row = (
        {**stored}
        if stored
        else _INTERACTION
        | {
            "interaction_id": first["id"],
            "session_id": first["session_id"],
            "created_at": _as_utc(first["created_at"]),
            "tags": [],
            "metadata": {},
        }
    )
    own_status = stored["status"] if stored and stored["status"] not in {"pending", "completed"} else None
    row = _filled(row, statements)
    row["status"] = own_status or next((each["status"] for each in statements if each.get("status")), None)
    if row["status"] is None:
        row["status"] = "failed" if row["error"] else "completed" if row["response"] is not None else "pending"
    return cast("ops.Interaction", row | {"spooled": True})


def participants_of(
    session_id: str, batches: Iterable[Batch], stored: Iterable[ops.Participant]
) -> list[ops.Participant]:
    """Return a session's participants, with those of whom something waits."""
    rows = {row["participant"]: row for row in stored}
    for batch in batches:
        for row in (*batch.participants, *batch.interactions):
            if row["session_id"] != session_id or (name := row.get("participant")) is None:
                continue
            stated = row if row in batch.participants else {}
            known = rows.get(name)
            if known is None:
                created_at = _as_utc(row["created_at"])
                known = {"participant": name, "role": None, "state": None, "created_at": created_at, "spooled": True}
            elif not stated:
                continue
            rows[name] = known | {
                "role": known["role"] or stated.get("role"),
                "state": max(known["state"], stated.get("state"), key=_ONWARD.index),
                "spooled": True,
            }
    return list(rows.values())


def feedback_of(
    session_id: str, batches: Iterable[Batch], among: Iterable[str] | None = None, author: str | None = None
) -> dict[Place, ops.Feedback]:
    """Return what waits of what was said of a session's interactions, of each the latest statement.

    `among`: only of these interactions. `author`: only what they said.
    """
    found: dict[Place, ops.Feedback] = {}
    wanted = None if among is None else set(among)
    for batch in batches:
        for row in batch.feedback:
            if (
                row["session_id"] == session_id
                and (wanted is None or row["interaction_id"] in wanted)
                and (author is None or row.get("author") == author)
            ):
                place = row["interaction_id"], row.get("author"), row["name"]
                found[place] = later(found.get(place), _feedback_row(row))
    return found


def place_of(row: ops.Feedback) -> Place:
    """Return what tells one author's word on something from all others of a session."""
    return row["interaction_id"], row["author"], row["name"]


def later(first: ops.Feedback | None, second: ops.Feedback) -> ops.Feedback:
    """Return the one of two statements that counts: see turnlog.write_feedback, which decides between equals."""
    if first is None or datetime.fromisoformat(second["given_at"]) >= datetime.fromisoformat(first["given_at"]):
        return second
    return first


def _feedback_row(row: Row) -> ops.Feedback:
    told = {name: row.get(name) for name in ("session_id", "interaction_id", "author", "name", "value", "comment")}
    times = {name: _as_utc(row[name]) for name in ("given_at", "created_at")}
    return cast("ops.Feedback", told | times | {"session_key": None, "interaction_key": None, "spooled": True})


def session_row(session_id: str, batches: Iterable[Batch]) -> ops.Session | None:
    """Return a session that the store doesn't know yet, or None if nothing waits for it."""
    batches = list(batches)
    found = [row for batch in batches for row in _sessions(batch) if row["id"] == session_id]
    if not found:
        return None
    # what somebody stated stands before what a plan or a child brought along
    statements = sorted(found, key=lambda row: bool(row.get("implicit")))
    interactions = [interaction_row(waiting) for waiting in interactions_of(session_id, batches).values()]
    row = _SESSION | {
        "session_id": session_id,
        "status": _status(statements),
        "implicit": all(each.get("implicit") for each in statements),
        "created_at": _as_utc(found[0]["created_at"]),
        "owner": owner_of(session_id, batches),
        "tags": [],
        "metadata": {},
        "interaction_count": len(interactions),
        "failed_count": sum(each["status"] == "failed" for each in interactions),
        "last_activity_at": max(
            (each["completed_at"] or each["started_at"] or each["created_at"] for each in interactions), default=None
        ),
    }
    filled = _filled(row, [{k: v for k, v in each.items() if k != "implicit"} for each in statements])
    return cast("ops.Session", filled)


def owner_of(session_id: str, batches: Iterable[Batch]) -> str | None:
    """Return whose a session will be that the store doesn't know yet: the service's, if it speaks of it at all.

    Then it is the user's whom the service states, if any; else it is whose claim came first.
    """
    rows = [row for batch in batches for row in _of(session_id, batch)]
    stated = [row for row in rows if "claim" not in row]
    if rows and not stated:
        return str(rows[0]["claim"])
    return next((f"user:{row['user_id']}" for row in stated if row.get("user_id")), None)


def reaching(session_id: str, batches: Iterable[Batch], owner: str | None) -> list[Batch]:
    """Return batches without what claims a session that is somebody else's: the store will refuse it."""
    return [
        batch.only(lambda _, row: row.get("claim", owner) == owner or not _is_of(session_id, row)) for batch in batches
    ]


def is_claimed(session_id: str, batches: Iterable[Batch]) -> bool:
    """Tell whether some row says whose a session must be."""
    return any("claim" in row for batch in batches for row in _of(session_id, batch))


def _of(session_id: str, batch: Batch) -> Iterator[Row]:
    """Yield the rows of a session and of what is under it."""
    below = (*batch.participants, *batch.interactions, *batch.feedback)
    yield from (row for row in (*_sessions(batch), *below) if _is_of(session_id, row))


def _is_of(session_id: str, row: Row) -> bool:
    return bool(row.get("session_id", row.get("id")) == session_id)


def _status(statements: list[Row]) -> str:
    """Return a session's status: open fills nothing, and whoever states a planned session opens it."""
    stated = [each.get("status") or "open" for each in statements if not each.get("implicit")]
    brought = [each["status"] for each in statements if each.get("status")]
    return next((each for each in stated or brought if each != "open"), "open")


def _sessions(batch: Batch) -> Iterator[Row]:
    """Yield the rows of a batch's sessions, those of its folders' plans among them."""
    yield from batch.sessions
    for folder in batch.folders:
        yield from folder.get("sessions", ())


def in_order(rows: Iterable[ops.Interaction]) -> list[ops.Interaction]:
    """Sort interactions as a transcript does: by turn, then by time, then by id."""
    return sorted(
        rows,
        key=lambda row: (
            row["turn"] is None,
            row["turn"] or 0,
            datetime.fromisoformat(row["started_at"] or row["created_at"]),
            row["interaction_id"],
        ),
    )


def _filled(row: Row, statements: list[Row]) -> Row:
    row = dict(row)
    for stated in statements:
        for field, value in stated.items():
            if field == "tags":
                row["tags"] = [*row["tags"], *(tag for tag in value if tag not in row["tags"])]
            elif field == "metadata":
                row["metadata"] = {**value, **row["metadata"]}
            elif field not in _NOT_FACTS and row.get(field) is None:
                row[field] = value
    return row


def _as_utc(time: str) -> str:
    return datetime.fromisoformat(time).astimezone(UTC).isoformat()
