"""A list that is sent again after the texts of its session expired doubles nothing and brings nothing back."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.turns.memory_log import MemoryLog

WHEN = "2026-11-29T00:00:00+00:00"


def expire(log: MemoryLog) -> None:
    for row in (*log.rows.values(), *log.earlier[-1]):
        row["text_expired_at"] = WHEN
        for name in ("prompt", "response"):
            row[name] = row[name] and "[expired]"


def user(text: str, **more: Any) -> dict[str, Any]:
    return {"role": "user", "content": text, **more}


def said(text: str, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": text, **more}


CALL = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": "{}"}}
CHATS: dict[str, list[dict[str, Any]]] = {
    "plain": [user("one?"), said("1"), user("two?"), said("2")],
    "with instructions": [{"role": "system", "content": "Be short"}, user("one?"), said("1"), user("two?"), said("2")],
    "with a greeting": [said("Hello!"), user("one?"), said("1")],
    "with tools": [
        user("1+2?"),
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "content": "3", "tool_call_id": "c1"},
        said("3."),
    ],
    "with a question after another": [user("one?"), user("two?"), said("2"), said("2, I say")],
    "with ids": [user("one?", id="u1"), said("1", id="a1"), user("two?", id="u2"), said("2", id="a2")],
    "with ids of questions": [user("one?", id="u1"), said("1"), user("two?", id="u2"), said("2")],
    "with ids of answers": [user("one?"), said("1", id="a1"), user("two?"), said("2", id="a2")],
    "that says the same again": [user("yes"), said("ok"), user("yes"), said("ok"), user("yes"), said("ok")],
    "without its last answer": [user("one?"), said("1"), user("two?")],
}


@pytest.mark.parametrize("chat", CHATS.values(), ids=CHATS)
def test_a_retry_has_no_news_and_a_continuation_only_its_own(chat: list[dict[str, Any]]) -> None:
    log = MemoryLog()
    log.send(chat)
    expire(log)
    before = [dict(row) for row in log.rows.values()]
    again = [call for call in log.send(chat) if call.has_news]
    is_unknown = chat[-1]["role"] == "assistant" and "id" not in chat[-1]
    # nothing tells the last answer from another one, so the store is asked, which refuses it
    assert [call.news for call in again] == ([{"response"}] if is_unknown else [])
    assert [dict(row) for row in log.rows.values()] == before
    new = log.send([*chat, *([] if chat[-1]["role"] == "user" else [user("And now?")]), said("!")])
    texts = [row["prompt"] for row in list(log.rows.values())[len(before) :]]
    assert len(texts) == (0 if chat[-1]["role"] == "user" else 1)
    assert [call.response.content for call in new if "response" in call.news and call.response] == ["!"]
    kept = list(log.rows.values())[: len(before)]
    assert [(row["prompt"], row["response"]) for row in kept] == [
        (was["prompt"], was["response"] or (("!") if chat[-1]["role"] == "user" and n == len(before) - 1 else None))
        for n, was in enumerate(before)
    ], "the memory takes a late answer, which the store refuses"


def test_a_regenerated_answer_is_another_one_after_the_expiry_too() -> None:
    log = MemoryLog()
    chat = CHATS["plain"]
    log.send(chat)
    log.send([*chat[:3], said("two")])
    expire(log)
    for known in (chat, [*chat[:3], said("two")]):
        log.send(known)
    assert len(log.rows) == 3
    log.send([*chat[:3], said("two"), user("three?")])
    *_, other, third = log.rows.values()
    assert (third["prompt"], third["reply_to"]) == ("three?", other["interaction_id"])


def test_the_newest_message_alone_is_new() -> None:
    log = MemoryLog()
    log.send(CHATS["plain"])
    expire(log)
    log.send([user("one?"), said("1, again")])
    assert [row["prompt"] for row in log.rows.values()] == ["[expired]", "[expired]", "one?"]


@pytest.mark.parametrize("first", range(7))
def test_a_list_of_the_last_messages_with_a_question_is_known(first: int) -> None:
    chat = [each for n in range(4) for each in (user(f"{n}?"), said(f"{n}"))]
    log = MemoryLog()
    log.send(chat)
    expire(log)
    log.send([*chat[first:], user("4?")])
    assert [row["prompt"] for row in log.rows.values()] == ["[expired]"] * 4 + ["4?"]


def test_a_long_session_is_compared_by_its_tail() -> None:
    chat = [each for n in range(20) for each in (user(f"{n}?"), said(f"{n}"))]
    log = MemoryLog(read_most=5)
    log.send(chat)
    assert len(log.rows) == 20
    expire(log)
    for known in (chat, chat[-6:]):
        assert [call.news for call in log.send(known) if call.has_news] == [{"response"}]
    log.send([*chat, user("20?")])
    assert [row["prompt"] for row in log.rows.values()] == ["[expired]"] * 20 + ["20?"]


@settings(deadline=None)
@given(
    turns=st.lists(st.sampled_from([("u",), ("u", "a"), ("u", "a", "a"), ("a",)]), min_size=1, max_size=6),
    texts=st.data(),
    cut=st.integers(0, 8),
)
def test_a_whole_list_that_grows_stores_each_turn_once(
    turns: list[tuple[str, ...]], texts: st.DataObject, cut: int
) -> None:
    roles = {"u": "user", "a": "assistant"}
    chat = [
        {"role": roles[kind], "content": f"{kind} {texts.draw(st.integers(0, 2))}"} for turn in turns for kind in turn
    ]
    untouched, expired = MemoryLog(), MemoryLog()
    for log in (untouched, expired):
        log.send(chat[: max(1, cut)], from_start=True)
    expire(expired)
    for log in (untouched, expired):
        log.send(chat, from_start=True)
    assert list(expired.rows) == list(untouched.rows)
