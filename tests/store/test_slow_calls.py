"""A call that takes too long is that call's failure: while the store answers pings, it isn't away."""

import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg
import pytest

from logging_store import operations as ops
from logging_store.batches import Batch
from logging_store.errors import StoreBusy, StoreUnavailable
from logging_store.postgres.postgres_store import PostgresStore
from logging_store.postgres.supabase_store import SupabaseStore
from logging_store.shared_call import SharedCall
from logging_store.spool import Limits, Spool
from tests.conftest import PROJECT, Backend
from tests.spool.conftest import PATIENCE_S, eventually
from tests.spool.flaky_store import batch_of
from tests.store_calls import ask

SESSION = "00000000-0000-4000-8000-000000000001"
_SLEEPING = """
create or replace function turnlog.{}(request jsonb) returns jsonb language plpgsql volatile as $$
begin perform pg_sleep(60); return null; end $$
"""
DEADLINE_S = 5  # which leaves two seconds for a ping
slow = pytest.mark.slow  # it waits for real deadlines


@pytest.fixture
def spool(backend: Backend, tmp_path: Path) -> Iterator[Spool]:
    """Yield a spool over a store with two connections."""
    with ExitStack() as closing:
        url, key = (backend.environment.get(name, "") for name in ("SUPABASE_URL", "SUPABASE_SECRET_KEY"))
        store = (
            SupabaseStore(url, key, pool_size=2, deadline_s=DEADLINE_S)
            if url
            else PostgresStore(backend.database, pool_size=2, deadline_s=DEADLINE_S)
        )
        spool = Spool(store, tmp_path / "spool", Limits(min_free_bytes=0))
        closing.callback(spool.close)
        yield spool


def fall_asleep(database: str, *functions: str) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        for function in functions:
            connection.execute(_SLEEPING.format(function).encode())


def wake_up(database: str) -> None:
    """End the sleeping statements, which over the API go on after their callers have left."""
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("select pg_terminate_backend(pid) from pg_stat_activity where wait_event = 'PgSleep'")


@slow
@pytest.mark.every_store
@pytest.mark.own_database
def test_slow_reads_are_their_callers_alone(backend: Backend, spool: Spool) -> None:
    fall_asleep(backend.database, "session")

    def call(_: int) -> bool:
        with pytest.raises(StoreBusy):
            ask(spool, ops.SESSION, PROJECT, {"session_id": SESSION})
        return spool.breaker.is_closed

    with ThreadPoolExecutor(6) as threads:  # more than there are connections
        assert list(threads.map(call, range(6))) == [True] * 6
    assert spool.ping()["schema"]
    wake_up(backend.database)
    assert {receipt.receipt for receipt in spool.write(batch_of("Hi"))} == {"created"}
    assert ask(spool, ops.SESSIONS, PROJECT, {"limit": 10})["sessions"]


@slow
@pytest.mark.every_store
@pytest.mark.own_database
def test_a_slow_write_is_spooled_and_holds_up_no_other(backend: Backend, spool: Spool) -> None:
    with psycopg.connect(backend.database, autocommit=True) as admin:
        (kept,) = admin.execute("select pg_get_functiondef('turnlog.write_interactions'::regproc)").fetchone() or ("",)
        slow_write = kept.replace(
            "\nbegin\n", '\nbegin\n if interactions @> \'[{"prompt": "slow"}]\' then perform pg_sleep(60); end if;\n', 1
        )
        assert slow_write != kept
        admin.execute(slow_write.encode())
        assert {receipt.receipt for receipt in spool.write(batch_of("slow"))} == {"spooled"}
        assert spool.breaker.is_closed
        assert {receipt.receipt for receipt in spool.write(batch_of("quick"))} == {"created"}
        admin.execute(kept.encode())
        wake_up(backend.database)
        eventually(lambda: spool.directory.depth().records == 0, "acknowledged is kept")
        prompts = admin.execute("select prompt #>> '{}' from turnlog.ai_interactions order by 1").fetchall()
        assert prompts == [("quick",), ("slow",)]


def test_a_write_that_nobody_waits_for_has_more_time_and_a_dry_run_less() -> None:
    asked = []

    class Timed(PostgresStore):
        def _call(self, function: str, _: Mapping[str, Any], deadline: float) -> Any:
            asked.append((function, deadline - time.monotonic()))
            return {}

    store = Timed("", deadline_s=100)
    for batch in (Batch(PROJECT), Batch(PROJECT, patient=True), Batch(PROJECT, dry_run=True)):
        store.write(batch)
    assert [(function, round(seconds, -1)) for function, seconds in asked] == [
        ("write", 100),
        ("write", 600),
        ("write", 40),
    ]


def waiting(call: SharedCall[int]) -> int:
    """Return how many threads wait for the result of the one that runs."""
    running = call._running  # noqa: SLF001 - there is no other way to see that a caller waits
    return len(running._condition._waiters) if running else 0  # type: ignore[attr-defined]  # noqa: SLF001


def test_pings_run_one_at_a_time_and_share_their_result() -> None:
    runs: list[threading.Event] = []
    outcomes: list[Exception | None] = [None, StoreUnavailable("nobody answers"), None]

    def call() -> int:
        runs.append(threading.Event())
        assert runs[-1].wait(PATIENCE_S)
        if error := outcomes[len(runs) - 1]:
            raise error
        return len(runs)

    ping = SharedCall(call)
    with ThreadPoolExecutor(4) as threads:
        for n, error in enumerate(outcomes):
            asked = [threads.submit(ping) for _ in range(4)]
            eventually(lambda: len(runs) > n and waiting(ping) == 3, "the others wait")  # noqa: B023
            runs[-1].set()
            found = [each.exception(PATIENCE_S) or each.result() for each in asked]
            assert len(runs) == n + 1
            assert {str(each) for each in found} == {str(error or n + 1)}
