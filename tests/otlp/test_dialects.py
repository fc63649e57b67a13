"""Every dialect tells the same chat, and it becomes the same interaction."""

import json
from typing import Any

import pytest

from conversation.otlp import mapping
from conversation.otlp.spans import CALLER, LIBRARY, MappedSpan, ModelCall
from conversation.turns.message import Message
from tests.otlp.builders import START, Sent, chat
from tests.otlp.conversations import ANSWER, CALL, FIRST, LAST, MODEL, RESPONSE_ID, SECOND, SENT, SPANS, SYSTEM


def mapped(attributes: dict[str, Any], **more: Any) -> MappedSpan:
    return mapping.of_span(Sent(attributes=attributes, **more).to_span())


def call_of(attributes: dict[str, Any], **more: Any) -> ModelCall:
    found = mapped(attributes, **more).call
    assert found is not None
    return found


def said(messages: Any) -> list[tuple[str, Any]]:
    return [(message.role, message.content) for message in messages]


@pytest.mark.parametrize("dialect", SPANS)
def test_the_same_chat_in_every_dialect(dialect: str) -> None:
    found = mapping.of_span(SPANS[dialect].to_span())
    call = found.call
    assert call is not None
    assert said(call.context) == [("system", SYSTEM), ("user", FIRST), ("assistant", ANSWER)]
    assert (said(call.prompt), said(call.response)) == ([("user", SECOND)], [("assistant", LAST)])
    assert (call.model, call.provider, call.finish_reason) == (MODEL, "openai", "stop")
    assert (call.input_tokens, call.output_tokens) == (40, 5)
    assert call.time_to_first_token_ms == pytest.approx(100)
    assert call.latency_ms == 250
    assert (found.session, found.session_rank, found.user) == ("s", CALLER, "ada")
    assert (found.kind, found.response_id, call.error) == ("call", RESPONSE_ID, None)


@pytest.mark.parametrize(
    ("attributes", "kind"),
    [
        ({"openinference.span.kind": "AGENT"}, "agent"),
        ({"openinference.span.kind": "LLM"}, "step"),  # it says nothing, so it was no call
        ({"langfuse.observation.type": "retriever"}, "retriever"),
        ({"langfuse.observation.type": "event"}, "step"),
        ({"langsmith.span.kind": "chain", "gen_ai.operation.name": "chain"}, "workflow"),
        ({"mlflow.spanType": '"\\"TOOL\\""'}, "tool"),
        ({"ai.operationId": "ai.generateText", "ai.usage.promptTokens": 5}, "workflow"),
        ({"ai.operationId": "ai.toolCall"}, "tool"),
        ({"ai.operationId": "ai.embedMany.doEmbed"}, "embedding"),
        ({"gen_ai.operation.name": "execute_tool"}, "tool"),
        ({"gen_ai.operation.name": "embeddings", "gen_ai.usage.input_tokens": 3}, "embedding"),
        ({"gen_ai.operation.name": "agent_step"}, "step"),
        ({"traceloop.span.kind": "workflow"}, "workflow"),
        ({"llm.request.type": "embedding"}, "embedding"),
        ({"session.id": "s"}, "span"),
        ({"gen_ai.system": "openai", "gen_ai.request.model": "m", "gen_ai.usage.completion_tokens": 1}, "call"),
    ],
)
def test_what_a_span_is(attributes: dict[str, Any], kind: str) -> None:
    found = mapped(attributes)
    assert (found.kind, found.call is not None) == (kind, kind == "call")


def test_a_call_without_content_is_a_call() -> None:
    call = call_of({"gen_ai.operation.name": "chat", "gen_ai.usage.input_tokens": 3, "gen_ai.usage.output_tokens": 4})
    assert (call.prompt, call.response, call.output_tokens) == ([], [], 4)


@pytest.mark.parametrize(
    ("more", "error"),
    [
        ({"error": "429: slow down"}, "429: slow down"),
        ({"error": "", "events": [("exception", 9, {"exception.message": "Overloaded"})]}, "Overloaded"),
        ({"attributes": {"error.type": "TimeoutError"}}, "TimeoutError"),
        ({"error": ""}, "The call failed"),
    ],
)
def test_why_a_call_failed(more: dict[str, Any], error: str) -> None:
    attributes = chat(None) | more.pop("attributes", {})
    assert call_of(attributes, **more).error == error


def test_langfuse_states_a_failure_by_its_level() -> None:
    stated = {
        "langfuse.observation.type": "generation",
        "langfuse.observation.level": "ERROR",
        "langfuse.observation.status_message": "No quota",
    }
    assert call_of(stated).error == "No quota"


