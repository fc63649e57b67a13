"""Each part of a content that an SDK sends, and each way to say what a call cost, becomes one thing."""

from typing import Any

import pytest

from conversation.turns import facts, parts, shapes
from conversation.turns.message import Message
from conversation.turns.roles import ASSISTANT, TOOL, USER

Item = dict[str, Any]


def function(name: object, arguments: object, **more: Any) -> Item:
    return {"type": "function", "function": {"name": name, "arguments": arguments}} | more


@pytest.mark.parametrize(
    ("sent", "call"),
    [
        (
            {"type": "custom", "id": "1", "custom": {"name": "f", "input": "x"}, "note": None, "tags": []},
            {"type": "custom", "id": "1", "custom": {"name": "f", "input": "x"}},
        ),
        ({"type": "custom", "name": "f", "args": {}}, function("f", "{}")),
        (
            {"id": "1", "index": 0, "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}, "x": 1},
            function("f", '{"a":1}', id="1", x=1),
        ),
        ({"id": 7, "function": {"name": "f", "args": {"a": 1}}, "extra": {}}, function("f", '{"a":1}', id="7")),
        ({"function": {"name": "f", "input": "x", "parameters": "y"}}, function("f", "x")),
        ({"id": None, "call_id": "2", "toolName": "f", "parameters": None}, function("f", "{}", id="2")),
        ({"toolCallId": "3", "tool_name": "f", "input": ["é"], "unknown": 1}, function("f", '["é"]', id="3")),
    ],
)
def test_a_call_of_a_tool_is_as_openai_has_it(sent: Item, call: Item) -> None:
    assert parts.tool_call(sent) == call


TEXT = {"type": "text", "text": "Hi"}


@pytest.mark.parametrize(
    ("sent", "content"),
    [
        ("Hi", "Hi"),
        ([TEXT], "Hi"),
        (["Hi", ""], "Hi"),
        ([{"type": "output_text", "text": "Hi", "annotations": [], "state": "done"}], "Hi"),
        ([{"text": "Hi"}, {"type": "text"}, {"type": "text", "text": ""}], "Hi"),
        ([{"type": "text", "text": {"value": "Hi", "annotations": []}}], "Hi"),
        ([TEXT, "there"], [TEXT, {"type": "text", "text": "there"}]),
        ([TEXT | {"lang": "en", "state": "streaming"}], [TEXT | {"lang": "en", "state": "streaming"}]),
        ([{"type": "thinking", "thinking": "Hm", "signature": "s"}], [
            {"type": "reasoning", "text": "Hm", "signature": "s"},
        ]),
        ([{"type": "thought"}], [{"type": "reasoning", "text": ""}]),
        ([{"text": "Hm", "thought": True}], [{"type": "reasoning", "text": "Hm"}]),
        ([{"text": "Hi", "thought": False}], "Hi"),
        ([{"type": "image", "url": "u", "alt": None}], [{"type": "image", "url": "u"}]),
        ([3], [{"type": "json", "value": 3}]),
        ({"type": "input_text", "text": "Hi"}, "Hi"),
    ],
)  # fmt: skip
def test_a_part_of_content(sent: Any, content: Any) -> None:
    (piece,) = parts.split(sent, USER)
    assert (piece.role, piece.content, piece.tool_calls) == (USER, content, [])


@pytest.mark.parametrize("sent", ["", None, [], [""], [{"type": "text", "text": ""}], [{"type": "step-start"}], [{}]])
def test_what_says_nothing_is_no_message(sent: Any) -> None:
    assert parts.split(sent, USER) == []


def test_what_is_no_content_is_refused_but_of_a_tool() -> None:
    with pytest.raises(ValueError, match="a text or a list"):
        parts.split(3, USER)
    assert parts.split({"ok": True}, TOOL) == [parts.Piece(TOOL, '{"ok":true}')]
    assert parts.split(3, TOOL) == [parts.Piece(TOOL, "3")]


@pytest.mark.parametrize(
    ("sent", "piece"),
    [
        ({"type": "tool_result", "tool_use_id": "1", "content": "ok"}, parts.Piece(TOOL, "ok", [], "1")),
        (
            {"type": "tool_result", "tool_use_id": "1", "content": [TEXT], "is_error": True},
            parts.Piece(TOOL, "Hi", [], "1", None, {"is_error": True}),
        ),
        (
            {"type": "tool_result", "tool_use_id": "1", "content": [{"type": "text", "text": ""}], "is_error": False},
            parts.Piece(TOOL, "", [], "1"),
        ),
        (
            {"type": "tool-result", "toolCallId": "1", "output": {"type": "json", "value": {"a": 1}}, "isError": True},
            parts.Piece(TOOL, '{"a":1}', [], "1", None, {"is_error": True}),
        ),
        (
            {"type": "tool-result", "toolCallId": "1", "output": {"type": "error-text", "value": "no"}},
            parts.Piece(TOOL, "no", [], "1"),
        ),
        (
            {"type": "tool-result", "toolCallId": "1", "output": {"type": "content", "value": [TEXT]}},
            parts.Piece(TOOL, "Hi", [], "1"),
        ),
        ({"type": "function_call_output", "call_id": "1", "output": None}, parts.Piece(TOOL, "", [], "1")),
        ({"type": "tool_result", "tool_use_id": 5, "result": [1]}, parts.Piece(TOOL, "[1]")),
        (
            {"functionResponse": {"id": "1", "name": "f", "response": {"result": "ok"}}},
            parts.Piece(TOOL, "ok", [], "1", "f"),
        ),
        (
            {"function_response": {"id": 1, "name": 2, "response": {"output": "ok", "more": 1}}},
            parts.Piece(TOOL, '{"output":"ok","more":1}'),
        ),
        ({"functionResponse": {"response": None}}, parts.Piece(TOOL, "")),
    ],
)
def test_a_result_of_a_tool(sent: Item, piece: parts.Piece) -> None:
    assert parts.split([sent], USER) == [piece]


@pytest.mark.parametrize(
    ("sent", "call", "result"),
    [
        ({"type": "tool-f", "toolCallId": "1", "input": {"a": 1}}, function("f", '{"a":1}', id="1"), None),
        (
            {"type": "dynamic-tool", "toolName": "f", "toolCallId": "1", "rawInput": "{"},
            function("f", "{", id="1"),
            None,
        ),
        (
            {"type": "tool-f", "toolCallId": "1", "output": 3},
            function("f", "{}", id="1"),
            parts.Piece(TOOL, "3", [], "1"),
        ),
        (
            {"type": "tool-f", "toolCallId": "1", "output": 3, "errorText": "failed"},
            function("f", "{}", id="1"),
            parts.Piece(TOOL, "failed", [], "1", None, {"is_error": True}),
        ),
        (
            {"type": "tool-invocation", "toolInvocation": {"toolName": "f", "toolCallId": "1", "args": 1, "result": 2}},
            function("f", "1", id="1"),
            parts.Piece(TOOL, "2", [], "1"),
        ),
        ({"functionCall": {"name": "f", "args": {"a": 1}}}, function("f", '{"a":1}'), None),
        ({"type": "tool_use", "id": "1", "name": "f", "input": {}}, function("f", "{}", id="1"), None),
    ],
)
def test_a_tools_part_of_an_answer(sent: Item, call: Item, result: parts.Piece | None) -> None:
    own, *results = parts.split([TEXT, sent], ASSISTANT)
    assert own == parts.Piece(ASSISTANT, "Hi", [call])
    assert results == ([] if result is None else [result])


def test_results_come_first_of_a_user_and_after_the_call_of_an_assistant() -> None:
    result = {"type": "tool_result", "tool_use_id": "1", "content": "ok"}
    call = {"type": "tool_use", "id": "1", "name": "f", "input": {}}
    assert [(each.role, each.content) for each in parts.split([TEXT, result], USER)] == [(TOOL, "ok"), (USER, "Hi")]
    shown = [(each.role, each.content, len(each.tool_calls)) for each in parts.split([call, result, TEXT], ASSISTANT)]
    assert shown == [(ASSISTANT, None, 1), (TOOL, "ok", 0), (ASSISTANT, "Hi", 0)]
    steps = parts.split([TEXT, {"type": "step-start"}, TEXT, {"type": "step_start"}], ASSISTANT)
    assert [each.content for each in steps] == ["Hi", "Hi"]
    assert len(parts.split([TEXT, call, call, TEXT], ASSISTANT)) == 1


@pytest.mark.parametrize(
    ("value", "empty"),
    [(None, True), ("", True), ([], True), ({}, True), ({"a": {"b": None}}, True), (0, False), (False, False),
     ({"a": [], "b": 0}, False), ("x", False), ([None], False)],
)  # fmt: skip
def test_what_is_empty(value: Any, empty: bool) -> None:
    assert parts.is_empty(value) is empty


@pytest.mark.parametrize(
    ("sent", "counted"),
    [
        ({"prompt_tokens": 3, "completion_tokens": 0}, {"input_tokens": 3, "output_tokens": 0}),
        ({"input_tokens": True, "output_tokens": -1, "inputTokens": 2**53}, {}),
        ({"inputTokens": 2**53 - 1, "output_tokens": 2.0, "outputTokens": 2}, {
            "input_tokens": 2**53 - 1, "output_tokens": 2,
        }),
        ({"prompt_tokens": 9, "prompt_tokens_details": {"cached_tokens": 4}}, {
            "input_tokens": 9, "cached_input_tokens": 4,
        }),
        ({"inputTokens": 9, "inputTokenDetails": {"cacheReadTokens": 4, "cacheWriteTokens": 0}}, {
            "input_tokens": 9, "cached_input_tokens": 4, "cache_write_tokens": 0,
        }),
        ({"output_tokens": 9, "output_tokens_details": {"reasoning_tokens": 4}}, {
            "output_tokens": 9, "reasoning_tokens": 4,
        }),
        ({"input_tokens": 1, "cache_read_input_tokens": 10, "cache_creation_input_tokens": 100}, {
            "input_tokens": 111, "cached_input_tokens": 10, "cache_write_tokens": 100,
        }),
        ({"input_tokens": 1, "cache_read_input_tokens": 10}, {"input_tokens": 11, "cached_input_tokens": 10}),
        ({"input_tokens": 1, "cache_creation_input_tokens": 10}, {"input_tokens": 11, "cache_write_tokens": 10}),
        ({"cache_read_input_tokens": 10}, {}),
        ({"promptTokenCount": 1, "candidatesTokenCount": 2, "thoughtsTokenCount": 3, "cachedContentTokenCount": 1}, {
            "input_tokens": 1, "output_tokens": 5, "reasoning_tokens": 3, "cached_input_tokens": 1,
        }),
        ({"thoughtsTokenCount": 3}, {"reasoning_tokens": 3}),
    ],
)  # fmt: skip
def test_a_usage_is_counted_as_prices_count_it(sent: Item, counted: dict[str, int]) -> None:
    assert facts.usage(sent) == counted


@pytest.mark.parametrize(
    ("sent", "said", "left"),
    [
        ({"model": "m", "stop_reason": "stop", "text": "x"}, {"model": "m", "finish_reason": "stop"}, {"text": "x"}),
        ({"model": 3, "model_name": "m"}, {"model": "m"}, {"model": 3}),
        ({"model": "a", "model_id": "b"}, {"model": "a"}, {"model_id": "b"}),
        ({"usage": {"input_tokens": 1, "tier": "x", "none": 0, "more": {"a": [0, None, ""]}}}, {
            "input_tokens": 1, "metadata": {"usage": {"tier": "x"}},
        }, {}),
        ({"usage": 3}, {}, {"usage": 3}),
        ({"status": "failed", "error": "no"}, {"status": "failed", "error": "no"}, {}),
        ({"status": "odd", "error": " "}, {}, {"status": "odd", "error": " "}),
        ({"error": {"code": 1}}, {}, {"error": {"code": 1}}),
        ({"model": "a", "response_metadata": {"model_name": "b", "finish_reason": "stop", "x": 1}}, {
            "model": "a", "finish_reason": "stop",
        }, {"response_metadata": {"x": 1}}),
    ],
)  # fmt: skip
def test_what_an_answer_says_of_its_call_is_taken_out_of_it(sent: Item, said: Item, left: Item) -> None:
    rest = dict(sent)
    assert facts.take(rest) == said
    assert rest == left


@pytest.mark.parametrize(("kind", "role"), [("web_search_call", ASSISTANT), ("shell_call_output", TOOL)])
def test_an_item_of_a_responses_api_that_is_a_call_is_kept_as_it_is(kind: str, role: str) -> None:
    (read,) = shapes.read_each([{"type": kind, "id": "1", "status": "completed", "action": {"query": "x"}}])
    assert isinstance(read, Message)
    assert (read.role, read.id) == (role, "1")
    assert read.content == [{"type": kind, "id": "1", "action": {"query": "x"}}]
