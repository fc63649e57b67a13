"""MLflow's traces: every value is JSON in a text, texts in quotes."""

from conversation.otlp import contents, facts, values
from conversation.otlp.facts import Facts
from conversation.otlp.spans import Kind, Span

_KINDS: dict[str, Kind] = {
    "CHAT_MODEL": "call",
    "LLM": "call",
    "AGENT": "agent",
    "CHAIN": "workflow",
    "WORKFLOW": "workflow",
    "TOOL": "tool",
    "RETRIEVER": "retriever",
    "RERANKER": "retriever",
    "EMBEDDING": "embedding",
    "EVALUATOR": "evaluator",
    "GUARDRAIL": "guardrail",
}


def kind_of(span: Span) -> Kind | None:
    kind = text(span, "mlflow.spanType")
    return None if kind is None else _KINDS.get(kind, "step")


def text(span: Span, name: str) -> str | None:
    """Return an attribute's text without the quotes around it; some exporters quote twice."""
    value = span.attributes.get(name)
    for _ in range(2):
        value = values.parsed(value)
    return value if isinstance(value, str) and value else None


def read(span: Span) -> Facts:
    attributes = span.attributes
    given = values.parsed(attributes.get("mlflow.spanInputs"))
    output = values.parsed(attributes.get("mlflow.spanOutputs"))
    counts = facts.usage(values.parsed_object(attributes.get("mlflow.chat.tokenUsage")))
    return Facts(
        sent=contents.request(given),
        reference=contents.references(given),
        response=contents.answer(output),
        model=_model(output) or text(span, "mlflow.llm.model"),
        requested_model=_model(given) or text(span, "model"),
        provider=text(span, "mlflow.llm.provider") or text(span, "mlflow.message.format"),
        time_to_first_token_ms=facts.first_token_ms(span, "mlflow.chunk.item.0"),
        cost_usd=values.number(values.parsed_object(attributes.get("mlflow.llm.cost")), "total_cost"),
        response_id=facts.provider_id(output),
        error=facts.error_of(span),
    ).with_counts(counts)


def _model(value: object) -> str | None:
    return values.text(value, "model") if isinstance(value, dict) else None
