"""Nobody but the service reaches the tables and functions, whatever Supabase grants by default."""

import psycopg
import pytest
from psycopg.sql import SQL, Identifier

from logging_store import catalogue, errors
from logging_store.postgres import PostgresStore

TABLES = catalogue.tables()
STRANGERS = ["anon", "authenticated"]


def functions(connection: psycopg.Connection) -> list[str]:
    return [
        signature
        for (signature,) in connection.execute(
            "select oid::regprocedure::text from pg_proc"
            " where pronamespace = 'public'::regnamespace and proname like 'turnlog%' order by 1"
        )
    ]


def connect(database: str) -> psycopg.Connection:
    return psycopg.connect(database, autocommit=True)


@pytest.mark.parametrize("role", STRANGERS)
@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize(
    "statement",
    [
        "select from {}",
        "insert into {} (project) values ('p')",
        "update {} set project = 'p'",
        "delete from {}",
        "truncate {} cascade",
    ],
)
def test_strangers_are_denied_every_statement(database: str, role: str, table: str, statement: str) -> None:
    with connect(database) as connection:
        connection.execute(SQL("set role {}").format(Identifier(role)))
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="permission denied for table"):
            connection.execute(SQL(statement).format(Identifier(table)))


@pytest.mark.parametrize("role", [*STRANGERS, "service_role"])
def test_only_the_service_may_run_the_functions(database: str, role: str) -> None:
    with connect(database) as connection:
        found = functions(connection)
        assert len(found) >= 8
        allowed = [
            name
            for name in found
            if connection.execute("select has_function_privilege(%s, %s, 'execute')", [role, name]).fetchone()
            == (True,)
        ]
    assert allowed == (found if role == "service_role" else [])


def test_a_stranger_who_calls_is_denied(database: str) -> None:
    with connect(database) as connection:
        connection.execute("set role anon")
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="permission denied for function"):
            connection.execute("select public.turnlog_ping_v1()")


def test_the_public_holds_no_right(database: str) -> None:
    with connect(database) as connection:
        held = connection.execute(
            "select grantee, table_name, privilege_type from information_schema.role_table_grants"
            " where table_schema = 'public' and grantee in ('PUBLIC', 'anon', 'authenticated')"
        ).fetchall()
    assert held == []


def test_row_level_security_is_on_and_lets_nobody_through(database: str) -> None:
    with connect(database) as connection:
        secured = connection.execute(
            "select relname from pg_class where relnamespace = 'public'::regnamespace"
            " and relkind = 'r' and relrowsecurity order by 1"
        ).fetchall()
        policies = connection.execute("select * from pg_policies where schemaname = 'public'").fetchall()
    assert [table for (table,) in secured] == sorted(catalogue.tables())
    assert policies == []


def test_every_function_has_an_empty_search_path_and_its_callers_rights(database: str) -> None:
    with connect(database) as connection:
        loose = connection.execute(
            "select proname from pg_proc where pronamespace = 'public'::regnamespace and proname like 'turnlog%'"
            " and (prosecdef or not coalesce(proconfig, '{}') @> array['search_path=\"\"'])"
        ).fetchall()
    assert loose == []


def test_a_role_that_row_level_security_hides_the_rows_from_is_told_so(database: str) -> None:
    # silence would look like an empty log
    with connect(database) as connection:
        connection.execute("grant usage on schema public to authenticator")
        connection.execute("grant select on all tables in schema public to authenticator")
        connection.execute("grant execute on all functions in schema public to authenticator")
    store = PostgresStore(psycopg.conninfo.make_conninfo(database, user="authenticator"))
    try:
        with pytest.raises(errors.Misconfigured, match="row-level security hides the tables"):
            store.ping()
    finally:
        store.close()
