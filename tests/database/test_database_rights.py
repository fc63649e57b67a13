"""Only the service reaches the tables and functions, whatever Supabase grants by default."""

from collections.abc import Iterator

import httpx
import psycopg
import pytest
from psycopg.sql import SQL, Identifier

from logging_store import errors
from logging_store.postgres import catalogue
from logging_store.postgres.postgres_store import PostgresStore
from tests.databases import DEFAULT_GRANTS, TestServer
from tests.postgrest import PostgrestStandIn

pytestmark = pytest.mark.own_database

TABLES = catalogue.tables()
STRANGERS = ["anon", "authenticated"]


def functions(connection: psycopg.Connection) -> list[str]:
    return [
        signature
        for (signature,) in connection.execute(
            "select oid::regprocedure::text from pg_proc where pronamespace = 'turnlog'::regnamespace"
            " or pronamespace = 'public'::regnamespace and proname = 'turnlog' order by 1"
        )
    ]


def connect(database: str) -> psycopg.Connection:
    return psycopg.connect(database, autocommit=True)


@pytest.fixture(params=DEFAULT_GRANTS, ids=lambda grants: f"grants {grants} by default")
def database(request: pytest.FixtureRequest, postgres_server: TestServer) -> Iterator[str]:
    """Yield a migrated database of either kind of Supabase project."""
    with postgres_server.project(request.param) as name:
        yield postgres_server.conninfo(name)


#: What a stranger may try with an object of each kind: `{}` is its name, `{column}` one of its columns.
ATTEMPTS = {
    "table": ["select from {}", "insert into {} default values", "update {} set {column} = default", "delete from {}",
              "truncate {} cascade", "lock table {} in access exclusive mode", "alter table {} owner to current_user"],
    "sequence": ["select last_value from {}", "select nextval('{}')", "select currval('{}')", "select setval('{}', 1)"],
    "function": ["select {}"],
    "procedure": ["call {}"],
}  # fmt: skip
# views count as tables: what may be done with one may be done with the other
OBJECTS = """
    with ours as (select n.oid, n.nspname from pg_namespace as n
                   where n.nspname not in ('pg_catalog', 'information_schema') and n.nspname not like 'pg\\_t%')
    select case c.relkind when 'S' then 'sequence' else 'table' end as kind, c.oid::regclass::text as name,
           coalesce((select quote_ident(a.attname) from pg_attribute as a
                      where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
                      order by a.attnum limit 1), '') as column
      from pg_class as c join ours on ours.oid = c.relnamespace
     where c.relkind in ('r', 'p', 'v', 'm', 'f', 'S')
     union all
    select case p.prokind when 'p' then 'procedure' else 'function' end,
           format('%I.%I(%s)', ours.nspname, p.proname, (
               select string_agg(format('null::%s', format_type(t.type, null)), ', ' order by t.n)
                 from unnest(p.proargtypes::oid[]) with ordinality as t (type, n))), ''
      from pg_proc as p join ours on ours.oid = p.pronamespace
     order by 1, 2
"""


def reached_by(connection: psycopg.Connection, role: str) -> tuple[list[str], list[str]]:
    """Return what was tried as a role, and of that what wasn't denied, whatever else became of it."""
    found = connection.execute(OBJECTS.encode()).fetchall()
    tried = [attempt.format(name, column=column) for kind, name, column in found for attempt in ATTEMPTS[kind]]
    return tried, [statement for statement in tried if not is_denied(connection, role, statement)]


def is_denied(connection: psycopg.Connection, role: str, statement: str) -> bool:
    with connection.transaction(force_rollback=True):
        connection.execute(SQL("set local role {}").format(Identifier(role)))
        try:
            with connection.transaction():
                connection.execute(statement.encode())
        except psycopg.errors.InsufficientPrivilege:
            return True
        except psycopg.Error:
            return False
    return False


@pytest.mark.parametrize("role", STRANGERS)
def test_other_roles_are_denied_everything_on_every_object(database: str, role: str) -> None:
    with connect(database) as connection:
        tried, reached = reached_by(connection, role)
        assert reached == []
        for name in (*(f"{table} " for table in TABLES), *(each.partition("(")[0] for each in functions(connection))):
            assert [statement for statement in tried if name in f"{statement} "], f"nobody tried {name}"


