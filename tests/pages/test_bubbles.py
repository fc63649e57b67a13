"""Each message becomes a bubble of its speaker; nothing of a message is left out."""

from typing import Any

import pytest

from conversation.pages import bubbles
from conversation.pages.bubbles import Bubble, Part

MODEL = "a-model"


def bubbles_of(prompt: Any = None, response: Any = None, participant: str | None = None) -> list[Bubble]:
    row: Any = {
        "prompt": prompt, "response": response, "participant": participant, "model": MODEL, "erased_at": None,
        "text_expired_at": None,
    }  # fmt: skip
    return bubbles.of_interaction(row)


def test_texts_are_of_the_user_and_of_the_model() -> None:
    assert bubbles_of("Hi", "Hello") == [
        Bubble("user", "user", [Part("text", "Hi")]),
        Bubble("assistant", MODEL, [Part("text", "Hello")]),
    ]


def test_a_participant_is_named() -> None:
    assert bubbles_of("Hi", participant="ada")[0].speaker == "ada"


def test_a_missing_prompt_or_response_has_no_bubble() -> None:
    assert bubbles_of() == []
    assert [each.side for each in bubbles_of(response="Hello")] == ["assistant"]


def test_messages_stand_on_the_side_of_their_role() -> None:
    roles = ("system", "user", "assistant", "tool", "Human", "model", None, 7)
    prompt = [{"role": role, "content": "x"} for role in roles]
    sides = [each.side for each in bubbles_of(prompt)]
    assert sides == ["other", "user", "assistant", "other", "user", "assistant", "user", "user"]


def test_parts_of_a_message_are_shown_in_their_order() -> None:
    content = [
        {"type": "text", "text": "look"},
        {"type": "image_url", "image_url": {"url": "https://evil.example/x.png"}},
        "plain",
        42,
    ]
    parts = bubbles_of([{"role": "user", "content": content}])[0].parts
    assert [part.kind for part in parts] == ["text", "json", "text", "json"]
    assert parts[1].label == "image url"
    assert "https://evil.example/x.png" in parts[1].text


@pytest.mark.parametrize(
    ("call", "label", "shown"),
    [
        ({"id": "1", "function": {"name": "find", "arguments": '{"a": 1}'}}, "tool call: find", '"a": 1'),
        ({"function": {"name": "find", "arguments": "{broken"}}, "tool call: find", "{broken"),
        ({"function": {"name": "find", "arguments": {"a": 1}}}, "tool call: find", '"a": 1'),
        ({"name": "find", "input": {"a": 1}}, "tool call: find", '"a": 1'),
        ("anything", "tool call", "anything"),
    ],
)
def test_tool_calls_are_folded_under_their_name(call: Any, label: str, shown: str) -> None:
    (part,) = bubbles_of([{"role": "assistant", "content": None, "tool_calls": [call]}])[0].parts
    assert (part.kind, part.label) == ("json", label)
    assert shown in part.text


def test_a_tools_answer_names_the_call() -> None:
    assert bubbles_of([{"role": "tool", "tool_call_id": "call_1", "content": "4"}])[0].speaker == "tool · call_1"


@pytest.mark.parametrize(
    "message",
    [
        {"id": "m", "role": "user", "parts": [{"type": "step-start"}, {"type": "text", "text": "Hi there"}]},
        {"role": "user", "content": "Hi there", "parts": [{"type": "text", "text": "Hi there"}]},
        {"role": "user", "parts": [{"text": "Hi there"}]},
    ],
    ids=["AI SDK", "AI SDK 4", "Gemini"],
)
def test_messages_are_shown_in_the_shapes_of_sdks(message: Any) -> None:
    (bubble,) = bubbles_of(response=[message])
    assert bubble.side == "user"
    assert [part.text for part in bubble.parts if part.kind == "text"] == ["Hi there"]


@pytest.mark.parametrize("content", [{"a": 1}, 7, True, [], ""])
def test_undocumented_content_is_shown(content: Any) -> None:
    (bubble,) = bubbles_of([{"role": "user", "content": content, "extra": "kept"}])
    assert "kept" in bubble.text
    if content:
        assert (
            str(next(iter(content.values())) if isinstance(content, dict) else content).lower() in bubble.text.lower()
        )


def test_long_texts_are_folded_and_short_ones_are_not() -> None:
    (short,), (wide,), (high,) = (bubbles_of(text)[0].parts for text in ("x" * 1200, "x" * 1201, "x\n" * 30))
    assert (short.is_long, wide.is_long, high.is_long) == (False, True, True)
    assert len(wide.preview) < len(wide.text)
    assert high.text.startswith(high.preview)
