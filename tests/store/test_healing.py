"""Transient failures are retried, others say what to do: over both drivers, with real databases."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from psycopg import sql

from logging_store import errors
from logging_store import operations as ops
from logging_store.batches import Batch
from logging_store.postgres.postgres_store import PostgresStore
from logging_store.postgres.reconnection import until_reconnected
from tests.conftest import Backend
from tests.store_calls import ask

pytestmark = [pytest.mark.own_database, pytest.mark.every_store]

SESSION = "00000000-0000-0000-0000-000000000001"
BATCH = Batch("p", sessions=[{"id": SESSION, "created_at": "2026-11-21T06:30:00+00:00"}])
PATIENCE_S = 30
WAITING = "select pid from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
END_WAITING = WAITING.replace("pid", "pg_terminate_backend(pid, 5000)", 1)

# A sequence counts the calls: it goes on although each of them is rolled back.
FAILING = """
    create sequence public.calls;
    grant usage on sequence public.calls to service_role;
    create or replace function turnlog.session(request jsonb) returns jsonb
    language plpgsql volatile set search_path = '' as $$
    begin
        if nextval('public.calls') <= {times} then
            raise exception 'not now' using errcode = {code};
        end if;
        return '{{"answered": true}}';
    end $$
"""


def connect(database: str) -> psycopg.Connection:
    return psycopg.connect(database, autocommit=True)


def end_other_connections(admin: psycopg.Connection) -> int:
    """End every other connection to this database, and return their number once they have gone."""
    return len(
        admin.execute(
            "select pg_terminate_backend(pid, 5000) from pg_stat_activity"
            " where datname = current_database() and pid <> pg_backend_pid() and backend_type = 'client backend'"
        ).fetchall()
    )


def eventually(look: Callable[[], bool]) -> None:
    give_up = time.monotonic() + PATIENCE_S
    while not look():
        assert time.monotonic() < give_up
        time.sleep(0.01)


@pytest.mark.parametrize("code", ["40P01", "40001"])
def test_a_call_with_two_transient_failures_succeeds(backend: Backend, code: str) -> None:
    with connect(backend.database) as admin:
        admin.execute(sql.SQL(FAILING).format(times=2, code=code))
        assert ask(backend.open(), ops.SESSION, "p", {"session_id": SESSION}) == {"answered": True}
        assert admin.execute("select last_value from public.calls").fetchone() == (3,)


def test_retries_are_bounded(backend: Backend) -> None:
    with connect(backend.database) as admin:
        admin.execute(sql.SQL(FAILING).format(times=1_000_000, code="53300"))
        with pytest.raises(errors.StoreUnavailable, match=r"not now \(53300\)"):
            ask(backend.open(), ops.SESSION, "p", {"session_id": SESSION})
        assert admin.execute("select last_value from public.calls").fetchone() == (4,)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("22003", errors.Invalid),
        ("42P01", errors.Misconfigured),
        ("55P03", errors.StoreBusy),
        ("57014", errors.StoreBusy),
    ],
)
def test_permanent_failures_are_not_retried(backend: Backend, code: str, kind: type[errors.StoreError]) -> None:
    with connect(backend.database) as admin:
        admin.execute(sql.SQL(FAILING).format(times=1_000_000, code=code))
        with pytest.raises(kind, match="not now"):
            ask(backend.open(), ops.SESSION, "p", {"session_id": SESSION})
        assert admin.execute("select last_value from public.calls").fetchone() == (1,)


def test_connections_that_end_between_calls_fail_no_read(backend: Backend) -> None:
    store = backend.open()
    session = store.write(BATCH) and ask(store, ops.SESSION, "p", {"session_id": SESSION})
    with connect(backend.database) as admin:
        for _ in range(2):
            assert end_other_connections(admin) >= 1
            assert ask(store, ops.SESSION, "p", {"session_id": SESSION}) == session
            assert [kept.receipt for kept in store.write(BATCH)] == ["duplicate"]


def test_a_whole_pool_of_ended_connections_fails_no_read(backend: Backend) -> None:
    store = backend.open()
    with connect(backend.database) as admin, connect(backend.database) as other, ThreadPoolExecutor(8) as threads:
        with other.transaction():
            other.execute("lock table turnlog.ai_sessions in access exclusive mode")
            writes = [threads.submit(store.write, BATCH) for _ in range(8)]
            eventually(lambda: len(admin.execute(WAITING).fetchall()) == 8)
        assert sorted(receipt.receipt for write in writes for receipt in write.result()) == ["created"] + (
            ["duplicate"] * 7
        )
        assert end_other_connections(admin) >= 8
        reads = [threads.submit(ask, store, ops.SESSION, "p", {"session_id": SESSION}) for _ in range(8)]
        assert {read.result()["session_id"] for read in reads} == {SESSION}


def test_a_connection_that_ends_during_a_call_fails_none(backend: Backend) -> None:
    store = backend.open()
    store.ping()
    with connect(backend.database) as admin, connect(backend.database) as other, ThreadPoolExecutor() as threads:
        with other.transaction():
            other.execute("lock table turnlog.ai_sessions in access exclusive mode")
            write = threads.submit(store.write, BATCH)
            eventually(lambda: admin.execute(WAITING).fetchone() is not None)
            assert admin.execute(END_WAITING).fetchall() == [(True,)]
        assert [receipt.receipt for receipt in write.result()] == ["created"]
        assert len(admin.execute("select from turnlog.ai_sessions").fetchall()) == 1


def test_a_role_without_rights_says_which_it_needs(database: str) -> None:
    with connect(database) as admin:
        admin.execute("alter role anon login")
    store = PostgresStore(psycopg.conninfo.make_conninfo(database, user="anon"))
    try:
        with pytest.raises(errors.Misconfigured, match="or the tables' owner"):
            store.ping()
    finally:
        store.close()
        with connect(database) as admin:
            admin.execute("alter role anon nologin")


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("synchronous_commit = off", "synchronous_commit = off and may lose"),
        ("default_transaction_isolation = 'serializable'", "reset default_transaction_isolation"),
    ],
)
def test_a_database_that_may_lose_data_is_refused(backend: Backend, setting: str, sentence: str) -> None:
    trusting = backend.open()
    trusting.ping()
    with connect(backend.database) as admin:
        admin.execute(f"alter database {admin.info.dbname} set {setting}".encode())
        end_other_connections(admin)
    with pytest.raises(errors.Misconfigured, match=sentence):
        until_reconnected(backend.open().ping, time.monotonic() + PATIENCE_S)
