"""Older attributes of Logfire and Pydantic AI: requests and answers as JSON, and events in a list."""

from conversation.otlp import contents, facts, values
from conversation.otlp.dialects import genai
from conversation.otlp.facts import Facts
from conversation.otlp.spans import Span
from conversation.turns.roles import ASSISTANT

_NAMES = ("request_data", "response_data", "events")


def says_something(span: Span) -> bool:
    """Return whether a span of another dialect speaks this one as well."""
    return any(name in span.attributes for name in _NAMES)


def read(span: Span) -> Facts:
    request = values.parsed_object(span.attributes.get("request_data"))
    answer = values.parsed_object(span.attributes.get("response_data"))
    streamed = answer.get("combined_chunk_content")
    found = Facts(
        sent=contents.request(request) if request.keys() - {"model", "stream"} else [],
        response=contents.read(streamed, ASSISTANT) if streamed else contents.answer(answer) if answer else [],
        requested_model=values.text(request, "model"),
    ).with_counts(facts.usage(values.parsed_object(answer.get("usage"))))
    for event in values.parsed_list(span.attributes.get("events")):
        if isinstance(event, dict) and isinstance(name := event.get("event.name"), str):
            if name == "gen_ai.choice":
                found.response += genai.choice(event)
            elif name.endswith(".message"):
                found.sent += genai.message(name, event)
    return found
