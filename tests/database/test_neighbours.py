"""Turnlog beside somebody else's objects: nothing of theirs is touched or read, and a name that is taken is told."""

import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict
from psycopg.sql import SQL, Identifier

from app import create_app
from conversation.settings import Settings
from logging_store.postgres import migrations
from logging_store.postgres.function_store import FunctionStore
from logging_store.postgres.postgres_store import PostgresStore
from logging_store.postgres.supabase_store import SupabaseStore
from tests.database.test_migrations import WAYS
from tests.databases import TestServer
from tests.doctor.operator import Operator
from tests.http_calls import KEYLESS
from tests.postgrest import PostgrestStandIn

# A chat backend's own tables, under the names that ours have, in each of two schemas on the search_path. Whoever writes
# to one, or calls one of the functions, fails.
THEIRS = """
create table {schema}.ai_sessions (
    id uuid, user_id uuid not null, title text, created_at timestamptz not null default now(),
    constraint ai_sessions_pkey primary key (id), constraint ai_sessions_status_check check (title <> ''));
create table {schema}.ai_interactions (
    id uuid, session_id uuid not null, prompt text not null, response text, created_at timestamptz default now(),
    constraint ai_interactions_pkey primary key (id),
    constraint ai_interactions_session_id_fkey foreign key (session_id) references {schema}.ai_sessions (id));
create index ai_sessions_newest_idx on {schema}.ai_sessions (created_at);
create index ai_interactions_newest_idx on {schema}.ai_interactions (session_id, created_at);
create table {schema}.ai_keys (id serial primary key, digest text unique, project text);
create table {schema}.ai_feedback (id int primary key, value int);
create table {schema}.ai_projects (project text primary key, keep_days int);
create table {schema}.migrations (version text primary key);
create type {schema}.receipt as enum ('created');
insert into {schema}.ai_sessions select gen_random_uuid(), gen_random_uuid(), 'mine' from generate_series(1, 50);
insert into {schema}.ai_interactions
    select gen_random_uuid(), s.id, 'needle', 'hay' from {schema}.ai_sessions as s, generate_series(1, 3);
insert into {schema}.ai_keys (digest, project) select n::text, 'default' from generate_series(1, 5) as n;
insert into {schema}.ai_feedback values (1, 1);
insert into {schema}.ai_projects values ('default', 1);
insert into {schema}.migrations values ('20990101000000');
create function {schema}.refuse() returns trigger language plpgsql as
    $$ begin raise exception 'somebody wrote to a table of theirs'; end $$;
create trigger refuse before insert or update or delete on {schema}.ai_sessions execute function {schema}.refuse();
create trigger refuse before insert or update or delete on {schema}.ai_interactions execute function {schema}.refuse();
"""
CALLED = """
create function {schema}.{function} returns {returns} language plpgsql as
    $$ begin raise exception 'somebody called {function} of theirs'; end $$;
"""
FUNCTIONS = [
    *((f"{name}(request jsonb)", "jsonb") for name in ("turnlog_write", "write", "ping", "session", "search", "erase")),
    ("turnlog(jsonb)", "jsonb"),
    ("fold(text)", "text"),
    # better matches than pg_catalog's own for who looks here too
    ("format(text, text)", "text"),
    ("quote_ident(varchar)", "text"),
    ("concat_ws(text, text, text)", "text"),
]
SCHEMAS = ["public", "chat"]
SCANS = """
    select schemaname, relname, seq_scan, idx_scan, n_tup_ins, n_tup_upd, n_tup_del from pg_stat_user_tables
     where schemaname <> 'turnlog' order by 1, 2
"""
#: Everything in a database that has a name, and what it says.
EVERYTHING = """
    select 'schema', nspname, nspacl::text, obj_description(oid, 'pg_namespace') from pg_namespace
     where nspname !~ '^pg_' union all
    select 'relation', oid::regclass::text, concat(relacl, relrowsecurity, relkind), obj_description(oid, 'pg_class')
      from pg_class where relnamespace::regnamespace::text !~ '^(pg_|information)' union all
    select 'function', oid::regprocedure::text, concat(proacl, prosrc), obj_description(oid, 'pg_proc')
      from pg_proc where pronamespace::regnamespace::text !~ '^(pg_|information)' union all
    select 'trigger', tgname, tgrelid::regclass::text, tgenabled::text from pg_trigger union all
    select 'default', defaclnamespace::text, defaclacl::text, defaclobjtype::text from pg_default_acl
     order by 1, 2, 3, 4
"""


def rows(database: str, query: str) -> list[Any]:
    with psycopg.connect(database, autocommit=True, options="-c search_path=") as connection:
        return connection.execute(query.encode()).fetchall()


def content(database: str) -> dict[str, list[Any]]:
    tables = ["ai_sessions", "ai_interactions", "ai_keys", "ai_feedback", "ai_projects", "migrations"]
    return {
        f"{schema}.{table}": rows(database, f"table {schema}.{table} order by 1")
        for schema in SCHEMAS
        for table in tables
    }


