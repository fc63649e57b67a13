"""Repairing ids of another application's table: nothing is lost, and a dry run reports what would change."""

import json
import re
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import psycopg
import pytest

from conversation.doctor.foreign import TableOptions, resolve
from conversation.doctor.foreign_tables import foreign_tables
from logging_store.records import identity
from tests.databases import TestServer
from tests.doctor.foreign_tables import SHAPES
from tests.doctor.operator import Operator

pytestmark = pytest.mark.own_database

ROOT = Path(__file__).parents[2]


def make(owner: Operator, shape: str) -> list[str]:
    """Make the tables of a shape; return the arguments that repair them."""
    statements, table, more, *_ = SHAPES[shape]
    owner.execute(statements)
    return ["--table", table, *more]


def as_authenticator(owner: Operator) -> Operator:
    """Return somebody who logs in as a role that is neither superuser nor owner."""
    login = psycopg.conninfo.make_conninfo(owner.database, user="authenticator")
    return Operator(owner.environment | {"DATABASE_URL": login}, owner.database)


def objects(owner: Operator) -> list[Any]:
    """Return every function, relation and type of the database, but what the server makes for its own storage."""
    return owner.execute(
        "select n.nspname, o.kind, o.name from pg_namespace as n join ("
        " select pronamespace as home, 'function' as kind, oid::regprocedure::text as name from pg_proc union all"
        " select relnamespace, 'relation', relname from pg_class union all"
        " select typnamespace, 'type', typname from pg_type) as o on o.home = n.oid"
        " where n.nspname <> 'pg_toast' order by 1, 2, 3"
    )


def contents(owner: Operator, shape: str) -> dict[str, list[Any]]:
    """Return all rows of child and parent, as JSON."""
    _, _, _, relation, columns, _ = SHAPES[shape]
    parent = columns.split(", ")[2]
    return {
        each: [row for (row,) in owner.execute(f"select to_jsonb(t) from {each} as t order by to_jsonb(t)::text")]
        for each in (relation, parent)
    }


def counts(output: str) -> dict[str, int]:
    told = {
        label: int(re.search(rf"{label} +([\d,]+)", output)[1].replace(",", ""))  # type: ignore[index]
        for label in ("sessions created", "empty ids filled", "empty sessions filled")
    }
    return dict(zip(("parents", "ids", "sessions"), told.values(), strict=True))


@pytest.mark.parametrize("shape", SHAPES)
def test_a_dry_run_changes_nothing_and_tells_what_would_be(owner: Operator, shape: str) -> None:
    arguments = make(owner, shape)
    before = contents(owner, shape)
    result = owner.run("repair", *arguments)
    assert result.exit_code == 0, result.output
    expected = dict(SHAPES[shape][5])
    changed = expected.pop("changed")
    assert counts(result.stdout) == expected
    assert f"A dry run: nothing was changed. {changed} rows would be" in result.output
    assert contents(owner, shape) == before


@pytest.mark.parametrize("shape", SHAPES)
def test_the_command_that_a_dry_run_names_repairs_all_and_loses_nothing(owner: Operator, shape: str) -> None:
    arguments = make(owner, shape)
    _, _, _, relation, columns, expected = SHAPES[shape]
    child_id, session, parent, parent_id = columns.split(", ")
    before = contents(owner, shape)
    named = owner.run("repair", *arguments).stdout.splitlines()[-1].strip()
    owner.fix([named])

    after = contents(owner, shape)
    assert len(after[relation]) == len(before[relation])
    assert len(after[parent]) == len(before[parent]) + expected["parents"]
    everything_else = [name.strip('"') for name in (child_id, session)]

    def rest(rows: list[Any]) -> list[str]:
        return sorted(json.dumps({k: v for k, v in row.items() if k not in everything_else}) for row in rows)

    assert rest(after[relation]) == rest(before[relation])
    assert all(row in after[parent] for row in before[parent])
    assert owner.execute(
        f"select count(*) from {relation} as c"
        f" where not exists (select from {parent} as p where p.{parent_id} = c.{session})"
        f" or c.{child_id} is null or c.{child_id}::text in ('', 'undefined')"
    ) == [(0,)]
    # who had an identity keeps it
    kept = f"select count(*) from {relation} where {child_id}::text = any (%s)"
    names = [str(row[child_id.strip('"')]) for row in before[relation] if row[child_id.strip('"')]]
    real = [name for name in names if name not in {"", "undefined"}]
    with psycopg.connect(owner.database) as connection:
        assert connection.execute(kept.encode(), [real]).fetchone() == (len(real),)

    again = owner.run("repair", *arguments)
    assert "There is nothing to do." in again.output
    assert "There was nothing to do." in owner.run("repair", *arguments, "--apply", "--expect", "0").output
    assert contents(owner, shape) == after


