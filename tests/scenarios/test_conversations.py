"""The MongoDB chat: E11000, sessionId: null. An identity that could be missing, under a unique index."""

import random
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, LiteralString

import psycopg
import pytest
from flask import Flask
from flask.testing import FlaskClient
from psycopg import errors

from app import create_app
from conversation.settings import Settings
from logging_store.metrics.ledger import Ledger
from logging_store.repository import ConversationRepository
from tests.conftest import PROJECT, Backend
from tests.http_calls import KEYLESS, paths, problem

THREADS = 50
UUID = "01890a5d-ac96-774b-bcce-b302099a8057"
NIL = "00000000-0000-0000-0000-000000000000"
MISSING = ["", " ", "\t", "null", "NULL", "None", "undefined", NIL]
STARTS = [
    ("/v1/sessions", "session_id", {}),
    ("/session/create", "session_id", {}),
    ("/v1/interactions", "session_id", {"prompt": "Hi"}),
    ("/interaction/log", "session_id", {"prompt": "Hi"}),
    ("/conversation/start", "conversation_id", {}),
    ("/conversation/start", "conversationId", {}),
    ("/conversation/start", "session_id", {}),
    ("/conversation/start", "sessionId", {}),
]


@pytest.fixture
def app(backend: Backend) -> Flask:
    return create_app(Settings.from_mapping(KEYLESS), backend.open())


def count(backend: Backend, table: LiteralString) -> int:
    with psycopg.connect(backend.database) as connection:
        return len(connection.execute("select from turnlog." + table).fetchall())


def test_two_starts_without_an_id_both_work(client: FlaskClient, backend: Backend) -> None:
    # the second insert of {sessionId: null} was the one that failed
    bodies: list[dict[str, Any]] = [{}, {}, {"sessionId": None}, {"session_id": None}, {"conversationId": None}]
    answers = [client.post("/conversation/start", json=body) for body in bodies]
    assert [answer.status_code for answer in answers] == [201] * 5
    assert len({answer.get_json().get("session_id") or answer.get_json()["sessionId"] for answer in answers}) == 5
    assert count(backend, "ai_sessions") == 5


@pytest.mark.parametrize(("path", "name", "more"), STARTS)
def test_a_missing_id_means_a_new_one_and_is_never_stored(
    client: FlaskClient, backend: Backend, path: str, name: str, more: dict[str, Any]
) -> None:
    kept = [client.post(path, json=body) for body in (more, more | {name: None})]
    assert [answer.status_code for answer in kept] == [201, 201]
    refused = [client.post(path, json=more | {name: missing}) for missing in MISSING]
    assert [paths(answer) for answer in refused] == [[f"$.{name}"]] * len(MISSING)
    assert {answer.status_code for answer in refused} == {422}
    assert all("leave it out" in problem(answer)["fields"][0]["detail"] for answer in refused)
    with psycopg.connect(backend.database) as connection:
        rows = connection.execute("select key from turnlog.ai_sessions").fetchall()
    assert rows == [(None,), (None,)]


@pytest.mark.parametrize("missing", ["null", "undefined", "None", "%20", NIL])
def test_a_missing_id_in_the_path_is_no_conversation(client: FlaskClient, backend: Backend, missing: str) -> None:
    told = [
        client.post(f"/conversation/{missing}/message", json={"role": "user", "content": "Hi"}),
        client.get(f"/conversation/{missing}"),
    ]
    assert [problem(answer)["status"] for answer in told] == [404, 404]
    assert all("/conversation/start" in problem(answer)["detail"] for answer in told)
    assert count(backend, "ai_sessions") == 0


@pytest.mark.parametrize(
    ("row", "error", "rule"),
    [
        (("ai_sessions", {"id": None}), errors.NotNullViolation, "id"),
        (("ai_sessions", {"id": NIL}), errors.CheckViolation, "ai_sessions_id_check"),
        *(
            (("ai_sessions", {"id": UUID, "key": key}), errors.CheckViolation, "ai_sessions_key_check")
            for key in ("", "  ", "\t", "null", "NULL", "undefined", "None")
        ),
        (("ai_sessions", {"id": UUID, "project": ""}), errors.CheckViolation, "ai_sessions_project_check"),
        (("ai_sessions", {"id": UUID, "project": None}), errors.NotNullViolation, "project"),
        (("ai_sessions", {"id": UUID, "key": "stored"}), errors.UniqueViolation, "ai_sessions_project_key_key"),
        (("ai_interactions", {"id": UUID, "session_id": None}), errors.NotNullViolation, "session_id"),
        (("ai_interactions", {"id": None, "session_id": "stored"}), errors.NotNullViolation, "id"),
        (("ai_interactions", {"id": NIL, "session_id": "stored"}), errors.CheckViolation, "ai_interactions_id_check"),
        *(
            (
                ("ai_interactions", {"id": UUID, "session_id": "stored", "key": key}),
                errors.CheckViolation,
                "ai_interactions_key_check",
            )
            for key in ("", " ", "null", "undefined", "None")
        ),
        (
            ("ai_interactions", {"id": UUID, "session_id": UUID}),
            errors.ForeignKeyViolation,
            "ai_interactions_session_fkey",
        ),
    ],
)
def test_the_database_refuses_it_too(
    client: FlaskClient, backend: Backend, row: tuple[str, dict[str, Any]], error: type[psycopg.Error], rule: str
) -> None:
    stored = client.post("/conversation/start", json={"conversation_id": "stored"}).get_json()["session_id"]
    table, values = row
    values = {"project": PROJECT, "created_at": "2026-11-21T06:30:00Z"} | values
    if values.get("session_id") == "stored":
        values["session_id"] = stored
    insert = psycopg.sql.SQL("insert into {} ({}) values ({})").format(
        psycopg.sql.Identifier("turnlog", table),
        psycopg.sql.SQL(", ").join(map(psycopg.sql.Identifier, values)),
        psycopg.sql.SQL(", ").join(psycopg.sql.Placeholder() * len(values)),
    )
    with psycopg.connect(backend.database) as connection, pytest.raises(error) as refused:
        connection.execute(insert, list(values.values()))
    assert rule in {refused.value.diag.constraint_name, refused.value.diag.column_name}
    assert (count(backend, "ai_sessions"), count(backend, "ai_interactions")) == (1, 0)


