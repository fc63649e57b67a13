"""Histories that a client sends with every call are stored once, read back as they were sent, and erased everywhere."""

import random
from collections.abc import Iterator
from itertools import permutations
from typing import Any

import psycopg
import pytest
from flask.testing import FlaskClient

from tests.conftest import Backend
from tests.http_calls import in_path, log, transcript

Item = dict[str, Any]
SYSTEM: Item = {"role": "system", "content": 'Be brief. 𝄞 "quoted" \\ 1.50'}


def user(text: str) -> Item:
    return {"role": "user", "content": text}


def assistant(text: str) -> Item:
    return {"role": "assistant", "content": text}


def history(turns: int) -> list[Item]:
    """Return what a client without a memory sends for its last turn."""
    said = [each for n in range(turns) for each in (user(f"Question {n}"), assistant(f"Answer {n}"))]
    return [SYSTEM, *said[:-1]]


def messages(backend: Backend) -> list[Item]:
    with psycopg.connect(backend.database) as connection:
        rows = connection.execute("select messages from turnlog.ai_messages order by count, bytes")
        found = [message for (messages,) in rows for message in messages]
    return sorted(found, key=lambda message: message["role"] != "system")  # instructions are kept apart


def shown(client: FlaskClient, **query: str) -> Iterator[tuple[Any, Any]]:
    answer = client.get(f"{in_path('s')}/interactions", query_string={"branches": "all"} | query)
    return ((row["prompt"], row["response"]) for row in answer.get_json()["interactions"])


@pytest.mark.every_store
def test_a_history_is_stored_once_and_read_back_as_it_was_sent(client: FlaskClient, backend: Backend) -> None:
    for turns in range(1, 6):
        answer = log(
            client, session_id="s", interaction_id=str(turns), prompt=history(turns), response=f"Answer {turns - 1}"
        )
        assert answer.status_code == 201
    assert list(shown(client)) == [(history(turns), f"Answer {turns - 1}") for turns in range(1, 6)]
    assert messages(backend) == [*history(5), assistant("Answer 4")]


def test_the_same_again_is_a_duplicate_and_another_history_a_conflict(client: FlaskClient, backend: Backend) -> None:
    record = {"session_id": "s", "interaction_id": "t", "prompt": history(3), "response": "Answer 2"}
    assert [log(client, **record).get_json()["receipt"] for _ in range(2)] == ["created", "duplicate"]
    other = [*history(2), user("Something else")]
    refused = log(client, **record | {"prompt": other})
    assert (refused.status_code, refused.get_json()["fields"][0]["path"]) == (409, "$.prompt")
    assert messages(backend) == [*history(3), assistant("Answer 2")], "nothing of what was refused is kept"
    assert list(shown(client)) == [(history(3), "Answer 2")]


PARTS: list[Item] = [
    {"prompt": history(2), "status": "pending"},
    {"response": "Ans", "status": "pending"},
    {"response": "Answer", "status": "pending"},
    {"response": "Answer 1", "output_tokens": 3},
]


@pytest.mark.parametrize("order", list(permutations(range(len(PARTS)))))
def test_an_answer_that_grows_gives_the_same_rows_in_any_order(
    client: FlaskClient, backend: Backend, order: tuple[int, ...]
) -> None:
    for n in order:
        assert log(client, session_id="s", interaction_id="t", **PARTS[n]).status_code in {200, 201}
    assert list(shown(client)) == [(history(2), "Answer 1")]
    assert set(map(str, messages(backend))) >= set(map(str, [*history(2), assistant("Answer 1")]))
    with psycopg.connect(backend.database) as connection:
        (ends,) = connection.execute(
            "select prompt, response, prompt_end is not null, response_end is not null from turnlog.ai_interactions"
        )
    assert ends == ({}, {"as": "text"}, True, True)


@pytest.mark.every_store
def test_a_list_of_messages_as_a_response_comes_back_as_a_list(client: FlaskClient) -> None:
    call = {"role": "assistant", "content": None, "tool_calls": [{"id": "c", "function": {"name": "f"}}]}
    log(client, session_id="s", prompt=history(2), response=[call])
    log(client, session_id="s", prompt=[*history(2), call, {"role": "tool", "tool_call_id": "c", "content": "4"}])
    assert [response for _, response in shown(client)] == [[call], None]


