"""`supabase/schemas` is what people read, and the migrations create exactly that."""

import re
from typing import Any

import psycopg
import pytest

from tests import migration
from tests.databases import TestServer
from tests.sql import without_comments

DEFINED = re.compile(r"^create or replace function ([\w.]+)\(", re.MULTILINE)

#: An UPDATE or DELETE. `for update` and `do update` lock and merge.
CHANGING = re.compile(
    r"(?<!for )(?<!key )(?<!do )(?<!after )(?<!before )\b(?:update\s+(?!on\b|of\b|set\b)|delete\s+from\s)",
    re.IGNORECASE,
)
TEXT = re.compile(r"'((?:[^']|'')*)'")
DOLLARS = re.compile(r"\$\w*\$")
#: What ends a statement or changes how deep in brackets it is.
BRACKET = re.compile(r"[();]|\bwhere\b", re.IGNORECASE)

#: Who owns what, who may do what, and what no kind of the catalogue says.
GRANTS = """
    select 'schema', n.nspname, n.nspowner::regrole::text, n.nspacl::text from pg_namespace as n
     where n.nspname = 'turnlog'
     union all
    select 'relation', c.oid::regclass::text, c.relowner::regrole::text, concat(c.relacl, c.relkind, c.reloptions)
      from pg_class as c where c.relnamespace = 'turnlog'::regnamespace
     union all
    select 'column', concat(a.attrelid::regclass, '.', a.attname), a.attnum::text, concat(a.attacl, a.attcompression)
      from pg_attribute as a join pg_class as c on c.oid = a.attrelid
     where c.relnamespace = 'turnlog'::regnamespace and c.relkind = 'r' and a.attnum > 0
     union all
    select 'function', p.oid::regprocedure::text, p.proowner::regrole::text, concat(p.proacl, p.prosrc)
      from pg_proc as p where p.pronamespace = 'turnlog'::regnamespace or p.proname = 'turnlog'
     union all
    select 'type', t.typname, t.typtype::text, t.typacl::text from pg_type as t
     where t.typnamespace = 'turnlog'::regnamespace
     order by 1, 2
"""


def grants(database: str) -> list[Any]:
    with psycopg.connect(database) as connection:
        return connection.execute(GRANTS.encode()).fetchall()


def test_the_migration_is_made_from_the_schema_files() -> None:
    assert migration.FILE.read_text(encoding="utf-8") == migration.text(), migration.RENEW


def test_every_schema_file_is_in_the_migration_once() -> None:
    assert sorted(migration.sources()) == sorted(migration.SUPABASE.glob("schemas/**/*.sql"))


def test_migrations_and_schema_files_give_the_same_schema(postgres_server: TestServer, database: str) -> None:
    with postgres_server.database(empty=True) as name:
        by_hand = postgres_server.conninfo(name)
        with psycopg.connect(by_hand, autocommit=True) as connection:
            for path in migration.sources():
                connection.execute(path.read_bytes())
        assert migration.catalogue_of(by_hand) == migration.catalogue_of(database)
        assert grants(by_hand) == grants(database)


def test_no_function_is_defined_twice_and_each_has_a_file_of_its_name() -> None:
    defined = [(path, name) for path in migration.sources() for name in DEFINED.findall(path.read_text())]
    names = [name for _, name in defined]
    assert len(set(names)) == len(names)
    misplaced = [name for path, name in defined if name != f"turnlog.{path.stem}"]
    assert misplaced == []


def without_where(sql: str) -> list[str]:
    """Return each UPDATE and DELETE without a WHERE of its own, also inside a text that is executed."""
    sql = without_comments(DOLLARS.sub(" ", sql))  # bodies have comments, too
    body = TEXT.sub("''", sql)
    found = [body[start.start() :] for start in CHANGING.finditer(body) if not has_where(body[start.end() :])]
    return found + [each for text in TEXT.findall(sql) for each in without_where(text.replace("''", "'"))]


def has_where(rest: str) -> bool:
    """Return whether a statement has a WHERE outside of brackets before its end."""
    depth = 0
    for part in BRACKET.findall(rest):
        if depth == 0 and part.lower() == "where":
            return True
        depth += {"(": 1, ")": -1}.get(part, 0)
        if depth < 0 or part == ";":
            return False
    return False


@pytest.mark.parametrize("path", migration.sources(), ids=lambda path: path.stem)
def test_nothing_updates_or_deletes_without_a_where(path: Any) -> None:
    # Supabase's API has safeupdate loaded, which refuses that, inside functions too
    assert without_where(path.read_text()) == []


@pytest.mark.parametrize(
    "planted",
    [
        "update turnlog.ai_sessions set title = null;",
        "execute 'delete from turnlog.%I'; select 1 where true;",
        "with a as (delete from b returning c) select c from a where true;",
        "delete from a using (select b from c where d) as e;",
    ],
)
def test_the_check_finds_an_update_without_a_where(planted: str) -> None:
    assert without_where(planted)


@pytest.mark.parametrize(
    "harmless",
    [
        "select 1 for update;",
        "for no key update;",
        "on conflict do update set a = 1;",
        "update a set b = (select c from d) where e;",
        "execute format('update %I set a = '''' where b', c);",
    ],
)
def test_what_is_no_update_or_has_a_where_passes(harmless: str) -> None:
    assert not without_where(harmless)


def test_a_fill_writes_every_column(database: str) -> None:
    """A column that the update leaves out would be reported as filled and stay as it was."""
    [file] = [file for file in migration.sources() if file.name == "fill_stored.sql"]
    text = file.read_text(encoding="utf-8")
    update = re.search(r"set \((.*?)\) = \((.*?)\);?\n", text, re.DOTALL)
    assert update
    columns, values = ([name.strip() for name in part.split(",")] for part in update.groups())
    assert values == [f"excluded.{column}" for column in columns]
    with psycopg.connect(database) as connection:
        stored = connection.execute(
            "select attname from pg_attribute where attrelid = 'turnlog.ai_interactions'::regclass"
            " and attnum > 0 and not attisdropped"
        ).fetchall()
    assert {name for (name,) in stored} - set(columns) == {
        "project",
        "session_id",
        "id",
        "created_at",
        "erased_at",
        "text_expired_at",
    }
