"""Vercel's AI SDK up to 6: an inner span for each call of a model (`….doGenerate`), an outer one around all of them."""

from typing import Any

from conversation.otlp import contents, facts, values
from conversation.otlp.facts import Facts
from conversation.otlp.spans import Attributes, Kind, Span
from conversation.turns.message import Message
from conversation.turns.roles import ASSISTANT

_USAGE = ("promptTokens", "completionTokens", "inputTokens", "outputTokens", "reasoningTokens", "cachedInputTokens")


def kind_of(span: Span) -> Kind | None:
    operation = values.text(span.attributes, "ai.operationId")
    if operation is None:
        return None
    if operation.endswith((".doGenerate", ".doStream")):
        return "call"
    if operation == "ai.toolCall":
        return "tool"
    return "embedding" if operation.startswith("ai.embed") else "workflow"


def read(span: Span) -> Facts:
    attributes = span.attributes
    usage = values.under(attributes, "ai.usage.")
    counts = facts.usage({name: usage[name] for name in _USAGE if usage.get(name) is not None})
    prompt = attributes.get("ai.prompt.messages", attributes.get("ai.prompt"))
    return Facts(
        sent=contents.request(prompt),
        response=_response(attributes),
        model=values.text(attributes, "ai.response.model"),
        requested_model=values.text(attributes, "ai.model.id"),
        provider=_provider(values.text(attributes, "ai.model.provider")),
        finish_reason=values.text(attributes, "ai.response.finishReason"),
        time_to_first_token_ms=values.number(attributes, "ai.response.msToFirstChunk")
        or facts.first_token_ms(span, "ai.stream.firstChunk"),
        response_id=values.text(attributes, "ai.response.id"),
        error=facts.error_of(span),
    ).with_counts(counts)


def _provider(name: str | None) -> str | None:
    """Return a provider without the API of it that the SDK's name has, as in `openai.chat`."""
    return None if name is None else name.partition(".")[0]


def _response(attributes: Attributes) -> list[Message]:
    content: list[Any] = []
    if reasoning := values.text(attributes, "ai.response.reasoning"):
        content.append({"type": "reasoning", "text": reasoning})
    said = values.text(attributes, "ai.response.text", "ai.response.object", "ai.result.text", "ai.result.object")
    if said is not None:
        content.append({"type": "text", "text": said})
    calls = values.parsed_list(attributes.get("ai.response.toolCalls", attributes.get("ai.result.toolCalls")))
    content += [call | {"type": "tool-call"} for call in calls if isinstance(call, dict)]
    return contents.read({"role": ASSISTANT, "content": content}, ASSISTANT) if content else []
