"""`flask repair`: identities of somebody else's table are mended, nothing is lost, and a dry run tells the truth."""

import json
import re
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import psycopg
import pytest

from logging_store import identity
from tests.conftest import Backend
from tests.doctor import Operator
from tests.foreign_tables import SHAPES

pytestmark = pytest.mark.own_database

ROOT = Path(__file__).parent.parent


def make(operator: Operator, shape: str) -> list[str]:
    """Make the tables of a shape; return the arguments that repair them."""
    statements, table, more, *_ = SHAPES[shape]
    operator.execute(statements)
    # as Supabase does for its own tables; the tests' databases give service_role the rest by default
    operator.execute("grant all on all sequences in schema public to service_role")
    return ["--table", table, *more]


def contents(operator: Operator, shape: str) -> dict[str, list[Any]]:
    """Return all rows of child and parent, as JSON."""
    _, _, _, relation, columns, _ = SHAPES[shape]
    parent = columns.split(", ")[2]
    return {
        each: [row for (row,) in operator.execute(f"select to_jsonb(t) from {each} as t order by to_jsonb(t)::text")]
        for each in (relation, parent)
    }


def counts(output: str) -> dict[str, int]:
    told = {
        label: int(re.search(rf"{label} +([\d,]+)", output)[1].replace(",", ""))  # type: ignore[index]
        for label in ("sessions made", "empty ids filled", "empty sessions filled")
    }
    return dict(zip(("parents", "ids", "sessions"), told.values(), strict=True))


@pytest.mark.parametrize("shape", SHAPES)
def test_a_dry_run_changes_nothing_and_tells_what_would_be(operator: Operator, shape: str) -> None:
    arguments = make(operator, shape)
    before = contents(operator, shape)
    result = operator.run("repair", *arguments)
    assert result.exit_code == 0, result.output
    expected = dict(SHAPES[shape][5])
    changed = expected.pop("changed")
    assert counts(result.output) == expected
    assert f"A dry run: nothing was changed. {changed} rows would be" in result.output
    assert contents(operator, shape) == before


@pytest.mark.parametrize("shape", SHAPES)
def test_the_command_that_a_dry_run_names_mends_all_and_loses_nothing(operator: Operator, shape: str) -> None:
    arguments = make(operator, shape)
    _, _, _, relation, columns, expected = SHAPES[shape]
    child_id, session, parent, parent_id = columns.split(", ")
    before = contents(operator, shape)
    named = operator.run("repair", *arguments).output.splitlines()[-1].strip()
    operator.mend([named])

    after = contents(operator, shape)
    assert len(after[relation]) == len(before[relation])
    assert len(after[parent]) == len(before[parent]) + expected["parents"]
    everything_else = [name.strip('"') for name in (child_id, session)]

    def rest(rows: list[Any]) -> list[str]:
        return sorted(json.dumps({k: v for k, v in row.items() if k not in everything_else}) for row in rows)

    assert rest(after[relation]) == rest(before[relation])
    assert all(row in after[parent] for row in before[parent])
    assert operator.execute(
        f"select count(*) from {relation} as c"
        f" where not exists (select from {parent} as p where p.{parent_id} = c.{session})"
        f" or c.{child_id} is null or c.{child_id}::text in ('', 'undefined')"
    ) == [(0,)]
    # who had an identity keeps it
    kept = f"select count(*) from {relation} where {child_id}::text = any (%s)"
    names = [str(row[child_id.strip('"')]) for row in before[relation] if row[child_id.strip('"')]]
    real = [name for name in names if name not in {"", "undefined"}]
    with psycopg.connect(operator.database) as connection:
        assert connection.execute(kept.encode(), [real]).fetchone() == (len(real),)

    again = operator.run("repair", *arguments)
    assert "There is nothing to do." in again.output
    assert "There was nothing to do." in operator.run("repair", *arguments, "--apply", "--expect", "0").output
    assert contents(operator, shape) == after