@pytest.fixture
def beside(postgres_server: TestServer) -> Iterator[str]:
    """Yield a database that is full of somebody else's tables, also on its search_path."""
    with postgres_server.database(empty=True) as name:
        conninfo = postgres_server.conninfo(name)
        with psycopg.connect(conninfo, autocommit=True) as connection:
            connection.execute("create schema chat")
            for schema in SCHEMAS:
                connection.execute(THEIRS.replace("{schema}", schema).encode())
                for function, returns in FUNCTIONS:
                    called = CALLED.replace("{schema}", schema).replace("{function}", function)
                    connection.execute(called.replace("{returns}", returns).encode())
            path = SQL("alter database {} set search_path = chat, public").format(Identifier(name))
            connection.execute(path)
        yield conninfo


@contextmanager
def serving(kind: str, server: TestServer, database: str) -> Iterator[tuple[FunctionStore, dict[str, str]]]:
    with ExitStack() as closing:
        if kind == "postgres":
            store: FunctionStore = PostgresStore(database)
            environment = {"DATABASE_URL": database}
        else:
            login = server.conninfo(str(conninfo_to_dict(database)["dbname"]), user="authenticator")
            standin = closing.enter_context(PostgrestStandIn(login))
            store = SupabaseStore(standin.url, standin.key())
            environment = {"SUPABASE_URL": standin.url, "SUPABASE_SECRET_KEY": standin.key()}
        closing.callback(store.close)
        yield store, environment


@pytest.mark.parametrize("kind", ["postgres", "supabase"])
def test_nothing_of_theirs_is_touched_or_read(
    kind: str, beside: str, postgres_server: TestServer, tmp_path: Path
) -> None:
    theirs, untouched = content(beside), rows(beside, EVERYTHING)
    before = rows(beside, SCANS)
    migrated = Operator({"DATABASE_URL": beside}, beside).run("migrate")
    assert migrated.exit_code == 0, migrated.output
    assert migrations.PRERELEASE_HINT not in migrated.output
    with serving(kind, postgres_server, beside) as (store, environment):
        client = create_app(Settings.from_mapping(KEYLESS), store).test_client()
        logged = {"session_id": "s", "interaction_id": "i", "prompt": "needle in hay", "response": "found"}
        assert client.post("/v1/sessions", json={"session_id": "s", "user_id": "ada"}).status_code == 201
        assert client.post("/v1/interactions", json=logged).status_code == 201
        assert client.post("/v1/interactions", json=logged).status_code == 200
        judged = {"session_id": "s", "interaction_id": "i", "name": "score", "value": 1}
        assert client.post("/v1/feedback", json=judged).status_code in {200, 201}
        assert len(client.get("/v1/sessions/s/interactions").get_json()["interactions"]) == 1
        assert [each["session_id"] for each in client.get("/v1/sessions").get_json()["sessions"]]
        assert len(client.get("/v1/interactions?q=needle").get_json()["interactions"]) == 1
        operator = Operator(environment | {"DATA_DIR": str(tmp_path)}, beside)
        assert operator.find() == []
        assert operator.run("index").exit_code == 0
        assert client.delete("/v1/sessions/s").status_code == 200
        assert client.delete("/v1/users/ada").status_code == 200
    assert Operator({"DATABASE_URL": beside}, beside).run("migrate", "--again").exit_code == 0
    assert rows(beside, SCANS) == before
    assert content(beside) == theirs
    added = {(kind, name) for kind, name, *_ in set(rows(beside, EVERYTHING)) - set(untouched)}
    assert {name for kind, name in added if kind != "trigger" and "turnlog." not in name} == {
        "turnlog",
        "public.turnlog(text,jsonb)",
    }
    assert set(untouched) <= set(rows(beside, EVERYTHING))


FOREIGN = {
    "a table of migrations": (
        (
            "create schema turnlog; create table turnlog.migrations (version text); "
            "insert into turnlog.migrations values ('1')"
        ),
        "It holds table turnlog.migrations",
        "alter schema turnlog rename to",
    ),
    "a table of sessions": (
        "create schema turnlog; create table turnlog.ai_sessions (id uuid primary key, title text)",
        "table turnlog.ai_sessions",
        "alter schema turnlog rename to",
    ),
    "a function": (
        "create schema turnlog; create function turnlog.theirs() returns int language sql as 'select 1'",
        "function turnlog.theirs()",
        "alter schema turnlog rename to",
    ),
    "a function under the door's name": (
        "create function public.turnlog(operation text, request jsonb) returns jsonb language sql as 'select request'",
        "The function public.turnlog(text, jsonb) of this database is not marked as Turnlog's",
        "alter function public.turnlog(text, jsonb) rename to",
    ),
}


@pytest.fixture
def taken(postgres_server: TestServer) -> Iterator[str]:
    with postgres_server.database(empty=True) as name:
        yield postgres_server.conninfo(name)


