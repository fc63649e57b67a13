"""One chat comes out the same by every door that takes messages."""

from typing import Any

import pytest
from flask.testing import FlaskClient

from tests.http_calls import in_path, transcript
from tests.turns import corpus

Item = dict[str, Any]
WRITTEN = corpus.written()


def logged_as_messages(client: FlaskClient, session: str, items: list[Item]) -> None:
    assert client.post(f"{in_path(session)}/messages", json={"messages": items}).status_code == 201


def logged_as_it_grows(client: FlaskClient, session: str, items: list[Item], dialogue: corpus.Dialogue) -> None:
    for end in range(1, len(items) + 1):
        if end == len(items) or dialogue[end - 1].role not in {"system", "tool"}:
            answer = client.post(f"{in_path(session)}/messages", json={"messages": items[:end]})
            assert answer.status_code in {200, 201}


def started(client: FlaskClient, session: str, items: list[Item]) -> None:
    for status in (201, 200):
        body = {"conversation_id": session, "messages": items}
        assert client.post("/conversation/start", json=body).status_code == status


def said_one_by_one(client: FlaskClient, session: str, items: list[Item]) -> None:
    for item in items:
        assert client.post(f"/conversation/{session}/message", json=item).status_code in {200, 201}


def exchanges(client: FlaskClient, session: str) -> list[tuple[Any, Any]]:
    return [(row["prompt"], row["response"]) for row in transcript(client, session)]


def messages(client: FlaskClient, session: str) -> list[Item]:
    own = {"message_id", "reply_to", "created_at", "interaction_id", "alternative_to", "spooled"}
    found = client.get(f"/conversation/{session}").get_json()["messages"]
    return [{name: value for name, value in each.items() if name not in own} for each in found]


@pytest.mark.parametrize(("shape", "name", "items", "dialogue"), WRITTEN, ids=[f"{s}, {n}" for s, n, _, _ in WRITTEN])
def test_every_shape_comes_out_the_same_by_every_door(
    client: FlaskClient, shape: str, name: str, items: list[Item], dialogue: corpus.Dialogue
) -> None:
    logged_as_messages(client, "messages", items)
    started(client, "start", items)
    assert exchanges(client, "messages") == exchanges(client, "start") == corpus.expected(dialogue)
    assert messages(client, "messages") == corpus.openai_chat(dialogue)
    if shape != "OpenAI Responses":  # one of its items isn't a whole message
        said_one_by_one(client, "one by one", items)
        assert messages(client, "one by one") == corpus.openai_chat(dialogue)
        if shape in {"OpenAI chat", "ShareGPT"}:
            logged_as_it_grows(client, "grows", items, dialogue)
            assert exchanges(client, "grows") == corpus.expected(dialogue)
            if all(isinstance(prompt, str) or len(prompt) == 1 for prompt, _ in corpus.expected(dialogue)):
                assert exchanges(client, "one by one") == corpus.expected(dialogue)


FIRST = [{"role": "user", "content": "Name a tree"}, {"role": "assistant", "content": "Oak"}]
AGAIN = [FIRST[0], {"role": "assistant", "content": "Lime"}]
MORE = [{"role": "user", "content": "And a bush?"}, {"role": "assistant", "content": "Hazel"}]


@pytest.mark.parametrize("earlier", [FIRST, FIRST + MORE], ids=["one turn", "two turns"])
def test_the_first_answer_given_again_is_an_alternative_by_every_door(client: FlaskClient, earlier: list[Item]) -> None:
    for items in (earlier, AGAIN, AGAIN, earlier):
        client.post(f"{in_path('messages')}/messages", json={"messages": items})
        client.post("/conversation/start", json={"conversation_id": "start", "messages": items})
    for session in ("messages", "start"):
        rows = client.get(f"{in_path(session)}/interactions?branches=all").get_json()["interactions"]
        assert len(rows) == len(earlier) // 2 + 1
        assert (rows[-1]["prompt"], rows[-1]["response"]) == (None, "Lime")
        assert rows[-1]["alternative_to"] == rows[0]["interaction_id"]


def test_a_question_asked_again_is_new_by_its_time_or_if_it_was_before(client: FlaskClient) -> None:
    def send(session: str, *items: Item) -> None:
        assert client.post(f"{in_path(session)}/messages", json={"messages": items}).status_code == 201

    for hour in (10, 11):
        send("timed", {**FIRST[0], "created_at": f"2026-11-20T{hour}:00:00Z"}, AGAIN[1] if hour > 10 else FIRST[1])
    assert exchanges(client, "timed") == [("Name a tree", "Oak"), ("Name a tree", "Lime")]
    send("repeated", *FIRST, FIRST[0], {"role": "assistant", "content": "Elm"})
    send("repeated", *AGAIN)
    assert [answer for _, answer in exchanges(client, "repeated")] == ["Oak", "Elm", "Lime"]
