"""Regenerated answers, edited questions, and the branch that is shown, over HTTP."""

from collections.abc import Sequence
from typing import Any

import pytest
from flask.testing import FlaskClient

from tests.api.test_reads_api import pages
from tests.http_calls import create, in_path, log, paths, problem

AT = "2026-11-21T10:00:{:02}Z"
PATH = f"{in_path('s')}/interactions"


def said(client: FlaskClient, name: str, second: int, **fields: Any) -> None:
    """Log an interaction of the session `s`; its prompt is its name unless `fields` say otherwise."""
    fields = {"prompt": name, "response": name.upper(), **fields}
    facts = {field: value for field, value in fields.items() if value is not None}
    assert log(client, session_id="s", interaction_id=name, started_at=AT.format(second), **facts).status_code == 201


def shown(client: FlaskClient, **query: str) -> list[str]:
    answer = client.get(PATH, query_string=query)
    assert answer.status_code == 200, answer.get_json()
    return [row["key"] for row in answer.get_json()["interactions"]]


def alternatives(client: FlaskClient, name: str, **query: str) -> list[tuple[str, bool]]:
    rows = client.get(PATH, query_string=query).get_json()["interactions"]
    (row,) = [row for row in rows if row["key"] == name]
    return [(each["key"], each["current"]) for each in row["alternatives"]]


def choose(client: FlaskClient, name: str) -> list[str]:
    answer = client.patch(f"{PATH}/{name}", json={"current": True})
    assert answer.status_code == 200, answer.get_json()
    body = answer.get_json()
    assert body == client.get(PATH).get_json()
    return [row["key"] for row in body["interactions"]]


def test_a_linear_session_has_no_alternatives(client: FlaskClient) -> None:
    for second, name in enumerate("abc"):
        said(client, name, second, reply_to="ab"[second - 1] if second else None)
    rows = client.get(PATH).get_json()["interactions"]
    assert [(row["key"], row["alternatives"]) for row in rows] == [("a", []), ("b", []), ("c", [])]
    assert shown(client, branches="all") == shown(client, branch="a") == ["a", "b", "c"]


@pytest.mark.parametrize(
    "named",
    [{"alternative_to": "b"}, {"reply_to": "b", "prompt": None}, {"reply_to": "a"}],
    ids=["in its place", "another answer to it", "to the same"],
)
def test_a_regenerated_answer_takes_the_place_of_the_first(client: FlaskClient, named: dict[str, Any]) -> None:
    said(client, "a", 1)
    said(client, "b", 2)
    said(client, "again", 3, **named)
    assert shown(client) == ["a", "again"]
    assert alternatives(client, "again") == [("b", False), ("again", True)]
    assert alternatives(client, "a") == []
    assert shown(client, branch="b") == ["a", "b"]
    assert alternatives(client, "b", branch="b") == [("b", False), ("again", True)]
    said(client, "after", 4)
    assert shown(client) == ["a", "again", "after"], "what says nothing follows the last one"
    assert shown(client, branches="all") == ["a", "b", "again", "after"]
    assert alternatives(client, "b", branches="all") == [("b", False), ("again", True)]


def test_an_edited_question_begins_another_branch(client: FlaskClient) -> None:
    for second, name in enumerate("abc"):
        said(client, name, second)
    said(client, "edited", 5, alternative_to="a")
    assert shown(client) == ["edited"]
    said(client, "on", 6)
    assert shown(client) == ["edited", "on"]
    assert shown(client, branch="a") == ["a", "b", "c"]
    assert alternatives(client, "a", branch="c") == [("a", False), ("edited", True)]


def test_alternatives_of_an_alternative_stand_in_the_same_place(client: FlaskClient) -> None:
    said(client, "a", 1)
    said(client, "b", 2)
    said(client, "b2", 3, alternative_to="b")
    said(client, "b3", 4, alternative_to="b2")
    said(client, "b4", 5, alternative_to="b2")
    assert shown(client) == ["a", "b4"]
    assert [key for key, _ in alternatives(client, "b4")] == ["b", "b2", "b3", "b4"]


def test_the_first_one_may_arrive_last(client: FlaskClient) -> None:
    said(client, "again", 3, alternative_to="first")
    said(client, "more", 4, alternative_to="first")
    assert alternatives(client, "more") == [("again", False), ("more", True)]
    said(client, "first", 2)
    assert alternatives(client, "more") == [("first", False), ("again", False), ("more", True)]


