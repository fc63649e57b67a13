"""Finding the id columns of another application's table, or asking for the option that names them."""

from typing import Any

import pytest

from conversation.doctor.foreign import AmbiguousError, TableOptions, resolve
from tests.doctor.operator import Operator

pytestmark = pytest.mark.own_database


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--table", "nowhere"], "--table nowhere: there is no table of this name"),
        (["--table", "a.b.c"], "--table a.b.c: must be a name as in public.chat_messages"),
        (["--table", "turnlog.ai_interactions"], "turnlog.ai_interactions is Turnlog's own"),
        (["--table", "loose"], "Give --session, one of: chat_id, session_id"),
        (["--table", "loose", "--session", "nope"], "public.loose has no such column. Columns: a, b, chat_id"),
        (["--table", "loose", "--session", "chat_id"], "is a row's identity? Give --id, one of: a, b, session_id"),
        (["--table", "loose", "--session", "chat_id", "--id", "a"], "which table has the sessions of loose?"),
        (["--table", "loose", "--session", "chat_id", "--id", "a", "--parent", "x"], "there is no table of this name"),
        (
            ["--table", "loose", "--session", "chat_id", "--id", "a", "--parent", "keyless"],
            "which column of public.keyless does chat_id name? Give --parent-id, one of: p, q",
        ),
        (["--table", "loose", "--session", "a", "--id", "a"], "a can't be both --id and --session"),
        (["--table", "bare"], "Give --session, one of: id, or --no-parent if there is none"),
        (["--table", "loose", "--set", "x"], "--set x: must be COLUMN=VALUE"),
        (
            ["--table", "loose", "--session", "chat_id", "--id", "a", "--parent", "keyless", "--parent-id", "p",
             "--set", "p=1"],
            "--set p: that is the id, which the repair sets",
        ),
    ],
)  # fmt: skip
def test_what_is_unclear_is_asked_by_the_name_of_the_option(
    owner: Operator, arguments: list[str], sentence: str
) -> None:
    owner.execute(
        "create table public.loose (a text, b text, chat_id text, session_id text);"
        "create table public.keyless (p text, q text);"
        "create table public.bare (id text)"
    )
    result = owner.run("repair", *arguments)
    assert (result.exit_code, sentence in " ".join(result.output.split())) == (2, True), result.output
    if "--set" not in arguments:
        [(_, finding)] = owner.find(*arguments)
        assert sentence in finding["found"]


def test_names_are_taken_as_they_are_written_then_in_lower_case() -> None:
    asked = []

    def describe(schema: str, table: str) -> dict[str, Any] | None:
        asked.append((schema, table))
        return None

    with pytest.raises(AmbiguousError):
        resolve(TableOptions('"My ""Own"".Schema"."Table"'), describe)
    assert asked == [('My "Own".Schema', "Table"), ('my "own".schema', "table")]


def test_a_parent_is_found_by_its_name_where_there_is_no_foreign_key(owner: Operator) -> None:
    owner.execute(
        "create table public.app_sessions (id text primary key);"
        "create table public.app_logs (id serial primary key, session_id text);"
        "insert into public.app_logs (session_id) values ('x')"
    )
    assert owner.run("repair", "--table", "Public.App_Logs", "--apply", "--expect", "1").exit_code == 0
    assert owner.execute("select id from public.app_sessions") == [("x",)]
