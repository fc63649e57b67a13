"""What a span says of a call of a model, gathered from all the dialects that it speaks."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Self

from conversation.otlp import contents, values
from conversation.otlp.spans import ModelCall, Span
from conversation.turns import facts as turn_facts
from conversation.turns.message import Message

#: Usages as Langfuse and others name them -> as providers do.
_USAGE_NAMES = {
    "input": "input_tokens",
    "output": "output_tokens",
    "total": "total_tokens",
    "input_cached_tokens": "cachedInputTokens",
    "input_cache_read": "cachedInputTokens",
    "output_reasoning_tokens": "reasoningTokens",
    "output_reasoning": "reasoningTokens",
}
#: The same where the input isn't Anthropic's, which lacks what its cache read and wrote.
_CACHE_NAMES = {"cache_read_input_tokens": "cachedInputTokens", "cache_creation_input_tokens": "input_cache_creation"}
_TOTALS = ("total_tokens", "totalTokens", "totalTokenCount", "total_token_count")
_COST_PARTS = ("input", "output")
#: Names of providers that differ between libraries.
_PROVIDERS = {
    "x_ai": "xai",
    "az.ai.openai": "azure.ai.openai",
    "mistralai": "mistral_ai",
    "gemini": "gcp.gemini",
    "vertex_ai": "gcp.vertex_ai",
}
_PROVIDER_ID = re.compile(r"(chatcmpl|cmpl|resp|msg|gen|gem)[-_][\w-]{6,}", re.ASCII)
_MAX_DEPTH = 8  # to which a dump of an answer is searched for the provider's id
_MS = 1000


@dataclass(slots=True)
class Facts:
    """Facts of a call; None, or an empty list, where nothing is said. `sent`: all messages that were sent."""

    sent: list[Message] = field(default_factory=list)
    response: list[Message] = field(default_factory=list)
    reference: int = -1
    model: str | None = None
    requested_model: str | None = None
    provider: str | None = None
    finish_reason: str | None = None
    time_to_first_token_ms: float | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_input_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None
    cost_usd: float | None = None
    response_id: str | None = None
    error: str | None = None

    def fill(self, other: Self) -> None:
        """Take what another dialect says and this one doesn't."""
        for each in fields(self):
            mine = getattr(self, each.name)
            if mine is None or mine == [] or (each.name == "reference" and mine < 0):
                setattr(self, each.name, getattr(other, each.name))

    def with_counts(self, counts: Mapping[str, int | None]) -> Self:
        """Take the tokens of a usage, by the names of an interaction's fields."""
        for name, count in counts.items():
            setattr(self, name, count)
        return self

    @property
    def is_call(self) -> bool:
        """Whether the model was called: a span of a model's kind without any of these only prepared it."""
        tokens = (self.input_tokens, self.output_tokens)
        return bool(self.response or any(tokens) or self.error or self.response_id)

    def to_call(self, span: Span) -> ModelCall:
        """Return the call, with what its messages say of it."""
        context, prompt = contents.split(self.sent, self.reference)
        said: dict[str, Any] = {}
        for message in self.response:
            said = message.facts | said
        return ModelCall(
            context,
            prompt,
            self.response,
            self.model or said.get("model") or self.requested_model,
            provider_of(self.provider),
            self.error,
            self.finish_reason or said.get("finish_reason"),
            _latency(span, self.time_to_first_token_ms),
            self.time_to_first_token_ms,
            _or(self.input_tokens, said.get("input_tokens")),
            _or(self.output_tokens, said.get("output_tokens")),
            _or(self.cached_input_tokens, said.get("cached_input_tokens")),
            _or(self.cache_write_tokens, said.get("cache_write_tokens")),
            _or(self.reasoning_tokens, said.get("reasoning_tokens")),
            self.cost_usd,
        )


def _or(value: int | None, other: int | None) -> int | None:
    return other if value is None else value


def _latency(span: Span, first_token_ms: float | None) -> float | None:
    """Return a call's latency; None of a span that has no length, or that ended before the stream began."""
    latency = span.latency_ms or None
    return None if latency is None or (first_token_ms is not None and first_token_ms > latency) else latency


def provider_of(name: str | None) -> str | None:
    """Return a provider's name in one spelling."""
    if name is None:
        return None
    plain = name.strip().lower()
    return _PROVIDERS.get(plain, plain)


def usage(sent: Mapping[str, Any]) -> dict[str, int]:
    """Return a usage as fields of an interaction, in which cached tokens are a part of the input's.

    Some libraries count them apart, some don't; the total says which.
    """
    names = _USAGE_NAMES | _CACHE_NAMES if "input" in sent else _USAGE_NAMES
    named = {names.get(name, name): value for name, value in sent.items()}
    found = turn_facts.usage(named)
    written = values.count(named, "input_cache_creation")
    if written is not None:
        found.setdefault("cache_write_tokens", written)
    total, output = values.count(named, *_TOTALS), found.get("output_tokens")
    if total is None or output is None or "input_tokens" not in found:
        return found
    cached = found.get("cached_input_tokens", 0) + found.get("cache_write_tokens", 0)
    if total - output in {found["input_tokens"] - cached, found["input_tokens"] + cached}:
        found["input_tokens"] = total - output
    return found


def cost(sent: Mapping[str, Any]) -> float | None:
    """Return the cost of a call in dollars from its total, or its parts."""
    total = values.number(sent, "total")
    if total is None:
        parts = [part for name in _COST_PARTS if (part := values.number(sent, name)) is not None]
        total = sum(parts) if parts else None
    return total or None  # libraries write 0 for what they don't know


def error_of(span: Span) -> str | None:
    """Return what went wrong; None if nothing did."""
    kind = values.text(span.attributes, "error.type")
    if not span.is_error and kind is None:
        return None
    exception = next((each.attributes for each in reversed(span.events) if each.name == "exception"), {})
    said = span.status_message or values.text(exception, "exception.message")
    return said or values.text(span.attributes, "error.message", "exception.message") or kind or "The call failed"


def first_token_ms(span: Span, *events: str) -> float | None:
    """Return the milliseconds until the first of a span's events with one of these names."""
    times = [each.time for each in span.events if each.name in events and each.time]
    return span.ms_until(min(times)) if times else None


def seconds(span: Span, *names: str) -> float | None:
    """Return the first of several attributes that is a number of seconds, in milliseconds."""
    value = values.number(span.attributes, *names)
    return None if value is None else value * _MS


def provider_id(answer: Any, depth: int = 0) -> str | None:
    """Return the provider's id of an answer, which a dump of it may have further inside."""
    if depth > _MAX_DEPTH:
        return None
    if isinstance(answer, dict):
        own = answer.get("id")
        if isinstance(own, str) and _PROVIDER_ID.fullmatch(own):
            return own
        inner: Any = answer.values()
    else:
        inner = answer if isinstance(answer, list) else ()
    for each in inner:
        if isinstance(each, dict | list) and (found := provider_id(each, depth + 1)) is not None:
            return found
    return None
