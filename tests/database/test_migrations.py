"""Migrations are applied once, in order, as a whole or not at all, by any tool."""

import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import get_args

import psycopg
import pytest
from click.testing import Result

from app import create_app
from conversation.settings import Settings
from logging_store import errors
from logging_store.embedded import binaries
from logging_store.postgres import catalogue, migrations
from logging_store.postgres.postgres_store import PostgresStore
from logging_store.records.models import Interaction, InteractionStatus, SessionStatus
from logging_store.repository import ConversationRepository
from tests import migration
from tests.databases import TestServer
from tests.sql import statements_of

UNKNOWN = "20990101000000"

pytestmark = pytest.mark.own_database


@pytest.fixture
def empty_database(postgres_server: TestServer) -> Iterator[str]:
    with postgres_server.database(empty=True) as name:
        yield postgres_server.conninfo(name)


def connect(conninfo: str) -> psycopg.Connection:
    return psycopg.connect(conninfo, autocommit=True)


def recorded(conninfo: str) -> list[str]:
    with connect(conninfo) as connection:
        return [v for (v,) in connection.execute("select version from turnlog.migrations order by version").fetchall()]


def known() -> list[str]:
    return [each.version for each in migrations.available()]


def in_one_query(conninfo: str, sql: str) -> None:
    """Send everything as Supabase's SQL editor does."""
    with connect(conninfo) as connection:
        connection.execute(sql.encode())


def in_a_pipeline(conninfo: str, sql: str) -> None:
    """Send each statement by itself in one pipeline, and a record at the end, as `supabase db push` does."""
    with connect(conninfo) as connection:
        connection.execute("create table if not exists public.pushed (version text)")
        with connection.pipeline():
            for statement in statements_of(sql):
                connection.execute(statement.encode(), prepare=False)
            connection.execute("insert into public.pushed values ('1')")
        connection.execute("drop table public.pushed")


def in_psql(conninfo: str, sql: str) -> None:
    """Paste into psql, which goes on after errors."""
    psql: list[str | Path] = [binaries.folder() / "psql", "--no-psqlrc", "--quiet", "--dbname", conninfo]
    subprocess.run(psql, input=sql, text=True, capture_output=True, check=True)


WAYS: dict[str, Callable[[str, str], None]] = {
    "in one query": in_one_query,
    "in a pipeline": in_a_pipeline,
    "in psql": in_psql,
}


def test_each_migration_records_itself(empty_database: str) -> None:
    with connect(empty_database) as connection:
        applied = list(migrations.apply(connection))
        again = list(migrations.apply(connection))
    assert applied == migrations.available()
    assert again == []
    assert recorded(empty_database) == known()


@pytest.mark.parametrize("way", WAYS)
def test_migrate_accepts_files_applied_by_other_tools(empty_database: str, way: str) -> None:
    for each in migrations.available() * 2:  # a file may be brought again
        WAYS[way](empty_database, each.sql)
    assert recorded(empty_database) == known()
    assert migration.catalogue_of(empty_database) == catalogue.FILE.read_text(encoding="utf-8")
    result = migrate(empty_database)
    assert result.stdout == f"The schema is up to date: {migrations.SCHEMA_VERSION}.\n"


def test_concurrent_migrators_apply_everything_once(empty_database: str) -> None:
    def one(_: int) -> int:
        with connect(empty_database) as connection:
            return len(list(migrations.apply(connection)))

    with ThreadPoolExecutor(8) as threads:
        counts = list(threads.map(one, range(8)))
    assert sorted(counts) == [0] * 7 + [len(known())]


