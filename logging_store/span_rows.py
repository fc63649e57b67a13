"""Turns spans into the rows that turnlog.write takes: see turnlog.place_spans."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any
from uuid import uuid4

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
_NO_FIELDS = frozenset(
    {"metadata", "session_id", "id", "trace_id", "span_id", "participant", "created_at", "on_conflict"}
)
#: What a call has of its span.
_OF_PLACE = ("session_id", "id", "trace_id", "span_id", "participant", "created_at")
#: Fields of a call that derive from its span.
_DERIVED = frozenset(
    {"session_id", "interaction_id", "key", "participant", "trace_id", "span_id", "reply_to", "alternative_to"}
)


def build(project: str, spans: Sequence[Span], received_at: Sequence[datetime]) -> list[Row]:
    """Return a row for each span, in order, in its place. `received_at`: parallel to the spans."""
    return place(project, columns(project, spans, received_at))


def columns(project: str, spans: Sequence[Span], received_at: Sequence[datetime]) -> list[Row]:
    """Return a row for each span, in order, without its place. `received_at`: parallel to the spans."""
    return [dict(_columns(project, span, at)) for span, at in zip(spans, received_at, strict=True)]


def place(project: str, rows: Sequence[Row]) -> list[Row]:
    """Return copies of rows that are written together, each with the session and the user that these give it.

    Rows that are rejected must not be among them: they wouldn't be there when a span comes again.
    """
    call_id = uuid4().hex
    traces: dict[str, dict[str, Row]] = {}  # trace id -> span id -> row
    rows = [row | {"call_id": call_id} | ({"call": row["call"].copy()} if "call" in row else {}) for row in rows]
    for row in rows:
        traces.setdefault(row["trace_id"], {})[row["span_id"]] = row
    for trace_id, by_span in traces.items():
        _place(identity.trace_session(project, trace_id), f"trace:{trace_id}", by_span)
    for row in rows:  # a span's second row has what its last one has; the store places both itself
        last = traces[row["trace_id"]][row["span_id"]]
        if row is not last:
            row["trace_session"] = last["trace_session"]
    return rows


def _place(trace_session: str, trace_key: str, by_span: dict[str, Row]) -> None:
    """Add to the rows of a trace the session and the user that they have if these spans are all there is of it.

    The rule is that of turnlog.span_places, which it spares the store where a trace comes whole.
    """
    for row in by_span.values():
        _inherit(row, by_span)
    in_order = [by_span[span_id] for span_id in sorted(by_span)]
    by_callers = [row for row in in_order if row.get("by_caller")]
    anywhere = by_callers[0] if by_callers else None
    several = len({row["stated_session"] for row in by_callers}) > 1
    by_library = next((row for row in in_order if row.get("by_caller") is False), None)
    of_user = next((row for row in in_order if "user_id" in row), None)
    for row in by_span.values():
        found = (
            by_span.get(row.get("caller_span", ""))
            or (None if several else anywhere)
            or by_span.get(row.get("library_span", ""))
            or anywhere
            or by_library
        )
        user = by_span.get(row.get("user_span", "")) or of_user
        row["trace_session"] = trace_session
        row["session_id"] = found["stated_session"] if found else trace_session
        if key := found.get("session_key") if found else trace_key:
            row["place_key"] = key
        if user:
            row["participant"] = user["user_id"]
        if "call" in row:
            row["call"] |= {name: row[name] for name in _OF_PLACE if name in row} | {"on_conflict": "fill"}


def _inherit(row: Row, by_span: dict[str, Row]) -> None:
    """Add to a row which spans at or above it name a session or a user: itself, or the closest one above."""
    path = [row]
    seen = {row["span_id"]}
    while "inherited" not in path[-1] and (parent := by_span.get(path[-1].get("parent_id", ""))) is not None:
        if parent["span_id"] in seen:
            break
        seen.add(parent["span_id"])
        path.append(parent)
    for child, parent in zip(reversed(path[:-1]), reversed(path[1:]), strict=True):
        for column in ("caller_span", "library_span", "user_span"):
            if column not in child and column in parent:
                child[column] = parent[column]
    for each in path:
        each["inherited"] = True


def _columns(project: str, span: Span, received_at: datetime) -> Iterator[tuple[str, Any]]:
    yield "trace_id", span.trace_id
    yield "span_id", span.span_id
    yield "id", identity.span_interaction(project, span.trace_id, span.span_id)
    yield "source", span.source
    yield "created_at", received_at
    for column in ("parent_id", "name", "kind", "scope", "started_at", "completed_at", "response_id"):
        if (value := getattr(span, column)) is not None:
            yield column, storable(value)[:MAX_NAME] if column in _TEXTS else value
    if span.source == "span":
        yield "rank", span.rank
    if span.same_call_as is not None:
        yield "same_call_as", "/".join(span.same_call_as)
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
    if feedback := list(_feedback_rows(span, received_at)):
        yield "has_feedback", True
        yield "feedback", feedback


def _feedback_rows(span: Span, received_at: datetime) -> Iterator[Row]:
    for each in span.feedback:
        yield {"given_at": received_at} | each.json_fields()
    for each in span.session_feedback:
        yield {"given_at": received_at} | each.json_fields() | {"of_session": True}


def name_fields(rows: Sequence[Row]) -> None:
    """Add to each row which fields of a call it states: `fields`, or `event_fields` if log events state them."""
    for row in rows:
        if (facts := row.get("call")) is not None:
            said = [name for name in facts if name not in _NO_FIELDS]
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