def context(client: FlaskClient) -> list[Any]:
    answer = client.get(f"{in_path('s')}/interactions", query_string={"context": "true"})
    return [row["context"] for row in answer.get_json()["interactions"]]


@pytest.mark.every_store
def test_what_was_sent_before_a_prompt_is_its_context(client: FlaskClient, backend: Backend) -> None:
    for turns in range(1, 4):
        body = {"messages": history(turns)}
        assert client.post(f"{in_path('s')}/messages", json=body).status_code == 201
        body["messages"].append(assistant(f"Answer {turns - 1}"))
        assert client.post(f"{in_path('s')}/messages", json=body).status_code in {200, 201}
    assert context(client) == [None, *([*history(turns - 1), assistant(f"Answer {turns - 2}")] for turns in (2, 3))]
    assert [prompt for prompt, _ in shown(client)] == [history(1), "Question 1", "Question 2"]
    assert [row["context"] for row in transcript(client, "s")] == [None] * 3, "on demand"
    assert messages(backend) == [*history(3), assistant("Answer 2")], "each message once"


@pytest.mark.every_store
def test_a_context_can_be_stated_and_the_longer_one_stays(client: FlaskClient) -> None:
    longer, shorter = history(2)[:-1], [user("Question 0")]
    for stated, receipt in ((shorter, "created"), (longer, "filled"), (shorter, "duplicate"), (longer, "duplicate")):
        answer = log(client, session_id="s", interaction_id="t", prompt="Question 1", response="A", context=stated)
        assert answer.get_json()["receipt"] == receipt
    assert context(client) == [longer]
    assert list(shown(client)) == [("Question 1", "A")]
    refused = log(client, session_id="s", prompt="?", context="a text")
    assert (refused.status_code, refused.get_json()["fields"][0]["path"]) == (422, "$.context")


def test_erasing_a_turn_erases_its_words_from_later_histories(client: FlaskClient, backend: Backend) -> None:
    for turns in (1, 2, 3):
        log(client, session_id="s", interaction_id=str(turns), prompt=history(turns), response=f"Answer {turns - 1}")
    assert client.delete(f"{in_path('s')}/interactions/2").status_code == 200
    gone = [user("[erased]"), assistant("[erased]")]
    without = [*history(1), assistant("Answer 0"), *gone, user("Question 2")]
    assert list(shown(client)) == [(history(1), "Answer 0"), ("[erased]", "[erased]"), (without, "Answer 2")]
    again = log(client, session_id="s", interaction_id="3", prompt=history(3), response="Answer 2", output_tokens=9)
    assert again.get_json()["fields"] == ["output_tokens"], "the same history is known, though it isn't kept"
    log(client, session_id="s", interaction_id="4", prompt=history(4), response="Answer 3")
    assert not [each for each in messages(backend) if "1" in each["content"] and each != SYSTEM]
    assert list(shown(client))[-1][1] == "Answer 3"


def test_erasing_a_turn_that_was_sent_alone_erases_it_from_later_histories(
    client: FlaskClient, backend: Backend
) -> None:
    log(client, session_id="s", interaction_id="1", prompt="My number is 55", response="Noted: 55")
    log(client, session_id="s", prompt=[user("My number is 55"), assistant("Noted: 55"), user("And?")], response="Ok")
    client.delete(f"{in_path('s')}/interactions/1")
    assert [each["content"] for each in messages(backend)] == ["[erased]", "[erased]", "And?", "Ok"]


def test_a_message_that_another_interaction_has_stays(client: FlaskClient, backend: Backend) -> None:
    for name, answer in (("a", "One answer"), ("b", "Another")):
        log(client, session_id="s", interaction_id=name, prompt=history(1), response=answer)
    client.delete(f"{in_path('s')}/interactions/a")
    assert [each for each in shown(client) if each[0] != "[erased]"] == [(history(1), "Another")]
    assert assistant("One answer") not in messages(backend)


def test_a_context_is_erased_with_the_only_turn_that_has_it(client: FlaskClient, backend: Backend) -> None:
    log(client, session_id="s", interaction_id="t", prompt="Question 1", context=[SYSTEM, *history(2)[1:-1]])
    log(client, session_id="s", interaction_id="other", prompt=[user("Apart"), assistant("Yes"), user("So")])
    client.delete(f"{in_path('s')}/interactions/t")
    left = [each["content"] for each in messages(backend)]
    assert sorted(left) == ["Apart", "So", "Yes", *["[erased]"] * 4]


