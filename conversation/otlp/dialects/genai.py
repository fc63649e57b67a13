"""OpenTelemetry's own conventions for generative AI, old and new; most other libraries speak a part of them."""

from conversation.otlp import contents, facts, values
from conversation.otlp.facts import Facts
from conversation.otlp.spans import Attributes, Kind, Span
from conversation.turns.message import Message
from conversation.turns.roles import USER

_KINDS: dict[str, Kind] = {
    "chat": "call",
    "text_completion": "call",
    "generate_content": "call",
    "completion": "call",
    "invoke_agent": "agent",
    "create_agent": "agent",
    "invoke_workflow": "workflow",
    "execute_tool": "tool",
    "embeddings": "embedding",
    "retrieval": "retriever",
}
_OF_EVENTS = ("gen_ai.", "event.")  # names that aren't a message's
_PREFIXES = ("gen_ai.", "operation.cost")
_INPUT = ("gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens")
_OUTPUT = ("gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens")
_CACHED = ("gen_ai.usage.cache_read.input_tokens", "gen_ai.usage.cache_read_input_tokens")
_WRITTEN = (
    "gen_ai.usage.cache_creation.input_tokens",
    "gen_ai.usage.cache_write.input_tokens",
    "gen_ai.usage.cache_creation_input_tokens",
)
_REASONING = (
    "gen_ai.usage.reasoning.output_tokens",
    "gen_ai.usage.reasoning_tokens",
    "gen_ai.usage.details.reasoning_tokens",
)
_FIRST_TOKEN = (
    "gen_ai.response.time_to_first_chunk",
    "gen_ai.client.operation.time_to_first_chunk",
    "gen_ai.server.time_to_first_token",
)
_COST = ("operation.cost", "gen_ai.cost.total_cost", "gen_ai.usage.cost")


def kind_of(span: Span) -> Kind | None:
    operation = values.text(span.attributes, "gen_ai.operation.name")
    if operation is not None:
        return _KINDS.get(operation, "step")
    is_call = "gen_ai.request.model" in span.attributes and any(
        name in span.attributes for name in ("gen_ai.system", "gen_ai.response.id", *_OUTPUT)
    )
    return "call" if is_call else None


def says_something(span: Span) -> bool:
    """Return whether a span of another dialect speaks this one as well."""
    return any(name.startswith(_PREFIXES) for name in span.attributes) or bool(span.events)


def read(span: Span) -> Facts:
    found = of_attributes(span.attributes)
    found.error = facts.error_of(span)
    found.time_to_first_token_ms = facts.seconds(span, *_FIRST_TOKEN)
    if not found.sent or not found.response:
        old = _of_events(span)
        found.fill(old)
    return found


def of_attributes(attributes: Attributes) -> Facts:
    """Return what attributes say, those of a span or of a log record."""
    given = values.parsed(attributes.get("gen_ai.input.messages"))
    sent = contents.request(given)
    sent = contents.with_system(sent, attributes.get("gen_ai.system_instructions"))
    return Facts(
        sent=sent,
        reference=contents.references(given),
        response=contents.answer(attributes.get("gen_ai.output.messages")),
        model=values.text(attributes, "gen_ai.response.model"),
        requested_model=values.text(attributes, "gen_ai.request.model"),
        provider=values.text(attributes, "gen_ai.provider.name", "gen_ai.system"),
        finish_reason=values.first(attributes.get("gen_ai.response.finish_reasons"))
        or values.text(attributes, "gen_ai.response.finish_reason", "gen_ai.response.stop_reason"),
        input_tokens=values.count(attributes, *_INPUT),
        output_tokens=values.count(attributes, *_OUTPUT),
        cached_input_tokens=values.count(attributes, *_CACHED),
        cache_write_tokens=values.count(attributes, *_WRITTEN),
        reasoning_tokens=values.count(attributes, *_REASONING),
        cost_usd=values.number(attributes, *_COST) or None,
        response_id=values.text(attributes, "gen_ai.response.id"),
    )


def _of_events(span: Span) -> Facts:
    """Return the messages that stand in a span's events: as events of their own, or as a text of all."""
    found = Facts()
    for event in span.events:
        body = event.attributes.get("gen_ai.event.content", event.attributes)
        match event.name:
            case "gen_ai.content.prompt":
                found.sent += contents.request(event.attributes.get("gen_ai.prompt"))
            case "gen_ai.content.completion":
                found.response += contents.answer(event.attributes.get("gen_ai.completion"))
            case "gen_ai.client.inference.operation.details":
                found.fill(of_attributes(event.attributes))
            case "gen_ai.choice":
                found.response += choice(body)
            case name if name.startswith("gen_ai.") and name.endswith(".message"):
                found.sent += message(name, body)
    return found


def message(event: str, body: object) -> list[Message]:
    """Return the message of an old event such as `gen_ai.user.message`, whose name says the role."""
    role = event.removeprefix("gen_ai.").removesuffix(".message")
    body = values.parsed(body)
    if not isinstance(body, dict):
        return contents.read(body, role)
    fields = {name: values.parsed(value) for name, value in body.items() if not name.startswith(_OF_EVENTS)}
    if role == "tool" and "id" in fields:
        fields["tool_call_id"] = fields.pop("id")
    return contents.read({"role": role, **fields}, role if role in {"system", "assistant"} else USER)


def choice(body: object) -> list[Message]:
    """Return the message of an old event `gen_ai.choice`."""
    body = values.parsed_object(body)
    inner = values.parsed(body.get("message"))
    if not isinstance(inner, dict):
        inner = {"content": inner if inner is not None else body.get("content")}
    return contents.answer({"choices": [{"message": {"role": "assistant", **inner}, **_finish(body)}]})


def _finish(body: dict[str, object]) -> dict[str, object]:
    return {"finish_reason": body["finish_reason"]} if body.get("finish_reason") else {}
