"""OpenLLMetry (Traceloop): kinds of its decorators, and messages flattened into attributes by older versions.

LiteLLM writes `llm.request.type` as well.
"""

from conversation.otlp import contents, facts, values
from conversation.otlp.facts import Facts
from conversation.otlp.spans import Kind, Span

_REQUESTS: dict[str, Kind] = {"chat": "call", "completion": "call", "embedding": "embedding", "rerank": "retriever"}
_PREFIXES = ("gen_ai.prompt", "gen_ai.completion", "llm.response.", "llm.usage.")
_CHUNKS = ("gen_ai.content.completion.chunk", "llm.content.completion.chunk")
_KINDS: dict[str, Kind] = {"workflow": "workflow", "task": "step", "agent": "agent", "tool": "tool"}


def kind_of(span: Span) -> Kind | None:
    request = values.text(span.attributes, "llm.request.type")
    if request is not None:
        return _REQUESTS.get(request, "step")
    kind = values.text(span.attributes, "traceloop.span.kind")
    return None if kind is None else _KINDS.get(kind, "step")


def says_something(span: Span) -> bool:
    """Return whether a span of another dialect speaks this one as well."""
    return any(name.startswith(_PREFIXES) for name in span.attributes) or any(
        each.name in _CHUNKS for each in span.events
    )


def read(span: Span) -> Facts:
    attributes = span.attributes
    sent = values.nested(attributes, "gen_ai.prompt.") or values.parsed(attributes.get("gen_ai.prompt"))
    said = values.nested(attributes, "gen_ai.completion.") or values.parsed(attributes.get("gen_ai.completion"))
    return Facts(
        sent=contents.request(sent) if sent else [],
        response=contents.answer(said) if said else [],
        finish_reason=values.text(attributes, "llm.response.finish_reason", "llm.response.stop_reason"),
        reasoning_tokens=values.count(attributes, "llm.usage.reasoning_tokens"),
        time_to_first_token_ms=facts.first_token_ms(span, *_CHUNKS),
        error=facts.error_of(span),
    )