@contextmanager
def at_once(app: Flask) -> Iterator[ThreadPoolExecutor]:
    """Yield threads that begin together: each task waits until all are there."""
    barrier = threading.Barrier(THREADS)
    with ThreadPoolExecutor(THREADS, initializer=barrier.wait, initargs=(30,)) as threads:
        yield threads


def test_fifty_start_the_same_conversation_and_say_the_same(app: Flask, backend: Backend) -> None:
    started = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    said = [
        {"role": role, "content": f"{role} {n}", "message_id": f"{role} {n}"}
        | ({"reply_to": f"user {n}"} if role == "assistant" else {})
        for n in range(3)
        for role in ("user", "assistant")
    ]

    def act(lane: int) -> list[tuple[int, str]]:
        client, dice = app.test_client(), random.Random(lane)
        calls: list[tuple[str, dict[str, Any]]] = [("/conversation/chat/message", message) for message in said]
        calls.append(("/conversation/start", {"conversation_id": "chat", "user_id": "ada", "messages": started}))
        dice.shuffle(calls)
        told = []
        for path, body in calls:
            answer = client.post(path, json=body)
            receipts = answer.get_json().get("messages", [answer.get_json()])
            told += [(answer.status_code, receipt["receipt"]) for receipt in receipts]
        return told

    with at_once(app) as threads:
        told = Counter(outcome for outcomes in threads.map(act, range(THREADS)) for outcome in outcomes)
    assert {status for status, _ in told} <= {200, 201}
    outcomes = Counter(receipt for (_, receipt), times in told.items() for _ in range(times))
    # four interactions, each with two halves: one of them creates it, the other fills it, all else repeats
    assert outcomes == {"created": 4, "filled": 4, "duplicate": 8 * THREADS - 8}

    assert (count(backend, "ai_sessions"), count(backend, "ai_interactions")) == (1, 4)
    read = app.test_client().get("/conversation/chat").get_json()["messages"]
    assert sorted((message["role"], message["content"]) for message in read) == sorted(
        (message["role"], message["content"]) for message in started + said
    )
    asked = {message["message_id"]: message for message in read if message["role"] == "user"}
    for before, answer in zip(read[::2], read[1::2], strict=True):
        assert asked[answer["reply_to"]] is before


def test_fifty_starts_without_an_id_are_fifty_conversations(app: Flask, backend: Backend) -> None:
    def act(lane: int) -> tuple[int, str, str]:
        body = {"sessionId": None, "messages": [{"role": "user", "content": f"I am {lane}"}]}
        client = app.test_client()
        answer = client.post("/conversation/start", json=body)
        name = answer.get_json()["conversationId"]
        (message,) = client.get(f"/conversation/{name}").get_json()["messages"]
        return answer.status_code, name, message["content"]

    with at_once(app) as threads:
        told = list(threads.map(act, range(THREADS)))
    assert {status for status, _, _ in told} == {201}
    assert len({name for _, name, _ in told}) == THREADS
    assert [said for _, _, said in told] == [f"I am {lane}" for lane in range(THREADS)]
    assert (count(backend, "ai_sessions"), count(backend, "ai_interactions")) == (THREADS, THREADS)


def test_of_several_users_one_has_the_conversation_and_the_others_are_told(app: Flask, backend: Backend) -> None:
    def act(lane: int) -> tuple[int, int, list[str]]:
        answer = app.test_client().post("/conversation/start", json={"session_id": "chat", "user_id": f"user {lane}"})
        return lane, answer.status_code, paths(answer) if answer.status_code == 409 else []

    with at_once(app) as threads:
        told = list(threads.map(act, range(THREADS)))
    (winner,) = [lane for lane, status, _ in told if status == 201]
    assert [(status, named) for lane, status, named in told if lane != winner] == [(409, ["$.user_id"])] * (THREADS - 1)
    with psycopg.connect(backend.database) as connection:
        assert connection.execute("select user_id from turnlog.ai_sessions").fetchall() == [(f"user {winner}",)]


def test_the_ledger_counts_each_record_once(app: Flask, backend: Backend) -> None:
    counts = Ledger()
    app.extensions["conversation_repository"] = ConversationRepository(backend.open(), PROJECT, ledger=counts)
    client = app.test_client()
    body = {
        "session_id": "chat",
        "messages": [{"role": "user", "content": "Hi", "id": "u"}, {"role": "assistant", "content": "Ho"}],
    }
    client.post("/conversation/start", json=body)  # two created, one filled
    client.post("/conversation/start", json=body)  # three duplicates
    client.post("/conversation/chat/message", json={"role": "user", "content": "He", "message_id": "u"})  # revised
    client.post("/conversation/chat/message", json={"role": "user"})  # rejected
    client.post("/conversation/start", json={"session_id": "null"})  # rejected
    totals = counts.totals()
    assert {name: totals[name] for name in ("created", "filled", "duplicate", "revised", "rejected", "received")} == {
        "created": 2, "filled": 1, "duplicate": 3, "revised": 1, "rejected": 2, "received": 9,
    }  # fmt: skip