def test_several_columns_are_set_each_with_its_value(operator: Operator) -> None:
    operator.execute(
        "create table public.sessions (id text primary key, zone text not null, age int not null, kind text not null);"
        "create table public.logs (id text, session_id text);"
        "insert into public.logs values ('1', 'a')"
    )
    fills = ["--set", "zone=UTC", "--set", "kind=chat", "--set", "age=7"]
    assert operator.run("repair", "--table", "logs", *fills, "--apply").exit_code == 0
    assert operator.execute("select id, zone, age, kind from public.sessions") == [("a", "UTC", 7, "chat")]


@pytest.mark.parametrize("shape", SHAPES)
def test_another_count_than_expected_rolls_all_of_it_back(operator: Operator, shape: str) -> None:
    arguments = make(operator, shape)
    before = contents(operator, shape)
    changed = SHAPES[shape][5]["changed"]
    result = operator.run("repair", *arguments, "--apply", "--expect", str(changed + 1))
    assert result.exit_code == 1
    assert f"{changed} rows would be changed, not {changed + 1}: all of it was rolled back" in result.output
    assert contents(operator, shape) == before
    assert operator.run("repair", *arguments, "--apply", "--expect", str(changed)).exit_code == 0


@pytest.mark.parametrize("shape", SHAPES)
def test_the_doctor_finds_what_repair_mends(operator: Operator, shape: str) -> None:
    _, table, more, *_ = SHAPES[shape]
    make(operator, shape)
    found = [finding for check, finding in operator.find("--table", table) if check == f"table {table}"]
    repairs = [finding["mend"][0] for finding in found if finding["mend"][0].startswith("flask")]
    assert len(repairs) == 3
    assert len(set(repairs)) == 1
    operator.mend([repairs[0].replace("ownerId=VALUE", "ownerId=ada") if more else repairs[0]])
    left = operator.find("--table", table)
    repeats = [finding["found"] for finding in found if "repeated" in finding["found"]]
    assert [finding["found"] for _, finding in left] == repeats
    for _, finding in left:
        assert len(operator.execute(finding["mend"][0])) == 2


def test_ids_are_the_same_wherever_the_same_rows_are_mended(operator: Operator) -> None:
    arguments = make(operator, "uuid")
    told = operator.run("repair", *arguments).output
    operator.run("repair", *arguments, "--apply")
    [(first, session)] = operator.execute(
        "select id::text, session_id::text from public.chat_messages where content = 'nothing is known'"
    )
    assert first in told
    operator.execute("drop table public.chat_messages, public.chat_sessions")
    make(operator, "uuid")
    operator.run("repair", *arguments, "--apply")
    assert operator.execute(
        "select id::text, session_id::text from public.chat_messages where content = 'nothing is known'"
    ) == [(first, session)]
    # what has an id derives its session from that alone, so that anybody can compute it
    [(derived,)] = operator.execute("select session_id from public.chat_messages where content = 'in none'")
    name = '["repair", "public.chat_messages", "session", "b0000000-0000-4000-8000-000000000004", 1]'
    assert derived == uuid.uuid3(identity.NAMESPACE, name)


def test_rows_that_are_the_same_get_ids_of_their_own(operator: Operator) -> None:
    operator.run("repair", *make(operator, "uuid"), "--apply")
    rows = operator.execute("select distinct id from public.chat_messages where content = 'unnamed'")
    assert len(rows) == 2


def test_numbers_go_on_where_their_sequence_is(operator: Operator) -> None:
    operator.run("repair", *make(operator, "bigint"), "--apply")
    assert operator.execute("select thread_id from public.posts where text = 'in none' order by id") == [(8,), (9,)]
    assert operator.execute("select id from public.posts where text = 'unnamed'") == [(7,)]
    # a row that the application makes next meets none of those that were made
    assert operator.execute("insert into public.threads (opened) values (null) returning id") == [(10,)]


def test_a_parent_that_needs_more_is_refused_by_the_columns_name(operator: Operator) -> None:
    table, *_ = make(operator, "text")[1:]
    before = contents(operator, "text")
    result = operator.run("repair", "--table", table, "--apply")
    assert result.exit_code == 2
    assert 'no row can be made in public."Conversations" without ownerId' in result.output
    assert "--set ownerId=VALUE" in result.output
    assert contents(operator, "text") == before
    operator.run("repair", "--table", table, "--apply", "--set", 'ownerId=it\'s "nobody"')
    assert operator.execute('select distinct "ownerId" from public."Conversations" order by 1') == [
        ("ada",),
        ('it\'s "nobody"',),
    ]


