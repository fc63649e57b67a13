"""Langfuse's SDKs: observations, whose values are JSON in texts."""

from datetime import datetime

from pydantic import TypeAdapter, ValidationError

from conversation.otlp import contents, facts, values
from conversation.otlp.facts import Facts
from conversation.otlp.spans import Kind, Span, to_time
from conversation.turns.roles import TOOL

_KINDS: dict[str, Kind] = {
    "generation": "call",
    "embedding": "embedding",
    "agent": "agent",
    "tool": "tool",
    "chain": "workflow",
    "span": "workflow",
    "retriever": "retriever",
    "evaluator": "evaluator",
    "guardrail": "guardrail",
}
_PREFIX = "langfuse.observation."
_TIME = TypeAdapter(datetime)


def kind_of(span: Span) -> Kind | None:
    kind = values.text(span.attributes, _PREFIX + "type")
    return None if kind is None else _KINDS.get(kind, "step")


def read(span: Span) -> Facts:
    attributes = span.attributes
    counts = facts.usage(values.parsed_object(attributes.get(_PREFIX + "usage_details")))
    given = values.parsed(attributes.get(_PREFIX + "input"))
    return Facts(
        sent=contents.request(_without_tools_offered(given)),
        reference=contents.references(given),
        response=contents.answer(attributes.get(_PREFIX + "output")),
        model=values.text(attributes, _PREFIX + "model.name"),
        finish_reason=values.first(_unquoted(attributes.get(_PREFIX + "metadata.finish_reason"))),
        time_to_first_token_ms=_first_token(span),
        cost_usd=facts.cost(values.parsed_object(attributes.get(_PREFIX + "cost_details"))),
        error=_error(span),
    ).with_counts(counts)


def _without_tools_offered(given: object) -> object:
    """Return messages without those of role tool in which the LangChain handler lists the tools that are offered."""
    if not isinstance(given, list):
        return given
    return [each for each in given if not _is_offer(each)]


def _is_offer(message: object) -> bool:
    match message:
        case {"role": "tool", "content": {"type": "function", "function": dict()}}:
            return True
        case {"role": "tool", "content": str(text)}:
            offer = values.parsed_object(text)
            return offer.get("type") == "function" and isinstance(offer.get("function"), dict)
    return isinstance(message, dict) and message.get("role") == TOOL and message.get("content") is None


def _error(span: Span) -> str | None:
    if span.attributes.get(_PREFIX + "level") != "ERROR":
        return facts.error_of(span)
    said = values.text(span.attributes, _PREFIX + "status_message")
    return said or facts.error_of(span) or "The call failed"


def _first_token(span: Span) -> float | None:
    text = values.text(span.attributes, _PREFIX + "completion_start_time")
    started = to_time(span.start)
    if text is None or started is None:
        return None
    try:
        elapsed = _TIME.validate_python(text.strip('"')) - started
    except (ValidationError, TypeError):  # no time, or one without a zone
        return None
    return max(elapsed.total_seconds() * 1000, 0)


def _unquoted(value: object) -> object:
    return value.strip('"') if isinstance(value, str) else value
