"""The doctor: a healthy database passes; each damage is found alone, and its command fixes it."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict

from conversation.doctor.examination import Examination
from conversation.settings import Settings
from conversation.stack import create_database_store
from logging_store.errors import Misconfigured
from logging_store.postgres import catalogue
from tests.databases import DEFAULT_GRANTS, DefaultGrants, TestServer
from tests.doctor.damages import DAMAGES, DOOR, NIL, SESSION, STRAY
from tests.doctor.operator import Operator
from tests.migration import RENEW, catalogue_of
from tests.postgrest import PostgrestStandIn

pytestmark = pytest.mark.own_database


def database_of(conninfo: str) -> str:
    return str(conninfo_to_dict(conninfo)["dbname"])


def test_the_stored_catalogue_is_that_of_a_fresh_database(database: str) -> None:
    assert catalogue.FILE.read_text(encoding="utf-8") == catalogue_of(database), RENEW


def test_a_healthy_database_is_well(operator: Operator) -> None:
    assert operator.find() == []
    result = operator.run("doctor")
    assert result.exit_code == 0
    rows = [line.split() for line in result.stdout.splitlines()[1:-2]]
    assert len(rows) == 19
    assert all("ok" in row[1:4] for row in rows)
    assert result.output.endswith("\n\nAll is well.\n")


@pytest.mark.parametrize("grants", DEFAULT_GRANTS)
def test_a_project_is_well_and_keeps_a_log_whatever_it_grants_by_default(
    postgres_server: TestServer, tmp_path: Path, grants: DefaultGrants
) -> None:
    with (
        postgres_server.project(grants) as name,
        PostgrestStandIn(postgres_server.conninfo(name, user="authenticator")) as standin,
    ):
        database = postgres_server.conninfo(name)
        environment = {"SUPABASE_URL": standin.url, "SUPABASE_SECRET_KEY": standin.key("service_role")}
        through_the_api = Operator(environment | {"DATA_DIR": str(tmp_path)}, database)
        assert through_the_api.find() == []
        assert Operator({"DATABASE_URL": database, "DATA_DIR": str(tmp_path)}, database).find() == []
        selftest = through_the_api.run("selftest", "--writers", "4", "--rounds", "1")
        assert selftest.exit_code == 0, selftest.output


def test_harmless_additions_are_no_findings(operator: Operator) -> None:
    operator.execute(
        "create index on turnlog.ai_sessions (title);"
        "alter table turnlog.ai_sessions add column note text, add column rank int not null default 0;"
        "create table public.theirs (id int);"
        "create function public.their_hook() returns trigger language plpgsql as 'begin return null; end';"
        "create trigger their_hook after insert on turnlog.ai_sessions"
        " for each row execute function public.their_hook()"
    )
    assert operator.find() == []


@pytest.mark.parametrize("case", DOOR)
def test_damage_to_supabases_entry_point_is_found_directly(
    postgres_server: TestServer, database: str, tmp_path: Path, case: str
) -> None:
    statement, check, found, fix = DOOR[case]
    operator = Operator({"DATABASE_URL": database, "DATA_DIR": str(tmp_path)}, database)
    operator.execute(statement)
    [(where, finding)] = operator.find()
    assert (where, found in finding["found"]) == (check, True), finding
    assert any(fix in command for command in finding["fix"]), finding
    with PostgrestStandIn(postgres_server.conninfo(database_of(database), user="authenticator")) as standin:
        environment = {"SUPABASE_URL": standin.url, "SUPABASE_SECRET_KEY": standin.key("service_role")}
        through_the_api = Operator(environment | {"DATA_DIR": str(tmp_path)}, database)
        assert {check for check, _ in through_the_api.find()} <= {"schema", "database", "functions"}
        operator.fix(finding["fix"])
        standin.reload()
        assert operator.find() == through_the_api.find() == []


def test_where_supabase_is_not_nobody_misses_its_door(bare_server: TestServer, tmp_path: Path) -> None:
    with bare_server.database() as name:
        database = bare_server.conninfo(name)
        operator = Operator({"DATABASE_URL": database, "DATA_DIR": str(tmp_path)}, database)
        assert operator.execute("select to_regprocedure('public.turnlog(text, jsonb)')") == [(None,)]
        assert operator.find() == []


@pytest.mark.parametrize("case", DAMAGES)
def test_each_damage_is_found_alone_and_its_command_fixes_it(operator: Operator, case: str) -> None:
    statement, check, found, fix = DAMAGES[case]
    operator.execute(statement)
    [(where, finding)] = operator.find()
    assert (where, found in finding["found"]) == (check, True), finding
    assert any(fix in command for command in finding["fix"]), finding
    assert finding["means"]
    operator.fix(finding["fix"])
    assert operator.find() == []


def test_orphans_are_fixed_without_losing_one(operator: Operator) -> None:
    operator.execute(DAMAGES["interactions without a session"][0])
    [(_, finding)] = operator.find()
    operator.fix(finding["fix"])
    assert operator.execute("select id::text, implicit from turnlog.ai_sessions") == [(STRAY, True)]
    assert operator.execute("select count(*) from turnlog.ai_interactions") == [(5,)]


def test_a_nil_session_takes_its_interactions_along(operator: Operator) -> None:
    operator.execute(DAMAGES["a session without an identity"][0])
    [(_, finding)] = operator.find()
    operator.fix(finding["fix"])
    [(session,)] = operator.execute("select id::text from turnlog.ai_sessions")
    assert session != NIL
    assert operator.execute("select session_id::text, id::text from turnlog.ai_interactions") == [(session, STRAY)]


def test_repeated_identities_are_reported_and_never_deleted(operator: Operator) -> None:
    operator.execute(
        "alter table turnlog.ai_interactions drop constraint ai_interactions_pkey;"
        + SESSION.replace(NIL, STRAY)
        + "insert into turnlog.ai_interactions (project, session_id, id, created_at)"
        f" select 'default', '{STRAY}', '{STRAY}', now() from generate_series(1, 2)"
    )
    found = dict(operator.find())
    assert set(found) == {"constraints", "rows"}
    assert found["rows"]["found"].startswith("1 identity of ai_interactions (project, session_id, id) repeated:")
    listed = operator.execute(found["rows"]["fix"][0])
    assert len(listed) == 2
    operator.execute(f"delete from turnlog.ai_interactions where ctid = '{listed[0][0]}'")
    operator.fix(found["constraints"]["fix"])
    assert operator.find() == []


def test_rows_without_an_identity_get_one(operator: Operator) -> None:
    operator.execute(
        "alter table turnlog.ai_interactions drop constraint ai_interactions_pkey,"
        " alter column id drop not null;"
        + SESSION.replace(NIL, STRAY)
        + "insert into turnlog.ai_interactions (project, session_id, created_at)"
        f" select 'default', '{STRAY}', now() from generate_series(1, 2)"
    )
    found = dict(operator.find())
    assert set(found) == {"columns", "constraints", "rows"}
    assert found["rows"]["found"] == "2 rows of ai_interactions without project or session_id or id"
    for check in ("rows", "columns", "constraints"):
        operator.fix(found[check]["fix"])
    assert operator.find() == []


def test_a_table_that_is_gone_is_made_again(operator: Operator) -> None:
    operator.execute("drop table turnlog.ai_interactions")
    found = operator.find()
    assert next((check, finding["found"]) for check, finding in found) == (
        "tables",
        "the table ai_interactions is missing",
    )
    assert {check for check, _ in found} == {"tables", "rows"}
    assert "this check failed" in found[1][1]["found"]
    operator.fix(found[0][1]["fix"])
    assert operator.find() == []


@pytest.fixture
def roles_as_before(postgres_server: TestServer) -> Iterator[None]:
    """Put right, for the tests that follow, what all databases of the server share."""
    yield
    with postgres_server.connect("postgres") as connection:
        connection.execute("alter role anon nobypassrls nosuperuser; alter role service_role bypassrls")
        connection.execute("revoke service_role from anon")


@pytest.mark.usefixtures("roles_as_before")
@pytest.mark.parametrize(
    ("statement", "check", "found", "fix"),
    [
        ("grant service_role to anon", "grants", "anon reaches", "revoke service_role from anon;"),
        ("alter role anon bypassrls", "roles", "anon bypasses row-level security", "alter role anon nobypassrls;"),
        ("alter role anon superuser", "roles", "anon is a superuser", "alter role anon nosuperuser;"),
        ("alter role service_role nobypassrls", "roles", "service_role", "alter role service_role bypassrls;"),
    ],
)
def test_a_role_that_may_more_or_less_is_found(
    operator: Operator, statement: str, check: str, found: str, fix: str
) -> None:
    operator.execute(statement)
    [(where, finding)] = operator.find()
    assert (where, finding["fix"]) == (check, [fix])
    assert found in finding["found"]
    operator.fix(finding["fix"])
    assert operator.find() == []


@pytest.mark.parametrize(
    ("statement", "schema"),
    [
        ("revoke usage on schema public from public", "public"),
        ("revoke usage on schema turnlog from service_role", "turnlog"),
    ],
)
def test_a_schema_that_the_service_may_not_use_is_found(owner: Operator, statement: str, schema: str) -> None:
    owner.execute(statement)
    [(check, finding)] = owner.find()
    assert (check, finding["found"]) == ("roles", f"service_role may not use the schema {schema}")
    owner.fix(finding["fix"])
    assert owner.find() == []


def test_missing_rights_of_a_login_are_found(postgres_server: TestServer, database: str, tmp_path: Path) -> None:
    login = postgres_server.conninfo(database_of(database), user="authenticator")
    operator = Operator({"DATABASE_URL": login, "DATA_DIR": str(tmp_path)}, database)
    operator.execute(
        "grant usage on schema turnlog to authenticator;"
        "grant execute on all functions in schema turnlog to authenticator"
    )
    found = operator.find()
    assert {check for check, _ in found} == {"grants", "roles", "rows"}
    assert "authenticator lacks DELETE, INSERT, SELECT, UPDATE on turnlog.ai_sessions" in [
        finding["found"] for _, finding in found
    ]
    assert any(finding["fix"] == ["alter role authenticator bypassrls;"] for _, finding in found)


def test_a_server_that_does_not_sync_is_found(postgres_server: TestServer, owner: Operator) -> None:
    def wait_until_fsync_is(value: str) -> None:
        give_up = time.monotonic() + 10
        while owner.execute("show fsync") != [(value,)]:
            assert time.monotonic() < give_up
            time.sleep(0.02)

    try:
        owner.execute("alter system set fsync = off")
        owner.execute("select pg_reload_conf()")
        wait_until_fsync_is("off")
        [(check, finding)] = owner.find()
        assert (check, finding["found"]) == ("durability", "fsync is off (configuration file)")
        owner.fix(finding["fix"])
        wait_until_fsync_is("on")
        assert owner.find() == []
    finally:
        with postgres_server.connect("postgres") as connection:
            connection.execute("alter system reset fsync")
            connection.execute("select pg_reload_conf()")


def test_a_setting_of_the_connection_is_found(database: str, tmp_path: Path) -> None:
    url = f"{database} options='-c default_transaction_isolation=serializable'"
    operator = Operator({"DATABASE_URL": url, "DATA_DIR": str(tmp_path)}, database)
    [(check, finding)] = operator.find()
    assert (check, finding["found"]) == ("durability", "default_transaction_isolation is serializable (client)")
    assert "DATABASE_URL" in finding["fix"][0]


def test_a_database_without_a_schema_has_to_be_migrated(postgres_server: TestServer, tmp_path: Path) -> None:
    with postgres_server.database(empty=True) as name:
        database = postgres_server.conninfo(name)
        operator = Operator({"DATABASE_URL": database, "DATA_DIR": str(tmp_path)}, database)
        [(check, finding)] = operator.find("--table", "chat")
        assert (check, finding["fix"]) == ("schema", ["turnlog migrate"])
        operator.fix(finding["fix"])
        assert operator.find() == []


def test_a_schema_of_another_application_is_named_and_left_alone(postgres_server: TestServer, tmp_path: Path) -> None:
    with postgres_server.database(empty=True) as name:
        database = postgres_server.conninfo(name)
        operator = Operator({"DATABASE_URL": database, "DATA_DIR": str(tmp_path)}, database)
        operator.execute("create schema turnlog; create table turnlog.theirs (id int)")
        [(check, finding)] = operator.find()
        assert (check, finding["found"]) == ("schema", "the schema turnlog belongs to another application")
        assert operator.run("migrate").exit_code == 1  # so it is no remedy
        operator.fix(finding["fix"])
        [(_, finding)] = operator.find()
        assert finding["fix"] == ["turnlog migrate"]
        operator.fix(finding["fix"])
        assert operator.find() == []


def test_the_doctor_is_no_remedy_of_its_own(tmp_path: Path) -> None:
    settings = Settings.from_mapping({"DATABASE_URL": "postgresql://a@127.0.0.1:1/b", "DATA_DIR": str(tmp_path)})
    examination = Examination(settings, create_database_store(settings))
    [finding] = examination.unreachable(Misconfigured("the role may not run functions: use their owner")).findings
    assert finding.fix == []


def test_a_project_without_a_schema_needs_a_push(postgres_server: TestServer, tmp_path: Path) -> None:
    with (
        postgres_server.database(empty=True) as name,
        PostgrestStandIn(postgres_server.conninfo(name, user="authenticator")) as standin,
    ):
        environment = {"SUPABASE_URL": standin.url, "SUPABASE_SECRET_KEY": standin.key("service_role")}
        operator = Operator(environment | {"DATA_DIR": str(tmp_path)}, postgres_server.conninfo(name))
        [(check, finding)] = operator.find()
        assert (check, finding["fix"][0]) == ("schema", "supabase db push")
        assert operator.run("repair", "--table", "chat").exit_code == 1


def test_an_older_schema_has_to_be_migrated(postgres_server: TestServer, tmp_path: Path) -> None:
    with postgres_server.database(empty=True) as name:
        database = postgres_server.conninfo(name)
        operator = Operator({"DATABASE_URL": database, "DATA_DIR": str(tmp_path)}, database)
        assert operator.run("migrate").exit_code == 0
        operator.execute("delete from turnlog.migrations;" + ping_of("20200101000000"))
        [(check, finding)] = operator.find()
        assert (check, finding["fix"]) == ("schema", ["turnlog migrate"])
        assert finding["found"].startswith("the schema is 20200101000000, but this version of Turnlog needs ")
        operator.fix(finding["fix"])
        assert operator.find() == []


def ping_of(version: str) -> str:
    """Return SQL that makes a database answer as if it were of another release."""
    return (
        "create or replace function turnlog.ping(request jsonb default '{}') returns jsonb language sql as"
        f""" $$ select '{{"schema": "{version}", "server_version": "30", "read_only": false}}'::jsonb $$"""
    )


def test_a_newer_schema_is_not_examined(operator: Operator) -> None:
    operator.execute(ping_of("20990101000000"))
    [(check, finding)] = operator.find()
    assert (check, "20990101000000" in finding["found"]) == ("schema", True)