def test_what_follows_a_missing_one_follows_the_one_before(client: FlaskClient) -> None:
    said(client, "a", 1)
    said(client, "c", 3, reply_to="b")
    said(client, "c2", 4, reply_to="b")
    assert shown(client) == ["a", "c2"]
    said(client, "b", 2)
    assert shown(client) == ["a", "b", "c2"]


@pytest.mark.parametrize(
    "named",
    [
        {"a": {"reply_to": "a"}},
        {"a": {"reply_to": "c"}},
        {"a": {"reply_to": "b"}, "b": {"reply_to": "a"}},
        {"a": {"reply_to": "c"}, "b": {"reply_to": "a"}, "c": {"reply_to": "b"}},
    ],
    ids=["itself", "the future", "two in a circle", "three in a circle"],
)
def test_a_circle_leaves_no_turn_out(client: FlaskClient, named: dict[str, dict[str, str]]) -> None:
    for second, name in enumerate("abc"):
        said(client, name, second, **named.get(name, {}))
    assert shown(client) == ["a", "b", "c"]


def test_alternatives_in_a_circle_are_alternatives(client: FlaskClient) -> None:
    said(client, "a", 1, alternative_to="b")
    said(client, "b", 2, alternative_to="a")
    said(client, "itself", 3, alternative_to="itself")
    assert shown(client) == ["b", "itself"]
    assert alternatives(client, "b") == [("a", False), ("b", True)]


def test_counted_turns_after_an_edited_one_stay_where_they_are(client: FlaskClient) -> None:
    said(client, "one", 1, turn=1)
    said(client, "two", 2, turn=2)
    said(client, "three", 3, turn=3)
    said(client, "two again", 4, turn=2, alternative_to="two")
    assert shown(client) == ["one", "two again"]
    assert shown(client, branch="two") == ["one", "two", "three"]


def test_an_earlier_alternative_may_be_chosen_and_another_later(client: FlaskClient) -> None:
    said(client, "a", 1)
    said(client, "b", 2)
    said(client, "c", 3)
    said(client, "b2", 4, alternative_to="b")
    assert shown(client) == ["a", "b2"]
    assert choose(client, "b") == ["a", "b", "c"]
    assert alternatives(client, "b") == [("b", True), ("b2", False)]
    assert client.get(PATH).get_json()["interactions"][1]["chosen_at"] is not None
    assert choose(client, "b2") == ["a", "b2"]
    assert choose(client, "b") == ["a", "b", "c"]
    said(client, "c2", 5, alternative_to="c")
    assert choose(client, "c") == ["a", "b", "c"]
    assert choose(client, "b2") == ["a", "b2"]
    assert choose(client, "b") == ["a", "b", "c"], "and on as was chosen there"


@pytest.mark.parametrize(
    "outcome",
    [
        {"status": "failed", "response": None, "error": "overloaded"},
        {"status": "failed", "response": "Half an"},
        {"status": "abandoned", "response": "Half an"},
        {"status": "pending", "response": None},
        {"status": "pending", "response": ""},
        {"response": None},
    ],
    ids=["failed", "failed midway", "stopped", "pending", "pending, still empty", "not answered"],
)
def test_a_regeneration_without_an_answer_hides_no_answer(client: FlaskClient, outcome: dict[str, Any]) -> None:
    said(client, "a", 1)
    said(client, "b", 2)
    said(client, "again", 3, alternative_to="b", **outcome)
    assert shown(client) == ["a", "b"]
    assert alternatives(client, "b") == [("b", True), ("again", False)]
    assert shown(client, branch="again") == ["a", "again"]
    said(client, "asked", 4, response=None)
    assert shown(client) == ["a", "b", "asked"], "what names nothing follows the answer that is shown"
    assert choose(client, "again") == ["a", "again"]
    said(client, "once more", 5, alternative_to="b")
    assert choose(client, "once more") == ["a", "once more"]


def test_an_answer_that_is_being_written_is_shown(client: FlaskClient) -> None:
    said(client, "a", 1)
    said(client, "again", 2, alternative_to="a", status="pending", response=None)
    assert shown(client) == ["a"]
    assert log(client, session_id="s", interaction_id="again", status="pending", response="Half an").status_code == 200
    assert shown(client) == ["again"]
    assert log(client, session_id="s", interaction_id="again", status="failed", error="overloaded").status_code == 200
    assert shown(client) == ["a"]


def test_of_alternatives_without_an_answer_the_last_one_is_shown(client: FlaskClient) -> None:
    for second, name in enumerate("abc"):
        said(client, name, second, response=None, **({"alternative_to": "a"} if second else {}))
    assert shown(client) == ["c"]