def test_several_columns_are_set_each_with_its_value(owner: Operator) -> None:
    owner.execute(
        "create table public.sessions (id text primary key, zone text not null, age int not null, kind text not null);"
        "create table public.logs (id text, session_id text);"
        "insert into public.logs values ('1', 'a')"
    )
    fills = ["--set", "zone=UTC", "--set", "kind=chat", "--set", "age=7"]
    assert owner.run("repair", "--table", "logs", *fills, "--apply").exit_code == 0
    assert owner.execute("select id, zone, age, kind from public.sessions") == [("a", "UTC", 7, "chat")]


@pytest.mark.parametrize("shape", SHAPES)
def test_another_count_than_expected_rolls_all_of_it_back(owner: Operator, shape: str) -> None:
    arguments = make(owner, shape)
    before = contents(owner, shape)
    changed = SHAPES[shape][5]["changed"]
    result = owner.run("repair", *arguments, "--apply", "--expect", str(changed + 1))
    assert result.exit_code == 1
    assert f"{changed} rows would be changed, not {changed + 1}: all of it was rolled back" in result.output
    assert contents(owner, shape) == before
    assert owner.run("repair", *arguments, "--apply", "--expect", str(changed)).exit_code == 0


@pytest.mark.parametrize("shape", SHAPES)
def test_the_doctor_finds_what_repair_mends(owner: Operator, shape: str) -> None:
    _, table, more, *_ = SHAPES[shape]
    make(owner, shape)
    found = [finding for check, finding in owner.find("--table", table) if check == f"table {table}"]
    repairs = [finding["fix"][0] for finding in found if finding["fix"][0].startswith("turnlog")]
    assert len(repairs) == 3
    assert len(set(repairs)) == 1
    owner.fix([repairs[0].replace("ownerId=VALUE", "ownerId=ada") if more else repairs[0]])
    left = owner.find("--table", table)
    repeats = [finding["found"] for finding in found if "repeated" in finding["found"]]
    assert [finding["found"] for _, finding in left] == repeats
    for _, finding in left:
        assert len(owner.execute(finding["fix"][0])) == 2


def test_ids_are_the_same_wherever_the_same_rows_are_repaired(owner: Operator) -> None:
    arguments = make(owner, "uuid")
    told = owner.run("repair", *arguments).stdout
    owner.run("repair", *arguments, "--apply")
    [(first, session)] = owner.execute(
        "select id::text, session_id::text from public.chat_messages where content = 'nothing is known'"
    )
    assert first in told
    owner.execute("drop table public.chat_messages, public.chat_sessions")
    make(owner, "uuid")
    owner.run("repair", *arguments, "--apply")
    assert owner.execute(
        "select id::text, session_id::text from public.chat_messages where content = 'nothing is known'"
    ) == [(first, session)]
    # what has an id derives its session from that alone, so that anybody can compute it
    [(derived,)] = owner.execute("select session_id from public.chat_messages where content = 'in none'")
    name = '["repair", "public.chat_messages", "session", "b0000000-0000-4000-8000-000000000004", 1]'
    assert derived == uuid.uuid3(identity.NAMESPACE, name)


def test_rows_that_are_the_same_get_ids_of_their_own(owner: Operator) -> None:
    owner.run("repair", *make(owner, "uuid"), "--apply")
    rows = owner.execute("select distinct id from public.chat_messages where content = 'unnamed'")
    assert len(rows) == 2


def test_numbers_go_on_where_their_sequence_is(owner: Operator) -> None:
    owner.run("repair", *make(owner, "bigint"), "--apply")
    assert owner.execute("select thread_id from public.posts where text = 'in none' order by id") == [(8,), (9,)]
    assert owner.execute("select id from public.posts where text = 'unnamed'") == [(7,)]
    # a row that the application makes next meets none of those that were made
    assert owner.execute("insert into public.threads (opened) values (null) returning id") == [(10,)]


def test_a_parent_that_needs_more_is_refused_by_the_columns_name(owner: Operator) -> None:
    table, *_ = make(owner, "text")[1:]
    before = contents(owner, "text")
    result = owner.run("repair", "--table", table, "--apply")
    assert result.exit_code == 2
    assert 'no row can be created in public."Conversations" without ownerId' in result.output
    assert "--set ownerId=VALUE" in result.output
    assert contents(owner, "text") == before
    owner.run("repair", "--table", table, "--apply", "--set", 'ownerId=it\'s "nobody"')
    assert owner.execute('select distinct "ownerId" from public."Conversations" order by 1') == [
        ("ada",),
        ('it\'s "nobody"',),
    ]


