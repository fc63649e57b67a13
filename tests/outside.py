"""A Supabase project, or another PostgREST, that tests use in place of the stand-in, named by the environment.

SUPABASE_URL and SUPABASE_SECRET_KEY name it, as for the service. SUPABASE_DB_URL is the address of its database, past
poolers, as the role that owns Turnlog's tables. The project has to be an empty one: tests delete what they wrote.
"""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass

import psycopg

from logging_store.errors import SchemaMissing
from logging_store.postgres import migrations
from logging_store.postgres.reconnection import LONGEST_S, until_reconnected
from logging_store.postgres.supabase_store import SupabaseStore

#: Not settings of the services that tests start.
NAMES = ("SUPABASE_URL", "SUPABASE_SECRET_KEY", "SUPABASE_DB_URL", "TURNLOG_TEST_DATABASE_URL")
_LOCK = "select pg_advisory_lock(hashtext('tests of turnlog'))"


@dataclass(frozen=True)
class Project:
    url: str
    key: str
    database: str | None

    def open(self) -> SupabaseStore:
        return SupabaseStore(self.url, self.key)

    @contextmanager
    def lent(self, tables: Sequence[str]) -> Iterator[str]:
        """Yield the address of the migrated, empty database; no other process of the run has it meanwhile.

        `tables`: those that are emptied afterwards.
        """
        assert self.database, "SUPABASE_DB_URL isn't set"
        with psycopg.connect(self.database, autocommit=True) as connection:
            connection.execute(_LOCK)
            if any(migrations.apply(connection)):
                connection.execute("notify pgrst, 'reload schema'")
            _require_empty(connection)
            with closing(self.open()) as store:
                _wait_for_schema(store)
            try:
                yield self.database
            finally:
                connection.execute(f"truncate {', '.join(tables)}".encode())


def _require_empty(connection: psycopg.Connection) -> None:
    (found,) = connection.execute("select count(*) from turnlog.ai_sessions").fetchone() or (0,)
    assert not found, (
        f"the project holds {found:,} sessions, and the tests delete everything in the schema turnlog: name a project "
        "without a log, or drop its schema (drop schema turnlog cascade; drop function public.turnlog(text, jsonb))"
    )


def _wait_for_schema(store: SupabaseStore) -> None:
    """Return when the API knows Turnlog's function, or raise why it doesn't."""
    give_up = time.monotonic() + LONGEST_S
    while True:
        try:
            until_reconnected(store.ping, give_up)
        except SchemaMissing:
            if time.monotonic() > give_up:
                raise
            time.sleep(0.1)
        else:
            return


def _named(environment: dict[str, str]) -> Project | None:
    if not environment.get("SUPABASE_URL"):
        return None
    return Project(environment["SUPABASE_URL"], environment["SUPABASE_SECRET_KEY"], environment.get("SUPABASE_DB_URL"))


#: The project of this run, if there is one.
PROJECT = _named(dict(os.environ))
#: The PostgreSQL server of this run, if it isn't an embedded one of its own.
SERVER = os.environ.get("TURNLOG_TEST_DATABASE_URL")


def hide() -> None:
    """Take the names out of the environment, which processes that tests start would inherit."""
    for name in NAMES:
        os.environ.pop(name, None)
