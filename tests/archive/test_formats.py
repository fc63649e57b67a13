"""Dialogues of every format become sessions and interactions the same way."""

import io
import json
from typing import Any
from unittest.mock import ANY
from uuid import UUID

import pytest

from conversation.archive import documents
from conversation.archive.entries import Entry, ParsedRecord, Reader, RejectedEntry
from conversation.archive.formats import openai_chat, sharegpt
from logging_store.records.models import Interaction, Session

Json = dict[str, Any]


def entries(reader: Reader, *lines: Json) -> list[Entry]:
    text = "\n".join(json.dumps(line) for line in lines).encode()
    return list(reader(documents.read(io.BytesIO(text))))


def stated(reader: Reader, *lines: Json) -> tuple[list[Json], list[Json]]:
    """Return the facts of all sessions and interactions, without ids that derive; nothing may be refused."""
    found = entries(reader, *lines)
    records = [each.record for each in found if isinstance(each, ParsedRecord)]
    assert len(records) == len(found), found
    interactions = [each for each in records if isinstance(each, Interaction)]
    assert all(UUID(each.interaction_id or "") for each in interactions)
    return (
        [each.json_fields() for each in records if isinstance(each, Session)],
        [each.json_fields("interaction_id") for each in interactions],
    )


def refusals(reader: Reader, *lines: Json) -> list[str]:
    found = entries(reader, *lines)
    assert all(isinstance(each, RejectedEntry) for each in found), found
    return [each.reason for each in found if isinstance(each, RejectedEntry)]


def said(*roles_and_texts: tuple[str, str]) -> list[Json]:
    return [{"role": role, "content": text} for role, text in roles_and_texts]


def turn(session: str, number: int, **more: Any) -> Json:
    return {"session_id": session, "turn": number, **more}


def test_turns_pair_up() -> None:
    turns = [("human", "a"), ("gpt", "b"), ("human", "c"), ("human", "d"), ("gpt", "e"), ("gpt", "f")]
    line = {"id": "1_1", "conversations": [{"from": speaker, "value": text} for speaker, text in turns], "split": "dev"}
    sessions, interactions = stated(sharegpt.read, line)
    assert sessions == [{"session_id": "1_1", "metadata": {"split": "dev"}}]
    assert interactions == [
        turn("1_1", 1, prompt="a", response="b"),
        turn("1_1", 2, prompt="c"),
        turn("1_1", 3, prompt="d", response="e"),
        turn("1_1", 4, response="f", metadata=ANY),
    ]


def test_a_greeting_is_an_interaction_of_its_own() -> None:
    messages = said(("system", "S"), ("assistant", "Hello!"), ("user", "a"), ("assistant", "b"), ("user", "c"))
    (session,), interactions = stated(openai_chat.read, {"id": "x", "messages": messages})
    assert session == {"session_id": "x"}
    assert interactions == [
        turn("x", 1, prompt=messages[:1], response="Hello!"),
        turn("x", 2, prompt="a", response="b"),
        turn("x", 3, prompt="c"),
    ]


def test_a_response_without_a_prompt_is_a_response() -> None:
    _, interactions = stated(openai_chat.read, {"id": "x", "messages": said(("system", "S"), ("assistant", "b"))})
    assert interactions == [turn("x", 1, prompt=said(("system", "S")), response="b")]


def test_each_call_of_the_model_is_an_interaction() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    response = [
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "42", "tool_call_id": "c1"},
        {"role": "assistant", "content": "It is 42."},
    ]
    line = {"messages": [*said(("user", "a")), *response, *said(("user", "Thanks"))], "tools": [{"type": "function"}]}
    (session,), interactions = stated(openai_chat.read, line)
    name = session["session_id"]
    assert session == {"session_id": name, "metadata": {"tools": [{"type": "function"}]}}
    assert interactions == [
        turn(name, 1, prompt="a", response=response[:1]),
        turn(name, 2, prompt=response[1:2], response="It is 42."),
        turn(name, 3, prompt="Thanks"),
    ]


def test_parts_and_names_of_a_message_are_imported() -> None:
    message = {"role": "user", "content": [{"type": "text", "text": "Look"}, {"type": "image_url"}], "name": "ada"}
    _, interactions = stated(openai_chat.read, {"id": "x", "messages": [message]})
    assert interactions == [turn("x", 1, prompt=[message])]


@pytest.mark.parametrize("nested", [False, True])
def test_a_log_of_completions_tells_model_tokens_and_time(*, nested: bool) -> None:
    request = {"model": "small", "messages": said(("user", "a"), ("assistant", "b"), ("user", "c")), "temperature": 0.5}
    response = {
        "id": "chatcmpl-7",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": "small-2026-01-01",
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": "d"}, "finish_reason": "stop", "logprobs": None},
            {"index": 1, "message": {"role": "assistant", "content": "e"}, "finish_reason": "length"},
        ],
        "usage": {
            "prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12,
            "prompt_tokens_details": {"cached_tokens": 8, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 1},
        },
    }  # fmt: skip
    line = {"request": request, "response": response} if nested else {**request, **response}
    (session,), (first, second) = stated(openai_chat.read, line)
    assert session == {
        "session_id": "chatcmpl-7",
        "started_at": "2023-11-14T22:13:20Z",
        "metadata": {"object": "chat.completion", "temperature": 0.5},
    }
    assert first == turn("chatcmpl-7", 1, prompt="a", response="b")
    assert second == turn(
        "chatcmpl-7",
        2,
        prompt="c",
        response="d",
        model="small-2026-01-01",
        finish_reason="stop",
        started_at="2023-11-14T22:13:20Z",
        input_tokens=10,
        output_tokens=2,
        cached_input_tokens=8,
        reasoning_tokens=1,
        metadata={"choices": response["choices"][1:]},  # type: ignore[index]
    )


