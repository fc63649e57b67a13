"""Turns spans into the rows that turnlog.write takes: see turnlog.place_spans."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from pydantic import TypeAdapter, ValidationError

from logging_store.batches import Row
from logging_store.records import identity
from logging_store.records.intake import storable
from logging_store.records.spans import Call, Span
from logging_store.records.values import MAX_NAME, Identifier, Person
from logging_store.row_builder import derived_status

_IDENTIFIER: TypeAdapter[str] = TypeAdapter(Identifier)
_PERSON: TypeAdapter[str] = TypeAdapter(Person)
_TEXTS = ("name", "scope", "response_id")
#: Fields of a call that derive from its span.
_DERIVED = frozenset(
    {"session_id", "interaction_id", "key", "participant", "trace_id", "span_id", "reply_to", "alternative_to"}
)


def build(project: str, spans: Sequence[Span], received_at: Sequence[datetime]) -> list[Row]:
    """Return a row for each span, in order. `received_at`: parallel to the spans."""
    sessions: dict[str, str] = {}  # of the traces
    rows = []
    for span, at in zip(spans, received_at, strict=True):
        if (trace_session := sessions.get(span.trace_id)) is None:
            trace_session = sessions[span.trace_id] = identity.trace_session(project, span.trace_id)
        rows.append(dict(_columns(project, span, at)) | {"trace_session": trace_session})
    return rows


def _columns(project: str, span: Span, received_at: datetime) -> Iterator[tuple[str, Any]]:
    yield "trace_id", span.trace_id
    yield "span_id", span.span_id
    yield "id", identity.span_interaction(project, span.trace_id, span.span_id)
    yield "source", span.source
    yield "created_at", received_at
    for column in ("parent_id", "name", "kind", "scope", "started_at", "completed_at", "response_id", "same_call_as"):
        if (value := getattr(span, column)) is not None:
            yield column, storable(value)[:MAX_NAME] if column in _TEXTS else value
    if (name := _checked(_IDENTIFIER, span.session)) is not None:
        session = identity.session(project, name)
        yield "stated_session", session.id
        if session.key is not None:
            yield "session_key", session.key
        yield "by_caller", span.named_by == "caller"
        yield ("caller_span" if span.named_by == "caller" else "library_span"), span.span_id
    if (user := _checked(_PERSON, span.user)) is not None:
        yield "user_id", user
        yield "user_span", span.span_id
    if span.call is not None:
        yield from _call_columns(span, span.call)
    if span.feedback:
        yield "has_feedback", True
        yield "feedback", [{"given_at": received_at} | each.json_fields() for each in span.feedback]


def name_fields(rows: Sequence[Row]) -> None:
    """Add to each row which fields of a call it states: `fields`, or `event_fields` if log events state them."""
    for row in rows:
        if (facts := row.get("call")) is not None:
            said = [name for name in facts if name != "metadata"]
            said += [f"metadata.{name}" for name in facts.get("metadata", ())]
            row["fields" if row["source"] == "span" else "event_fields"] = sorted(said)


def redactable(rows: Sequence[Row]) -> Iterator[tuple[int, Row]]:
    """Yield the position of each row with what may hold texts of people: itself, its call, and its feedback."""
    for n, row in enumerate(rows):
        yield n, row
        if "call" in row:
            yield n, row["call"]
        for feedback in row.get("feedback", ()):
            yield n, feedback


def _call_columns(span: Span, call: Call) -> Iterator[tuple[str, Any]]:
    facts = {name: value for name, value in call.python_fields().items() if name not in _DERIVED}
    if span.source == "span":
        for name, value in (("started_at", span.started_at), ("completed_at", span.completed_at)):
            if value is not None:
                facts.setdefault(name, value)
    if facts.get("status") == derived_status(call):
        del facts["status"]
    yield "call", facts
    if call.model is not None:
        yield "model", call.model
    if call.error or call.status == "failed":
        yield "failed", True


def _checked(adapter: TypeAdapter[str], name: str | None) -> str | None:
    """Return a name if it can be one of a session or a user; what can't costs the span nothing else."""
    if name is None:
        return None
    try:
        return adapter.validate_python(name)
    except ValidationError:
        return None
