"""Log records of OpenTelemetry's conventions: what they say of the span whose ids they carry.

A message each (`gen_ai.user.message`, `gen_ai.choice`, …) in the older conventions, all of a call in one
(`gen_ai.client.inference.operation.details`) in the newer ones, and evaluations.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from conversation.otlp import callers, values
from conversation.otlp.dialects import genai
from conversation.otlp.facts import Facts
from conversation.otlp.spans import LogRecord, MappedSpan, ModelCall, Opinion, Span, to_time

DETAILS, CHOICE = "gen_ai.client.inference.operation.details", "gen_ai.choice"
EVALUATION, EXCEPTION = "gen_ai.evaluation.result", "gen_ai.client.operation.exception"
_MESSAGE = ".message"


def by_span(records: Sequence[LogRecord]) -> Iterator[list[LogRecord]]:
    """Yield the records of each span in the order of their times."""
    found: dict[tuple[str, str], list[LogRecord]] = defaultdict(list)
    for record in records:
        found[record.trace_id, record.span_id].append(record)
    for own in found.values():
        yield sorted(own, key=lambda record: record.time)


def of_span(records: Sequence[LogRecord]) -> MappedSpan:
    """Return what the records of one span say."""
    first = records[0]
    attributes: dict[str, Any] = {}
    for record in records:
        for name, value in record.attributes.items():
            attributes.setdefault(name, value)
    found = _facts(records)
    stated = callers.read(attributes)
    call = _call(found, first)
    return MappedSpan(
        first.trace_id,
        first.span_id,
        None,
        first.name,
        "span" if call is None else "call",
        first.scope,
        started_at=to_time(first.time),
        session=stated.session,
        session_rank=stated.rank,
        user=stated.user,
        tags=callers.tags(attributes),
        metadata=callers.metadata(stated.attached),
        response_id=found.response_id or values.text(attributes, "gen_ai.response.id"),
        call=call,
        feedback=[each for record in records for each in _opinions(record)],
        is_record=True,
    )


def _facts(records: Iterable[LogRecord]) -> Facts:
    found = Facts()
    for record in records:
        body = record.body if record.body is not None else dict(record.attributes)
        match record.name:
            case name if name == DETAILS:
                found.fill(genai.of_attributes(record.attributes))
                found.fill(Facts(error=_error(record)))
            case name if name == CHOICE:
                found.response += genai.choice(body)
            case name if name == EXCEPTION:
                found.error = found.error or _error(record) or "The call failed"
            case name if name.endswith(_MESSAGE):
                found.sent += genai.message(name, body)
        found.provider = found.provider or values.text(record.attributes, "gen_ai.provider.name", "gen_ai.system")
    return found


def _error(record: LogRecord) -> str | None:
    return values.text(record.attributes, "exception.message", "error.message", "error.type", "exception.type")


def _call(found: Facts, first: LogRecord) -> ModelCall | None:
    """Return the call that records tell of; None where they only rate one, or say nothing."""
    if not found.is_call and not found.sent:
        return None
    without_times = Span(first.trace_id, first.span_id, None, first.name, first.scope, 0, 0, {})
    return found.to_call(without_times)


def _opinions(record: LogRecord) -> Iterator[Opinion]:
    name = values.text(record.attributes, "gen_ai.evaluation.name")
    if record.name != EVALUATION or name is None:
        return
    value = record.attributes.get("gen_ai.evaluation.score.value")
    if not isinstance(value, int | float):
        value = values.text(record.attributes, "gen_ai.evaluation.score.label")
    if value is not None:
        yield Opinion(name, value, values.text(record.attributes, "gen_ai.evaluation.explanation"))