def test_a_table_without_sessions_of_its_own_is_repaired_alone(owner: Operator) -> None:
    # conversations of a document store under a unique index, with the key that could be missing
    owner.execute(
        """create table public.talks ("sessionId" text unique, messages jsonb);"""
        """insert into public.talks values ('null', '[1]'), (null, '[2]'), (null, '[2]'), ('kept', '[3]')"""
    )
    result = owner.run("repair", "--table", "talks", "--id", "sessionId", "--no-parent", "--apply", "--expect", "3")
    assert result.exit_code == 0, result.output
    assert owner.execute('select count(distinct "sessionId"), count(*) from public.talks') == [(4, 4)]
    assert owner.find("--table", "talks", "--id", "sessionId", "--no-parent") == []


def test_what_a_column_cannot_hold_is_refused_whole(owner: Operator) -> None:
    owner.execute(
        "create table public.sessions (id uuid primary key);"
        "create table public.logs (id varchar(8), session_id text);"
        "insert into public.logs values ('1', 'not a uuid'), ('2', 'A0000000-0000-4000-8000-000000000001')"
    )
    result = owner.run("repair", "--table", "logs", "--apply")
    assert result.exit_code == 1
    assert 'nothing was changed: invalid input syntax for type uuid: "…"' in result.output
    owner.execute("delete from public.logs where id = '1'")
    # the same identity in capitals
    assert owner.run("repair", "--table", "logs", "--apply", "--expect", "1").exit_code == 0
    assert "nothing to do" in owner.run("repair", "--table", "logs").output
    owner.execute("insert into public.logs values (null, 'a0000000-0000-4000-8000-000000000001')")
    result = owner.run("repair", "--table", "logs", "--apply")
    assert result.exit_code == 1
    assert "value too long for type character varying(8)" in result.output


@pytest.mark.parametrize(
    ("parent", "stored", "child", "same", "others"),
    [
        ("text", ["7F4A1D92-1111-4222-8333-444455556666"], "uuid", ["7f4a1d92-1111-4222-8333-444455556666"],
         ["a0000000-0000-4000-8000-000000000001"]),
        ("uuid", ["7f4a1d92-1111-4222-8333-444455556666"], "text",
         ["7F4A1D92-1111-4222-8333-444455556666", " {7f4a1d92-1111-4222-8333-444455556666}",
          "7f4a1d92111142228333444455556666"],
         ["a0000000-0000-4000-8000-000000000001"]),
        ("integer", ["1"], "text", ["01", " 1", "+1", "1.0"], ["2"]),
        ("text", ["01", "none of them"], "bigint", ["1"], ["10"]),
        ("numeric(9, 2)", ["1"], "integer", ["1"], ["10"]),
        ("text", ["1", "a"], "text", ["1", "a"], ["01", "A"]),
    ],
)  # fmt: skip
def test_an_identity_is_the_same_in_columns_of_two_types(  # noqa: PLR0917
    owner: Operator, parent: str, stored: list[str], child: str, same: list[str], others: list[str]
) -> None:
    owner.execute(
        f"create table public.rooms (id {parent} primary key); create table public.lines (id text, room_id {child})"
    )
    with psycopg.connect(owner.database) as connection:
        for each in stored:
            connection.execute(f"insert into public.rooms values ((%s::text)::{parent})".encode(), [each])
        for n, each in enumerate([*same, *others]):
            connection.execute(f"insert into public.lines values (%s, (%s::text)::{child})".encode(), [str(n), each])
    arguments = ["--table", "lines", "--session", "room_id", "--parent", "rooms"]
    missing = [finding["found"] for _, finding in owner.find(*arguments)]
    assert len(missing) == 1
    assert all(each in missing[0] for each in others), missing
    result = owner.run("repair", *arguments, "--apply", "--expect", str(len(others)))
    assert result.exit_code == 0, result.output
    assert owner.execute("select count(*) from public.rooms") == [(len(stored) + len(others),)]
    assert owner.find(*arguments) == []


def test_an_identity_of_another_kind_is_not_made_up(owner: Operator) -> None:
    owner.execute("create table public.days (id date); insert into public.days values (null)")
    result = owner.run("repair", "--table", "days", "--no-parent", "--apply")
    assert result.exit_code == 1
    assert "only text, UUIDs and numbers can be made up" in result.output


