"""Maps a span or a span's log records to the one form of all dialects."""

from dataclasses import replace
from types import ModuleType
from typing import Any

from conversation.otlp import callers, log_events
from conversation.otlp.dialects import genai, langfuse, langsmith, logfire, mlflow, openinference, openllmetry, vercel
from conversation.otlp.facts import Facts
from conversation.otlp.spans import Decoded, Kind, MappedSpan, Span, to_time

#: In the order in which a span is asked. A span that speaks several is what the first of them says.
_DIALECTS: tuple[ModuleType, ...] = (openinference, langfuse, langsmith, mlflow, vercel, genai, openllmetry)
#: What these say fills what the span's own dialect doesn't.
_FILLING: tuple[ModuleType, ...] = (genai, openllmetry, logfire)


def spans(decoded: Decoded) -> list[MappedSpan]:
    """Return what the spans and log records of a request say."""
    return [*map(of_span, decoded.spans), *log_events.of_records(decoded.records)]


def of_span(span: Span) -> MappedSpan:
    dialect, kind = _kind(span)
    stated = callers.read(span.attributes)
    mapped = MappedSpan(
        span.trace_id,
        span.span_id,
        span.parent_id,
        span.name,
        kind,
        span.scope,
        to_time(span.start),
        _end(span),
        stated.session,
        stated.rank,
        stated.user,
        feedback=openinference.feedback(span.attributes),
    )
    if kind != "call" or dialect is None:
        return mapped
    found = _facts(span, dialect)
    if not found.is_call:
        return replace(mapped, kind="step")
    return replace(
        mapped,
        tags=callers.tags(span.attributes),
        metadata=callers.metadata(stated.attached),
        response_id=found.response_id,
        call=found.to_call(span),
    )


def _kind(span: Span) -> tuple[ModuleType | None, Kind]:
    for dialect in _DIALECTS:
        kind: Kind | None = dialect.kind_of(span)
        if kind is not None:
            return dialect, kind
    return None, "span"


def _facts(span: Span, dialect: ModuleType) -> Facts:
    found: Facts = dialect.read(span)
    for other in _FILLING:
        if other is not dialect and other.says_something(span):
            found.fill(other.read(span))
    return found


def _end(span: Span) -> Any:
    """Return when a span ended; None if it says that it ended before it began."""
    return to_time(span.end) if span.end >= span.start else None
