"""Dialogues of every format become sessions and interactions the same way."""

import io
import json
from typing import Any

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
    """Return the facts of all sessions and interactions; nothing may be refused."""
    found = entries(reader, *lines)
    records = [each.record for each in found if isinstance(each, ParsedRecord)]
    assert len(records) == len(found), found
    return (
        [each.json_fields() for each in records if isinstance(each, Session)],
        [each.json_fields() for each in records if isinstance(each, Interaction)],
    )


def refusals(reader: Reader, *lines: Json) -> list[str]:
    found = entries(reader, *lines)
    assert all(isinstance(each, RejectedEntry) for each in found), found
    return [each.reason for each in found if isinstance(each, RejectedEntry)]


def said(*roles_and_texts: tuple[str, str]) -> list[Json]:
    return [{"role": role, "content": text} for role, text in roles_and_texts]


def turn(session: str, number: int, **more: Any) -> Json:
    return {"session_id": session, "interaction_id": str(number), "turn": number, **more}


def test_turns_pair_up() -> None:
    turns = [("human", "a"), ("gpt", "b"), ("human", "c"), ("human", "d"), ("gpt", "e"), ("gpt", "f")]
    line = {"id": "1_1", "conversations": [{"from": speaker, "value": text} for speaker, text in turns], "split": "dev"}
    sessions, interactions = stated(sharegpt.read, line)
    assert sessions == [{"session_id": "1_1", "metadata": {"split": "dev"}}]
    assert interactions == [
        turn("1_1", 1, prompt="a", response="b"),
        turn("1_1", 2, prompt="c"),
        turn("1_1", 3, prompt="d", response=said(("assistant", "e"), ("assistant", "f"))),
    ]


def test_a_greeting_and_the_instructions_stand_at_the_head_of_the_first_prompt() -> None:
    messages = said(("system", "S"), ("assistant", "Hello!"), ("user", "a"), ("assistant", "b"), ("user", "c"))
    (session,), interactions = stated(openai_chat.read, {"id": "x", "messages": messages})
    assert session == {"session_id": "x"}
    assert interactions == [turn("x", 1, prompt=messages[:3], response="b"), turn("x", 2, prompt="c")]


def test_a_response_without_a_prompt_is_a_response() -> None:
    _, interactions = stated(openai_chat.read, {"id": "x", "messages": said(("system", "S"), ("assistant", "b"))})
    assert interactions == [turn("x", 1, prompt=said(("system", "S")), response="b")]


def test_tool_calls_stay_within_the_response() -> None:
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
    assert interactions == [turn(name, 1, prompt="a", response=response), turn(name, 2, prompt="Thanks")]


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
        "usage": {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12},
    }
    line = {"request": request, "response": response} if nested else {**request, **response}
    (session,), (first, second) = stated(openai_chat.read, line)
    assert session == {
        "session_id": "chatcmpl-7",
        "started_at": "2023-11-14T22:13:20Z",
        "metadata": {"object": "chat.completion", "temperature": 0.5, "usage": {"total_tokens": 12}},
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
        turn(
            "17",
            1,
            prompt=said(("system", "S"), ("user", "a")),
            response=said(("function_call", "f()"), ("tool", "42"), ("assistant", "b")),
            metadata={"messages": [{"role": "tool", "from": "observation"}, {"role": "assistant", "weight": 1}]},
        ),
        turn("17", 2, prompt="c", response="d", metadata={"messages": [{"role": "assistant", "from": "chatgpt"}]}),
    ]


def test_an_invalid_dialogue_is_rejected_with_the_reason() -> None:
    assert refusals(
        openai_chat.read,
        {"messages": "hello"},
        {"messages": [], "choices": []},
        {"messages": [{"role": "user"}, {"content": "x"}]},
        {"choices": [{"text": "old"}]},
        {"id": "undefined", "messages": said(("user", "a"))},
        {"id": ["x"], "messages": said(("user", "a"))},
        {"id": "y" * 201, "messages": said(("user", "a"))},
    ) == [
        "Needs messages, a list with at least one message",
        "Needs messages, a list with at least one message",
        "$.messages[1]: A message needs a role, which is a text",
        "$.choices[0]: A choice needs a message",
        "Its id 'undefined' can't be used: Looks like a missing id converted to text; leave it out instead",
        "$.id: Must be a text or a number",
        f"Its id {'y' * 50!r} can't be used: May have 200 characters at most; it has 201",
    ]
    assert refusals(sharegpt.read, {"items": []}, {"conversations": [{"from": "human"}]}) == [
        "Needs conversations, a list",
        "$.conversations[0]: Needs from, a text, and a value",
    ]


def test_only_the_invalid_part_is_rejected() -> None:
    messages = said(("user", "a"), ("assistant", "b\0c"), ("user", "d"))
    session, refused, kept = entries(openai_chat.read, {"id": "x", "messages": messages})
    assert isinstance(refused, RejectedEntry)
    assert refused.reason == "$.response: Text can't hold the NUL character"
    assert json.loads(refused.text or "") == turn("x", 1, prompt="a", response="b\0c")
    assert isinstance(session, ParsedRecord)
    assert isinstance(kept, ParsedRecord)
    assert kept.record.json_fields() == turn("x", 2, prompt="d")
