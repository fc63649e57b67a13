"""Failures of Supabase's gateway, keys and network: transient ones are retried, others say what to do."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest

from logging_store import errors
from logging_store.batches import Batch
from logging_store.postgres.function_store import FunctionStore
from logging_store.postgres.postgres_store import PostgresStore
from logging_store.postgres.supabase_store import SupabaseStore
from tests.databases import TestServer
from tests.postgrest import Disconnect, Fault, PostgrestStandIn, Respond, Truncate, sign
from tests.postgrest.faults import When

SESSION = "00000000-0000-0000-0000-000000000001"
BATCH = Batch("p", sessions=[{"id": SESSION, "created_at": "2026-11-21T06:30:00+00:00"}])
HTML = "<html><body><h1>It went wrong</h1></body></html>"
JSON = {"Content-Type": "application/json"}


@dataclass
class Api:
    """A stand-in for Supabase's API, and the database behind it."""

    standin: PostgrestStandIn
    database: str
    store: SupabaseStore

    def stored(self) -> int:
        with psycopg.connect(self.database) as connection:
            return len(connection.execute("select from turnlog.ai_sessions").fetchall())


@contextmanager
def opened_api(server: TestServer, *, empty: bool = False) -> Iterator[Api]:
    with (
        server.database(empty=empty) as name,
        PostgrestStandIn(server.conninfo(name, user="authenticator")) as standin,
    ):
        store = SupabaseStore(standin.url, standin.key())
        yield Api(standin, server.conninfo(name), store)
        store.close()


@pytest.fixture
def api(postgres_server: TestServer) -> Iterator[Api]:
    with opened_api(postgres_server) as api:
        yield api


def test_an_unmigrated_database_names_the_migrations(postgres_server: TestServer) -> None:
    with opened_api(postgres_server, empty=True) as api:
        store = PostgresStore(api.database)
        for each in (store, api.store):
            for call in (each.ping, lambda each=each: each.write(BATCH)):
                with pytest.raises(errors.Misconfigured, match=r"turnlog migrate.*supabase/migrations"):
                    call()
        store.close()


@pytest.mark.parametrize(
    ("key", "sentence"),
    [
        (sign("the secret of another project, " * 2, "service_role"), "check SUPABASE_SECRET_KEY"),
        ("sb_secret_of_another_project", "check SUPABASE_SECRET_KEY"),
    ],
)
def test_a_key_of_another_project_says_what_to_check(api: Api, key: str, sentence: str) -> None:
    assert_misconfigured(SupabaseStore(api.standin.url, key), sentence)


@pytest.mark.parametrize(
    ("claims", "sentence"),
    [
        ({"role": "service_role", "lifetime_s": -3600}, "make a new secret key"),
        ({"role": "anon"}, r"use the secret \(service_role\) key"),
        ({"role": "nobody_here"}, r"use the secret \(service_role\) key"),
    ],
)
def test_a_wrong_key_of_ours_says_what_to_do(api: Api, claims: dict[str, Any], sentence: str) -> None:
    assert_misconfigured(SupabaseStore(api.standin.url, api.standin.key(**claims)), sentence)


def assert_misconfigured(store: FunctionStore, sentence: str) -> None:
    for call in (store.ping, lambda: store.write(BATCH)):
        with pytest.raises(errors.Misconfigured, match=sentence):
            call()
    store.close()


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (Respond(401, '{"message": "Invalid API key"}', JSON), "Invalid API key.*check SUPABASE_SECRET_KEY"),
        (Respond(403, HTML), "check SUPABASE_SECRET_KEY"),
        (Respond(404, HTML), "check SUPABASE_URL"),
    ],
)
def test_a_gateway_error_says_what_to_check(api: Api, answer: Respond, sentence: str) -> None:
    api.standin.faults.add(Fault(answer, times=None))
    with pytest.raises(errors.Misconfigured, match=sentence):
        api.store.write(BATCH)
    assert api.standin.faults.applied == 1


PASSING = [
    Respond(502, HTML),
    Respond(429, '{"message": "Too many requests"}', JSON),
    Respond(504, "", {}),
    Respond(520, "error code: 520", {"Content-Type": "text/plain"}),
    Respond(200, HTML),
    Disconnect(),
    Truncate(),
    Truncate(keep_bytes=0),
]


@pytest.mark.parametrize(("when", "receipt"), [("before", "created"), ("after", "duplicate")])
@pytest.mark.parametrize("what", PASSING, ids=repr)
def test_a_transient_gateway_failure_is_retried_without_a_second_row(
    api: Api, what: Respond | Disconnect | Truncate, when: When, receipt: str
) -> None:
    api.standin.faults.add(Fault(what, when=when, times=2))
    assert [kept.receipt for kept in api.store.write(BATCH)] == [receipt]
    assert (api.standin.faults.applied, api.stored()) == (2, 1)


@pytest.mark.parametrize(("when", "stored"), [("before", 0), ("after", 1)])
@pytest.mark.parametrize("what", PASSING, ids=repr)
def test_a_permanent_gateway_failure_is_reported(
    api: Api, what: Respond | Disconnect | Truncate, when: When, stored: int
) -> None:
    api.standin.faults.add(Fault(what, when=when, times=None))
    with pytest.raises(errors.StoreUnavailable):
        api.store.write(BATCH)
    assert (api.standin.faults.applied, api.stored()) == (4, stored)