def test_what_is_said_after_a_choice_follows_the_chosen_branch(client: FlaskClient) -> None:
    for name, named in (("a", {}), ("b", {}), ("c", {}), ("b2", {"alternative_to": "b"}), ("c2", {})):
        assert log(client, session_id="s", interaction_id=name, prompt=name, response="r", **named).status_code == 201
    assert shown(client) == ["a", "b2", "c2"]
    assert choose(client, "b") == ["a", "b", "c"]
    for name in ("after", "and then"):
        log(client, session_id="s", interaction_id=name, prompt=name, response="r")
    assert shown(client) == ["a", "b", "c", "after", "and then"]
    assert alternatives(client, "b") == [("b", True), ("b2", False)]
    assert choose(client, "b2") == ["a", "b2", "c2"]
    log(client, session_id="s", interaction_id="there", prompt="there", response="r")
    assert shown(client) == ["a", "b2", "c2", "there"]
    assert choose(client, "b") == ["a", "b", "c", "after", "and then"], "they stay, although only this choice is kept"
    assert choose(client, "b2") == ["a", "b2", "c2", "there"]


def test_what_is_said_after_a_choice_is_current(client: FlaskClient) -> None:
    for name, named in (("a", {}), ("b", {}), ("b2", {"alternative_to": "b"})):
        assert log(client, session_id="s", interaction_id=name, prompt=name, response="r", **named).status_code == 201
    assert choose(client, "b") == ["a", "b"]
    log(client, session_id="s", interaction_id="b3", prompt="b3", response="r", alternative_to="b")
    assert shown(client) == ["a", "b3"]


def test_only_an_interaction_of_a_session_that_is_there_can_be_chosen(client: FlaskClient) -> None:
    body = {"current": True}
    create(client, session_id="empty")
    assert problem(client.patch(f"{in_path('none')}/interactions/a", json=body), 404)["code"] == "session-not-found"
    assert (
        problem(client.patch(f"{in_path('empty')}/interactions/a", json=body), 404)["code"] == "interaction-not-found"
    )
    assert problem(client.get(f"{in_path('empty')}/interactions?branch=a"), 404)["code"] == "interaction-not-found"
    said(client, "a", 1)
    for wrong in ({}, {"current": False}, {"current": None}, {"current": True, "prompt": "b"}):
        assert client.patch(f"{PATH}/a", json=wrong).status_code == 422
    client.delete(in_path("s"))
    assert client.patch(f"{PATH}/a", json=body).status_code == 410


def test_a_refused_choice_says_what_to_send(client: FlaskClient) -> None:
    said(client, "a", 1)
    refused = problem(client.patch(f"{PATH}/a", json={"current": False}), 422)
    assert refused["fields"] == [{"path": "$.current", "detail": "Must be true"}]


def test_branches_are_current_or_all(client: FlaskClient) -> None:
    said(client, "a", 1)
    assert paths(client.get(f"{PATH}?branches=some")) == ["?branches"]


def read_pages(client: FlaskClient, meanwhile: Sequence[dict[str, Any]], **query: str) -> list[str]:
    """Read a transcript by pages of two, and log something after each page."""
    found: list[str] = []
    more = list(meanwhile)
    cursor: str | None = None
    while True:
        page = client.get(PATH, query_string={**query, "limit": 2} | ({"cursor": cursor} if cursor else {})).get_json()
        found += [row["key"] for row in page["interactions"]]
        cursor = page["next"]
        if more:
            each = more.pop(0)
            said(client, each.pop("name"), each.pop("second"), **each)
        if cursor is None:
            return found


def post_messages(client: FlaskClient, *said: str) -> None:
    """Send messages without ids: a question ends with a question mark."""
    items = [{"role": "user" if text.endswith("?") else "assistant", "content": text} for text in said]
    assert client.post(f"{in_path('s')}/messages", json={"messages": items}).status_code in {200, 201}


def exchanged(client: FlaskClient) -> list[tuple[Any, Any]]:
    return [(row["prompt"], row["response"]) for row in client.get(PATH).get_json()["interactions"]]


def test_the_newest_message_follows_the_chosen_answer(client: FlaskClient) -> None:
    post_messages(client, "one?", "1", "two?", "2")
    post_messages(client, "one?", "1", "two?", "again")
    assert exchanged(client) == [("one?", "1"), (None, "again")]
    first = client.get(PATH, query_string={"branches": "all"}).get_json()["interactions"][1]["interaction_id"]
    client.patch(f"{PATH}/{first}", json={"current": True})
    post_messages(client, "three?")
    post_messages(client, "3")
    assert exchanged(client) == [("one?", "1"), ("two?", "2"), ("three?", "3")]
    post_messages(client, "one?", "1", "two?", "again", "four?")
    assert exchanged(client) == [("one?", "1"), (None, "again"), ("four?", None)], "a list says what it follows"
    client.patch(f"{PATH}/{first}", json={"current": True})
    post_messages(client, "one?", "1", "two?", "again", "four?", "4", "five?")
    assert exchanged(client) == [("one?", "1"), (None, "again"), ("four?", "4"), ("five?", None)]


