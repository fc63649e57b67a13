"""Databases for tests: one server for the whole run, a fresh database for each test from a migrated template.

By default the server is the embedded one, started in a temporary folder. `TURNLOG_TEST_DATABASE_URL` names another
(as a superuser), for trying other versions of PostgreSQL.
"""

import itertools
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from psycopg.conninfo import make_conninfo

from logging_store import migrations
from logging_store.embedded import EmbeddedPostgres

# Roles as Supabase has them: the API logs in as authenticator and becomes the role of the caller's key.
_SUPABASE_ROLES = """
do $$ begin
    create role anon nologin;
    create role authenticated nologin;
    create role service_role nologin bypassrls;
    create role authenticator login noinherit;
    grant anon, authenticated, service_role to authenticator;
exception when duplicate_object then null;
end $$;
"""
# Projects made before 30 May 2026 grant everything in public to the API's roles by default; newer ones nothing.
_SUPABASE_DEFAULT_PRIVILEGES = """
alter default privileges in schema public grant all on tables to anon, authenticated, service_role;
alter default privileges in schema public grant all on functions to anon, authenticated, service_role;
alter default privileges in schema public grant all on sequences to anon, authenticated, service_role;
"""


class TestServer:
    """A PostgreSQL server with Supabase's roles and a migrated template database."""

    __test__ = False  # not a test case, whatever its name says

    def __init__(self, conninfo: str, *, as_supabase: bool = True) -> None:
        self._conninfo = conninfo
        self._names = (f"turnlog_test_{os.getpid()}_{n}" for n in itertools.count())
        self._template = f"turnlog_template_{os.getpid()}"
        self._create(self._template)
        with self.connect(self._template) as connection:
            if as_supabase:
                connection.execute(_SUPABASE_ROLES)
                connection.execute(_SUPABASE_DEFAULT_PRIVILEGES)
            for _ in migrations.apply(connection):
                pass

    def conninfo(self, database: str, user: str | None = None) -> str:
        return make_conninfo(self._conninfo, dbname=database, **({"user": user} if user else {}))

    def connect(self, database: str) -> psycopg.Connection:
        return psycopg.connect(self.conninfo(database), autocommit=True)

    @contextmanager
    def database(self, *, empty: bool = False) -> Iterator[str]:
        """Yield the name of a new database; no connection to it may be left at the end."""
        name = next(self._names)
        self._create(name, template=None if empty else self._template)
        try:
            yield name
            self._assert_nobody_connected(name)
        finally:
            self._drop(name)

    def close(self) -> None:
        self._drop(self._template)

    def _create(self, name: str, template: str | None = None) -> None:
        with self.connect("postgres") as connection:
            connection.execute(f"create database {name} template {template or 'template0'}".encode())

    def _drop(self, name: str) -> None:
        with self.connect("postgres") as connection:
            connection.execute(f"drop database if exists {name} with (force)".encode())

    def _assert_nobody_connected(self, name: str) -> None:
        give_up = time.monotonic() + 10
        with self.connect("postgres") as connection:
            while left := connection.execute(
                "select application_name, state, query from pg_stat_activity"
                " where datname = %s and backend_type = 'client backend'",
                [name],
            ).fetchall():
                assert time.monotonic() < give_up, f"connections leaked: {left}"
                time.sleep(0.02)


@contextmanager
def server_folder() -> Iterator[Path]:
    """Yield a folder for a server, which may run as another user; pytest closes its own folders to all but one."""
    with tempfile.TemporaryDirectory(prefix="turnlog-test-") as folder:
        yield Path(folder)


@contextmanager
def running_server() -> Iterator[TestServer]:
    if url := os.environ.get("TURNLOG_TEST_DATABASE_URL"):
        server = TestServer(url)
        yield server
        server.close()
        return
    with server_folder() as folder:
        embedded = EmbeddedPostgres(folder)
        embedded.start()
        try:
            yield TestServer(embedded.conninfo())
        finally:
            embedded.stop()
