"""Feedback while the store is away, however late it is delivered."""

from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from flask.testing import FlaskClient

from logging_store import operations as ops
from logging_store.errors import Invalid, StoreUnavailable
from logging_store.spool import Spool
from tests.http_calls import create, in_path, log, problem
from tests.spool.conftest import delivered, eventually
from tests.spool.flaky_store import FlakyStore
from tests.store_calls import ask

AWAY = StoreUnavailable("nobody answers")
NOT_NOW = StoreUnavailable("not now")


def give(client: FlaskClient, value: object, **more: Any) -> str:
    stated = {"session_id": "chat", "interaction_id": "1", "value": value}
    answer = client.post("/v1/feedback", json=stated | more)
    assert answer.status_code in {200, 201, 202}, answer.text
    receipt: str = answer.get_json()["receipt"]
    return receipt


def read(client: FlaskClient) -> list[tuple[str | None, object, bool]]:
    answer = client.get(f"{in_path('chat')}/feedback")
    assert answer.status_code == 200, answer.text
    return [(row["author"], row["value"], row["spooled"]) for row in answer.get_json()["feedback"]]


def test_feedback_is_spooled_and_delivered_and_the_latest_counts(
    client: FlaskClient, spool: Spool, inner: FlakyStore
) -> None:
    assert give(client, 1, given_at="2025-11-21T12:00:00Z") == "created"
    inner.away = AWAY
    assert give(client, 2, given_at="2025-11-21T13:00:00Z") == "spooled"
    assert give(client, 3, given_at="2025-11-21T11:00:00Z") == "spooled"
    assert give(client, 4, author="ada") == "spooled"
    problem(client.get(f"{in_path('chat')}/feedback"), 503)
    inner.away = None
    delivered(spool)
    assert read(client) == [(None, 2, False), ("ada", 4, False)]


@pytest.fixture
def nothing_is_delivered(inner: FlakyStore, spool: Spool) -> Callable[[], None]:
    """Let writes wait though the store answers; return a way to wait until it is known that it does."""
    inner.refuses = lambda _: NOT_NOW
    return lambda: eventually(lambda: spool.breaker.is_closed, "the probe succeeds")


def test_spooled_feedback_is_shown(
    client: FlaskClient, spool: Spool, inner: FlakyStore, nothing_is_delivered: Callable[[], None]
) -> None:
    inner.refuses = lambda _: None
    give(client, 1, author="bob", given_at="2025-11-21T12:00:00Z")
    give(client, 2, author="cid", given_at="2025-11-21T12:00:00Z")
    inner.refuses = lambda _: NOT_NOW
    give(client, 3, author="bob", given_at="2025-11-21T13:00:00Z")
    nothing_is_delivered()
    give(client, 4, author="cid", given_at="2025-11-21T11:00:00Z")
    nothing_is_delivered()
    give(client, 5, author="dan")
    nothing_is_delivered()
    waiting = [("bob", 3, True), ("cid", 2, False), ("dan", 5, True)]
    assert read(client) == waiting
    first = client.get(f"{in_path('chat')}/feedback?limit=1").get_json()
    rest = client.get(f"{in_path('chat')}/feedback?limit=1&cursor={first['next']}").get_json()
    assert [(row["author"], row["value"], row["spooled"]) for row in first["feedback"] + rest["feedback"]] == waiting
    inner.refuses = lambda _: None
    delivered(spool)
    assert read(client) == [(author, value, False) for author, value, _ in waiting]


def test_spooled_feedback_of_one_author_is_shown(
    client: FlaskClient, spool: Spool, nothing_is_delivered: Callable[[], None]
) -> None:
    for author in ("ada", "bob"):
        give(client, 1, author=author)
        nothing_is_delivered()
    session = client.get(in_path("chat")).get_json()["session_id"]
    found = ask(spool, ops.FEEDBACK, "default", {"session_id": session, "limit": 10, "author": "ada"})["feedback"]
    assert [(row["author"], row["spooled"]) for row in found] == [("ada", True)]


def test_spooled_feedback_makes_its_session_visible(
    client: FlaskClient, nothing_is_delivered: Callable[[], None]
) -> None:
    give(client, True)
    nothing_is_delivered()
    assert read(client) == [(None, True, True)]
    assert client.get(in_path("chat")).get_json()["implicit"] is True


