"""Merges spooled rows into what the store returns, so that readers see their own writes during an outage.

These functions follow the rules of turnlog.write: a stored value wins over a spooled one, an earlier spooled one over a
later one, and the further answer over both. Whatever contains a spooled value is marked `spooled`.
"""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any, cast, get_args

from logging_store import operations as ops
from logging_store.batches import Batch
from logging_store.records.models import ParticipantState

Row = dict[str, Any]
FeedbackKey = tuple[str | None, str | None, str]  # interaction id, author, name

_INTERNAL_FIELDS = frozenset(
    {"id", "session_id", "created_at", "numbering", "on_conflict", "revisions", "claim", "context"}
)
_EMPTY_INTERACTION: Row = dict.fromkeys(
    (
        "interaction_id", "key", "session_id", "prompt", "context", "response", "model", "provider", "status", "error",
        "finish_reason", "started_at", "completed_at", "latency_ms", "time_to_first_token_ms", "input_tokens",
        "output_tokens", "cached_input_tokens", "cache_write_tokens", "reasoning_tokens", "cost_usd", "participant",
        "reply_to", "alternative_to", "chosen_at", "turn", "trace_id", "span_id",
        "erased_at", "text_expired_at",
    )
)  # fmt: skip
_STATES_IN_ORDER = (None, *get_args(ParticipantState))
_STATUSES_IN_ORDER = ("pending", "abandoned", "failed", "completed")
_OF_ANSWER = (
    "response", "error", "finish_reason", "completed_at", "latency_ms", "time_to_first_token_ms", "output_tokens",
    "reasoning_tokens", "cost_usd",
)  # fmt: skip
_EMPTY_SESSION: Row = dict.fromkeys(
    (
        "session_id", "key", "user_id", "title", "folder_id", "session_number", "scheduled_on", "started_at",
        "ended_at", "erased_at", "text_expired_at",
    )
)  # fmt: skip


def spooled_interactions(session_id: str, batches: Iterable[Batch]) -> dict[str, list[Row]]:
    """Return interaction id -> its spooled rows, in order of arrival."""
    found: dict[str, list[Row]] = {}
    for batch in batches:
        for row in batch.interactions:
            if row["session_id"] == session_id:
                found.setdefault(row["id"], []).append(row)
    return found


def merge_interaction(spooled: list[Row], stored: ops.Interaction | None = None) -> ops.Interaction:
    """Return an interaction as a transcript shows it: its empty fields filled from spooled rows.

    Nothing fills a tombstone, or an interaction whose texts expired.
    """
    if stored and (stored["erased_at"] or stored["text_expired_at"]):
        return stored
    first = spooled[0]
    row: Row = (
        {**stored}
        if stored
        else _EMPTY_INTERACTION
        | {
            "interaction_id": first["id"],
            "session_id": first["session_id"],
            "created_at": _as_utc(first["created_at"]),
            "alternatives": [],
            "tags": [],
            "metadata": {},
        }
    )
    row["status"] = stored["status"] if stored else "pending"
    for each in spooled:
        row = _with_answer(_fill(row, [each]), each, row["response"])
    return cast("ops.Interaction", row | {"spooled": True})


def _with_answer(row: Row, spooled: Row, before: Any) -> Row:
    """Return a row with what a further spooled record says of the answer: roughly turnlog.interaction_rule.

    `before`: the response that was known before. A list of messages that has grown is shown once it is delivered.
    """
    response, error = spooled.get("response"), spooled.get("error")
    status = spooled.get("status") or ("failed" if error else "completed" if response is not None else None)
    if status is None:
        return row
    steps = _STATUSES_IN_ORDER.index(status) - _STATUSES_IN_ORDER.index(row["status"])
    has_grown = isinstance(response, str) and isinstance(before, str) and response.startswith(before)
    if steps > 0 or (steps == 0 and has_grown):
        said = {name: spooled[name] for name in _OF_ANSWER if spooled.get(name) not in (None, "")}
        return row | said | {"status": status}
    return row


def merge_participants(
    session_id: str, batches: Iterable[Batch], stored: Iterable[ops.Participant]
) -> list[ops.Participant]:
    """Return a session's participants, stored and spooled ones."""
    rows = {row["participant"]: row for row in stored}
    for batch in batches:
        for row in (*batch.participants, *batch.interactions):
            if row["session_id"] != session_id or (name := row.get("participant")) is None:
                continue
            details = row if row in batch.participants else {}  # an interaction only names its participant
            known = rows.get(name)
            if known is None:
                created_at = _as_utc(row["created_at"])
                known = {"participant": name, "role": None, "state": None, "created_at": created_at, "spooled": True}
            elif not details:
                continue
            rows[name] = known | {
                "role": known["role"] or details.get("role"),
                "state": max(known["state"], details.get("state"), key=_STATES_IN_ORDER.index),
                "spooled": True,
            }
    return list(rows.values())


def spooled_feedback(
    session_id: str, batches: Iterable[Batch], interaction_ids: Iterable[str] | None = None, author: str | None = None
) -> dict[FeedbackKey, ops.Feedback]:
    """Return the latest spooled feedback under each key.

    `interaction_ids`: only feedback on these, see `operations.THE_SESSION`. `author`: only this author's feedback.
    """
    found: dict[FeedbackKey, ops.Feedback] = {}
    wanted = None if interaction_ids is None else set(interaction_ids)
    for batch in batches:
        for row in batch.feedback:
            if (
                row["session_id"] == session_id
                and (wanted is None or row.get("interaction_id", ops.THE_SESSION) in wanted)
                and (author is None or row.get("author") == author)
            ):
                key = row.get("interaction_id"), row.get("author"), row["name"]
                found[key] = latest(found.get(key), _feedback(row))
    return found