def test_a_round_trip_with_tools_is_two_calls() -> None:
    first = {
        "gen_ai.operation.name": "chat",
        "gen_ai.input.messages": json.dumps([{"role": "user", "parts": [{"type": "text", "content": "Weather?"}]}]),
        "gen_ai.output.messages": json.dumps(
            [
                {
                    "role": "assistant",
                    "parts": [{"type": "tool_call", "id": "c1", "name": "weather", "arguments": {"city": "Lima"}}],
                }
            ]
        ),
    }
    asked = call_of(first)
    assert asked.response[0].tool_calls[0]["function"] == {"name": "weather", "arguments": '{"city":"Lima"}'}
    answered = json.loads(first["gen_ai.input.messages"]) + json.loads(first["gen_ai.output.messages"])
    answered += [{"role": "tool", "parts": [{"type": "tool_call_response", "id": "c1", "response": {"sky": "grey"}}]}]
    second = call_of(
        {
            "gen_ai.operation.name": "chat",
            "gen_ai.input.messages": json.dumps(answered),
            "gen_ai.usage.output_tokens": 1,
        }
    )
    (result,) = second.prompt
    assert (result.role, result.content, result.tool_call_id) == ("tool", '{"sky":"grey"}', "c1")
    assert len(second.context) == 2


def test_tool_calls_that_openinference_flattens() -> None:
    prefix = "llm.output_messages.0.message"
    call = call_of(
        {
            "openinference.span.kind": "LLM",
            f"{prefix}.role": "assistant",
            f"{prefix}.tool_calls.0.tool_call.id": "call_1",
            f"{prefix}.tool_calls.0.tool_call.function.name": "weather",
            f"{prefix}.tool_calls.0.tool_call.function.arguments": '{"city":"Lima"}',
            f"{prefix}.contents.0.message_content.type": "reasoning",
            f"{prefix}.contents.0.message_content.text": "Which city?",
        }
    )
    (message,) = call.response
    assert (list(message.tool_calls), message.content) == ([CALL], [{"type": "reasoning", "text": "Which city?"}])


def test_the_items_of_one_answer_are_one_message() -> None:
    prefix = "llm.output_messages"
    call = call_of(
        {
            "openinference.span.kind": "LLM",
            f"{prefix}.0.message.role": "assistant",
            f"{prefix}.0.message.tool_calls.0.tool_call.function.name": "weather",
            f"{prefix}.1.message.role": "assistant",
            f"{prefix}.1.message.content": "One moment.",
        }
    )
    (message,) = call.response
    assert (message.content, len(message.tool_calls)) == ("One moment.", 1)


def test_two_dialects_on_one_span_fill_each_other() -> None:
    both = {
        **chat("Lima.", gen_ai__conversation__id="made-up"),
        "openinference.span.kind": "LLM",
        "session.id": "made-up",  # copied by a processor
        "llm.token_count.prompt_details.cache_read": 7,
    }
    found = mapped(both)
    assert found.call is not None
    assert (said(found.call.response), found.call.cached_input_tokens) == ([("assistant", "Lima.")], 7)
    assert (found.session, found.session_rank) == ("made-up", LIBRARY)


@pytest.mark.parametrize(
    ("stated", "session", "rank"),
    [
        ({"session.id": "mine", "gen_ai.conversation.id": "made-up"}, "mine", CALLER),
        ({"langfuse.session.id": "lf", "session.id": "other"}, "lf", CALLER),
        ({"gen_ai.conversation.id": "made-up"}, "made-up", LIBRARY),
        ({"session.id": "[Scrubbed due to 'session']", "gen_ai.conversation.id": "c"}, "c", LIBRARY),
        ({"session.id": "null"}, None, 0),
        ({"session.id": "  "}, None, 0),
        ({"session.id": "x" * 300}, None, 0),
        ({"session.id": 42}, "42", CALLER),
        ({"metadata": '{"thread_id": "t-1"}'}, "t-1", CALLER),
        ({"ai.settings.context.sessionId": "a7"}, "a7", CALLER),
        ({"langfuse.trace.metadata.thread_id": '"t-2"'}, "t-2", CALLER),
        ({"langsmith.trace.session_name": "project"}, None, 0),
        ({"group_id": "g"}, "g", CALLER),
    ],
)
def test_names_of_a_session(stated: dict[str, Any], session: str | None, rank: int) -> None:
    found = mapped(stated)
    assert (found.session, found.session_rank) == (session, rank)


def test_tags_and_metadata() -> None:
    stated = {
        "tag.tags": ["geo", "web"],
        "langfuse.trace.tags": '["geo", "pro"]',
        "metadata": json.dumps({"plan": "pro", "seat": 4, "ls_provider": "openai", "session_id": "s"}),
        "langfuse.trace.metadata.level": '{"deep": [1, 2]}',
    }
    found = mapped(chat() | stated)
    assert list(found.tags) == ["geo", "web", "pro"]
    assert found.metadata == {"plan": "pro", "seat": 4, "level": {"deep": [1, 2]}}