def test_a_table_without_sessions_of_its_own_is_mended_alone(operator: Operator) -> None:
    # conversations of a document store under a unique index, with the key that could be missing
    operator.execute(
        """create table public.talks ("sessionId" text unique, messages jsonb);"""
        """insert into public.talks values ('null', '[1]'), (null, '[2]'), (null, '[2]'), ('kept', '[3]')"""
    )
    result = operator.run("repair", "--table", "talks", "--id", "sessionId", "--no-parent", "--apply", "--expect", "3")
    assert result.exit_code == 0, result.output
    assert operator.execute('select count(distinct "sessionId"), count(*) from public.talks') == [(4, 4)]
    assert operator.find("--table", "talks", "--id", "sessionId", "--no-parent") == []


def test_what_a_column_cannot_hold_is_refused_whole(operator: Operator) -> None:
    operator.execute(
        "create table public.sessions (id uuid primary key);"
        "create table public.logs (id varchar(8), session_id text);"
        "insert into public.logs values ('1', 'not a uuid'), ('2', 'A0000000-0000-4000-8000-000000000001')"
    )
    result = operator.run("repair", "--table", "logs", "--apply")
    assert result.exit_code == 1
    assert 'nothing was changed: invalid input syntax for type uuid: "…"' in result.output
    operator.execute("delete from public.logs where id = '1'")
    # the same identity in capitals
    assert operator.run("repair", "--table", "logs", "--apply", "--expect", "1").exit_code == 0
    assert "nothing to do" in operator.run("repair", "--table", "logs").output
    operator.execute("insert into public.logs values (null, 'a0000000-0000-4000-8000-000000000001')")
    result = operator.run("repair", "--table", "logs", "--apply")
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
    operator: Operator, parent: str, stored: list[str], child: str, same: list[str], others: list[str]
) -> None:
    operator.execute(
        f"create table public.rooms (id {parent} primary key); create table public.lines (id text, room_id {child})"
    )
    with psycopg.connect(operator.database) as connection:
        for each in stored:
            connection.execute(f"insert into public.rooms values ((%s::text)::{parent})".encode(), [each])
        for n, each in enumerate([*same, *others]):
            connection.execute(f"insert into public.lines values (%s, (%s::text)::{child})".encode(), [str(n), each])
    arguments = ["--table", "lines", "--session", "room_id", "--parent", "rooms"]
    missing = [finding["found"] for _, finding in operator.find(*arguments)]
    assert len(missing) == 1
    assert all(each in missing[0] for each in others), missing
    result = operator.run("repair", *arguments, "--apply", "--expect", str(len(others)))
    assert result.exit_code == 0, result.output
    assert operator.execute("select count(*) from public.rooms") == [(len(stored) + len(others),)]
    assert operator.find(*arguments) == []


def test_an_identity_of_another_kind_is_not_made_up(operator: Operator) -> None:
    operator.execute("create table public.days (id date); insert into public.days values (null)")
    result = operator.run("repair", "--table", "days", "--no-parent", "--apply")
    assert result.exit_code == 1
    assert "only text, UUIDs and numbers can be made up" in result.output


def test_what_another_rule_of_the_parent_refuses_is_refused_by_its_name(operator: Operator) -> None:
    operator.execute(
        "create table public.sessions (id text primary key, slug text not null constraint one_slug unique);"
        "create table public.logs (id text, session_id text);"
        "insert into public.logs values ('1', 'a'), ('2', 'b')"
    )
    result = operator.run("repair", "--table", "logs", "--set", "slug=same", "--apply")
    assert result.exit_code == 1
    assert "one_slug" in result.output
    assert operator.execute("select * from public.sessions") == []


