"""Fixtures for tests of the stand-in itself: the database behind the recordings, and a stand-in before it.

A test module asks for them by `pytest_plugins`.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from psycopg import conninfo

from logging_store.embedded.server import EmbeddedPostgres
from supabase import Client, ClientOptions, create_client
from tests.databases import server_folder
from tests.postgrest.standin import PostgrestStandIn

SCHEMA = Path(__file__).parent.parent / "data" / "postgrest_recorded.sql"


@pytest.fixture(scope="session")
def recorded_database_dsn() -> Iterator[str]:
    """Yield where the database of the recordings is, as a superuser, on a server that tests may put out of order."""
    with server_folder() as folder:
        server = EmbeddedPostgres(folder)
        server.start()
        dsn = server.conninfo("recorded")
        try:
            with psycopg.connect(server.conninfo("postgres"), autocommit=True) as connection:
                connection.execute("create database recorded")
            with psycopg.connect(dsn) as connection:
                connection.execute(SCHEMA.read_bytes())
            yield dsn
        finally:
            server.stop()


@pytest.fixture(scope="session")
def authenticator_dsn(recorded_database_dsn: str) -> str:
    return conninfo.make_conninfo(recorded_database_dsn, user="authenticator")


@pytest.fixture(scope="session")
def standin(authenticator_dsn: str) -> Iterator[PostgrestStandIn]:
    """Yield a stand-in with the timeouts of the recorded authenticator."""
    with PostgrestStandIn(authenticator_dsn, statement_timeout="3s", lock_timeout="800ms") as running:
        yield running


@pytest.fixture(scope="session")
def _admin(recorded_database_dsn: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(recorded_database_dsn, autocommit=True) as connection:
        yield connection


@pytest.fixture
def admin(_admin: psycopg.Connection[Any]) -> psycopg.Connection[Any]:
    """Return a superuser's connection; the tables are as the first exchange found them."""
    _admin.execute("select start_over()")
    return _admin


@pytest.fixture(scope="session")
def http() -> Iterator[httpx.Client]:
    with httpx.Client() as client:
        yield client


@pytest.fixture(scope="session")
def supabase_as(standin: PostgrestStandIn) -> Iterator[Callable[[str], Client]]:
    """Yield what makes supabase-py's client of a role; each has an HTTP client of its own, as it alters it."""
    with contextlib.ExitStack() as stack:

        @functools.cache
        def client(role: str) -> Client:
            http = stack.enter_context(httpx.Client())
            return create_client(standin.url, standin.key(role), ClientOptions(httpx_client=http))

        yield client
