"""A message that comes again under its own id with another text is a revision of it, by every door of a chat."""

from typing import Any

import pytest
from flask.testing import FlaskClient

from tests.http_calls import in_path, transcript

Item = dict[str, Any]


def user(text: str, own_id: str = "u1", **more: Any) -> Item:
    return {"role": "user", "id": own_id, "parts": [{"type": "text", "text": text}], **more}


def assistant(text: str, own_id: str | None = "a1", **more: Any) -> Item:
    named = {"id": own_id} if own_id else {}
    return {"role": "assistant", "parts": [{"type": "text", "text": text}], **named, **more}


def send(client: FlaskClient, *messages: Item) -> list[tuple[str, list[int]]]:
    answer = client.post(f"{in_path('c')}/messages", json={"messages": messages})
    assert answer.status_code in {200, 201}, answer.text
    return [(each["receipt"], each["messages"]) for each in answer.get_json()["receipts"]]


def current(client: FlaskClient) -> list[tuple[Any, Any]]:
    """Return the current branch as it is shown: another answer with the question that it answers."""
    shown = {row["interaction_id"]: row["prompt"] for row in transcript(client, "c")}
    rows = client.get(f"{in_path('c')}/interactions").get_json()["interactions"]
    return [(row["prompt"] or shown.get(row["alternative_to"]), row["response"]) for row in rows]


def revised_facts(client: FlaskClient, interaction: str = "u1") -> list[Item]:
    answer = client.get(f"{in_path('c')}/interactions/{interaction}/revisions")
    return [each["facts"] for each in answer.get_json()["revisions"]]


@pytest.mark.parametrize("answer_id", ["a2", None])
@pytest.mark.parametrize("at", [{}, {"createdAt": "2026-11-21T06:00:00Z"}])
def test_an_edited_question_is_shown_with_its_new_answer(
    client: FlaskClient, answer_id: str | None, at: dict[str, str]
) -> None:
    before = [user("One?", "u0", **at), assistant("1", "a0")]
    send(client, *before, user("Name a tree", **at), assistant("Oak."))
    edited = [*before, user("Name a bird", **at), assistant("Owl.", answer_id)]
    assert send(client, *edited) == [("duplicate", [0, 1]), ("revised", [2]), ("created", [3])]
    assert current(client) == [("One?", "1"), ("Name a bird", "Owl.")]
    assert revised_facts(client) == [{"prompt": "Name a tree"}]
    assert [receipt for receipt, _ in send(client, *edited)] == ["duplicate"] * 3
    assert send(client, *edited, user("And a fish", "u2"))[-1] == ("created", [4])
    assert current(client)[-1] == ("And a fish", None)


def test_the_list_before_the_edit_changes_nothing_when_it_comes_late(client: FlaskClient) -> None:
    send(client, user("Name a tree"), assistant("Oak."))
    send(client, user("Name a bird"), assistant("Owl.", "a2"))
    assert send(client, user("Name a tree"), assistant("Oak.")) == [("duplicate", [0, 1])]
    assert current(client) == [("Name a bird", "Owl.")]
    assert len(revised_facts(client)) == 1


def test_an_answer_that_comes_again_with_another_text_is_revised(client: FlaskClient) -> None:
    send(client, user("Name a tree"), assistant("Oak."))
    assert send(client, user("Name a tree"), assistant("Lime.")) == [("revised", [0, 1])]
    assert current(client) == [("Name a tree", "Lime.")]
    assert revised_facts(client) == [{"response": "Oak."}]


def test_an_answer_that_grows_is_none(client: FlaskClient) -> None:
    for text in ("O", "Oa", "Oak"):
        send(client, user("Name a tree"), assistant(text, status="pending"))
    assert send(client, user("Name a tree"), assistant("O", status="pending"))[0][0] == "duplicate"
    send(client, user("Name a tree"), assistant("Oak."))
    assert current(client) == [("Name a tree", "Oak.")]
    assert revised_facts(client) == []


@pytest.mark.parametrize("answer_id", ["a2", None])
def test_what_is_further_back_than_what_is_read_is_revised_as_well(client: FlaskClient, answer_id: str | None) -> None:
    send(client, user("Name a tree"), assistant("Oak."))
    for n in range(60):
        send(client, user(f"{n}", f"u-{n}"), assistant(f"{n}", f"a-{n}"))
    edited = [user("Name a bird"), assistant("Owl.", answer_id, reply_to="u1")]
    assert send(client, *edited) == [("revised", [0]), ("created", [1])]
    assert {receipt for receipt, _ in send(client, *edited)} == {"duplicate"}
    assert revised_facts(client) == [{"prompt": "Name a tree"}]


def test_one_message_after_the_other(client: FlaskClient) -> None:
    def say(item: Item) -> tuple[int, str]:
        answer = client.post("/conversation/c/message", json=item)
        return answer.status_code, answer.get_json()["receipt"]

    say(user("Name a tree"))
    say(assistant("Oak."))
    assert say(user("Name a bird")) == (200, "revised")
    assert say(assistant("Owl.", "a2", reply_to="u1")) == (201, "created")
    assert say(user("Name a bird")) == (200, "duplicate")
    assert current(client) == [("Name a bird", "Owl.")]


def test_a_conversation_that_is_started_again(client: FlaskClient) -> None:
    def start(*items: Item) -> list[str]:
        body = {"conversation_id": "c", "messages": items}
        answer = client.post("/conversation/start", json=body)
        assert answer.status_code in {200, 201}
        return [each["receipt"] for each in answer.get_json()["messages"]]

    start(user("Name a tree"), assistant("Oak."))
    assert start(user("Name a bird"), assistant("Owl.", "a2")) == ["revised", "created"]
    assert start(user("Name a bird"), assistant("Eagle.", "a2")) == ["duplicate", "revised"]
    assert current(client) == [("Name a bird", "Eagle.")]