@pytest.mark.parametrize(
    ("planted", "found"),
    [
        ("create table public.planted (a int)", "select from planted"),
        ("create view public.planted as select key from turnlog.ai_sessions", "select from planted"),
        ("create materialized view public.planted as select 1 as a", "select from planted"),
        ("create sequence public.planted; grant usage on sequence public.planted to anon", "select nextval('planted')"),
        ("create function public.planted(int) returns int language sql as 'select 1'",
         "select public.planted(null::integer)"),
        ("create procedure public.planted() language sql as 'select 1'", "call public.planted()"),
        ("create table public.planted (a int); revoke all on public.planted from anon;"  # noqa: ISC004
         "grant update (a) on public.planted to anon", "update planted set a = default"),
    ],
    ids=["table", "view", "materialized view", "sequence", "function", "procedure", "column"],
)  # fmt: skip
def test_the_check_finds_an_object_that_a_migration_left_open(database: str, planted: str, found: str) -> None:
    with connect(database) as connection:
        connection.execute("alter default privileges in schema public grant all on tables to anon")
        connection.execute(planted.encode())
        assert found in reached_by(connection, "anon")[1]


@pytest.mark.parametrize("role", STRANGERS)
def test_other_roles_are_denied_every_function_through_supabases_api(
    postgres_server: TestServer, database: str, role: str
) -> None:
    with connect(database) as connection:
        names = {signature.partition("(")[0].rpartition(".")[2] for signature in functions(connection)}
        login = postgres_server.conninfo(connection.info.dbname, user="authenticator")
    with PostgrestStandIn(login) as standin, httpx.Client(base_url=standin.url) as http:
        headers = {"apikey": standin.key(role), "Authorization": f"Bearer {standin.key(role)}"}

        def code(function: str, body: dict[str, object]) -> str:
            answer = http.post(f"/rest/v1/rpc/{function}", headers=headers, json=body)
            assert answer.status_code in {401, 403, 404}, (function, answer)
            told: str = answer.json()["code"]
            return told

        # the API shows nothing of the schema turnlog, and its one function in public denies every operation
        assert {code(name, {"request": {}}) for name in names} == {"PGRST202"}
        assert {code("turnlog", {"operation": name, "request": {}}) for name in names} == {"42501"}
        assert code("turnlog", {"operation": "ping"}) == "42501"


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


def test_what_a_project_grants_by_default_is_as_it_says(request: pytest.FixtureRequest, database: str) -> None:
    grants_all = "grants all" in request.node.name
    with connect(database) as connection:
        connection.execute("create table public.made (a int); create sequence public.counted")
        for role in (*STRANGERS, "service_role"):
            held = connection.execute(
                "select has_table_privilege(%(role)s, 'public.made', 'select'),"
                " has_sequence_privilege(%(role)s, 'public.counted', 'usage')",
                {"role": role},
            ).fetchone()
            assert held == (grants_all, grants_all), role


def test_no_object_of_ours_is_a_sequence(database: str) -> None:
    # the service would need rights on it, which no project grants by default any more
    with connect(database) as connection:
        found = connection.execute(
            "select c.oid::regclass::text from pg_class as c where c.relkind = 'S'"
            " and c.relnamespace in ('turnlog'::regnamespace, 'public'::regnamespace)"
        )
        assert found.fetchall() == []


def test_a_call_of_another_role_is_denied(database: str) -> None:
    with connect(database) as connection:
        connection.execute("set role anon")
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="permission denied for schema turnlog"):
            connection.execute("select turnlog.ping()")


def test_public_has_no_rights(database: str) -> None:
    with connect(database) as connection:
        held = connection.execute(
            "select grantee, table_name, privilege_type from information_schema.role_table_grants"
            " where table_schema = 'turnlog' and grantee in ('PUBLIC', 'anon', 'authenticated')"
        ).fetchall()
    assert held == []


def test_row_level_security_is_on_without_policies(database: str) -> None:
    with connect(database) as connection:
        secured = connection.execute(
            "select relname from pg_class where relnamespace = 'turnlog'::regnamespace"
            " and relkind = 'r' and relrowsecurity order by 1"
        ).fetchall()
        policies = connection.execute("select * from pg_policies where schemaname = 'turnlog'").fetchall()
    assert [table for (table,) in secured] == sorted(catalogue.tables())
    assert policies == []


def test_every_function_has_an_empty_search_path_and_its_callers_rights(database: str) -> None:
    with connect(database) as connection:
        loose = connection.execute(
            "select proname from pg_proc where (pronamespace = 'turnlog'::regnamespace or proname = 'turnlog')"
            " and (prosecdef or not coalesce(proconfig, '{}') @> array['search_path=\"\"'])"
        ).fetchall()
    assert loose == []


def test_a_role_that_cannot_see_the_rows_is_reported(database: str) -> None:
    # silence would look like an empty log
    with connect(database) as connection:
        connection.execute("grant usage on schema turnlog to authenticator")
        connection.execute("grant select on all tables in schema turnlog to authenticator")
        connection.execute("grant execute on all functions in schema turnlog to authenticator")
    store = PostgresStore(psycopg.conninfo.make_conninfo(database, user="authenticator"))
    try:
        with pytest.raises(errors.Misconfigured, match="row-level security hides the tables"):
            store.ping()
    finally:
        store.close()
