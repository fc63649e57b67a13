"""Maps a span or a span's log records to the one form of all dialects."""

import logging
from collections.abc import Callable
from types import ModuleType
from typing import TypeVar

from conversation.otlp import budget, callers, log_events
from conversation.otlp.budget import TooManyMessagesError
from conversation.otlp.dialects import genai, langfuse, langsmith, logfire, mlflow, openinference, openllmetry, vercel
from conversation.otlp.facts import Facts
from conversation.otlp.spans import Decoded, Kind, MappedSpan, Span, note, to_time
from logging_store.records.values import MAX_NAME

_Sent = TypeVar("_Sent")

_log = logging.getLogger(__name__)

#: In the order in which a span is asked. A span that speaks several is what the first of them says.
_DIALECTS: tuple[ModuleType, ...] = (openinference, langfuse, langsmith, mlflow, vercel, genai, openllmetry)
#: What these say fills what the span's own dialect doesn't.
_FILLING: tuple[ModuleType, ...] = (genai, openllmetry, logfire)


def spans(decoded: Decoded) -> list[MappedSpan]:
    """Return what the spans and log records of a request say; those that can't be read are noted as rejected."""
    found = []
    with budget.of_request():
        for span in decoded.spans:
            found += _tried(of_span, span, span.name, 1, decoded)
            if (problem := callers.too_long(span.attributes)) is not None:
                note(decoded.reasons, problem)
        for records in log_events.by_span(decoded.records):
            found += _tried(log_events.of_span, records, records[0].name, len(records), decoded)
    return found


def _tried(
    read: Callable[[_Sent], MappedSpan], sent: _Sent, name: str, count: int, decoded: Decoded
) -> list[MappedSpan]:
    """Return what a span says; nothing if it can't be read, which costs none of the other spans."""
    budget.next_span()
    try:
        return [read(sent)]
    except TooManyMessagesError as error:
        reason = str(error)
    except (ValueError, TypeError, LookupError, ArithmeticError, RecursionError) as error:
        # what no dialect has thought of
        _log.warning("a span can't be read", exc_info=True)
        reason = f"It can't be read ({type(error).__name__})"
    decoded.reject(f"{name[:MAX_NAME]}: {reason}", count)
    return []


def of_span(span: Span) -> MappedSpan:
    dialect, kind = _kind(span)
    stated = callers.read(span.attributes)
    found = _facts(span, dialect) if kind == "call" and dialect is not None else None
    is_call = found is not None and found.is_call
    return MappedSpan(
        span.trace_id,
        span.span_id,
        span.parent_id,
        span.name,
        "step" if kind == "call" and not is_call else kind,
        span.scope,
        to_time(span.start),
        to_time(span.end) if span.end >= span.start else None,  # else it says that it ended before it began
        stated.session,
        stated.rank,
        stated.user,
        callers.tags(span.attributes) if is_call else (),
        callers.metadata(stated.attached) if is_call else {},
        found.response_id if found else None,
        found.to_call(span) if found and is_call else None,
        openinference.feedback(span.attributes),
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
