"""While Supabase's API reconnects to its database, whoever can wait does, and others learn what is going on."""

import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from flask.testing import FlaskClient
from psycopg.conninfo import make_conninfo

from app import create_app
from conversation.doctor import examination
from conversation.settings import Settings
from conversation.stack import create_database_store
from logging_store import errors
from logging_store import operations as ops
from logging_store.batches import Batch
from logging_store.postgres import reconnection
from logging_store.postgres.reconnection import until_reconnected
from logging_store.postgres.supabase_store import SupabaseStore
from tests.api.test_problems import FailingStore
from tests.doctor.operator import Operator
from tests.http_calls import KEYLESS, log, problem
from tests.pages.html import page_of
from tests.postgrest import Fault, PostgrestStandIn, Respond, Stall
from tests.store_calls import ask

SESSION = "00000000-0000-0000-0000-000000000001"
BATCH = Batch("default", sessions=[{"id": SESSION, "created_at": "2026-11-21T06:30:00+00:00"}])
NO_SCHEMA = '{"code":"PGRST002","details":null,"hint":null,"message":"Could not query the database. Retrying."}'
RECONNECTING = Respond(503, NO_SCHEMA, {"Content-Type": "application/json"})
MORE_THAN_A_WRITE_TRIES = 6


@pytest.fixture
def standin(database: str) -> Iterator[PostgrestStandIn]:
    with PostgrestStandIn(make_conninfo(database, user="authenticator")) as standin:
        yield standin


@pytest.fixture
def operator(standin: PostgrestStandIn, database: str, tmp_path: Path) -> Operator:
    environment = {"SUPABASE_URL": standin.url, "SUPABASE_SECRET_KEY": standin.key(), "DATA_DIR": str(tmp_path)}
    return Operator(environment | {"TURNLOG_DEADLINE_S": "4", "TURNLOG_KEYLESS": "true"}, database)


@pytest.fixture
def store(operator: Operator) -> Iterator[SupabaseStore]:
    store = cast("SupabaseStore", create_database_store(operator.settings))
    yield store
    store.close()


def test_pauses_grow_and_end_before_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, pauses = [100.0], []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        clock[0] += seconds

    def call() -> None:
        raise errors.StoreReconnecting

    monkeypatch.setattr(reconnection, "time", SimpleNamespace(monotonic=lambda: clock[0], sleep=sleep))
    waits: list[Exception] = []
    with pytest.raises(errors.StoreReconnecting):
        until_reconnected(call, 110, waits.append)
    assert clock[0] < 110
    assert max(pauses[:2]) < min(pauses[4:])
    assert len(waits) == 1


def test_a_read_waits_and_a_write_leaves_it_to_the_spool(standin: PostgrestStandIn, store: SupabaseStore) -> None:
    store.write(BATCH)
    standin.faults.add(Fault(RECONNECTING, times=MORE_THAN_A_WRITE_TRIES))
    assert ask(store, ops.SESSION, "default", {"session_id": SESSION})["session_id"] == SESSION
    assert standin.faults.applied == MORE_THAN_A_WRITE_TRIES
    standin.faults.add(Fault(RECONNECTING, times=None))
    with pytest.raises(errors.StoreReconnecting, match="reconnecting to its database"):
        store.write(BATCH)
    assert standin.faults.applied == MORE_THAN_A_WRITE_TRIES + 4


def test_no_read_waits_for_longer_than_its_caller(standin: PostgrestStandIn, store: SupabaseStore) -> None:
    standin.faults.add(Fault(RECONNECTING, times=None))
    began = time.monotonic()
    with pytest.raises(errors.StoreReconnecting):
        ask(store, ops.SESSION, "default", {"session_id": SESSION})
    assert time.monotonic() - began < store.deadline_s + 1, "the grace of a busy machine"