def test_a_constraint_that_waits_for_the_commit_fails_in_the_dry_run_already(operator: Operator) -> None:
    operator.execute(
        "create table public.owners (id text primary key);"
        "create table public.sessions (id text primary key, owner text not null"
        " constraint owned references public.owners deferrable initially deferred);"
        "create table public.logs (id text, session_id text);"
        "insert into public.logs values ('1', 'a')"
    )
    result = operator.run("repair", "--table", "logs", "--set", "owner=nobody")
    assert result.exit_code == 1
    assert "owned" in result.output


def test_partitions_are_mended_row_by_row(operator: Operator) -> None:
    # rows of two partitions lie at the same address within each
    operator.execute(
        "create table public.sessions (id text primary key);"
        "create table public.logs (id text, session_id text, day int) partition by list (day);"
        "create table public.logs_1 partition of public.logs for values in (1);"
        "create table public.logs_2 partition of public.logs for values in (2);"
        "insert into public.logs values ('1', null, 1), ('2', 'kept', 2), ('3', null, 2)"
    )
    assert operator.run("repair", "--table", "logs", "--apply", "--expect", "5").exit_code == 0
    assert operator.execute("select session_id from public.logs where id = '2'") == [("kept",)]
    assert operator.execute("select count(distinct session_id), count(*) from public.logs") == [(3, 3)]


def test_a_table_that_somebody_writes_is_left_alone(operator: Operator) -> None:
    arguments = make(operator, "uuid")
    with psycopg.connect(operator.database) as writer:
        writer.execute("update public.chat_messages set content = content")
        result = operator.run("repair", *arguments, "--apply")
    assert result.exit_code == 1
    assert "nothing was changed: canceling statement due to lock timeout" in result.output
    assert operator.run("repair", *arguments, "--apply").exit_code == 0


def test_two_who_repair_at_once_mend_it_once(operator: Operator) -> None:
    arguments = make(operator, "uuid")
    command = [sys.executable, "-m", "flask", "--app", "app", "repair", *arguments, "--apply"]
    running = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=operator.environment)
        for _ in range(4)
    ]
    results = [each.communicate()[0] for each in running]
    assert sum("Done: 9 rows changed." in each for each in results) == 1
    assert sum("There was nothing to do." in each for each in results) == 3


@pytest.mark.parametrize(
    ("statement", "sentence"),
    [
        ("revoke all on public.chat_messages from service_role", "this role may not read it: grant select"),
        ("alter table public.chat_messages enable row level security", "row-level security hides rows from this role"),
    ],
)
def test_rows_that_the_role_does_not_see_are_not_taken_for_none(
    operator: Operator, backend: Backend, statement: str, sentence: str
) -> None:
    if backend.name == "postgres":
        name = psycopg.conninfo.make_conninfo(backend.database, user="authenticator")
        operator.environment["DATABASE_URL"] = name
        operator.execute("grant execute on all functions in schema public to authenticator")
    arguments = make(operator, "uuid")
    if backend.name == "postgres" and "row level" in statement:
        operator.execute("grant select on public.chat_messages to authenticator")
    operator.execute(statement)
    result = operator.run("repair", *arguments)
    if backend.name == "supabase" and "row level" in statement:
        assert result.exit_code == 0  # service_role sees past it
    else:
        assert (result.exit_code, sentence in " ".join(result.output.split())) == (2, True), result.output


def test_a_lock_of_somebody_elses_is_not_waited_for(operator: Operator) -> None:
    operator.execute("create table public.theirs (id text, note text); insert into public.theirs values (null, 'x')")
    with psycopg.connect(operator.database) as holder:
        holder.execute("lock table public.theirs")
        result = operator.run("repair", "--table", "public.theirs", "--no-parent", "--id", "id")
    assert result.exit_code == 1
    assert "lock timeout" in result.output
    assert operator.execute("select id from public.theirs") == [(None,)]


def test_a_column_may_have_any_name(operator: Operator) -> None:
    operator.execute("create table public.theirs (id text, t text, p text, s text)")
    operator.execute("insert into public.theirs values ('1', 'a', 'b', 'c'), (null, 'd', 'e', 'f')")
    result = operator.run("repair", "--table", "public.theirs", "--no-parent", "--id", "id", "--apply")
    assert result.exit_code == 0, result.output
    assert operator.execute("select count(distinct id) from public.theirs") == [(2,)]