def feedback_key(row: ops.Feedback) -> FeedbackKey:
    """Return the primary key of feedback within its session."""
    return row["interaction_id"], row["author"], row["name"]


def latest(first: ops.Feedback | None, second: ops.Feedback) -> ops.Feedback:
    """Return the feedback that counts of two; turnlog.write_feedback also decides between equal times."""
    if first is None:
        return second
    given = [(datetime.fromisoformat(each["given_at"]), each["value"] is None) for each in (first, second)]
    return second if given[1] >= given[0] else first


def _feedback(row: Row) -> ops.Feedback:
    fields = {name: row.get(name) for name in ("session_id", "interaction_id", "author", "name", "value", "comment")}
    times = {name: _as_utc(row[name]) for name in ("given_at", "created_at")}
    return cast("ops.Feedback", fields | times | {"session_key": None, "interaction_key": None, "spooled": True})


def spooled_session(session_id: str, batches: Iterable[Batch]) -> ops.Session | None:
    """Return a session that isn't stored yet, or None if no spooled row names it."""
    batches = list(batches)
    found = [row for batch in batches for row in _sessions(batch) if row["id"] == session_id]
    if not found:
        return None
    # values that a caller sent win over those of a plan
    rows = sorted(found, key=lambda row: bool(row.get("implicit")))
    interactions = [merge_interaction(spooled) for spooled in spooled_interactions(session_id, batches).values()]
    row = _EMPTY_SESSION | {
        "session_id": session_id,
        "status": _status(rows),
        "implicit": all(each.get("implicit") for each in rows),
        "created_at": _as_utc(found[0]["created_at"]),
        "owner": spooled_owner(session_id, batches),
        "tags": [],
        "metadata": {},
        "interaction_count": len(interactions),
        "failed_count": sum(each["status"] == "failed" for each in interactions),
        "earliest_turn_at": min(map(ops.said_at, interactions), key=datetime.fromisoformat, default=None),
        "last_activity_at": max(
            (each["completed_at"] or each["started_at"] or each["created_at"] for each in interactions), default=None
        ),
    }
    filled = _fill(row, [{k: v for k, v in each.items() if k != "implicit"} for each in rows])
    return cast("ops.Session", filled)


def spooled_owner(session_id: str, batches: Iterable[Batch]) -> str | None:
    """Return the owner that a session will have that isn't stored yet.

    A row without a claim comes from the service itself and wins: the owner is its user, if it names one. Otherwise the
    first claim wins.
    """
    rows = [row for batch in batches for row in _rows_of(session_id, batch)]
    trusted = [row for row in rows if "claim" not in row]
    if rows and not trusted:
        return str(rows[0]["claim"])
    return next((f"user:{row['user_id']}" for row in trusted if row.get("user_id")), None)


def drop_false_claims(session_id: str, batches: Iterable[Batch], owner: str | None) -> list[Batch]:
    """Return batches without the rows that claim the session for anybody but its owner: the store will reject them."""
    return [
        batch.filter(lambda _, row: row.get("claim", owner) == owner or not _belongs_to(session_id, row))
        for batch in batches
    ]


def has_claims(session_id: str, batches: Iterable[Batch]) -> bool:
    """Return whether a row of a session has a claim."""
    return any("claim" in row for batch in batches for row in _rows_of(session_id, batch))


def _rows_of(session_id: str, batch: Batch) -> Iterator[Row]:
    """Yield the rows of a session and of its children."""
    children = (*batch.participants, *batch.interactions, *batch.feedback)
    yield from (row for row in (*_sessions(batch), *children) if _belongs_to(session_id, row))


def _belongs_to(session_id: str, row: Row) -> bool:
    return bool(row.get("session_id", row.get("id")) == session_id)


def _status(rows: list[Row]) -> str:
    """Return a session's status. `open` fills nothing, but an explicit row opens a session that a plan has locked."""
    explicit = [row.get("status") or "open" for row in rows if not row.get("implicit")]
    planned = [row["status"] for row in rows if row.get("status")]
    return next((status for status in explicit or planned if status != "open"), "open")


def _sessions(batch: Batch) -> Iterator[Row]:
    """Yield the rows of a batch's sessions and of its folders' plans."""
    yield from batch.sessions
    for folder in batch.folders:
        yield from folder.get("sessions", ())


def sort_transcript(rows: Iterable[ops.Interaction]) -> list[ops.Interaction]:
    """Sort interactions as turnlog.transcript does: by turn, then by the time said, then by arrival."""
    return sorted(
        rows,
        key=lambda row: (
            row["turn"] is None,
            row["turn"] or 0,
            datetime.fromisoformat(ops.said_at(row)),
            datetime.fromisoformat(row["created_at"]),
            row["interaction_id"],
        ),
    )


def _fill(row: Row, spooled: list[Row]) -> Row:
    row = dict(row)
    for each in spooled:
        for field, value in each.items():
            if field == "tags":
                row["tags"] = [*row["tags"], *(tag for tag in value if tag not in row["tags"])]
            elif field == "metadata":
                row["metadata"] = {**value, **row["metadata"]}
            elif field not in _INTERNAL_FIELDS and row.get(field) is None:
                row[field] = value
    return row


def _as_utc(time: str) -> str:
    return datetime.fromisoformat(time).astimezone(UTC).isoformat()