def test_what_another_rule_of_the_parent_refuses_is_refused_by_its_name(owner: Operator) -> None:
    owner.execute(
        "create table public.sessions (id text primary key, slug text not null constraint one_slug unique);"
        "create table public.logs (id text, session_id text);"
        "insert into public.logs values ('1', 'a'), ('2', 'b')"
    )
    result = owner.run("repair", "--table", "logs", "--set", "slug=same", "--apply")
    assert result.exit_code == 1
    assert "one_slug" in result.output
    assert owner.execute("select * from public.sessions") == []


def test_a_constraint_that_waits_for_the_commit_fails_in_the_dry_run_already(owner: Operator) -> None:
    owner.execute(
        "create table public.owners (id text primary key);"
        "create table public.sessions (id text primary key, owner text not null"
        " constraint owned references public.owners deferrable initially deferred);"
        "create table public.logs (id text, session_id text);"
        "insert into public.logs values ('1', 'a')"
    )
    result = owner.run("repair", "--table", "logs", "--set", "owner=nobody")
    assert result.exit_code == 1
    assert "owned" in result.output


def test_partitions_are_repaired_row_by_row(owner: Operator) -> None:
    # rows of two partitions lie at the same address within each
    owner.execute(
        "create table public.sessions (id text primary key);"
        "create table public.logs (id text, session_id text, day int) partition by list (day);"
        "create table public.logs_1 partition of public.logs for values in (1);"
        "create table public.logs_2 partition of public.logs for values in (2);"
        "insert into public.logs values ('1', null, 1), ('2', 'kept', 2), ('3', null, 2)"
    )
    assert owner.run("repair", "--table", "logs", "--apply", "--expect", "5").exit_code == 0
    assert owner.execute("select session_id from public.logs where id = '2'") == [("kept",)]
    assert owner.execute("select count(distinct session_id), count(*) from public.logs") == [(3, 3)]


def test_a_table_that_somebody_writes_is_left_alone(owner: Operator) -> None:
    arguments = make(owner, "uuid")
    with psycopg.connect(owner.database) as writer:
        writer.execute("update public.chat_messages set content = content")
        result = owner.run("repair", *arguments, "--apply")
    assert result.exit_code == 1
    assert "nothing was changed: canceling statement due to lock timeout" in result.output
    assert owner.run("repair", *arguments, "--apply").exit_code == 0


def test_two_who_repair_at_once_mend_it_once(owner: Operator) -> None:
    arguments = make(owner, "uuid")
    command = [sys.executable, "-m", "flask", "--app", "app", "repair", *arguments, "--apply"]
    running = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=owner.environment) for _ in range(4)
    ]
    results = [each.communicate()[0] for each in running]
    assert sum("Done: 9 rows changed." in each for each in results) == 1
    assert sum("There was nothing to do." in each for each in results) == 3


@pytest.mark.parametrize(
    ("statement", "sentence"),
    [
        ("revoke all on public.chat_messages from authenticator", "this role may not read the table. Grant select"),
        (
            "grant select on chat_messages to authenticator; alter table chat_messages enable row level security",
            "row-level security hides rows from this role",
        ),
    ],
)
def test_rows_that_the_role_does_not_see_are_not_taken_for_none(owner: Operator, statement: str, sentence: str) -> None:
    arguments = make(owner, "uuid")
    owner.execute(statement)
    result = as_authenticator(owner).run("repair", *arguments)
    assert (result.exit_code, sentence in " ".join(result.output.split())) == (2, True), result.output


def test_a_lock_of_somebody_elses_is_not_waited_for(owner: Operator) -> None:
    owner.execute("create table public.theirs (id text, note text); insert into public.theirs values (null, 'x')")
    with psycopg.connect(owner.database) as holder:
        holder.execute("lock table public.theirs")
        result = owner.run("repair", "--table", "public.theirs", "--no-parent", "--id", "id")
    assert result.exit_code == 1
    assert "lock timeout" in result.output
    assert owner.execute("select id from public.theirs") == [(None,)]


def test_a_column_may_have_any_name(owner: Operator) -> None:
    owner.execute("create table public.theirs (id text, t text, p text, s text)")
    owner.execute("insert into public.theirs values ('1', 'a', 'b', 'c'), (null, 'd', 'e', 'f')")
    result = owner.run("repair", "--table", "public.theirs", "--no-parent", "--id", "id", "--apply")
    assert result.exit_code == 0, result.output
    assert owner.execute("select count(distinct id) from public.theirs") == [(2,)]


