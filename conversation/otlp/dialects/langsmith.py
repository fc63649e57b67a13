"""LangSmith's SDK in its OpenTelemetry mode: request and answer as JSON, beside some of OpenTelemetry's attributes."""

from conversation.otlp import contents, facts, values
from conversation.otlp.facts import Facts
from conversation.otlp.spans import Kind, Span

_KINDS: dict[str, Kind] = {
    "llm": "call",
    "chain": "workflow",
    "tool": "tool",
    "retriever": "retriever",
    "embedding": "embedding",
    "prompt": "prompt",
    "parser": "step",
}


def kind_of(span: Span) -> Kind | None:
    kind = values.text(span.attributes, "langsmith.span.kind")
    return None if kind is None else _KINDS.get(kind.lower(), "step")


def read(span: Span) -> Facts:
    attributes = span.attributes
    output = values.parsed(attributes.get("gen_ai.completion"))
    counts = facts.usage(values.parsed_object(attributes.get("langsmith.metadata.usage_metadata")))
    return Facts(
        sent=contents.request(attributes.get("gen_ai.prompt")),
        response=contents.answer(output),
        requested_model=values.text(attributes, "langsmith.metadata.ls_model_name"),
        time_to_first_token_ms=facts.first_token_ms(span, "new_token"),
        response_id=facts.provider_id(output),
        error=facts.error_of(span),
    ).with_counts(counts)
