"""Questions that come again under their ids, and what a question says that it follows where a chat has branches."""

from typing import Any

from tests.turns.memory_log import MemoryLog
from tests.turns.test_planning import CHAT, said, shown, user


def rows_of(log: MemoryLog) -> dict[Any, dict[str, Any]]:
    return {row["prompt"]: row for row in log.rows.values() if isinstance(row["prompt"], str)}


def test_a_question_whose_id_is_known_is_the_same_unless_its_text_differs() -> None:
    log = MemoryLog()
    log.send([user("Hi", id="u"), said("Hello", id="a")])
    (again,) = log.send([user("Hi", id="u")])
    assert not again.has_news
    (edited,) = log.send([user("Hi there", id="u")])
    assert edited.news == {"prompt"}
    assert edited.fields()["prompt"] == "Hi there"


def test_a_question_may_stand_twice_in_one_list() -> None:
    log = MemoryLog()
    (once,) = log.send([user("Hi", id="u"), said("Hello", id="a"), user("Hi", id="u")])
    assert [message.content for message in once.repeats] == ["Hi"]
    log = MemoryLog()
    planned = log.send([user("Hi", id="u"), said("Hello", id="a"), user("Hi there", id="u")])
    assert [(call.name, [message.content for message in call.prompt]) for call in planned] == [
        ("u", ["Hi"]),
        ("u", ["Hi there"]),
    ]


def test_a_list_that_goes_on_from_an_edited_question_says_what_each_question_follows() -> None:
    log = MemoryLog()
    log.send(CHAT)
    log.send([*CHAT[:3], user("zwei?"), said("zwei"), user("drei?"), said("drei"), user("vier?")])
    rows = rows_of(log)
    assert rows["drei?"]["reply_to"] == rows["zwei?"]["interaction_id"]


def test_where_a_chat_has_branches_each_new_question_says_what_it_follows() -> None:
    log = MemoryLog()
    edited = [*CHAT[:3], user("zwei?"), said("zwei")]
    log.send(CHAT)
    log.send(edited)
    log.send([*edited, user("drei?"), said("drei"), user("vier?"), said("vier")])
    assert shown(log)[3:] == [("drei?", "drei"), ("vier?", "vier")]
    rows = rows_of(log)
    assert rows["drei?"]["reply_to"] == rows["zwei?"]["interaction_id"]
    assert rows["vier?"]["reply_to"] == rows["drei?"]["interaction_id"]


def test_where_a_chat_has_none_a_question_follows_the_one_before_without_saying_so() -> None:
    log = MemoryLog()
    log.send(CHAT)
    log.send([*CHAT, user("three?"), said("3"), user("four?")])
    assert [row["reply_to"] for row in log.rows.values()] == [None] * 4


def test_a_time_or_an_id_that_comes_later_is_written_with_one_text_that_is_stored() -> None:
    log = MemoryLog()
    log.send([user("Hi", id="u"), said("Hello")])
    (call,) = log.send([user("Hi", id="u"), said("Hello", id="a")])
    fields = call.fields()
    assert fields["response"] == "Hello"
    assert "prompt" not in fields
    assert list(fields["metadata"].values()) == ["a"]