def test_nothing_of_turnlogs_is_left_in_a_database_that_was_repaired(
    postgres_server: TestServer, tmp_path: Path
) -> None:
    with postgres_server.database(empty=True) as name:
        database = postgres_server.conninfo(name)
        owner = Operator({"DATABASE_URL": database, "DATA_DIR": str(tmp_path)}, database)
        owner.execute(f"alter database {name} set default_transaction_isolation = 'serializable'")
        arguments = make(owner, "bigint")
        before = objects(owner)
        assert owner.run("repair", *arguments).exit_code == 0
        assert objects(owner) == before
        assert owner.run("repair", *arguments, "--apply", "--expect", "6").exit_code == 0
        assert objects(owner) == before


def test_nothing_is_left_on_a_connection_that_a_pooler_hands_on(owner: Operator) -> None:
    arguments = make(owner, "uuid")
    before = objects(owner)
    with foreign_tables(owner.database) as tables:
        found = resolve(TableOptions(arguments[1]), tables.describe)
        tables.repair(found, {})
        tables.commit(found)
        assert objects(owner) == before  # committed, and the connection is open


def test_names_of_the_tables_schema_and_its_search_path_mislead_nobody(owner: Operator) -> None:
    arguments = make(owner, "bigint")
    owner.execute(
        "create function public.lower(text) returns text language sql as $$ select 'null' $$;"
        "create function public.repair(jsonb, jsonb) returns jsonb language sql as $$ select null::jsonb $$;"
        "create function public.jsonb_build_object(variadic text[]) returns jsonb language sql as 'select null::jsonb';"
        "create function public.format(text, variadic text[]) returns text language sql as $$ select 'theirs' $$;"
        "create table public.pg_class (oid int); create table public.found (part text);"
        "create domain public.uuid as int;"
        # a trigger that finds its table by the role's search path
        "create table public.audit (thread bigint);"
        "create function public.note() returns trigger language plpgsql as"
        " $$ begin insert into audit values (new.id); return null; end $$;"
        "create trigger note after insert on public.threads for each row execute function public.note();"
        "alter table public.posts owner to authenticator; alter table public.threads owner to authenticator;"
        "grant insert on public.audit to authenticator;"
        "alter role authenticator set search_path = public, pg_catalog"
    )
    try:
        result = as_authenticator(owner).run("repair", *arguments, "--apply", "--expect", "6")
    finally:
        owner.execute("alter role authenticator reset search_path")
    assert result.exit_code == 0, result.output
    assert owner.execute("select thread from public.audit order by 1") == [(7,), (8,), (9,)]


def test_a_role_that_may_make_nothing_temporary_is_named_the_grant(owner: Operator) -> None:
    arguments = make(owner, "uuid")
    name = psycopg.conninfo.conninfo_to_dict(owner.database)["dbname"]
    owner.execute(f"revoke temporary on database {name} from public")
    owner.execute("grant usage on schema turnlog to authenticator")
    owner.execute("grant execute on all functions in schema turnlog to authenticator")
    owner.execute("grant select on turnlog.migrations to authenticator")
    result = as_authenticator(owner).run("repair", *arguments)
    assert result.exit_code == 1
    assert f"grant temporary on database {name} to authenticator" in result.output
    assert any("grant temporary" in finding["found"] for _, finding in as_authenticator(owner).find(*arguments))


@pytest.mark.parametrize("command", ["repair", "doctor"])
def test_supabases_api_is_not_enough(tmp_path: Path, command: str) -> None:
    environment = {"SUPABASE_URL": "http://nobody.invalid", "SUPABASE_SECRET_KEY": "sb_secret_x"}
    result = Operator(environment | {"DATA_DIR": str(tmp_path)}, "").run(command, "--table", "chats")
    assert result.exit_code == 1
    assert "\nError: Supabase's API doesn't reach other applications' tables: set DATABASE_URL to " in result.stderr


def test_a_database_that_is_away_is_named_and_nothing_was_changed(tmp_path: Path) -> None:
    environment = {"DATABASE_URL": "postgresql://ada:secret@127.0.0.1:1/log", "DATA_DIR": str(tmp_path)}
    result = Operator(environment, "").run("repair", "--table", "chats")
    assert result.exit_code == 1
    assert "\nError: nothing was changed: the database can't be reached: " in result.stderr
    assert "secret" not in result.output


def test_a_connection_that_ends_meanwhile_changes_nothing(owner: Operator) -> None:
    arguments = make(owner, "uuid")
    owner.execute(
        "create function public.leave() returns trigger language plpgsql as"
        " $$ begin perform pg_terminate_backend(pg_backend_pid()); perform pg_sleep(1); return null; end $$;"
        "create trigger leave after insert on public.chat_sessions for each row execute function public.leave()"
    )
    before = contents(owner, "uuid")
    result = owner.run("repair", *arguments, "--apply")
    assert result.exit_code == 1
    assert "terminating connection" in result.output
    assert contents(owner, "uuid") == before
