"""A chat while the store is away: 202, spooled messages are shown, and the same messages are delivered."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest
from flask.testing import FlaskClient

from app import create_app
from conversation.settings import Settings
from logging_store.errors import StoreUnavailable
from logging_store.spool import Spool
from tests.http_calls import KEYLESS
from tests.spool.conftest import eventually
from tests.spool.flaky_store import FlakyStore

SAID = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]


@pytest.fixture
def client(open_spool: Callable[..., Spool]) -> FlaskClient:
    return create_app(Settings.from_mapping(KEYLESS), open_spool()).test_client()


def test_a_chat_continues_while_the_store_is_away(client: FlaskClient, inner: FlakyStore) -> None:
    inner.away = StoreUnavailable("nobody answers")
    started = client.post("/conversation/start", json={"conversationId": "c", "userId": "ada", "messages": SAID})
    body = started.get_json()
    assert (started.status_code, body["success"], body["receipt"]) == (202, True, "spooled")
    assert [message["receipt"] for message in body["messages"]] == ["spooled", "spooled"]
    assert (body["conversation"]["userId"], body["conversation"]["status"]) == ("ada", None)
    answer = {"role": "assistant", "content": "2", "reply_to": "u"}
    logged = client.post("/conversation/c/message", json=answer)
    assert (logged.status_code, logged.get_json()["receipt"]) == (202, "spooled")

    page = client.get("/conversation/c").get_json()
    assert page["complete"] is False
    shown = [(message["role"], message["content"], message["spooled"]) for message in page["messages"]]
    assert shown == [("user", "Hi", True), ("assistant", "Hello", True), ("assistant", "2", True)]

    inner.away = None
    eventually(lambda: client.get("/conversation/c").status_code == 200 and delivered(client), "delivered")
    stored = client.get("/conversation/c").get_json()
    assert stored["complete"] is True
    assert comparable(stored) == comparable(page)
    again = client.post("/conversation/start", json={"conversation_id": "c", "user_id": "ada", "messages": SAID})
    assert (again.status_code, again.get_json()["receipt"]) == (200, "duplicate")


def comparable(page: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the messages without the mark; a time may be written with or without zeros at its end."""
    return [
        message | {"created_at": datetime.fromisoformat(message["created_at"]), "spooled": None}
        for message in page["messages"]
    ]


def delivered(client: FlaskClient) -> bool:
    page = client.get("/conversation/c").get_json()
    return page["complete"] and not any(message["spooled"] for message in page["messages"])


def test_messages_that_are_sent_again_during_an_outage_are_stored_once(client: FlaskClient, inner: FlakyStore) -> None:
    chat = [{"role": role, "content": f"{role} {n}"} for n in range(3) for role in ("user", "assistant")]
    path = "/v1/sessions/c/messages"
    assert client.post(path, json={"messages": chat[:2]}).status_code == 201
    inner.away = StoreUnavailable("nobody answers")
    for end in (3, 3, 4, 5, 6, 6):
        sent = client.post(path, json={"messages": chat[:end]})
        assert (sent.status_code, set(sent.get_json()["counts"])) == (202, {"spooled"})
    inner.away = None
    eventually(lambda: client.get("/conversation/c").status_code == 200 and delivered(client), "delivered")
    sent = client.post(path, json={"messages": chat})
    assert (sent.status_code, sent.get_json()["counts"]) == (200, {"duplicate": 3})
    rows = client.get("/v1/sessions/c/interactions").get_json()["interactions"]
    assert sorted((row["prompt"], row["response"]) for row in rows) == [
        (f"user {n}", f"assistant {n}") for n in range(3)
    ]


def test_an_edit_of_a_spooled_message_is_delivered(client: FlaskClient, inner: FlakyStore) -> None:
    inner.away = StoreUnavailable("nobody answers")
    for question, answer, own_id in (("Name a tree", "Oak.", "a1"), ("Name a bird", "Owl.", "a2")):
        said = [
            {"role": "user", "content": question, "id": "u"},
            {"role": "assistant", "content": answer, "id": own_id},
        ]
        assert client.post("/v1/sessions/c/messages", json={"messages": said}).status_code == 202
    inner.away = None
    eventually(lambda: client.get("/conversation/c").status_code == 200 and delivered(client), "delivered")
    rows = client.get("/v1/sessions/c/interactions?branches=all").get_json()["interactions"]
    assert [(row["prompt"], row["response"]) for row in rows] == [("Name a bird", "Oak."), (None, "Owl.")]
    (revision,) = client.get("/v1/sessions/c/interactions/u/revisions").get_json()["revisions"]
    assert revision["facts"] == {"prompt": "Name a tree"}
