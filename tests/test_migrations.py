"""The migrations: applied once, in order, whole or not at all, by whoever comes."""

import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import get_args

import psycopg
import pytest

from app import create_app
from conversation.commands import apply_migrations
from conversation.settings import Settings
from logging_store import errors, migrations
from logging_store.records import InteractionStatus, SessionStatus
from tests import golden
from tests.databases import TestServer


@pytest.fixture
def empty_database(postgres_server: TestServer) -> Iterator[str]:
    with postgres_server.database(empty=True) as name:
        yield postgres_server.conninfo(name)


def connect(conninfo: str) -> psycopg.Connection:
    return psycopg.connect(conninfo, autocommit=True)


def recorded(conninfo: str) -> list[tuple[str, str]]:
    with connect(conninfo) as connection:
        return connection.execute(
            "select version, name from supabase_migrations.schema_migrations order by version"
        ).fetchall()


def test_each_migration_is_recorded_where_the_supabase_cli_looks(empty_database: str) -> None:
    with connect(empty_database) as connection:
        applied = list(migrations.apply(connection))
        again = list(migrations.apply(connection))
    assert applied == migrations.available()
    assert again == []
    assert recorded(empty_database) == [(m.version, m.name) for m in migrations.available()]


def test_migrators_who_come_together_apply_everything_once(empty_database: str) -> None:
    def migrate(_: int) -> int:
        with connect(empty_database) as connection:
            return len(list(migrations.apply(connection)))

    with ThreadPoolExecutor(8) as threads:
        counts = list(threads.map(migrate, range(8)))
    assert sorted(counts) == [0] * 7 + [len(migrations.available())]


