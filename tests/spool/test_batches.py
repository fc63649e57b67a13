"""Batches with composite keys while the store is away give the same rows later."""

from typing import Any

import psycopg
import pytest
from flask import Flask
from flask.testing import FlaskClient

from logging_store.errors import StoreUnavailable
from logging_store.spool import Spool
from tests.http_calls import log, problem
from tests.spool.conftest import eventually
from tests.spool.flaky_store import FlakyStore

AWAY = StoreUnavailable("nobody answers")


def lesson(slot: int, response: str, **more: Any) -> dict[str, Any]:
    return {"key": {"school": "Elm", "slot": slot}, "prompt": "A lesson", "response": response, **more}


def send(client: FlaskClient, on_conflict: str, *items: dict[str, Any]) -> dict[str, Any]:
    body = {"interactions": items, "on_conflict": on_conflict, "key_fields": ["school", "slot"]}
    answered: dict[str, Any] = client.post("/v1/interactions/batch", json=body).get_json()
    return answered


def come_back(spool: Spool, inner: FlakyStore) -> None:
    inner.away = None
    eventually(lambda: spool.breaker.is_closed and spool.directory.depth().entries == 0, "delivered")


def rows(database: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(database) as connection:
        return connection.execute(
            "select id::text, session_id::text, key, response #>> '{}', model from turnlog.ai_interactions order by key"
        ).fetchall()


def incomplete(item: dict[str, Any]) -> bool:
    """Tell whether something of an item was not taken."""
    return item["receipt"] == "conflict" or "differs" in item


@pytest.mark.parametrize("on_conflict", ["keep", "report", "fill", "revise"])
def test_a_delivered_batch_gives_the_same_rows_as_a_direct_write(
    client: FlaskClient, spool: Spool, inner: FlakyStore, database: str, on_conflict: str
) -> None:
    stored = [lesson(slot, "Fractions") for slot in (1, 2, 3)]
    batch = [
        lesson(1, "Decimals", model="m"),
        lesson(2, "Fractions", model="m"),
        lesson(3, "Fractions"),
        lesson(4, "Fractions"),
    ]
    send(client, "keep", *stored)
    at_once = send(client, on_conflict, *batch)["receipts"]
    expected = rows(database)
    with psycopg.connect(database) as connection:
        connection.execute("delete from turnlog.ai_interactions")
        connection.execute("delete from turnlog.ai_revisions")
        connection.execute("delete from turnlog.ai_messages")

    send(client, "keep", *stored)
    inner.away = AWAY
    assert send(client, on_conflict, *batch)["counts"] == {"spooled": 4}
    come_back(spool, inner)
    assert rows(database) == expected
    outcomes = {letter.batch.interactions[0]["key"]: letter.receipt["receipt"] for letter in spool.dead_letters.list()}
    keys = [f'{{"school":"Elm","slot":{slot}}}' for slot in (1, 2, 3, 4)]
    assert outcomes == {key: item["receipt"] for key, item in zip(keys, at_once, strict=True) if incomplete(item)}


def test_a_dead_letter_names_the_fields_that_differ(
    app: Flask, client: FlaskClient, spool: Spool, inner: FlakyStore, database: str
) -> None:
    send(client, "keep", *(lesson(slot, "Fractions") for slot in (1, 2, 3)))
    inner.away = AWAY
    send(client, "keep", lesson(1, "Decimals", model="m"))
    send(client, "report", lesson(2, "Fractions", model="m"))
    send(client, "fill", lesson(3, "Decimals", model="m"))
    come_back(spool, inner)
    assert [row[3:] for row in rows(database)] == [("Fractions", None), ("Fractions", None), ("Fractions", "m")]
    letters = {letter.batch.interactions[0]["key"]: letter.receipt for letter in spool.dead_letters.list()}
    assert letters == {
        '{"school":"Elm","slot":1}': {"receipt": "conflict", "fields": ["response"]},
        '{"school":"Elm","slot":2}': {"receipt": "conflict", "fields": ["model"]},
        '{"school":"Elm","slot":3}': {"receipt": "filled", "fields": ["model"], "differs": ["response"]},
    }
    listed = app.test_cli_runner().invoke(args=["spool", "list"]).stdout
    assert sorted(line.split("  ")[-1] for line in listed.splitlines()) == [
        "conflict: model",
        "conflict: response",
        "filled in part, not: response",
    ]


def test_repeated_keys_are_reported_during_an_outage(
    client: FlaskClient, spool: Spool, inner: FlakyStore, database: str
) -> None:
    inner.away = AWAY
    answered = send(client, "keep", lesson(1, "Fractions"), lesson(1, "Fractions"), lesson(1, "Decimals"))
    assert [(item["receipt"], item.get("reason"), item["indexes"]) for item in answered["receipts"]] == [
        ("spooled", None, [0, 1, 2]),
        ("spooled", "duplicate_in_batch", [0, 1]),
        ("rejected", "duplicate_in_batch", [0, 2]),
    ]
    come_back(spool, inner)
    assert [row[3] for row in rows(database)] == ["Fractions"]
    assert spool.dead_letters.count() == 0


def test_a_dry_run_is_not_spooled(client: FlaskClient, spool: Spool, inner: FlakyStore, database: str) -> None:
    for away in (None, AWAY):
        inner.away = away
        counted = client.application.extensions["conversation_repository"].ledger.totals()
        for path, body in (
            ("/v1/interactions", lesson(1, "Fractions")),
            ("/v1/interactions/batch", {"interactions": [lesson(1, "Fractions"), {}]}),
        ):
            answer = client.post(f"{path}?dry_run=true", json=body)
            assert answer.status_code == (503 if away else 200)
            assert away is None or problem(answer)["retry_after"] > 0
        after = client.application.extensions["conversation_repository"].ledger.totals()
        assert after | {"open_breakers": 0} == counted | {"open_breakers": 0}
    assert spool.directory.depth().entries == 0
    inner.away = None
    eventually(lambda: spool.breaker.is_closed, "the store is back")
    assert rows(database) == []
    assert log(client, **lesson(1, "Fractions")).status_code == 201