def test_without_an_id_the_content_names_a_session_however_it_is_spelled() -> None:
    message = {"role": "user", "content": "a"}
    (one, same, other), _ = stated(
        openai_chat.read,
        {"messages": [message], "x": 1.5},
        {"x": 1.5, "messages": [dict(reversed(message.items()))]},
        {"messages": [{**message, "content": "b"}], "x": 1.5},
    )
    assert one["session_id"] == same["session_id"] != other["session_id"]
    assert one["session_id"].startswith("sha256-")


def test_sharegpt_speakers_have_roles() -> None:
    conversation = [
        {"from": "human", "value": "a"},
        {"from": "function_call", "value": "f()"},
        {"from": "observation", "value": "42"},
        {"from": "gpt", "value": "b", "weight": 1},
        {"from": "user", "value": "c"},
        {"from": "chatgpt", "value": "d"},
    ]
    line = {"id": 17, "system": "S", "conversations": conversation, "lang": "en"}
    sessions, interactions = stated(sharegpt.read, line)
    assert sessions == [{"session_id": "17", "metadata": {"lang": "en"}}]
    assert interactions == [
        turn("17", 1, prompt=said(("system", "S"), ("user", "a")), response="f()"),
        turn("17", 2, prompt=said(("tool", "42")), response=[{"role": "assistant", "content": "b", "weight": 1}]),
        turn("17", 3, prompt="c", response="d"),
    ]


def test_sharegpt_messages_may_be_of_two_forms() -> None:
    _, interactions = stated(
        sharegpt.read,
        {"id": "sg-1", "conversations": said(("user", "Hi"), ("assistant", "Hello"))},
        {"id": "sg-2", "conversations": [{"from": "human", "value": "Hi"}, *said(("assistant", "Hello"))]},
    )
    assert interactions == [turn(name, 1, prompt="Hi", response="Hello") for name in ("sg-1", "sg-2")]


def test_an_invalid_dialogue_is_rejected_with_the_reason() -> None:
    assert refusals(
        openai_chat.read,
        {"messages": "hello"},
        {"messages": [], "choices": []},
        {"messages": [{"role": "user"}]},
        {"choices": [{"text": "old"}]},
        {"id": "undefined", "messages": said(("user", "a"))},
        {"id": ["x"], "messages": said(("user", "a"))},
        {"id": "y" * 201, "messages": said(("user", "a"))},
    ) == [
        "Needs messages, a list with at least one message",
        "Needs messages, a list with at least one message",
        "$.messages[0].content: A message needs content or tool calls",
        "$.choices[0]: A choice needs a message",
        "Its id 'undefined' can't be used: Looks like a missing id converted to text; leave it out instead",
        "$.id: Must be a text or a number",
        f"Its id {'y' * 50!r} can't be used: May have 200 characters at most; it has 201",
    ]
    assert refusals(sharegpt.read, {"items": []}, {"conversations": [{"from": "human"}]}) == [
        "Needs conversations, a list",
        "$.conversations[0].content: A message needs content or tool calls",
    ]


def test_only_the_invalid_part_is_rejected() -> None:
    messages = said(("user", "a"), ("assistant", "b\0c"), ("user", "d"))
    line = json.dumps({"id": "x", "messages": messages}).encode()
    session, refused, kept = openai_chat.read(documents.read(io.BytesIO(line), replaces=False))
    assert isinstance(refused, RejectedEntry)
    assert refused.reason == "$.response: Text can't hold the NUL character"
    assert json.loads(refused.text or "") == turn("x", 1, interaction_id=ANY, prompt="a", response="b\0c")
    assert isinstance(session, ParsedRecord)
    assert isinstance(kept, ParsedRecord)
    assert kept.record.json_fields("interaction_id") == turn("x", 2, prompt="d")


def test_a_message_that_is_none_costs_only_itself() -> None:
    messages = [*said(("user", "a")), {"content": "x"}, "y", 5, *said(("assistant", "b"))]
    found = entries(openai_chat.read, {"id": "x", "messages": messages})
    records = [each.record for each in found if isinstance(each, ParsedRecord)]
    assert [(each.prompt, each.response) for each in records if isinstance(each, Interaction)] == [
        ("a", None), ("y", "b")
    ]  # fmt: skip
    assert [each.reason for each in found if isinstance(each, RejectedEntry)] == [
        "$.messages[1].role: A message needs a role, a text",
        "$.messages[3]: Must be a message: an object with a role and a content",
    ]
