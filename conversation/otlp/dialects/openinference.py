"""OpenInference (Arize): messages flattened into attributes, the request and the answer as JSON beside them."""

from typing import Any

from conversation.otlp import budget, contents, facts, values
from conversation.otlp.facts import Facts
from conversation.otlp.spans import Attributes, Kind, Opinion, Span
from conversation.turns.message import Message
from conversation.turns.roles import ASSISTANT, SYSTEM, USER

_KINDS: dict[str, Kind] = {
    "LLM": "call",
    "AGENT": "agent",
    "CHAIN": "workflow",
    "TOOL": "tool",
    "RETRIEVER": "retriever",
    "RERANKER": "retriever",
    "EMBEDDING": "embedding",
    "GUARDRAIL": "guardrail",
    "EVALUATOR": "evaluator",
    "PROMPT": "prompt",
}
_TOKENS = {
    "input_tokens": "llm.token_count.prompt",
    "output_tokens": "llm.token_count.completion",
    "cached_input_tokens": "llm.token_count.prompt_details.cache_read",
    "cache_write_tokens": "llm.token_count.prompt_details.cache_write",
    "reasoning_tokens": "llm.token_count.completion_details.reasoning",
}


def kind_of(span: Span) -> Kind | None:
    kind = values.text(span.attributes, "openinference.span.kind")
    return None if kind is None else _KINDS.get(kind.upper())


def read(span: Span) -> Facts:
    attributes = span.attributes
    output = values.parsed(attributes.get("output.value"))
    counts = {field: values.count(attributes, name) for field, name in _TOKENS.items()}
    return Facts(
        sent=_sent(attributes),
        response=_response(attributes, output),
        reference=contents.references(attributes.get("input.value")),
        model=values.text(attributes, "llm.response.model_name"),
        requested_model=values.text(attributes, "llm.model_name", "llm.request.model_name") or _model(attributes),
        provider=values.text(attributes, "llm.provider", "llm.system"),
        finish_reason=values.text(attributes, "llm.finish_reason"),
        time_to_first_token_ms=facts.first_token_ms(span, "First Token Stream Event"),
        cost_usd=values.number(attributes, "llm.cost.total") or None,
        response_id=facts.provider_id(output),
        error=facts.error_of(span),
    ).with_counts(counts)


def _model(attributes: Attributes) -> str | None:
    """Return the model of a call's parameters, which is all that is said of it if the call failed."""
    return values.text(values.parsed_object(attributes.get("llm.invocation_parameters")), "model", "model_name")


def _sent(attributes: Attributes) -> list[Message]:
    given = attributes.get("input.value")
    flat = contents.read([_message(each) for each in _list(values.nested(attributes, "llm.input_messages."))], USER)
    if contents.references(given) >= 0:  # the flattened list has no place for them
        return [*(each for each in flat if each.role == SYSTEM), *contents.request(given)]
    if flat:
        return flat
    prompts = _list(values.nested(attributes, "llm.prompts."))
    texts = [each["prompt"]["text"] for each in prompts if isinstance(each, dict) and "prompt" in each]
    return contents.read(texts, USER) or contents.request(given)


def _response(attributes: Attributes, output: Any) -> list[Message]:
    flat = [_message(each) for each in _list(values.nested(attributes, "llm.output_messages."))]
    read = contents.joined(contents.read(flat, ASSISTANT))
    if read:
        return read
    choices = _list(values.nested(attributes, "llm.choices."))
    texts = [each["completion"]["text"] for each in choices if isinstance(each, dict) and "completion" in each]
    if texts:
        return contents.read(texts, ASSISTANT)
    return contents.answer(output)


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        return []
    budget.check(len(value))
    return value


def _message(item: Any) -> Any:
    """Return a flattened message as one of OpenAI's chat API."""
    fields = item.get("message") if isinstance(item, dict) else None
    if not isinstance(fields, dict):
        return item
    message = {name: value for name, value in fields.items() if name not in {"contents", "tool_calls"}}
    for name in ("function_call_name", "function_call_arguments_json"):
        message.pop(name, None)
    contents_of = [part for each in _list(fields.get("contents")) if (part := _part(each))]
    if contents_of:
        message["content"] = contents_of
    calls = [each.get("tool_call", each) for each in _list(fields.get("tool_calls")) if isinstance(each, dict)]
    if calls:
        message["tool_calls"] = calls
    elif fields.get("function_call_name"):
        function = {"name": fields["function_call_name"], "arguments": fields.get("function_call_arguments_json")}
        message["tool_calls"] = [{"function": function}]
    return {name: None if values.is_redacted(value) else value for name, value in message.items()}


def _part(item: Any) -> Any:
    part = item.get("message_content", item) if isinstance(item, dict) else item
    if not isinstance(part, dict):
        return None
    match part.get("image"):
        case {"image": {"url": url}}:
            return {"type": "image_url", "image_url": {"url": url}}
    return part


def feedback(attributes: Attributes) -> list[Opinion]:
    """Return the annotations and evaluations of a span, its trace or its session."""
    rated = {name: value for name, value in attributes.items() if ".annotation." in name or ".evaluation." in name}
    if not rated:
        return []
    found = []
    for prefix in ("", "trace.", "session."):
        for plural, singular in (("annotations", "annotation"), ("evaluations", "evaluation")):
            for each in _list(values.nested(rated, f"{prefix}{plural}.")):
                fields = each.get(singular, each) if isinstance(each, dict) else None
                if isinstance(fields, dict) and (opinion := _opinion(fields, prefix == "session.")):
                    found.append(opinion)
    return found


def _opinion(fields: dict[str, Any], is_of_session: bool) -> Opinion | None:
    name = values.text(fields, "name")
    stated = (fields.get(each) for each in ("score", "label", "value"))
    value = next((each for each in stated if isinstance(each, float | int | str)), None)
    if name is None or value is None:
        return None
    comment, author = values.text(fields, "explanation"), values.text(fields, "annotator_kind", "identifier")
    return Opinion(name, value, comment, author, is_of_session)
