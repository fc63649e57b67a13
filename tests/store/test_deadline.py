"""A call ends in time even if the server hangs, and the next call works."""

import gc
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TypeVar

import psutil
import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from logging_store import operations as ops
from logging_store.batches import Batch
from logging_store.embedded.server import EmbeddedPostgres
from logging_store.errors import StoreUnavailable
from logging_store.postgres.deadline import Watchdog
from logging_store.postgres.function_store import FunctionStore
from logging_store.postgres.postgres_store import PostgresStore
from logging_store.postgres.supabase_store import SupabaseStore
from tests.databases import TestServer, server_folder
from tests.gate import Gate
from tests.postgrest import Fault, PostgrestStandIn, Stall
from tests.postgrest.faults import When
from tests.store_calls import ask

pytestmark = pytest.mark.slow

DEADLINE_S = 2.0
GRACE_S = 1.0
PATIENCE_S = 30
SESSION = "00000000-0000-0000-0000-000000000001"
SLEEPING = "select pid from pg_stat_activity where datname = current_database() and wait_event = 'PgSleep'"
BATCH = Batch("p", sessions=[{"id": SESSION, "created_at": "2026-11-21T06:30:00+00:00"}])
Found = TypeVar("Found")


@dataclass
class Behind:
    """A store with a short deadline that reaches its database through a gate."""

    store: FunctionStore
    gate: Gate
    database: str


@pytest.fixture(scope="module")
def postgres_server() -> Iterator[TestServer]:
    """Yield a server on this machine in any case: its processes are stopped here."""
    with server_folder() as folder:
        server = EmbeddedPostgres(folder)
        server.start()
        yield TestServer(server.conninfo())
        server.stop()


def postgres_gate(database: str, port: int = 0) -> Gate:
    def connect() -> socket.socket:
        target = socket.socket(socket.AF_UNIX)
        target.connect(f"{conninfo_to_dict(database)['host']}/.s.PGSQL.5432")
        return target

    return Gate(connect, port)


@pytest.fixture(params=["postgres", "supabase"])
def behind(request: pytest.FixtureRequest, postgres_server: TestServer) -> Iterator[Behind]:
    with postgres_server.database() as name, ExitStack() as closing:
        database = postgres_server.conninfo(name)
        if request.param == "postgres":
            gate = postgres_gate(database)
            conninfo = make_conninfo(database, host="127.0.0.1", port=gate.port)
            behind = Behind(PostgresStore(conninfo, deadline_s=DEADLINE_S), gate, database)
        else:
            login = postgres_server.conninfo(name, user="authenticator")
            standin = closing.enter_context(PostgrestStandIn(login))
            address = standin.url.removeprefix("http://").split(":")
            gate = Gate(lambda: socket.create_connection((address[0], int(address[1]))))
            store = SupabaseStore(f"http://127.0.0.1:{gate.port}", standin.key(), deadline_s=DEADLINE_S)
            behind = Behind(store, gate, database)
        yield behind
        gate.close()
        behind.store.close()


@pytest.fixture
def standin(postgres_server: TestServer) -> Iterator[PostgrestStandIn]:
    with (
        postgres_server.database() as name,
        PostgrestStandIn(postgres_server.conninfo(name, user="authenticator")) as standin,
    ):
        yield standin


def assert_unavailable_in_time(call: Callable[[], object]) -> None:
    began = time.monotonic()
    with pytest.raises(StoreUnavailable):
        call()
    assert time.monotonic() - began < DEADLINE_S + GRACE_S


def eventually(look: Callable[[], Found | None]) -> Found:
    give_up = time.monotonic() + PATIENCE_S
    while not (found := look()):
        assert time.monotonic() < give_up
        time.sleep(0.01)
    return found


def test_a_call_whose_deadline_is_over_before_it_begins(behind: Behind) -> None:
    # as on a machine so busy that opening the client took all of the time
    for seconds in (0, -1):
        with pytest.raises(StoreUnavailable):
            behind.store.examine(ops.PING, ops.NoQuery(), seconds)


@pytest.mark.parametrize("connected_before", [False, True])
def test_a_server_that_accepts_and_never_answers(behind: Behind, connected_before: bool) -> None:
    if connected_before:
        behind.store.ping()
    behind.gate.open.clear()
    assert_unavailable_in_time(lambda: ask(behind.store, ops.SESSION, "p", {"session_id": SESSION}))
    assert_unavailable_in_time(lambda: behind.store.write(BATCH))
    assert_unavailable_in_time(behind.store.ping)
    behind.gate.open.set()
    behind.store.write(BATCH)  # unless the one held at the gate came through before
    assert ask(behind.store, ops.SESSION, "p", {"session_id": SESSION}) is not None


