"""What is new in a list of messages: histories sent again, windows, retries, other answers, edited questions."""

from typing import Any

import pytest

from tests.turns.memory_log import MemoryLog


def user(text: str, **more: Any) -> dict[str, Any]:
    return {"role": "user", "content": text, **more}


def said(text: str, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": text, **more}


SYSTEM = {"role": "system", "content": "Be short"}
CHAT = [SYSTEM, user("one?"), said("1"), user("two?"), said("2")]


def shown(log: MemoryLog) -> list[tuple[Any, Any]]:
    """Return the exchanges, a list of system and user messages as their texts."""
    return [
        (prompt if not isinstance(prompt, list) else [each["content"] for each in prompt], response)
        for prompt, response in log.exchanges()
    ]


def test_a_list_becomes_an_interaction_for_each_answer() -> None:
    log = MemoryLog()
    log.send(CHAT)
    assert shown(log) == [(["Be short", "one?"], "1"), ("two?", "2")]


@pytest.mark.parametrize(
    "calls",
    [
        [CHAT, CHAT],
        [CHAT[:2], CHAT[:3], CHAT[:4], CHAT],
        [CHAT[:2], CHAT[2:3], CHAT[3:4], CHAT[4:]],
        [CHAT[:2], CHAT[:2], CHAT[2:3], CHAT[2:3], [SYSTEM, *CHAT[3:]], [SYSTEM, *CHAT[1:]]],
        [CHAT[:3], CHAT[1:4], CHAT[2:], CHAT[4:]],
        [CHAT[:3], [SYSTEM, CHAT[3]], [SYSTEM, *CHAT[3:]]],
    ],
)
def test_only_what_is_new_is_stored(calls: list[list[dict[str, Any]]]) -> None:
    log = MemoryLog()
    for each in calls:
        log.send(each)
    assert shown(log) == [(["Be short", "one?"], "1"), ("two?", "2")]


def test_what_is_said_again_is_not_taken_for_history() -> None:
    log = MemoryLog()
    for n in range(3):
        log.send([user("next")])
        log.send([said(f"{n}")])
    log.send([user("next"), said("again")])
    assert shown(log) == [("next", "0"), ("next", "1"), ("next", "2"), ("next", "again")]


def test_another_answer_stands_in_the_place_of_the_first() -> None:
    log = MemoryLog()
    log.send([user("Name a tree", id="u1"), said("Oak.", id="a1")])
    for _ in range(2):
        log.send([said("Lime.", id="a2", reply_to="u1")])
    first, second = log.rows.values()
    assert (first["response"], second["prompt"], second["response"]) == ("Oak.", None, "Lime.")
    assert (second["alternative_to"], second["key"]) == (first["interaction_id"], "a2")
    log.send([user("Name a tree", id="u1"), said("Lime.", id="a2"), user("Another", id="u2")])
    third = list(log.rows.values())[2]
    assert (third["prompt"], third["reply_to"]) == ("Another", second["interaction_id"])


def test_another_answer_is_found_by_its_place_in_the_whole_list() -> None:
    log = MemoryLog()
    log.send(CHAT)
    for _ in range(2):
        log.send([*CHAT[:4], said("two")])
    assert shown(log)[2:] == [(None, "two")]
    rows = list(log.rows.values())
    assert rows[2]["alternative_to"] == rows[1]["interaction_id"]
    log.send([*CHAT[:4], said("two"), user("three?")])
    log.send([*CHAT, user("four?")])  # goes on from the first answer
    assert shown(log)[3:] == [("three?", None), ("four?", None)]
    three, four = list(log.rows.values())[3:]
    assert (three["reply_to"], four["reply_to"]) == (rows[2]["interaction_id"], rows[1]["interaction_id"])
    log.send([*CHAT, user("four?"), said("4")])
    assert shown(log)[3:] == [("three?", None), ("four?", "4")]


def test_an_edited_question_follows_what_the_first_one_follows() -> None:
    log = MemoryLog()
    log.send(CHAT)
    for _ in range(2):
        log.send([*CHAT[:3], user("zwei?"), said("zwei")])
    assert shown(log)[2:] == [("zwei?", "zwei")]
    rows = list(log.rows.values())
    assert rows[2]["reply_to"] == rows[0]["interaction_id"]
    assert rows[2]["alternative_to"] == rows[1]["interaction_id"]


def test_a_growing_answer_stays_one() -> None:
    log = MemoryLog()
    for text in ("Once", "Once upon", "Once upon a time", "Once"):
        log.send([user("Tell"), said(text)])
    log.send([said("Once upon a time.")])
    assert shown(log) == [("Tell", "Once upon a time.")]


def test_ids_tell_equal_messages_apart() -> None:
    log = MemoryLog()
    log.send([user("yes", id="1"), said("ok", id="2")])
    log.send([user("yes", id="3")])
    log.send([user("yes", id="1")])
    log.send([said("ok", id="4")])
    assert shown(log) == [("yes", "ok"), ("yes", "ok")]


def test_an_answer_may_come_before_its_question() -> None:
    log = MemoryLog()
    log.send([said("Hello", id="a", reply_to="u")])
    log.send([user("Hi", id="u")])
    assert shown(log) == [("Hi", "Hello")]
    log.send([user("Hi", id="u"), said("Hello", id="a"), user("How?", id="v", reply_to="a")])
    one, two = log.rows.values()
    assert two["reply_to"] == one["interaction_id"]


def test_a_round_trip_with_tools_is_two_interactions() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": "{}"}}
    asks = {"role": "assistant", "content": None, "tool_calls": [call]}
    result = {"role": "tool", "content": "3", "tool_call_id": "c1"}
    chat = [user("1+2?"), asks, result, said("3.")]
    whole, single = MemoryLog(), MemoryLog()
    whole.send(chat)
    for each in chat:
        single.send([each])
    assert whole.exchanges() == single.exchanges() == [("1+2?", [asks]), ([result], "3.")]
    assert whole.rows.keys() == single.rows.keys()


def test_a_changed_system_prompt_goes_to_the_next_prompt() -> None:
    log = MemoryLog()
    log.send(CHAT[:3])
    other = {"role": "system", "content": "Be long"}
    log.send([other, *CHAT[1:4]])
    log.send([other, *CHAT[1:]])
    assert shown(log) == [(["Be short", "one?"], "1"), (["Be long", "two?"], "2")]


def test_a_long_session_is_compared_by_its_tail() -> None:
    chat = [each for n in range(20) for each in (user(f"{n}?"), said(f"{n}"))]
    log = MemoryLog(read_most=5)
    for end in range(1, len(chat) + 1):
        log.send(chat[:end])
    assert shown(log) == [(f"{n}?", f"{n}") for n in range(20)]


def test_callers_who_race_with_the_same_list_store_it_once() -> None:
    log = MemoryLog()
    for _ in range(3):
        log.send(CHAT, read=0)
    assert shown(log) == [(["Be short", "one?"], "1"), ("two?", "2")]
    for _ in range(2):
        log.send([*CHAT[1:], user("three?")], read=1)
    assert shown(log)[2:] == [("three?", None)]


def test_messages_that_nobody_answers_are_kept() -> None:
    log = MemoryLog()
    log.send([SYSTEM, said("Welcome"), user("One"), user("Two"), said("2"), said("And more"), SYSTEM])
    assert shown(log) == [
        (["Be short"], "Welcome"),
        ("One", None),
        ("Two", "2"),
        (None, "And more"),
    ]
    log.send([{"role": "system", "content": "Ada left"}])
    assert list(log.rows.values())[-1]["status"] == "completed"


def test_a_beginning_without_ids_is_the_same_whatever_else_was_stored_meanwhile() -> None:
    log = MemoryLog()
    for text in ("a", "b"):
        log.send([user(text, id=text)])
    for seen in (0, 1, 2, -1):
        log.send([user("Hi"), said("Hello")], from_start=True, seen=seen)
    assert sorted(map(str, shown(log))) == ["('Hi', 'Hello')", "('a', None)", "('b', None)"]


def timed(minute: int, *parts: dict[str, Any]) -> list[dict[str, Any]]:
    return [{**each, "created_at": f"2026-11-20T06:{minute:02}:00Z"} for each in parts]


@pytest.mark.parametrize("later", [[], [user("three?", id="u3")]], ids=["alone", "with the next one"])
def test_a_turn_that_comes_late_is_no_alternative_of_the_next_one(later: list[dict[str, Any]]) -> None:
    log = MemoryLog()
    first = timed(1, user("one?", id="u1"), said("1", id="a1"))
    log.send(first)
    log.send(timed(3, user("three?", id="u3"), said("3", id="a3")))
    log.send([*first, *timed(2, user("two?", id="u2"), said("2", id="a2")), *timed(3, *later)])
    assert {row["key"]: (row["reply_to"], row["alternative_to"]) for row in log.rows.values()} == dict.fromkeys(
        ("u1", "u2", "u3"), (None, None)
    )
    log.send([*first, *timed(4, user("zwei?", id="edited"))])
    (edited,) = [row for row in log.rows.values() if row["key"] == "edited"]
    assert edited["alternative_to"] is not None, "what was said after the next one is an edited question"


def test_a_list_without_times_knows_that_a_turn_of_it_is_no_alternative_of_another() -> None:
    log = MemoryLog()
    chat = [user("one?", id="u1"), said("1", id="a1"), user("two?", id="u2"), user("three?", id="u3")]
    log.send(chat[:2])
    log.send(chat[3:])
    log.send(chat)
    assert [row["alternative_to"] for row in log.rows.values()] == [None, None, None]