def test_erasing_every_turn_leaves_no_word(client: FlaskClient, backend: Backend) -> None:
    for turns in (1, 2, 3):
        for answer in ("Answ", f"Answer {turns - 1}"):  # it grows after all
            log(client, session_id="s", interaction_id=str(turns), prompt=history(turns), response=answer)
    for turns in (2, 1, 3):
        client.delete(f"{in_path('s')}/interactions/{turns}")
    assert {each["content"] for each in messages(backend)} == {"[erased]"}


def test_erasing_a_turn_keeps_what_one_before_it_said_alone(client: FlaskClient, backend: Backend) -> None:
    said = [user("q1"), assistant("a1"), user("q2"), assistant("a2"), user("q3")]
    for n, prompt in ((1, said[:1]), (2, said[:3]), (3, said)):
        log(client, session_id="s", interaction_id=str(n), prompt=prompt, response=f"a{n}")
    client.delete(f"{in_path('s')}/interactions/2")
    assert list(shown(client))[-1] == ([*said[:2], user("[erased]"), assistant("[erased]"), said[4]], "a3")


def test_an_erased_turn_leaves_the_revisions_of_others(client: FlaskClient, backend: Backend) -> None:
    log(client, session_id="s", interaction_id="1", prompt="secret", response="a")
    name = {"session_id": "s", "interaction_id": "2", "on_conflict": "revise"}
    for n in (1, 2):
        prompt = [user("secret"), assistant("a"), user(f"version {n}")]
        log(client, **name, prompt=prompt, response="b", completed_at=f"2026-01-01T00:00:0{n}Z")
    client.delete(f"{in_path('s')}/interactions/1")
    (revision,) = client.get(f"{in_path('s')}/interactions/2/revisions").get_json()["revisions"]
    assert revision["facts"]["prompt"] == [user("[erased]"), assistant("[erased]"), user("version 1")]


def test_a_list_sent_again_brings_no_erased_words_into_a_context(client: FlaskClient, backend: Backend) -> None:
    path = f"{in_path('s')}/messages"
    client.post(path, json={"messages": history(2)[1:]})
    first = transcript(client, "s")[0]["interaction_id"]
    client.delete(f"{in_path('s')}/interactions/{first}")
    client.post(path, json={"messages": history(3)[1:]})
    assert context(client)[-1] is None
    assert "Question 0" not in str(messages(backend))


def test_a_prompt_revised_to_a_text_is_erased_with_its_first_words(client: FlaskClient, backend: Backend) -> None:
    name = {"session_id": "s", "interaction_id": "t", "on_conflict": "revise"}
    log(client, **name, prompt=[user("secret"), user("more")], response="a", completed_at="2026-01-01T00:00:00Z")
    log(client, **name, prompt="public", completed_at="2026-01-01T00:00:01Z")
    assert list(shown(client)) == [("public", "a")]
    client.delete(f"{in_path('s')}/interactions/t")
    assert not [each for each in messages(backend) if each["content"] != "[erased]"]


def test_an_erased_session_leaves_no_message(client: FlaskClient, backend: Backend) -> None:
    log(client, session_id="s", prompt=history(3), response="Answer 2")
    report = client.delete(in_path("s")).get_json()
    assert messages(backend) == []
    assert "ai_messages" in report["proof"]


@pytest.mark.parametrize("count", [50, 500])
def test_a_long_history_is_read_once_for_all_its_messages(client: FlaskClient, backend: Backend, count: int) -> None:
    """The pages of the database that it takes: as many as hold it, whatever the number of messages."""
    dice = random.Random(1)
    said = [user(dice.randbytes(500).hex()) for _ in range(count)]
    log(client, session_id="s", interaction_id="a", prompt=said, response="Well")
    with psycopg.connect(backend.database) as connection:
        (stored,) = connection.execute("select sum(pg_column_size(messages)) from turnlog.ai_messages").fetchone() or (
            0,
        )
        connection.execute("select turnlog.transcript('{}')")  # what is read at first is the catalogue
        row = connection.execute(
            "explain (analyze, buffers, timing off, format json) select turnlog.messages("
            "    m.project, m.session_id, i.prompt_end, null, i.response_end)"
            "  from turnlog.ai_interactions as i join turnlog.ai_messages as m on m.id = i.response_end"
        ).fetchone()
    assert row is not None
    plan = row[0][0]["Plan"]
    assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] < 200 + 4 * stored / 2000
