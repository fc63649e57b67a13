"""Fixtures for races: the crew, a stand-in for Supabase in its own process, and a count of retried transactions."""

import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import psycopg
import pytest

from logging_store.postgres.postgres_store import PostgresStore
from logging_store.postgres.supabase_store import SupabaseStore
from logging_store.store import Store
from tests.databases import TestServer
from tests.postgrest import sign
from tests.postgrest.standin import DEFAULT_SECRET
from tests.races.crew import Act, Crew, Failure, Race


@dataclass(frozen=True, slots=True)
class Arena:
    """A fresh database, one way to call it, and those who race in it."""

    open_store: Callable[[], Store]
    database: str
    crew: Crew
    seed: int

    def race(self, act: Act, *, rounds: int, processes: int, threads: int) -> list[list[Any]]:
        """Return what came of each round, lane by lane. No call may have failed, neither before nor after a retry."""
        outcomes = self.crew.run(Race(self.open_store, act, rounds, processes, threads, self.seed))
        failures = [outcome for round_ in outcomes for outcome in round_ if isinstance(outcome, Failure)]
        assert failures == []
        assert self._transactions_rolled_back() == {"deadlocks": 0, "rolled back": 0}
        return outcomes

    def rows(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.database) as connection:
            return connection.execute(sql.encode(), values).fetchall()

    def _transactions_rolled_back(self) -> dict[str, int]:
        """Count what the store's own retries would hide; backends hand in their counts when they end."""
        clients = (
            "from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
            " and backend_type = 'client backend'"
        )
        give_up = time.monotonic() + 10
        # only idle ones are ended: autovacuum's transaction, or that of a log-in, would count as rolled back
        while self.rows(f"select case when state = 'idle' then pg_terminate_backend(pid) end {clients}"):
            assert time.monotonic() < give_up, "backends that don't end"
            time.sleep(0.02)
        (counted,) = self.rows(
            "select deadlocks, xact_rollback from pg_stat_database where datname = current_database()"
        )
        return dict(zip(("deadlocks", "rolled back"), counted, strict=True))


@pytest.fixture(scope="session")
def crew() -> Iterator[Crew]:
    with Crew() as crew:
        yield crew


@pytest.fixture
def seed() -> int:
    """Return what decides every shuffle; RACE_SEED repeats one that was printed."""
    seed = int(os.environ.get("RACE_SEED") or random.randrange(2**32))
    print(f"RACE_SEED={seed}")  # noqa: T201 - pytest shows it when the test fails
    return seed


@pytest.fixture(params=["postgres", "supabase"])
def arena(request: pytest.FixtureRequest, postgres_server: TestServer, crew: Crew, seed: int) -> Iterator[Arena]:
    """Yield each way to call the functions, served by processes of their own: threads of ours would slow the race."""
    with postgres_server.database() as name, ExitStack() as closing:
        database = postgres_server.conninfo(name)
        open_store: Callable[[], Store] = partial(PostgresStore, database)
        if request.param == "supabase":
            url = closing.enter_context(_standin(postgres_server.conninfo(name, user="authenticator")))
            open_store = partial(SupabaseStore, url, sign(DEFAULT_SECRET, "service_role"))
        yield Arena(open_store, database, crew, seed)


@contextmanager
def _standin(dsn: str) -> Iterator[str]:
    command = [sys.executable, "-m", "tests.postgrest", "--dsn", dsn, "--pool-size", "32"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()
            process.wait(30)