def test_a_stopped_backend(behind: Behind, postgres_server: TestServer) -> None:
    behind.store.ping()
    database = behind.database
    with psycopg.connect(database, autocommit=True) as admin, ThreadPoolExecutor() as threads:
        admin.execute(
            "create or replace function turnlog.session(request jsonb) returns jsonb language plpgsql"
            " as $$ begin perform pg_sleep(600); return null; end $$"
        )
        call = threads.submit(
            assert_unavailable_in_time, lambda: ask(behind.store, ops.SESSION, "p", {"session_id": SESSION})
        )
        backend = eventually(lambda: admin.execute(SLEEPING).fetchone())
        os.kill(backend[0], signal.SIGSTOP)
        try:
            call.result()
            assert psutil.Process(backend[0]).status() == psutil.STATUS_STOPPED
            assert [r.receipt for r in behind.store.write(BATCH)] == ["created"]
        finally:
            os.kill(backend[0], signal.SIGCONT)


@pytest.mark.parametrize("when", ["before", "after"])
def test_an_api_that_stalls(standin: PostgrestStandIn, when: When) -> None:
    store = SupabaseStore(standin.url, standin.key(), deadline_s=DEADLINE_S)
    standin.faults.add(Fault(Stall(600), when=when, times=None))
    assert_unavailable_in_time(lambda: store.write(BATCH))
    standin.faults.clear()
    assert [r.receipt for r in store.write(BATCH)] == ["created" if when == "before" else "duplicate"]
    store.close()


def test_interrupted_calls_leave_nothing_behind(behind: Behind, caplog: pytest.LogCaptureFixture) -> None:
    def sockets() -> int:
        """Count by numbers, so that the watchdog's duplicates are seen too."""
        gc.collect()
        connections = psutil.Process().net_connections("tcp")
        return len([c for c in connections if c.raddr and c.raddr.port == behind.gate.port])

    # pytest keeps what is logged, and the pool's warnings hold the connections they are about
    caplog.set_level(logging.ERROR, "psycopg.pool")
    threads = set(threading.enumerate())
    behind.store.ping()
    assert sockets() >= 1
    behind.gate.open.clear()
    for _ in range(3):
        assert_unavailable_in_time(behind.store.ping)
    behind.store.close()
    behind.gate.cut()
    behind.gate.open.set()
    eventually(lambda: sockets() == 0)
    eventually(lambda: set(threading.enumerate()) <= threads)


def test_the_watchdog_only_ends_late_calls() -> None:
    watchdog = Watchdog()
    late, its_peer = socket.socketpair()
    other, others_peer = socket.socketpair()
    its_peer.settimeout(PATIENCE_S)
    with late, its_peer, other, others_peer:
        with watchdog.limit(other.fileno(), PATIENCE_S), watchdog.limit(late.fileno(), 0.1):
            began = time.monotonic()
            assert late.recv(1) == b""
            assert 0.1 <= time.monotonic() - began < 0.1 + Watchdog.PRECISION + GRACE_S
            assert its_peer.recv(1) == b""
        others_peer.send(b"x")
        assert other.recv(1) == b"x"
    watchdog.close()


def test_the_watchdog_spares_a_reused_descriptor() -> None:
    watchdog = Watchdog()
    late, its_peer = socket.socketpair()
    its_peer.settimeout(PATIENCE_S)
    with its_peer, watchdog.limit(late.fileno(), 0.1):
        number = late.fileno()
        late.close()
        heir, heirs_peer = socket.socketpair()
        with heir, heirs_peer:
            assert number in (heir.fileno(), heirs_peer.fileno())
            assert its_peer.recv(1) == b""
            heirs_peer.send(b"x")
            assert heir.recv(1) == b"x"
    watchdog.close()


def test_the_watchdog_has_one_thread() -> None:
    before = set(threading.enumerate())
    watchdog = Watchdog()
    watchdog.close()
    one, other = socket.socketpair()
    with one, other:
        for _ in range(2):  # it may be used again
            assert set(threading.enumerate()) == before
            for _ in range(3):
                with watchdog.limit(one.fileno(), PATIENCE_S):
                    assert len(set(threading.enumerate()) - before) == 1
            watchdog.close()
    assert set(threading.enumerate()) == before
