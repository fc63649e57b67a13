"""Databases for tests: one server for each process of the run, and on it two kinds of databases.

Most tests use the shared database, one after the other; it is emptied after each. A test that changes more than rows
is given a fresh copy of the migrated template: the shared database refuses to have its schema changed.

By default the server is the embedded one, started in a temporary folder. `TURNLOG_TEST_DATABASE_URL` names another
(as a superuser), for trying other versions of PostgreSQL.
"""

import itertools
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, get_args

import psycopg
from psycopg.conninfo import make_conninfo

from logging_store.embedded.server import EmbeddedPostgres
from logging_store.postgres import migrations
from tests import guardian, outside

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
# Projects made before 30 May 2026 grant everything in public to the API's roles by default; newer ones nothing, and
# since 30 October 2026 no project does so for new objects.
_SUPABASE_DEFAULT_PRIVILEGES = """
alter default privileges in schema public grant all on tables to anon, authenticated, service_role;
alter default privileges in schema public grant all on functions to anon, authenticated, service_role;
alter default privileges in schema public grant all on sequences to anon, authenticated, service_role;
"""
#: What a Supabase project grants on new objects in public to the roles of its API.
DefaultGrants = Literal["all", "none"]
DEFAULT_GRANTS = get_args(DefaultGrants)
# Names the test that needs a database of its own, where it would have changed what later tests find.
_SCHEMA_STAYS = """
create schema only_for_tests;
create function only_for_tests.refuse() returns event_trigger language plpgsql as $$ begin
    raise exception 'the shared database keeps its schema: mark this test with own_database';
end $$;
create function only_for_tests.refuse_unless_nothing_changed() returns event_trigger language plpgsql as $$ begin
    -- "if not exists" changes nothing where it is there, but altering the list of migrations counts even so
    if exists (select from pg_event_trigger_ddl_commands() where object_identity not like 'supabase_migrations.%') then
        raise exception 'the shared database keeps its schema: mark this test with own_database';
    end if;
end $$;
create event trigger nothing_is_changed on ddl_command_end
    execute function only_for_tests.refuse_unless_nothing_changed();
create event trigger nothing_is_dropped on sql_drop execute function only_for_tests.refuse();
"""
_TABLES = """
select c.oid::regclass::text
  from pg_class c join pg_namespace n on n.oid = c.relnamespace
 where c.relkind = 'r' and n.nspname not in ('pg_catalog', 'information_schema')
 order by c.oid
"""
# Rows that were deleted stay in the files until a vacuum: above this size, new files are quicker.
_BYTES_TO_DELETE_FROM = 8 << 20
_LONGEST_WAIT = "10s"  # for the locks of a transaction that a test has left open

_MEMORY = Path("/dev/shm")  # noqa: S108 - a file system, not a file of a guessed name
_ROOM = 6 << 30  # bytes: several servers, each with up to 2 GB of its write-ahead log


class TestServer:
    """A PostgreSQL server with Supabase's roles and a migrated template database."""

    __test__ = False  # not a test case, whatever its name says

    def __init__(self, conninfo: str, *, as_supabase: bool = True) -> None:
        self._conninfo = conninfo
        self._names = (f"turnlog_test_{os.getpid()}_{n}" for n in itertools.count())
        self._template = f"turnlog_template_{os.getpid()}"
        self._shared: str | None = None
        self._empty_it = b""
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

    @contextmanager
    def project(self, grants: DefaultGrants) -> Iterator[str]:
        """Yield the name of a new migrated database, made as a Supabase project of either kind."""
        if grants == "all":
            with self.database() as name:
                yield name
            return
        with self.database(empty=True) as name:
            with self.connect(name) as connection:
                list(migrations.apply(connection))
            yield name

    def emptied_tables(self) -> list[str]:
        """Return the names of Turnlog's tables without those that hold rows once the schema is made."""
        with self.connect(self._template) as connection:
            return _empty_tables(connection)

    @contextmanager
    def shared_database(self) -> Iterator[str]:
        """Yield the name of the database that tests use in turn. It is empty, and it is emptied again."""
        if self._shared is None:
            self._shared = self._create_shared()
        try:
            yield self._shared
        finally:
            with self.connect(self._shared) as connection:
                connection.execute(self._empty_it)

    def close(self) -> None:
        """Drop what is left. No connection to the shared database may be."""
        try:
            if self._shared is not None:
                self._assert_nobody_connected(self._shared)
        finally:
            if self._shared is not None:
                self._drop(self._shared)
            self._drop(self._template)

    def _create_shared(self) -> str:
        name = next(self._names)
        self._create(name, template=self._template)
        with self.connect(name) as connection:
            names = _empty_tables(connection)
            connection.execute(_SCHEMA_STAYS)
        deletes = " ".join(f"delete from {table};" for table in names)  # noqa: S608 - names from the catalogue
        sizes = " + ".join(f"pg_total_relation_size('{table}')" for table in names)
        self._empty_it = (
            f"set lock_timeout = '{_LONGEST_WAIT}'; set session_replication_role = replica;"
            f" do $$ begin if {sizes} > {_BYTES_TO_DELETE_FROM} then truncate {', '.join(names)};"
            f" else {deletes} end if; end $$"
        ).encode()
        return name

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


def _empty_tables(connection: psycopg.Connection) -> list[str]:
    """Return the names of all tables but those that hold rows, such as the list of migrations: part of the schema."""
    tables = [table for (table,) in connection.execute(_TABLES)]
    return [each for each in tables if not connection.execute(f"select from {each} limit 1".encode()).rowcount]


@contextmanager
def server_folder(*, on_disk: bool = False) -> Iterator[Path]:
    """Yield a folder for a server, which may run as another user; pytest closes its own folders to all but one.

    It is in memory where there is room: the servers' settings stay as they are, but nothing waits for a disk. Tests of
    what survives a fault ask for the disk.
    """
    with guardian.folder(None if on_disk else _memory()) as folder:
        yield folder


def _memory() -> Path | None:
    fits = os.access(_MEMORY, os.W_OK) and shutil.disk_usage(_MEMORY).free > _ROOM
    return _MEMORY if fits else None


@contextmanager
def running_server() -> Iterator[TestServer]:
    if outside.SERVER:
        server = TestServer(outside.SERVER)
        yield server
        server.close()
        return
    with server_folder() as folder:
        embedded = EmbeddedPostgres(folder)
        embedded.start()
        try:
            server = TestServer(embedded.conninfo())
            yield server
            server.close()
        finally:
            embedded.stop()
