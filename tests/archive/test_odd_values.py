"""Any JSON value at any place of a document, or of a message, is read or rejected: nothing else stops with it."""

import copy
import typing
from collections.abc import Iterator, Mapping
from typing import Any, cast

import pytest

from conversation.archive.entries import Document, Entry, Location
from conversation.archive.exporting import ExportItem
from conversation.archive.formats import (
    chatgpt,
    claude,
    fine_tuning,
    mongoexport,
    openai_chat,
    preference_pairs,
    session_traces,
    sharegpt,
)
from conversation.pages import bubbles
from logging_store import operations as ops

ENTRY = typing.get_args(Entry)
ODD: list[Any] = [None, 5, -1, 1.5, 1e300, True, "", "x", [], ["a"], [5], [None], [[]], [{}], {}, {"a": 1}]

_CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
DOCUMENTS: list[tuple[Any, Any]] = [
    (openai_chat, {
        "id": "a", "session_id": "s", "model": "m", "created": 1700000000, "status": "success", "error": None,
        "user": "u", "instructions": "be", "metadata": {"session_id": "k"},
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "q"}], "id": "m1", "name": "n"},
            {"role": "assistant", "content": None, "tool_calls": [_CALL]},
            {"role": "tool", "tool_call_id": "c", "content": "r"},
        ],
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "y"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1, "prompt_tokens_details": {"cached_tokens": 1}},
    }),
    (openai_chat, {
        "custom_id": "c", "error": None,
        "response": {
            "status_code": 200, "request_id": "r",
            "body": {"id": "x", "choices": [{"message": {"role": "assistant", "content": "z"}}]},
        },
    }),
    (openai_chat, {
        "request": {"input": "hi", "model": "m"},
        "response": {
            "output": [{"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "t"}]}]
        },
    }),
    (sharegpt, {
        "id": "a", "system": "s", "conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}],
    }),
    (chatgpt, {
        "id": "a", "title": "t", "create_time": 1.0, "update_time": 2.0, "current_node": "n2",
        "mapping": {
            "r": {"id": "r", "parent": None, "message": None, "children": ["n1"]},
            "n1": {"parent": "r", "message": {
                "id": "n1", "author": {"role": "user", "name": None, "metadata": {}}, "create_time": 1.0,
                "content": {"content_type": "text", "parts": ["q"]}, "metadata": {}, "recipient": "all",
            }},
            "t": {"parent": "n1", "message": {
                "id": "t", "author": {"role": "assistant"}, "recipient": "all",
                "content": {"content_type": "thoughts", "thoughts": [{"summary": "a", "content": "b"}]},
            }},
            "n2": {"parent": "t", "message": {
                "id": "n2", "author": {"role": "assistant"}, "create_time": 2.0, "recipient": "python",
                "content": {"content_type": "text", "parts": ["a", {"content_type": "image"}]},
                "metadata": {"model_slug": "m", "finish_details": {"type": "stop"}},
            }},
            "n3": {"parent": "n2", "message": {
                "id": "n3", "author": {"role": "tool", "name": "python"},
                "content": {"content_type": "execution_output", "text": "out"},
            }},
        },
    }),
    (claude, {
        "uuid": "a", "name": "n", "created_at": "2026-01-01T00:00:00Z",
        "chat_messages": [
            {
                "uuid": "m", "sender": "human", "text": "x", "content": [{"type": "text", "text": "x", "flags": None}],
                "created_at": "2026-01-01T00:00:00Z", "parent_message_uuid": "p",
                "attachments": [{"extracted_content": "t"}],
            },
            {"uuid": "m2", "sender": "assistant", "text": "y", "content": [], "parent_message_uuid": "m"},
        ],
    }),
    (mongoexport, {
        "_id": {"$oid": "a"}, "sessionId": "s", "userId": "u", "title": "t", "tags": ["a"],
        "createdAt": {"$date": "2026-01-01T00:00:00Z"},
        "messages": [
            {"role": "user", "content": "x", "timestamp": {"$date": "2026-01-01T00:00:00Z"}, "id": "1"},
            {
                "sender": "bot", "isCreatedByUser": False, "text": "y", "parentMessageId": "1", "error": False,
                "unfinished": True, "model": "m", "tool_calls": [],
            },
        ],
    }),
    (mongoexport, {"_id": "a", "chatId": "s", "role": "user", "content": "x", "createdAt": 1700000000, "user": "u"}),
    (mongoexport, {"_id": "b", "SessionId": "q", "History": '{"type":"human","data":{"content":"x"}}'}),
]  # fmt: skip

PROMPT: list[Any] = [
    {
        "role": "user", "name": "n", "id": "i",
        "content": [
            {"type": "text", "text": "q"},
            {"type": "image_url", "image_url": {"url": "http://x", "detail": "low"}},
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AA"}},
        ],
    },
]  # fmt: skip
RESPONSE: list[Any] = [
    {
        "role": "assistant", "refusal": "x", "tool_calls": [_CALL],
        "content": [
            {"type": "text", "text": "t"}, {"type": "reasoning", "text": "r"}, {"type": "refusal", "refusal": "no"},
        ],
    },
    {"role": "tool", "tool_call_id": "c", "content": "r"},
]  # fmt: skip


def with_odd_values(value: Any) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """Yield the places within a value, each with a copy in which it is odd."""
    for place in places(value):
        for odd in ODD if place else ():
            changed = part = copy.deepcopy(value)
            for step in place[:-1]:
                part = part[step]
            part[place[-1]] = odd
            yield place, changed


def places(value: Any, before: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    yield before
    steps: Any = value if isinstance(value, Mapping) else range(len(value)) if isinstance(value, list) else ()
    for step in steps:
        yield from places(value[step], (*before, step))


@pytest.mark.parametrize(("reader", "document"), DOCUMENTS)
def test_a_reader_goes_on(reader: Any, document: dict[str, Any]) -> None:
    for _, changed in with_odd_values(document):
        assert all(isinstance(each, ENTRY) for each in reader.read([Document(Location("line", 1), changed)]))


@pytest.mark.parametrize(("prompt", "response"), [(PROMPT, None), (None, RESPONSE)])
def test_pages_and_exports_go_on(prompt: Any, response: Any) -> None:
    exports = (fine_tuning.write, session_traces.write, preference_pairs.write)
    for place, changed in with_odd_values(prompt or response):
        if len(place) < 2 or place[-1] == "role":
            continue
        first = row("1", changed, "A") if prompt else row("1", "q", changed)
        rows = [first, row("2", "b", "B", alternative_to="1", chosen_at="2026-01-02T00:00:00+00:00")]
        history = bubbles.History()
        assert all(isinstance(bubble, bubbles.Bubble) for each in rows for bubble in history.new_bubbles(each))
        for write in exports:
            assert all(isinstance(part, bytes) for part in write(iter([exported(rows)])))


def row(name: str, prompt: Any, response: Any, **more: Any) -> ops.Interaction:
    unknown = dict.fromkeys((
        "key", "reply_to", "alternative_to", "chosen_at", "started_at", "completed_at", "model", "turn", "error",
        "participant", "erased_at", "text_expired_at",
    ))  # fmt: skip
    known = {
        "interaction_id": name, "session_id": "s", "prompt": prompt, "response": response, "status": "completed",
        "created_at": f"2026-01-01T00:00:0{name}+00:00", "metadata": {}, "alternatives": [], "spooled": False,
    }  # fmt: skip
    return cast("ops.Interaction", {**unknown, **known, **more})


def exported(rows: list[ops.Interaction]) -> ExportItem:
    session = cast("ops.Session", {"session_id": "s", "key": None, "title": None, "metadata": {}})
    return ExportItem(None, session, (), iter(rows), iter(()))