def test_a_migration_that_fails_leaves_nothing(empty_database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    good, bad = migrations.available()[:2]
    broken = replace(bad, sql="create table public.half_made (); select 1 / 0;")
    monkeypatch.setattr(migrations, "available", lambda: [good, broken])
    with connect(empty_database) as connection:
        with pytest.raises(psycopg.errors.DivisionByZero):
            list(migrations.apply(connection))
        assert connection.execute("select to_regclass('public.half_made')").fetchone() == (None,)
    assert recorded(empty_database) == [(good.version, good.name)]


def test_a_database_that_a_newer_turnlog_has_changed_is_refused_by_name(database: str) -> None:
    with connect(database) as connection:
        connection.execute(
            "insert into supabase_migrations.schema_migrations (version, name) values ('20990101000000', 'turnlog_new')"
        )
        with pytest.raises(errors.Misconfigured, match="20990101000000_turnlog_new"):
            list(migrations.apply(connection))


def test_a_projects_own_migrations_are_none_of_our_business(empty_database: str) -> None:
    with connect(empty_database) as connection:
        connection.execute("create schema supabase_migrations")
        connection.execute(
            "create table supabase_migrations.schema_migrations (version text not null primary key, name text)"
        )
        connection.execute(
            "insert into supabase_migrations.schema_migrations values ('20990101000000', 'their_own'), ('1', null)"
        )
        assert list(migrations.apply(connection)) == migrations.available()


def test_every_file_can_be_run_again(database: str) -> None:
    # pasted into an SQL editor first, pushed with the Supabase CLI later
    with connect(database) as connection:
        for migration in migrations.available():
            connection.execute(migration.sql.encode())


def test_files_are_ours_by_name_and_ordered_by_version() -> None:
    found = migrations.available()
    assert found
    assert all(re.fullmatch(r"\d{14}", m.version) and m.name.startswith("turnlog_") for m in found)
    assert [m.version for m in found] == sorted(m.version for m in found)


def test_the_schema_names_the_last_migration(database: str) -> None:
    with connect(database) as connection:
        row = connection.execute("select turnlog.ping() ->> 'schema'").fetchone()
    assert row == (migrations.SCHEMA_VERSION,) == (migrations.available()[-1].version,)


def test_migrate_brings_a_database_up_to_date(empty_database: str) -> None:
    runner = create_app(Settings.from_mapping({"DATABASE_URL": empty_database})).test_cli_runner()
    first, second = runner.invoke(args=["migrate"]), runner.invoke(args=["migrate"])
    assert (first.exit_code, second.exit_code) == (0, 0)
    assert all(f"applied {m.version}_{m.name}" in first.output for m in migrations.available())
    assert second.output == f"The schema is up to date: {migrations.SCHEMA_VERSION}.\n"


def test_migrate_prints_the_sql_and_connects_to_nothing() -> None:
    printed = subprocess.run(
        [sys.executable, "-m", "flask", "--app", "app", "migrate", "--print"],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parent.parent,
        env={"DATABASE_URL": "postgresql://nobody@127.0.0.1:1/nowhere"},
    ).stdout
    assert all(migration.sql in printed for migration in migrations.available())


@pytest.mark.parametrize(
    ("environment", "sentence"),
    [
        ({"DATABASE_URL": "postgresql://nobody@127.0.0.1:1/nowhere"}, "can't be reached"),
        ({"SUPABASE_URL": "http://127.0.0.1:1", "SUPABASE_SECRET_KEY": "k"}, "supabase db push"),
    ],
)
def test_migrate_says_why_it_cannot(environment: dict[str, str], sentence: str) -> None:
    result = create_app(Settings.from_mapping(environment)).test_cli_runner().invoke(args=["migrate"])
    assert result.exit_code == 1
    assert sentence in result.output


def test_a_database_that_does_not_exist_is_a_mistake_not_an_outage(postgres_server: TestServer) -> None:
    with pytest.raises(errors.TurnlogError, match=r"check DATABASE_URL.*does not exist") as caught:
        apply_migrations(postgres_server.conninfo("nowhere"))
    assert not isinstance(caught.value, errors.StoreUnavailable)


@pytest.mark.parametrize(
    ("constraint", "allowed"),
    [
        ("ai_sessions_status_check", set(get_args(SessionStatus))),
        # pending is the absence of another status
        ("ai_interactions_status_check", set(get_args(InteractionStatus)) - {"pending"}),
    ],
)
def test_code_and_database_know_the_same_statuses(database: str, constraint: str, allowed: set[str]) -> None:
    with connect(database) as connection:
        row = connection.execute(
            "select pg_get_constraintdef(oid) from pg_constraint where conname = %s", [constraint]
        ).fetchone()
    assert row is not None
    assert set(re.findall(r"'(\w+)'::text", row[0])) == allowed


def test_the_schema_is_the_one_that_was_reviewed(database: str) -> None:
    assert golden.SCHEMA.read_text(encoding="utf-8") == golden.schema_of(database), golden.RENEW


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


def test_migrate_again_restores_what_is_gone_and_keeps_every_row(database: str) -> None:
    with connect(database) as connection:
        connection.execute(
            "insert into turnlog.ai_sessions (project, id, created_at) values ('p', gen_random_uuid(), now())"
        )
        connection.execute(
            "drop function turnlog.erase(jsonb); drop index turnlog.ai_sessions_tags_idx;"
            "drop table turnlog.ai_interactions; grant select on turnlog.ai_sessions to anon"
        )
    result = (
        create_app(Settings.from_mapping({"DATABASE_URL": database}))
        .test_cli_runner()
        .invoke(args=["migrate", "--again"])
    )
    assert result.exit_code == 0, result.output
    assert [f"applied again {m.version}_{m.name}" for m in migrations.available()] == result.output.splitlines()[:-1]
    assert golden.SCHEMA.read_text(encoding="utf-8") == golden.schema_of(database)
    with connect(database) as connection:
        assert connection.execute("select count(*) from turnlog.ai_sessions").fetchone() == (1,)
        assert connection.execute("select has_table_privilege('anon', 'ai_sessions', 'select')").fetchone() == (False,)


def test_a_migration_that_fails_again_changes_nothing(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    first, *others, last = migrations.available()
    broken = replace(last, sql="drop function turnlog.ping(jsonb); select 1 / 0;")
    monkeypatch.setattr(migrations, "available", lambda: [first, *others, broken])
    with connect(database) as connection:
        with pytest.raises(psycopg.errors.DivisionByZero):
            migrations.apply_again(connection)
        row = connection.execute("select turnlog.ping() ->> 'schema'").fetchone()
    assert row == (migrations.SCHEMA_VERSION,)