@pytest.mark.own_database
def test_a_call_that_the_api_repeats_without_end_is_sent_once(
    standin: PostgrestStandIn, store: SupabaseStore, operator: Operator
) -> None:
    operator.execute(
        "create or replace function turnlog.session(request jsonb) returns jsonb language plpgsql"
        " set search_path = '' as $$ begin raise exception 'always' using errcode = '40P01'; end $$"
    )
    standin.faults.add(Fault(Stall(0), times=None))  # counts calls
    # each attempt would leave the API another transaction to repeat
    with pytest.raises(errors.StoreUnavailable, match="answer in time"):
        ask(store, ops.SESSION, "default", {"session_id": SESSION})
    assert standin.faults.applied == 1


def test_the_doctor_waits_for_the_api(standin: PostgrestStandIn, operator: Operator) -> None:
    standin.faults.add(Fault(RECONNECTING, times=MORE_THAN_A_WRITE_TRIES))
    result = operator.run("doctor")
    assert (result.exit_code, standin.faults.applied) == (0, MORE_THAN_A_WRITE_TRIES), result.output
    assert "Supabase's API is reconnecting to its database" in result.stderr


def test_the_doctor_asks_twice_before_it_says_that_the_database_is_away(
    standin: PostgrestStandIn, operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(examination, "_SECOND_LOOK_S", 0)
    standin.faults.add(Fault(Respond(502, "<html>")))
    assert operator.find() == []
    standin.faults.add(Fault(Respond(502, "<html>"), times=None))
    [(check, finding)] = operator.find()
    assert (check, "answered 502" in finding["found"]) == ("database", True)
    assert standin.faults.applied == 1 + 2


def test_commands_wait_for_the_api(standin: PostgrestStandIn, operator: Operator) -> None:
    standin.faults.add(Fault(RECONNECTING, times=MORE_THAN_A_WRITE_TRIES))
    result = operator.run("projects", "list")
    assert (result.exit_code, standin.faults.applied) == (0, MORE_THAN_A_WRITE_TRIES), result.output
    assert "Waiting for it" in result.stderr


@pytest.fixture
def client(standin: PostgrestStandIn, operator: Operator) -> Iterator[FlaskClient]:
    app = create_app(operator.settings)
    yield app.test_client()
    standin.faults.clear()
    app.extensions["conversation_repository"].store.close()


def test_the_service_says_that_the_api_is_reconnecting(standin: PostgrestStandIn, client: FlaskClient) -> None:
    assert log(client, session_id="s", prompt="1").status_code == 201
    standin.faults.add(Fault(RECONNECTING, times=None))
    # the first is refused by the API; by the next ones the breaker knows
    assert log(client, session_id="s", prompt="2").get_json()["receipt"] == "spooled"
    for _ in range(2):
        told = problem(client.get("/v1/sessions/s"))
        assert (told["code"], told["retry_after"]) == ("store-reconnecting", 5)
        assert "Supabase's API is reconnecting" in client.get("/readyz").get_json()["reason"]
    standin.faults.clear()


@pytest.mark.parametrize("path", ["/", "/sessions", "/sessions/s", "/search?q=a", "/live", "/folders"])
def test_a_page_says_that_the_api_is_reconnecting_and_reloads_itself(path: str) -> None:
    failing = FailingStore(errors.StoreReconnecting("away"))
    page = page_of(create_app(Settings.from_mapping(KEYLESS), failing).test_client().get(path), 503)
    [refresh] = page.select("head meta[http-equiv=refresh]")
    assert refresh["content"] == "5"
    text = " ".join(page.get_text().split())
    assert "Supabase's API has lost its connections to the database" in text
    assert "This page reloads every 5 seconds" in text


@pytest.mark.parametrize("error", [errors.StoreUnavailable("away"), errors.StoreBusy("57014")])
def test_no_other_outage_makes_a_page_reload(error: errors.StoreUnavailable) -> None:
    # a query that takes too long would be repeated for as long as the page is open
    client = create_app(Settings.from_mapping(KEYLESS), FailingStore(error)).test_client()
    for path in ("/", "/sessions"):
        assert not page_of(client.get(path), 503).select("meta[http-equiv=refresh]")