@pytest.mark.parametrize("case", FOREIGN)
def test_migrate_says_who_has_the_name_and_changes_nothing(taken: str, case: str) -> None:
    statement, held, way_out = FOREIGN[case]
    operator = Operator({"DATABASE_URL": taken}, taken)
    operator.execute(statement)
    before = rows(taken, EVERYTHING)
    result = operator.run("migrate")
    assert result.exit_code == 1
    assert result.output.count("\n") == 2  # the database, and the error
    assert held in result.output
    assert way_out in result.output
    assert rows(taken, EVERYTHING) == before


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("case", FOREIGN)
def test_a_file_that_is_pasted_changes_nothing_either(taken: str, case: str, way: str) -> None:
    Operator({}, taken).execute(FOREIGN[case][0] + "; create table public.pushed (version text)")
    before = rows(taken, EVERYTHING)
    bring: Callable[[], None] = lambda: WAYS[way](taken, migrations.available()[-1].sql)  # noqa: E731
    if way == "in psql":
        bring()
    else:
        with pytest.raises(psycopg.Error, match="not marked as Turnlog's"):
            bring()
    assert rows(taken, EVERYTHING) == before


def test_an_empty_schema_is_taken(taken: str) -> None:
    operator = Operator({"DATABASE_URL": taken}, taken)
    operator.execute("create schema turnlog")
    assert operator.run("migrate").exit_code == 0


@pytest.mark.own_database
@pytest.mark.parametrize("what", ["schema turnlog", "function public.turnlog(text, jsonb)"])
def test_a_mark_that_a_restore_left_out_is_set_as_it_says(database: str, what: str) -> None:
    operator = Operator({"DATABASE_URL": database}, database)
    operator.execute(f"comment on {what} is null")
    refused = operator.run("migrate", "--again")
    assert refused.exit_code == 1
    assert "mark it: comment on" in refused.output
    operator.execute(refused.output.partition("mark it: ")[2].strip().rstrip("."))
    assert operator.run("migrate", "--again").exit_code == 0


@contextmanager
def role(server: TestServer, database: str, *grants: str, attributes: str = "") -> Iterator[str]:
    """Yield how somebody who isn't a superuser connects."""
    name = f"r{uuid.uuid4().hex[:8]}"
    with server.connect(database) as connection:
        connection.execute(f"create role {name} login {attributes}".encode())
        for grant in grants:
            connection.execute(grant.format(role=name, database=database).encode())
    yield server.conninfo(database, user=name)
    with server.connect(database) as connection:
        connection.execute(f"alter database {database} owner to current_user".encode())
        connection.execute(f"drop owned by {name} cascade; drop role {name}".encode())


def assert_migrates_and_serves(login: str, tmp_path: Path) -> None:
    operator = Operator({"DATABASE_URL": login, "DATA_DIR": str(tmp_path)}, login)
    for arguments in (["migrate"], ["migrate"], ["migrate", "--again"]):
        result = operator.run(*arguments)
        assert result.exit_code == 0, result.output
    store = PostgresStore(login)
    try:
        client = create_app(Settings.from_mapping(KEYLESS), store).test_client()
        assert client.post("/v1/interactions", json={"session_id": "s", "prompt": "Hi"}).status_code == 201
        assert len(client.get("/v1/sessions/s/interactions").get_json()["interactions"]) == 1
        assert client.delete("/v1/sessions/s").status_code == 200
    finally:
        store.close()
    assert operator.find() == []


def test_supabases_role_that_is_no_superuser_migrates_and_serves(postgres_server: TestServer, tmp_path: Path) -> None:
    with (
        postgres_server.database(empty=True) as name,
        role(
            postgres_server,
            name,
            "alter database {database} owner to {role}",
            "grant anon, authenticated, service_role to {role}",
            attributes="createrole",
        ) as login,
    ):
        assert_migrates_and_serves(login, tmp_path)


def test_whoever_owns_an_empty_schema_needs_no_right_on_the_database(bare_server: TestServer, tmp_path: Path) -> None:
    with (
        bare_server.database(empty=True) as name,
        role(bare_server, name, "create schema turnlog authorization {role}") as login,
    ):
        assert_migrates_and_serves(login, tmp_path)


def test_a_role_that_may_not_create_a_schema_is_told_what_its_owner_runs(bare_server: TestServer) -> None:
    with bare_server.database(empty=True) as name, role(bare_server, name) as login:
        result = Operator({"DATABASE_URL": login}, login).run("migrate")
        assert result.exit_code == 1
        statement = result.output.partition("run: ")[2].strip()
        assert statement.startswith("create schema turnlog authorization r")
        with bare_server.connect(name) as connection:
            connection.execute(statement.encode())
        assert Operator({"DATABASE_URL": login}, login).run("migrate").exit_code == 0


def test_a_role_that_may_not_make_the_door_is_told_so(postgres_server: TestServer) -> None:
    with (
        postgres_server.database(empty=True) as name,
        role(postgres_server, name, "create schema turnlog authorization {role}") as login,
    ):
        result = Operator({"DATABASE_URL": login}, login).run("migrate")
        assert result.exit_code == 1
        assert "grant create on schema public to r" in result.output
