"""Supabase's API runs what isn't volatile in a read-only transaction, so such functions neither write nor lock."""

import re

import psycopg
import pytest

from tests.sql import without_comments

pytestmark = pytest.mark.own_database

FUNCTIONS = """
    select p.proname, p.provolatile <> 'v', coalesce(nullif(p.prosrc, ''), pg_get_functiondef(p.oid)) from pg_proc as p
     where p.pronamespace = 'turnlog'::regnamespace
"""
CALLED = re.compile(r"\bturnlog\.(\w+)\s*\(")
#: What a read-only transaction refuses; also inside a text that is executed.
WRITES = re.compile(
    r"\binsert\s+into\b|\bupdate\s+[\w.%]+\s+(?:as\s+\w+\s+)?set\b|\bdelete\s+from\b|\bmerge\s+into\b|\btruncate\s+[\w%]"
    r"|\bfor\s+(?:no\s+key\s+)?(?:update|share)\b|\bfor\s+key\s+share\b|\block\s+table\b|\b(?:nextval|setval)\s*\(",
    re.IGNORECASE,
)


def writing_readers(connection: psycopg.Connection) -> list[str]:
    """Return the functions that aren't volatile, but write, lock or call a volatile one, and by way of what."""
    found = connection.execute(FUNCTIONS.encode()).fetchall()
    bodies = {name: without_comments(text) for name, _, text in found}
    readers = {name for name, only_reads, _ in found if only_reads}

    def reason(name: str, path: tuple[str, ...]) -> str | None:
        path = (*path, name)
        if name not in readers or WRITES.search(bodies[name]):
            return " > ".join(path)
        called = sorted(set(CALLED.findall(bodies[name])) & bodies.keys() - set(path))
        return next(filter(None, (reason(each, path) for each in called)), None)

    return sorted(filter(None, (reason(name, ()) for name in readers)))


def test_no_function_that_only_reads_writes(database: str) -> None:
    with psycopg.connect(database) as connection:
        assert len([*connection.execute(FUNCTIONS.encode())]) > 100
        assert writing_readers(connection) == []


@pytest.mark.parametrize(
    ("planted", "found"),
    [
        ("delete from turnlog.ai_keys where false", "planted"),
        ("update turnlog.ai_keys as k set name = '' where false", "planted"),
        ("perform from turnlog.ai_keys for no key update", "planted"),
        ("perform turnlog.expire(request)", "planted > expire"),
        ("perform turnlog.reads_on(request)", "planted > reads_on > erase"),
    ],
)
def test_the_check_finds_a_reader_that_writes(database: str, planted: str, found: str) -> None:
    with psycopg.connect(database) as connection:
        for name, body in (("reads_on", "perform turnlog.erase(request)"), ("planted", planted)):
            connection.execute(
                f"create function turnlog.{name}(request jsonb) returns void language plpgsql stable"
                f" as $$ begin {body}; end $$".encode()
            )
        assert found in writing_readers(connection)


def test_what_the_api_calls_is_volatile(database: str) -> None:
    # and so all operations may write, whatever they are themselves
    with psycopg.connect(database) as connection:
        door = "select provolatile from pg_proc where oid = 'public.turnlog(text, jsonb)'::regprocedure"
        assert connection.execute(door).fetchone() == ("v",)


def test_nothing_raises_what_the_api_repeats_without_end(database: str) -> None:
    with psycopg.connect(database) as connection:
        for name, _, text in connection.execute(FUNCTIONS.encode()):
            assert not re.search(r"40001|40P01|serialization_failure|deadlock_detected", without_comments(text)), name