@pytest.mark.parametrize(
    ("usage", "counts"),
    [
        ({"input": 72, "output": 36, "total": 174, "input_cached_tokens": 66}, (138, 36, 66)),
        ({"input": 156, "output": 39, "cache_read_input_tokens": 67}, (156, 39, 67)),
        ({"input_tokens": 241, "output_tokens": 54, "total_tokens": 295, "cache_read_input_tokens": 72}, (241, 54, 72)),
        ({"input_tokens": 156, "output_tokens": 39, "cache_read_input_tokens": 67}, (223, 39, 67)),
        (
            {"prompt_tokens": 138, "completion_tokens": 36, "prompt_tokens_details": {"cached_tokens": 66}},
            (138, 36, 66),
        ),
    ],
)
def test_cached_tokens_are_a_part_of_the_input(usage: dict[str, Any], counts: tuple[int, ...]) -> None:
    stated = {"langfuse.observation.type": "generation", "langfuse.observation.usage_details": json.dumps(usage)}
    call = call_of(stated)
    assert (call.input_tokens, call.output_tokens, call.cached_input_tokens) == counts


def test_a_span_that_ends_before_its_first_token_says_nothing_of_latency() -> None:
    early = SPANS["openinference"].attributes
    call = call_of(dict(early), end=50, events=[("First Token Stream Event", 100, {})])
    assert (call.latency_ms, call.time_to_first_token_ms) == (None, 100)


@pytest.mark.parametrize("times", [{"start": 0, "end": -5}, {"start": -START / 1e6, "end": -START / 1e6}])
def test_times_that_make_no_sense_cost_only_the_latency(times: dict[str, float]) -> None:
    found = mapped(chat(), **times)
    assert found.call is not None
    assert (found.call.latency_ms, found.completed_at) == (None, None)


@pytest.mark.parametrize(
    ("given", "prompt"),
    [
        (
            '[{"role": "user", "parts": [{"type": "text", "content": "cut of',
            '[{"role": "user", "parts": [{"type": "text", "content": "cut of',
        ),
        ('"just a text"', "just a text"),
        ("just a text", "just a text"),
        ([{"role": "user", "content": "structured"}], "structured"),
        ('[{"no": "message"}]', '{"no":"message"}'),
        ('[{"role": "user", "content": null}]', None),
        ("__REDACTED__", None),
    ],
)
def test_what_is_no_message_is_kept_as_it_came(given: Any, prompt: str | None) -> None:
    call = call_of(chat() | {"gen_ai.input.messages": given})
    assert said(call.prompt) == ([] if prompt is None else [("user", prompt)])


def test_an_unknown_part_is_kept() -> None:
    parts = [{"type": "text", "content": "Fine."}, {"type": "hologram", "x": 1}]
    call = call_of(chat() | {"gen_ai.output.messages": json.dumps([{"role": "assistant", "parts": parts}])})
    assert said(call.response) == [("assistant", [{"type": "text", "text": "Fine."}, {"type": "hologram", "x": 1}])]


def test_an_item_reference_stands_for_the_answer_before() -> None:
    items = [
        {"role": "user", "content": FIRST},
        {"type": "item_reference", "id": "msg_1"},
        {"role": "user", "content": SECOND},
    ]
    stated = {
        "openinference.span.kind": "LLM",
        "input.value": json.dumps({"input": items}),
        "llm.token_count.completion": 1,
    }
    call = call_of(stated)
    assert (said(call.context), said(call.prompt)) == ([("user", FIRST)], [("user", SECOND)])


def test_an_answer_at_the_end_that_the_model_goes_on_with_is_of_the_prompt() -> None:
    stated = {
        "langfuse.observation.type": "generation",
        "langfuse.observation.input": json.dumps([*SENT, {"role": "assistant", "content": "Ten"}]),
    }
    call = call_of(stated | {"langfuse.observation.output": "million."})
    assert [message.role for message in call.prompt] == ["user", "assistant"]


def test_offered_tools_are_no_messages() -> None:
    offer = {"role": "tool", "content": {"type": "function", "function": {"name": "weather"}}}
    stated = {
        "langfuse.observation.type": "generation",
        "langfuse.observation.input": json.dumps([{"role": "user", "content": "Weather?"}, offer]),
        "langfuse.observation.output": "Grey.",
    }
    assert said(call_of(stated).prompt) == [("user", "Weather?")]


