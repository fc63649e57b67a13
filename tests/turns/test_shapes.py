"""Messages in the shapes of SDKs become the same interactions, whole or one call at a time."""

from typing import Any

import pytest

from conversation.turns import roles, shapes
from tests.turns import corpus
from tests.turns.memory_log import MemoryLog, read_all

WRITTEN = corpus.written()


@pytest.mark.parametrize(("shape", "name", "items", "dialogue"), WRITTEN, ids=[f"{s}, {n}" for s, n, _, _ in WRITTEN])
def test_every_shape_of_a_dialogue_becomes_the_same_interactions(
    shape: str, name: str, items: list[dict[str, Any]], dialogue: corpus.Dialogue
) -> None:
    log = MemoryLog()
    log.send(items)
    assert log.exchanges() == corpus.expected(dialogue)
    for planned in (log.send(items), log.send(corpus.openai_chat(dialogue))):  # whichever shape the retry has
        assert not any(call.has_news for call in planned)


@pytest.mark.parametrize("name", corpus.DIALOGUES)
def test_every_shape_leads_to_the_same_ids(name: str) -> None:
    ids = set()
    for shape, dialogue, items, _ in WRITTEN:
        if dialogue == name and shape != "OpenAI Responses":  # its items have ids of their own
            log = MemoryLog()
            log.send(items)
            ids.add(tuple(log.rows))
    assert len(ids) == 1


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("Human", "user"), ("CUSTOMER", "user"), ("visitor", "user"), ("HumanMessage", "user"),
        ("AI", "assistant"), ("gpt", "assistant"), ("model", "assistant"), ("Bot", "assistant"), ("agent", "assistant"),
        ("AIMessageChunk", "assistant"), ("developer", "system"), ("System", "system"),
        ("function", "tool"), ("observation", "tool"), ("function-response", "tool"), ("ToolMessage", "tool"),
        ("moderator", "moderator"),
    ],
)  # fmt: skip
def test_a_role_has_many_names(name: str, role: str) -> None:
    (message,) = read_all([{"role": name, "content": "x"}])
    assert message.role == roles.role_of(name) == role


def test_numbers_are_ids_by_their_digits() -> None:
    (message,) = read_all([{"role": "user", "content": "x", "id": 12345678901234567890, "parent_id": 7.0}])
    assert (message.id, message.reply_to) == ("12345678901234567890", "7")


@pytest.mark.parametrize(
    ("time", "iso"),
    [
        ("2026-03-01T10:00:00Z", "2026-03-01T10:00:00+00:00"),
        (1772359200, "2026-03-01T10:00:00+00:00"),
        (1772359200123, "2026-03-01T10:00:00.123000+00:00"),
    ],
)
def test_times_are_texts_or_numbers(time: Any, iso: str) -> None:
    for name in shapes.TIME_FIELDS:
        (message,) = read_all([{"role": "user", "content": "x", name: time}])
        assert message.created_at is not None
        assert message.created_at.isoformat() == iso


def test_fields_that_no_sdk_has_stay_with_their_message() -> None:
    sent = {"role": "user", "content": "hi", "metadata": {"lang": "de"}, "mood": "good", "empty": {}, "none": None}
    (message,) = read_all([sent])
    assert message.to_item() == {"role": "user", "content": "hi", "metadata": {"lang": "de"}, "mood": "good"}


def test_images_and_reasoning_stay_parts() -> None:
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBO"}}
    (asked,) = read_all([{"role": "user", "content": [image, {"type": "text", "text": "What?"}]}])
    assert asked.content == [image, {"type": "text", "text": "What?"}]
    said = {"type": "text", "text": "Hi"}
    thoughts = [
        {"role": "assistant", "content": [{"type": "thinking", "thinking": "hm", "signature": "s"}, "Hi"]},
        {"role": "assistant", "parts": [{"type": "reasoning", "text": "hm", "signature": "s"}, said]},
        {"role": "model", "parts": [{"text": "hm", "thought": True, "signature": "s"}, {"text": "Hi"}]},
    ]  # fmt: skip
    for each in thoughts:
        (message,) = read_all([each])
        assert message.content == [
            {"type": "reasoning", "text": "hm", "signature": "s"},
            {"type": "text", "text": "Hi"},
        ]


@pytest.mark.parametrize(
    ("item", "path"),
    [
        (1, ()), ([], ()), ({}, ("role",)), ({"role": " ", "content": "x"}, ("role",)),
        ({"role": "user"}, ("content",)), ({"role": "user", "content": []}, ("content",)),
        ({"role": "user", "content": 1}, ("content",)), ({"role": "user", "text": True}, ("text",)),
        ({"role": "user", "content": "x", "timestamp": 0}, ("timestamp",)),
        ({"role": "user", "content": "x", "id": {}}, ("id",)),
        ({"role": "assistant", "tool_calls": "x"}, ("tool_calls",)),
        ({"role": "assistant", "toolCalls": [{}, 1]}, ("toolCalls", 1)),
    ],
)  # fmt: skip
def test_what_is_no_message_is_named_with_its_place(item: Any, path: tuple[str | int, ...]) -> None:
    first, second, third = shapes.read_each(["a", item, "b"])
    assert not isinstance(first, shapes.InvalidMessageError)
    assert not isinstance(third, shapes.InvalidMessageError)
    assert isinstance(second, shapes.InvalidMessageError)
    assert (second.place, second.path) == (1, path)