def test_feedback_is_erased_with_its_session_and_with_its_author(
    client: FlaskClient, inner: FlakyStore, spool: Spool, nothing_is_delivered: Callable[[], None], database: str
) -> None:
    inner.refuses = lambda _: None
    create(client, session_id="chat", user_id="bob")
    inner.refuses = lambda _: NOT_NOW
    give(client, 1, author="ada", comment="of ada")
    give(client, 2, author="bob", comment="of bob")
    give(client, 3, session_id="gone")
    nothing_is_delivered()
    assert client.delete(in_path("gone")).get_json()["spooled"] == 1
    assert client.delete("/v1/users/ada").get_json()["spooled"] == 1
    inner.refuses = lambda _: None
    delivered(spool)
    with psycopg.connect(database) as connection:
        assert connection.execute("select author, value from turnlog.ai_feedback").fetchall() == [("bob", 2)]
    assert spool.dead_letters.count() == 0


def test_rejected_feedback_is_a_dead_letter_that_names_its_interaction(
    client: FlaskClient, inner: FlakyStore, spool: Spool
) -> None:
    inner.away = AWAY
    give(client, 1)
    inner.refuses = lambda batch: Invalid("no good", field="value") if batch.feedback else None
    inner.away = None
    delivered(spool)
    log(client, session_id="chat", interaction_id="1", prompt="Hello")
    (letter,) = spool.dead_letters.list()
    (row,) = client.get(f"{in_path('chat')}/interactions").get_json()["interactions"]
    assert (letter.record_id, letter.batch.feedback[0]["value"]) == (row["interaction_id"], 1)
    inner.refuses = lambda _: None
    spool.write(letter.batch)
    assert read(client) == [(None, 1, False)]


def test_taking_back_and_feedback_on_a_session_are_spooled_shown_and_delivered(
    client: FlaskClient, spool: Spool, inner: FlakyStore, nothing_is_delivered: Callable[[], None]
) -> None:
    inner.refuses = lambda _: None
    give(client, True, author="ada", given_at="2025-11-21T12:00:00Z")
    give(client, True, author="bob", given_at="2025-11-21T12:00:00Z", interaction_id=None)
    inner.refuses = lambda _: NOT_NOW
    give(client, None, author="ada", given_at="2025-11-21T13:00:00Z")
    nothing_is_delivered()
    give(client, None, author="bob", given_at="2025-11-21T12:00:00Z", interaction_id=None)
    nothing_is_delivered()
    give(client, 5, author="cid", interaction_id=None)
    nothing_is_delivered()
    assert client.delete(f"{in_path('chat')}/feedback?author=dan").get_json()["receipt"] == "spooled"
    nothing_is_delivered()
    waiting = {("ada", None), ("bob", None), ("cid", 5), ("dan", None)}
    assert {(author, value) for author, value, _ in read(client)} == waiting
    inner.refuses = lambda _: None
    delivered(spool)
    rows = client.get(f"{in_path('chat')}/feedback").get_json()["feedback"]
    assert {(row["author"], row["value"]) for row in rows} == waiting
    assert {row["author"] for row in rows if row["interaction_id"] is None} == {"bob", "cid", "dan"}


def test_rejected_feedback_on_a_session_is_a_dead_letter_that_names_the_session(
    client: FlaskClient, inner: FlakyStore, spool: Spool
) -> None:
    inner.away = AWAY
    give(client, 1, interaction_id=None)
    inner.refuses = lambda batch: Invalid("no good", field="value") if batch.feedback else None
    inner.away = None
    delivered(spool)
    (letter,) = spool.dead_letters.list()
    assert letter.record_id == letter.session_id
    inner.refuses = lambda _: None
    spool.write(letter.batch)
    assert read(client) == [(None, 1, False)]


def test_spooled_feedback_on_a_session_is_erased_with_it(
    client: FlaskClient, inner: FlakyStore, spool: Spool, nothing_is_delivered: Callable[[], None], database: str
) -> None:
    give(client, 1, interaction_id=None)
    give(client, 2, interaction_id=None, author="ada", session_id="other")
    give(client, 3, interaction_id=None, session_id="other")
    nothing_is_delivered()
    assert client.delete(in_path("chat")).get_json()["spooled"] == 1
    assert client.delete("/v1/users/ada").get_json()["spooled"] == 1
    inner.refuses = lambda _: None
    delivered(spool)
    with psycopg.connect(database) as connection:
        assert connection.execute("select value from turnlog.ai_feedback").fetchall() == [(3,)]