def test_annotations_are_feedback() -> None:
    stated = {
        "openinference.span.kind": "LLM",
        "annotations.0.annotation.name": "helpful",
        "annotations.0.annotation.score": 0.5,
        "annotations.0.annotation.explanation": "Short",
        "session.evaluations.0.evaluation.name": "mood",
        "session.evaluations.0.evaluation.label": "good",
    }
    found = [(each.name, each.value, each.comment, each.is_of_session) for each in mapped(stated).feedback]
    assert found == [("helpful", 0.5, "Short", False), ("mood", "good", None, True)]


def test_a_system_prompt_beside_the_messages_comes_first_and_once() -> None:
    beside = {"gen_ai.system_instructions": json.dumps([{"type": "text", "content": "Be brief."}])}
    assert said(call_of(chat() | beside).prompt) == [("system", "Be brief."), ("user", "The capital of Peru?")]
    alone = {"gen_ai.input.messages": json.dumps([{"role": "user", "content": "Hi"}])}
    assert call_of(chat() | beside | alone).prompt[0] == Message("system", "Be brief.")


@pytest.mark.parametrize(
    ("given", "prompt"),
    [
        ({"args": [[{"role": "user", "content": "Hi"}], 0], "kwargs": {}}, "Hi"),
        ({"args": [], "kwargs": {"messages": [{"role": "user", "content": "Hi"}]}}, "Hi"),
        ({"args": [], "kwargs": {"question": "Hi"}}, '{"question":"Hi"}'),
        ({"question": "Hi"}, '{"question":"Hi"}'),
        ({"prompt": "Hi"}, "Hi"),
        ({"contents": [{"parts": [{"text": "Hi"}]}]}, "Hi"),
        ("Hi", "Hi"),
    ],
)
def test_what_a_function_was_given(given: Any, prompt: str) -> None:
    stated = {"langfuse.observation.type": "generation", "langfuse.observation.input": json.dumps(given)}
    assert said(call_of(stated | {"langfuse.observation.output": "Hello."}).prompt) == [("user", prompt)]


@pytest.mark.parametrize(
    "answer",
    [
        {"choices": [{"message": {"role": "assistant", "content": "Hello."}}]},
        {"choices": [{"text": "Hello."}]},
        {"candidates": [{"content": {"role": "model", "parts": [{"text": "Hello."}]}, "finishReason": "STOP"}]},
        {"type": "message", "role": "assistant", "content": [{"type": "text", "text": "Hello."}]},
        {"output": [{"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Hello."}]}]},
        {"output": {"message": {"role": "assistant", "content": [{"text": "Hello."}]}}, "stopReason": "end_turn"},
        {"generations": [[{"message": {"lc": 1, "kwargs": {"type": "ai", "content": "Hello."}}}]]},
        {"generations": [[{"text": "Hello."}]]},
        {"message": {"role": "assistant", "content": "Hello."}},
        [{"type": "text", "text": "Hello."}],
        [{"role": "assistant", "content": "Hello."}],
        {"role": "assistant", "content": "Hello."},
        {"content": "Hello."},
        "Hello.",
    ],
)
def test_the_answers_of_all_providers(answer: Any) -> None:
    stated = {"langfuse.observation.type": "generation", "langfuse.observation.output": json.dumps(answer)}
    assert said(call_of(stated).response) == [("assistant", "Hello.")]


def test_older_attributes_of_logfire() -> None:
    stated = {
        "gen_ai.system": "openai",
        "gen_ai.request.model": "gpt-5-mini",
        "request_data": json.dumps({"model": "gpt-5-mini", "messages": [{"role": "user", "content": "Hi"}]}),
        "response_data": json.dumps(
            {"message": {"role": "assistant", "content": "Hello."}, "usage": {"prompt_tokens": 9}}
        ),
    }
    call = call_of(stated)
    assert (said(call.prompt), said(call.response), call.input_tokens) == (
        [("user", "Hi")],
        [("assistant", "Hello.")],
        9,
    )
    listed = [
        {"event.name": "gen_ai.user.message", "content": "Hi", "role": "user"},
        {"event.name": "gen_ai.choice", "index": 0, "message": {"role": "assistant", "content": "Hello."}},
    ]
    call = call_of({"gen_ai.operation.name": "chat", "events": json.dumps(listed)})
    assert (said(call.prompt), said(call.response)) == ([("user", "Hi")], [("assistant", "Hello.")])


def test_events_whose_content_is_an_attribute() -> None:
    content = json.dumps({"role": "user", "content": "Hi"})
    choice = json.dumps({"index": 0, "finish_reason": "stop", "message": {"content": "Hello."}})
    events = [
        ("gen_ai.user.message", 0, {"gen_ai.system": "az.ai.inference", "gen_ai.event.content": content}),
        ("gen_ai.choice", 9, {"gen_ai.event.content": choice}),
    ]
    call = call_of({"gen_ai.operation.name": "chat"}, events=events)
    assert (said(call.prompt), said(call.response)) == ([("user", "Hi")], [("assistant", "Hello.")])