def test_a_failed_migration_leaves_nothing(empty_database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    good = migrations.available()
    broken = replace(
        good[-1], version=UNKNOWN, sql="begin;\ncreate table public.half_made (); select 1 / 0;\ncommit;\n"
    )
    monkeypatch.setattr(migrations, "available", lambda: [*good, broken])
    with connect(empty_database) as connection:
        with pytest.raises(psycopg.errors.DivisionByZero):
            list(migrations.apply(connection))
        assert connection.execute("select to_regclass('public.half_made')").fetchone() == (None,)
    assert recorded(empty_database) == [each.version for each in good]


def test_a_database_of_a_newer_version_is_refused(database: str) -> None:
    with connect(database) as connection:
        connection.execute("insert into turnlog.migrations (version) values (%s)", [UNKNOWN])
        with pytest.raises(errors.Misconfigured, match=UNKNOWN):
            list(migrations.apply(connection))


def test_files_have_names_of_ours_and_are_ordered_by_version() -> None:
    found = migrations.available()
    assert found
    assert all(re.fullmatch(r"\d{14}", each.version) and each.name.startswith("turnlog_") for each in found)
    assert known() == sorted(known())


def test_the_schema_names_the_last_migration(database: str) -> None:
    with connect(database) as connection:
        row = connection.execute("select turnlog.ping() ->> 'schema'").fetchone()
    assert row == (migrations.SCHEMA_VERSION,) == (known()[-1],)


def migrate(conninfo: str, *arguments: str) -> Result:
    app = create_app(Settings.from_mapping({"DATABASE_URL": conninfo}))
    return app.test_cli_runner().invoke(args=["migrate", *arguments])


def test_migrate_brings_a_database_up_to_date(empty_database: str) -> None:
    first, second = migrate(empty_database), migrate(empty_database)
    assert (first.exit_code, second.exit_code) == (0, 0)
    assert all(f"Applied {each.version}_{each.name}.\n" in first.stdout for each in migrations.available())
    assert second.stdout == f"The schema is up to date: {migrations.SCHEMA_VERSION}.\n"


def test_migrate_prints_the_sql_and_connects_to_nothing() -> None:
    printed = subprocess.run(
        [sys.executable, "-m", "flask", "--app", "app", "migrate", "--print"],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
        env={"DATABASE_URL": "postgresql://nobody@127.0.0.1:1/nowhere"},
    ).stdout
    assert all(each.sql in printed for each in migrations.available())


@pytest.mark.parametrize(
    ("environment", "sentence"),
    [
        ({"DATABASE_URL": "postgresql://nobody@127.0.0.1:1/nowhere"}, "can't be reached"),
        ({"SUPABASE_URL": "http://127.0.0.1:1", "SUPABASE_SECRET_KEY": "k"}, "supabase db push"),
    ],
)
def test_migrate_reports_why_it_fails(environment: dict[str, str], sentence: str) -> None:
    result = create_app(Settings.from_mapping(environment)).test_cli_runner().invoke(args=["migrate"])
    assert result.exit_code == 1
    assert sentence in result.output


def test_a_database_that_does_not_exist_is_a_mistake_not_an_outage(postgres_server: TestServer) -> None:
    with pytest.raises(errors.TurnlogError, match=r"check DATABASE_URL.*does not exist") as caught:
        migrations.migrate(postgres_server.conninfo("nowhere"))
    assert not isinstance(caught.value, errors.StoreUnavailable)


@pytest.mark.parametrize(
    ("constraint", "allowed"),
    [
        ("ai_sessions_status_check", set(get_args(SessionStatus))),
        ("ai_interactions_status_check", set(get_args(InteractionStatus))),
    ],
)
def test_code_and_database_know_the_same_statuses(database: str, constraint: str, allowed: set[str]) -> None:
    with connect(database) as connection:
        row = connection.execute(
            "select pg_get_constraintdef(oid) from pg_constraint where conname = %s", [constraint]
        ).fetchone()
    assert row is not None
    assert set(re.findall(r"'(\w+)'::text", row[0])) == allowed


def test_long_texts_are_compressed_with_lz4_where_the_server_has_it(database: str) -> None:
    with connect(database) as connection:
        available = connection.execute(
            "select 'lz4' = any (enumvals) from pg_settings where name = 'default_toast_compression'"
        ).fetchone()
        columns = connection.execute(
            "select attname from pg_attribute where attrelid = 'turnlog.ai_interactions'::regclass"
            " and attcompression = 'l' order by attname"
        ).fetchall()
    assert columns == ([("metadata",), ("prompt",), ("response",)] if available == (True,) else [])


def test_migrate_again_restores_missing_objects_and_keeps_every_row(database: str) -> None:
    with connect(database) as connection:
        connection.execute(
            "insert into turnlog.ai_sessions (project, id, created_at) values ('p', gen_random_uuid(), now())"
        )
        connection.execute(
            "drop function turnlog.erase(jsonb); drop function public.turnlog(text, jsonb);"
            "drop index turnlog.ai_sessions_tags_idx; drop table turnlog.ai_interactions;"
            "grant usage on schema turnlog to anon; grant select on turnlog.ai_sessions to anon"
        )
    result = migrate(database, "--again")
    assert result.exit_code == 0, result.output
    told = [f"Applied {each.version}_{each.name} again." for each in migrations.available()]
    assert told == result.stdout.splitlines()[:-1]
    assert migration.catalogue_of(database) == catalogue.FILE.read_text(encoding="utf-8")
    with connect(database) as connection:
        assert connection.execute("select count(*) from turnlog.ai_sessions").fetchone() == (1,)
        row = connection.execute("select has_schema_privilege('anon', 'turnlog', 'usage')").fetchone()
        assert row == (False,)
        row = connection.execute("select has_table_privilege('anon', 'turnlog.ai_sessions', 'select')").fetchone()
        assert row == (False,)


def test_a_failed_rerun_changes_nothing(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    *others, last = migrations.available()
    broken = replace(last, sql="begin;\ndrop function turnlog.ping(jsonb); select 1 / 0;\ncommit;\n")
    monkeypatch.setattr(migrations, "available", lambda: [*others, broken])
    with connect(database) as connection:
        with pytest.raises(psycopg.errors.DivisionByZero):
            migrations.reapply(connection)
        row = connection.execute("select turnlog.ping() ->> 'schema'").fetchone()
    assert row == (migrations.SCHEMA_VERSION,)


def test_rows_of_a_prerelease_version_are_reported_once(empty_database: str) -> None:
    with connect(empty_database) as connection:
        connection.execute(
            "create function public.turnlog_ping_v1(request jsonb default '{}') returns jsonb language sql"
            " as 'select request'"
        )
    first, second = migrate(empty_database), migrate(empty_database)
    assert migrations.PRERELEASE_HINT in first.output
    assert first.exit_code == 0
    assert second.stdout == f"The schema is up to date: {migrations.SCHEMA_VERSION}.\n"


class Attempts:
    """Counts how often migrations are begun."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count, self._changed, run = 0, threading.Condition(), migrations.run

        def counted(connection: psycopg.Connection, these: list[migrations.Migration]) -> None:
            with self._changed:
                self.count += 1
                self._changed.notify_all()
            run(connection, these)

        monkeypatch.setattr(migrations, "run", counted)

    def wait_for(self, count: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self.count >= count, timeout=120)


def test_behind_a_long_reader_a_migration_holds_up_nobody(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as a backup: the migration needs its tables for itself, and writes would queue behind it."""
    monkeypatch.setattr(migrations, "_PAUSES_S", (0.05, 0.1))
    attempts = Attempts(monkeypatch)
    with (
        closing(PostgresStore(database)) as store,
        ThreadPoolExecutor() as others,
        psycopg.connect(database) as reader,
    ):
        log = ConversationRepository(store, "default")
        reader.execute("lock table turnlog.ai_sessions, turnlog.ai_interactions in access share mode")
        migrating = others.submit(migrations.migrate, database, again=True)
        for n in range(20):
            (stored,) = log.log([Interaction(session_id=f"s{n}", prompt="Hello")])
            assert stored.receipt.receipt == "created"
        attempts.wait_for(3)
        assert not migrating.done()
        reader.rollback()
        assert migrating.result(timeout=120).migrations


def test_a_migration_that_never_finds_its_tables_free_says_so(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrations, "_PATIENCE_S", 0.0)
    with psycopg.connect(database) as reader:
        reader.execute("lock table turnlog.ai_sessions in access share mode")
        with pytest.raises(errors.StoreBusy, match="keeps the tables of Turnlog locked"):
            migrations.migrate(database, again=True)