@pytest.mark.parametrize("first", [{}, {"alternative_to": "a"}], ids=["linear", "forked"])
def test_pages_stay_on_the_branch_they_began_with(client: FlaskClient, first: dict[str, str]) -> None:
    said(client, "a", 1)
    if first:
        said(client, "b", 2, **first)
    for second in range(3, 9):
        said(client, f"t{second}", second)
    before = shown(client)
    meanwhile = [
        {"name": "x", "second": 20, "alternative_to": "t3"},
        {"name": "y", "second": 21, "alternative_to": "t7"},
        {"name": "z", "second": 22, "reply_to": "t8"},
    ]
    assert read_pages(client, meanwhile) == [*before, "z"]
    assert shown(client) == [*before, "z"]
    client.patch(f"{PATH}/x", json={"current": True})
    assert shown(client) == [*before[: before.index("t3")], "x"]


def test_everything_is_paged_with_alternatives(client: FlaskClient) -> None:
    said(client, "a", 1)
    said(client, "b", 2)
    for second in range(3, 8):
        said(client, f"b{second}", second, alternative_to="b")
    read = pages(client, PATH, limit=2, branches="all")
    rows = [row for page in read for row in page["interactions"]]
    assert [row["key"] for row in rows] == ["a", "b", "b3", "b4", "b5", "b6", "b7"]
    assert [len(row["alternatives"]) for row in rows] == [0, 6, 6, 6, 6, 6, 6]


def test_at_most_fifty_alternatives_before_and_after_are_listed(client: FlaskClient) -> None:
    said(client, "a", 0)
    items = [
        {
            "session_id": "s",
            "interaction_id": f"{n:03}",
            "prompt": "p",
            "response": "r",
            "alternative_to": "a",
            "started_at": AT.format(1),
        }
        for n in range(120)
    ]
    assert client.post("/v1/interactions/batch", json={"interactions": items}).status_code == 200
    assert [key for key, _ in alternatives(client, "119")] == [f"{n:03}" for n in range(69, 120)]
    middle = [key for key, _ in alternatives(client, "060", branch="060")]
    assert middle == [f"{n:03}" for n in range(10, 111)]


def test_an_answer_without_a_prompt_has_the_question_that_it_answers(client: FlaskClient) -> None:
    said(client, "a", 1, participant="ada")
    said(client, "edited", 2, alternative_to="a")
    said(client, "second", 3, prompt=None, alternative_to="edited")
    said(client, "third", 4, prompt=None, reply_to="second")
    asked = {"key": "edited", "prompt": "edited", "participant": None, "asked_at": "2026-11-21T10:00:02+00:00"}

    def question(**query: str) -> dict[str, Any] | None:
        row = client.get(PATH, query_string=query).get_json()["interactions"][-1]
        return row["question"] and {name: row["question"][name] for name in asked}

    assert shown(client) == ["third"]
    assert question() == question(branch="second") == asked
    assert question(branch="edited") is None
    assert question(branches="all") is None
    messages = client.get("/conversation/s?branches=current").get_json()["messages"]
    assert [(each["message_id"], each["content"]) for each in messages][:1] == [("edited", "edited")]
    assert [each["content"] for each in messages] == ["edited", "THIRD"]
    assert client.delete(f"{PATH}/edited").status_code == 200
    assert question() is None
    said(client, "lost", 5, prompt=None, reply_to="unknown")
    said(client, "round", 6, prompt=None, reply_to="round")
    assert question(branch="lost") is question(branch="round") is None


def test_a_conversation_has_all_messages_or_those_of_its_current_branch(client: FlaskClient) -> None:
    said(client, "a", 1)
    said(client, "b", 2)
    said(client, "b2", 3, alternative_to="b")
    messages = client.get("/conversation/s").get_json()["messages"]
    assert [message["content"] for message in messages] == ["a", "A", "b", "B", "b2", "B2"]
    messages = client.get("/conversation/s?branches=current").get_json()["messages"]
    assert [message["content"] for message in messages] == ["a", "A", "b2", "B2"]
