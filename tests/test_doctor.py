"""`flask doctor`: a healthy database is well; each thing that is broken is found, alone, and its command mends it."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from conversation.doctor.examination import Examination
from conversation.doctor.machine import check_clock
from conversation.settings import Settings
from logging_store import catalogue, migrations
from logging_store.embedded import EmbeddedPostgres
from logging_store.postgres import PostgresStore
from logging_store.records import Batch, Receipt
from logging_store.spool import DeadLetters, Limits, SpoolDirectory
from tests import golden
from tests.conftest import PROJECT, Backend
from tests.databases import TestServer, server_folder
from tests.doctor import Operator
from tests.postgrest import PostgrestStandIn

NIL = "00000000-0000-0000-0000-000000000000"
BATCH = Batch(PROJECT, [{"id": "5e550000-0000-4000-8000-000000000001", "key": "s", "implicit": False}])
STRAY = "57a40000-0000-4000-8000-000000000001"


@pytest.fixture
def operator(backend: Backend, tmp_path: Path) -> Operator:
    return Operator.of(backend, tmp_path)


def test_the_golden_catalogue_is_that_of_a_fresh_database(database: str) -> None:
    assert catalogue.FILE.read_text(encoding="utf-8") == golden.catalogue_of(database), golden.RENEW


def test_a_healthy_database_is_well(operator: Operator) -> None:
    assert operator.find() == []
    result = operator.run("doctor")
    assert result.exit_code == 0
    rows = [line.split() for line in result.output.splitlines()[1:-2]]
    assert len(rows) == 18
    assert all("ok" in row[1:4] for row in rows)
    assert result.output.endswith("\n\nAll is well.\n")


def test_what_somebody_added_and_harms_nothing_is_nobodys_business(operator: Operator) -> None:
    operator.execute(
        "create index on public.ai_sessions (title);"
        "alter table public.ai_sessions add column note text, add column rank int not null default 0;"
        "create table public.theirs (id int);"
        "create function public.their_hook() returns trigger language plpgsql as 'begin return null; end';"
        "create trigger their_hook after insert on public.ai_sessions for each row execute function public.their_hook()"
    )
    assert operator.find() == []


SHAPE = {
    "an index is gone": (
        "drop index public.ai_sessions_newest_idx",
        "indexes", "ai_sessions_newest_idx is missing", "CREATE INDEX ai_sessions_newest_idx",
    ),
    "an index is another": (
        "drop index public.ai_sessions_tags_idx; create index ai_sessions_tags_idx on public.ai_sessions (tags)",
        "indexes", "USING btree (tags)", "drop index public.ai_sessions_tags_idx",
    ),
    "an index of a key is gone": (
        "drop index public.ai_sessions_project_key_key",
        "indexes", "ai_sessions_project_key_key is missing", "CREATE UNIQUE INDEX",
    ),
    "a unique index is too many": (
        "create unique index one_title on public.ai_sessions (title)",
        "indexes", "one_title isn't Turnlog's", "drop index public.one_title",
    ),
    "a foreign key is gone": (
        "alter table public.ai_interactions drop constraint ai_interactions_session_fkey",
        "constraints", "ai_interactions_session_fkey is missing", "ai_interactions_session_fkey FOREIGN KEY",
    ),
    "a primary key is gone": (
        "alter table public.ai_interactions drop constraint ai_interactions_pkey",
        "constraints", "ai_interactions_pkey is missing", "add constraint ai_interactions_pkey PRIMARY KEY",
    ),
    "a constraint was never checked": (
        ("alter table public.ai_interactions drop constraint ai_interactions_session_fkey,"
        " add constraint ai_interactions_session_fkey foreign key (project, session_id)"
        " references public.ai_sessions (project, id) not valid"),
        "constraints", "never checked on older rows", "validate constraint ai_interactions_session_fkey",
    ),
    "a foreign key is switched off": (
        "alter table public.ai_interactions disable trigger all",
        "constraints", "ai_interactions_session_fkey is switched off", "enable trigger all",
    ),
    "a check allows more": (
        ("alter table public.ai_sessions drop constraint ai_sessions_status_check,"
        " add constraint ai_sessions_status_check check (status <> '')"),
        "constraints", "ai_sessions_status_check is", "drop constraint ai_sessions_status_check",
    ),
    "a constraint is too many": (
        "alter table public.ai_sessions add constraint must_be_titled check (title is not null)",
        "constraints", "must_be_titled isn't Turnlog's", "drop constraint must_be_titled",
    ),
    "a column is gone": (
        "alter table public.ai_interactions drop column turn",
        "columns", "ai_interactions.turn is missing", "add column turn bigint",
    ),
    "a column has another type": (
        "alter table public.ai_sessions alter column title type varchar(50)",
        "columns", "ai_sessions.title is character varying(50), not text", "type text using title::text",
    ),
    "a column may be empty": (
        "alter table public.ai_sessions alter column created_at drop not null",
        "columns", "not timestamp with time zone not null", "alter column created_at set not null",
    ),
    "a column has no default": (
        "alter table public.ai_sessions alter column status drop default",
        "columns", "not text not null default 'open'::text", "set default 'open'::text",
    ),
    "a column has to be filled by others": (
        "alter table public.ai_sessions add column tenant text not null",
        "columns", "ai_sessions.tenant isn't Turnlog's, and must be filled", "alter column tenant drop not null",
    ),
    "a table isn't logged": (
        "alter table public.ai_interactions set unlogged",
        "tables", "the table ai_interactions is unlogged", "set logged",
    ),
    "a trigger swallows rows": (
        ("create function public.swallow() returns trigger language plpgsql as 'begin return null; end';"
        'create trigger "Swallow" before insert on public.ai_sessions for each row execute function public.swallow()'),
        "triggers", "Swallow isn't Turnlog's", 'drop trigger "Swallow" on public.ai_sessions',
    ),
    "a rule swallows rows": (
        "create rule swallow as on insert to public.ai_interactions do instead nothing",
        "triggers", "the rule ai_interactions.swallow", "drop rule swallow on public.ai_interactions",
    ),
    "row-level security is off": (
        "alter table public.ai_sessions disable row level security",
        "row-level security", "row-level security of ai_sessions is off", "enable row level security",
    ),
    "row-level security is forced": (
        "alter table public.ai_interactions force row level security",
        "row-level security", "ai_interactions is forced", "no force row level security",
    ),
    "a policy lets others in": (
        "create policy everyone on public.ai_sessions using (true)",
        "row-level security", "ai_sessions.everyone isn't Turnlog's", "drop policy everyone on public.ai_sessions",
    ),
    "a function says something else": (
        ("create or replace function public.turnlog_erase_v1(request jsonb) returns jsonb"
        " language sql as 'select request'"),
        "functions", "turnlog_erase_v1(jsonb) has been changed: body, settings, traits", "flask --app app migrate",
    ),
    "a function has another setting": (
        "alter function public.turnlog_write_v1(jsonb) reset lock_timeout",
        "functions", "turnlog_write_v1(jsonb) has been changed: settings", "flask --app app migrate",
    ),
    "a function runs as its owner": (
        "alter function public.turnlog_sessions_v1(jsonb) security definer",
        "functions", "turnlog_sessions_v1(jsonb) has been changed: traits", "flask --app app migrate",
    ),
    "a function answers otherwise": (
        ("drop function public.turnlog_erase_v1(jsonb);"
        "create function public.turnlog_erase_v1(request jsonb) returns json"
        " language sql as 'select null::json';"
        "select public.turnlog_close_v1()"),
        "functions", "turnlog_erase_v1(jsonb) has been changed: body, result", "drop function public.turnlog_erase_v1",
    ),
    "a function is gone": (
        "drop function public.turnlog_forget_project_v1(jsonb)",
        "functions", "turnlog_forget_project_v1(jsonb) is missing", "flask --app app migrate",
    ),
    "a function has a double": (
        ("create function public.turnlog_session_v1(request json) returns json language sql as 'select request';"
        "select public.turnlog_close_v1()"),
        "functions", "turnlog_session_v1(json) isn't Turnlog's", "drop function public.turnlog_session_v1(json)",
    ),
}  # fmt: skip

RIGHTS = {
    "a stranger reads": (
        "grant select on public.ai_sessions to anon",
        "grants", "anon has SELECT on public.ai_sessions", "revoke SELECT on table public.ai_sessions from anon",
    ),
    "a stranger reads one column": (
        "grant select (prompt), update (prompt) on public.ai_interactions to authenticated",
        "grants", "authenticated has SELECT, UPDATE (prompt)", "revoke SELECT (prompt), UPDATE (prompt) on table",
    ),
    "everybody may call": (
        "grant execute on function public.turnlog_write_v1(jsonb) to public",
        "grants", "public has EXECUTE on public.turnlog_write_v1(jsonb)", "from public",
    ),
    "another role reads": (
        "grant select on public.ai_sessions to authenticator",
        "grants", "authenticator has SELECT", "from authenticator",
    ),
    "the service can't call": (
        "revoke execute on function public.turnlog_erase_v1(jsonb) from service_role",
        "grants", "service_role lacks EXECUTE on public.turnlog_erase_v1(jsonb)", "",
    ),
    "the service can't write": (
        "revoke insert on public.ai_interactions from service_role",
        "grants", "service_role lacks INSERT on public.ai_interactions", "",
    ),
    "commits don't wait for the disk, for a role": (
        ("do $$ begin execute format("
        "'alter role service_role in database %I set synchronous_commit = off', current_database());"
        " end $$"),
        "durability", "synchronous_commit is off for the role service_role in database", "reset synchronous_commit",
    ),
    "commits don't wait for the disk, for the database": (
        "do $$ begin execute format('alter database %I set synchronous_commit = off', current_database()); end $$",
        "durability", "synchronous_commit is off for the database", "alter database",
    ),
    "foreign keys aren't checked, for the database": (
        ("do $$ begin execute format("
        "'alter database %I set session_replication_role = replica', current_database()); end $$"),
        "durability", "session_replication_role is replica for the database", "reset session_replication_role",
    ),
}  # fmt: skip

_SESSION = f"insert into public.ai_sessions (project, id, key, created_at) values ('default', '{NIL}', null, now());"
ROWS = {
    "interactions without a session": (
        ("set session_replication_role = replica;"
        "insert into public.ai_interactions (project, session_id, id, created_at)"
        f" select 'default', '{STRAY}', gen_random_uuid(), now() from generate_series(1, 5)"),
        "rows", f'5 rows of ai_interactions without ai_sessions: ["default", "{STRAY}"]', "insert into",
    ),
    "a session without an identity": (
        (f"{_SESSION} insert into public.ai_interactions (project, session_id, id, created_at)"
        f" values ('default', '{NIL}', '{STRAY}', now())"),
        "rows", "1 row of ai_sessions whose id is nil", "with renamed as",
    ),
    "an interaction without an identity": (
        _SESSION.replace(NIL, STRAY) + "insert into public.ai_interactions (project, session_id, id, created_at)"
        f" values ('default', '{STRAY}', '{NIL}', now())",
        "rows", "1 row of ai_interactions whose id is nil", "update public.ai_interactions set id",
    ),
    "a key that is a missing one": (
        _SESSION.replace(NIL, STRAY).replace("null,", "'Undefined',"),
        "rows", "1 row of ai_sessions whose key is nil, blank or a word like 'null'", "set key = null",
    ),
    "an erased session that still has interactions": (
        (f"{_SESSION.replace(NIL, STRAY)} update public.ai_sessions set erased_at = now();"
        "insert into public.ai_interactions (project, session_id, id, created_at)"
        f" values ('default', '{STRAY}', '{STRAY}', now())"),
        "rows", "1 interaction of erased sessions", "delete from public.ai_interactions",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", [*SHAPE, *RIGHTS, *ROWS])
def test_what_is_broken_is_found_alone_and_its_command_mends_it(operator: Operator, case: str) -> None:
    statement, check, found, mend = (SHAPE | RIGHTS | ROWS)[case]
    operator.execute(statement)
    [(where, finding)] = operator.find()
    assert (where, found in finding["found"]) == (check, True), finding
    assert any(mend in command for command in finding["mend"]), finding
    assert finding["means"]
    operator.mend(finding["mend"])
    assert operator.find() == []


def test_orphans_are_mended_without_losing_one(operator: Operator) -> None:
    operator.execute(ROWS["interactions without a session"][0])
    [(_, finding)] = operator.find()
    operator.mend(finding["mend"])
    assert operator.execute("select id::text, implicit from public.ai_sessions") == [(STRAY, True)]
    assert operator.execute("select count(*) from public.ai_interactions") == [(5,)]


def test_a_nil_session_takes_its_interactions_along(operator: Operator) -> None:
    operator.execute(ROWS["a session without an identity"][0])
    [(_, finding)] = operator.find()
    operator.mend(finding["mend"])
    [(session,)] = operator.execute("select id::text from public.ai_sessions")
    assert session != NIL
    assert operator.execute("select session_id::text, id::text from public.ai_interactions") == [(session, STRAY)]


def test_repeated_identities_are_told_and_nothing_deletes_them(operator: Operator) -> None:
    operator.execute(
        "alter table public.ai_interactions drop constraint ai_interactions_pkey;"
        + _SESSION.replace(NIL, STRAY)
        + "insert into public.ai_interactions (project, session_id, id, created_at)"
        f" select 'default', '{STRAY}', '{STRAY}', now() from generate_series(1, 2)"
    )
    found = dict(operator.find())
    assert set(found) == {"constraints", "rows"}
    assert found["rows"]["found"].startswith("1 identity of ai_interactions (project, session_id, id) repeated:")
    listed = operator.execute(found["rows"]["mend"][0])
    assert len(listed) == 2
    operator.execute(f"delete from public.ai_interactions where ctid = '{listed[0][0]}'")
    operator.mend(found["constraints"]["mend"])
    assert operator.find() == []


def test_rows_without_an_identity_get_one(operator: Operator) -> None:
    operator.execute(
        "alter table public.ai_interactions drop constraint ai_interactions_pkey,"
        " alter column id drop not null;"
        + _SESSION.replace(NIL, STRAY)
        + "insert into public.ai_interactions (project, session_id, created_at)"
        f" select 'default', '{STRAY}', now() from generate_series(1, 2)"
    )
    found = dict(operator.find())
    assert set(found) == {"columns", "constraints", "rows"}
    assert found["rows"]["found"] == "2 rows of ai_interactions without project or session_id or id"
    for check in ("rows", "columns", "constraints"):
        operator.mend(found[check]["mend"])
    assert operator.find() == []


def test_a_table_that_is_gone_is_made_again(operator: Operator) -> None:
    operator.execute("drop table public.ai_interactions")
    found = operator.find()
    assert next((check, finding["found"]) for check, finding in found) == (
        "tables",
        "the table ai_interactions is missing",
    )
    assert {check for check, _ in found} == {"tables", "rows"}
    assert "can't be looked at" in found[1][1]["found"]
    operator.mend(found[0][1]["mend"])
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
    ("statement", "check", "found", "mend"),
    [
        ("grant service_role to anon", "grants", "anon reaches", "revoke service_role from anon;"),
        ("alter role anon bypassrls", "roles", "anon bypasses row-level security", "alter role anon nobypassrls;"),
        ("alter role anon superuser", "roles", "anon is a superuser", "alter role anon nosuperuser;"),
        ("alter role service_role nobypassrls", "roles", "service_role", "alter role service_role bypassrls;"),
    ],
)
def test_a_role_that_may_more_or_less_is_found(
    operator: Operator, statement: str, check: str, found: str, mend: str
) -> None:
    operator.execute(statement)
    [(where, finding)] = operator.find()
    assert (where, finding["mend"]) == (check, [mend])
    assert found in finding["found"]
    operator.mend(finding["mend"])
    assert operator.find() == []


def test_a_schema_that_the_service_may_not_use_is_found(database: str, tmp_path: Path) -> None:
    operator = Operator({"DATABASE_URL": database, "DATA_DIR": str(tmp_path)}, database)
    operator.execute("revoke usage on schema public from public")
    [(check, finding)] = operator.find()
    assert (check, finding["found"]) == ("roles", "service_role may not use the schema public")
    operator.mend(finding["mend"])
    assert operator.find() == []


def test_a_login_that_is_not_the_owner_is_told_what_it_lacks(
    postgres_server: TestServer, database: str, tmp_path: Path
) -> None:
    name = database.rpartition("dbname=")[2].split()[0]
    login = postgres_server.conninfo(name, user="authenticator")
    operator = Operator({"DATABASE_URL": login, "DATA_DIR": str(tmp_path)}, database)
    operator.execute("grant execute on all functions in schema public to authenticator")
    found = operator.find()
    assert {check for check, _ in found} == {"grants", "roles", "rows"}
    assert "authenticator lacks DELETE, INSERT, SELECT, UPDATE on public.ai_sessions" in [
        finding["found"] for _, finding in found
    ]
    assert any(finding["mend"] == ["alter role authenticator bypassrls;"] for _, finding in found)


def test_a_server_that_does_not_sync_is_found(postgres_server: TestServer, database: str, tmp_path: Path) -> None:
    operator = Operator({"DATABASE_URL": database, "DATA_DIR": str(tmp_path)}, database)

    def wait_until_fsync_is(value: str) -> None:
        give_up = time.monotonic() + 10
        while operator.execute("show fsync") != [(value,)]:
            assert time.monotonic() < give_up
            time.sleep(0.02)

    try:
        operator.execute("alter system set fsync = off")
        operator.execute("select pg_reload_conf()")
        wait_until_fsync_is("off")
        [(check, finding)] = operator.find()
        assert (check, finding["found"]) == ("durability", "fsync is off (configuration file)")
        operator.mend(finding["mend"])
        wait_until_fsync_is("on")
        assert operator.find() == []
    finally:
        with postgres_server.connect("postgres") as connection:
            connection.execute("alter system reset fsync")
            connection.execute("select pg_reload_conf()")


def test_a_setting_of_the_connection_is_found(database: str, tmp_path: Path) -> None:
    url = f"{database} options='-c default_transaction_isolation=serializable'"
    operator = Operator({"DATABASE_URL": url, "DATA_DIR": str(tmp_path)}, database)
    [(check, finding)] = operator.find()
    assert (check, finding["found"]) == ("durability", "default_transaction_isolation is serializable (client)")
    assert "DATABASE_URL" in finding["mend"][0]


def test_a_database_without_a_schema_is_told_to_migrate(postgres_server: TestServer, tmp_path: Path) -> None:
    with postgres_server.database(empty=True) as name:
        database = postgres_server.conninfo(name)
        operator = Operator({"DATABASE_URL": database, "DATA_DIR": str(tmp_path)}, database)
        [(check, finding)] = operator.find("--table", "chat")
        assert (check, finding["mend"]) == ("schema", ["flask --app app migrate"])
        operator.mend(finding["mend"])
        assert operator.find() == []


def test_a_project_without_a_schema_is_told_to_push(postgres_server: TestServer, tmp_path: Path) -> None:
    with (
        postgres_server.database(empty=True) as name,
        PostgrestStandIn(postgres_server.conninfo(name, user="authenticator")) as standin,
    ):
        environment = {"SUPABASE_URL": standin.url, "SUPABASE_SECRET_KEY": standin.key("service_role")}
        operator = Operator(environment | {"DATA_DIR": str(tmp_path)}, postgres_server.conninfo(name))
        [(check, finding)] = operator.find()
        assert (check, finding["mend"]) == ("schema", ["supabase db push"])
        assert operator.run("repair", "--table", "chat").exit_code == 1


def test_an_older_schema_is_told_to_migrate(postgres_server: TestServer, tmp_path: Path) -> None:
    with postgres_server.database(empty=True) as name:
        database = postgres_server.conninfo(name)
        operator = Operator({"DATABASE_URL": database, "DATA_DIR": str(tmp_path)}, database)
        for migration in migrations.available()[:3]:
            operator.execute(migration.sql)
        [(check, finding)] = operator.find()
        assert (check, finding["mend"]) == ("schema", ["flask --app app migrate"])
        assert finding["found"].startswith("it is 20261121000300, this version of Turnlog needs ")
        operator.mend(finding["mend"])
        assert operator.find() == []


def test_a_newer_schema_is_not_judged(operator: Operator) -> None:
    operator.execute(
        "create or replace function public.turnlog_ping_v1(request jsonb default '{}') returns jsonb language sql as"
        """ $$ select '{"schema": "20990101000000", "server_version": "30", "read_only": false}'::jsonb $$"""
    )
    [(check, finding)] = operator.find()
    assert (check, "20990101000000" in finding["found"]) == ("schema", True)


@pytest.mark.parametrize(
    ("environment", "mend"),
    [
        ({"DATABASE_URL": "postgresql://nobody@127.0.0.1:1/nowhere"}, "pg_isready"),
        ({"SUPABASE_URL": "http://127.0.0.1:1", "SUPABASE_SECRET_KEY": "k"}, "curl"),
    ],
)
def test_a_database_that_cannot_be_reached_is_a_finding(environment: dict[str, str], mend: str, tmp_path: Path) -> None:
    operator = Operator(environment | {"DATA_DIR": str(tmp_path)}, "")
    [(check, finding)] = operator.find()
    assert (check, mend in finding["mend"][0]) == ("database", True)
    assert "spool room" in operator.run("doctor").output


def test_settings_that_contradict_each_other_are_a_sentence() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "flask", "--app", "app", "doctor"],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parent.parent,
        env={"DATABASE_URL": "postgresql://a@127.0.0.1/b", "SUPABASE_URL": "http://c", "SUPABASE_SECRET_KEY": "d"},
    )
    sentence = "DATABASE_URL and SUPABASE_URL are both set: keep the one that the log shall go to"
    assert (done.returncode, done.stderr) == (1, f"Error: {sentence}\n")


def test_the_embedded_database_is_looked_at_whether_or_not_it_runs() -> None:
    with server_folder() as folder:
        operator = Operator({"DATA_DIR": str(folder)}, "")
        [(check, finding)] = operator.find()
        assert (check, finding["mend"]) == ("schema", ["flask --app app migrate"])
        assert not (folder / "postgres").exists()
        operator.mend(finding["mend"])
        assert operator.find() == []
        server = EmbeddedPostgres(folder)
        assert not server.is_running()
        server.start()
        try:
            assert operator.find() == []
            assert server.is_running()
        finally:
            server.stop()


def test_what_waits_is_told(operator: Operator) -> None:
    directory = SpoolDirectory(operator.settings.spool_dir, Limits())
    try:
        directory.keep(BATCH)
        [(check, finding)] = operator.find()
        assert (check, finding["mend"]) == ("spool", ["make run"])
        assert finding["found"].startswith("1 record in 1 batch wait in ")
    finally:
        directory.close()


def test_dead_letters_are_told_and_can_be_sent_again(operator: Operator) -> None:
    folder = operator.settings.spool_dir
    folder.mkdir(parents=True)
    DeadLetters(folder).add(BATCH, Receipt(receipt="conflict", fields=["title"]), time.time())
    [(check, finding)] = operator.find()
    assert (check, finding["found"]) == ("dead letters", "1 dead letter")
    operator.mend(finding["mend"])
    assert operator.find() == []


def test_files_that_cannot_be_read_are_told(operator: Operator) -> None:
    folder = operator.settings.spool_dir
    folder.mkdir(parents=True)
    (folder / "spool-1.sqlite3").write_bytes(b"not a database " * 100)
    (folder / "dead-letters.sqlite3").write_bytes(b"not a database " * 100)
    found = dict(operator.find())
    assert set(found) == {"spool files", "dead letters"}
    assert found["spool files"]["mend"][1].startswith("mv ")


@pytest.mark.parametrize(
    ("setting", "value"), [("TURNLOG_SPOOL_MIN_FREE_MB", str(1 << 40)), ("TURNLOG_SPOOL_MAX_MB", "1")]
)
def test_a_spool_without_room_is_told(operator: Operator, setting: str, value: str) -> None:
    folder = operator.settings.spool_dir
    folder.mkdir(parents=True)
    (folder / "something").write_bytes(bytes(1 << 20))
    operator.environment[setting] = value
    [(check, finding)] = operator.find()
    assert check == "spool room"
    export, assignment = finding["mend"][0].split()[:2]
    assert export == "export"
    operator.environment.update([assignment.split("=")])
    assert operator.find() == []


def test_a_clock_that_differs_by_more_than_the_round_trip_is_told(database: str) -> None:
    store = PostgresStore(database)
    try:
        examination = Examination(Settings(), store, clock=lambda: time.time() - 60)
        [finding] = next(check for check in examination.look_at_database() if check.name == "clock").findings
    finally:
        store.close()
    assert finding.found.startswith("this machine's clock is 60.0 s behind the database's")


def test_a_slow_answer_is_no_wrong_clock() -> None:
    # ten seconds there and none back: the database's time is 5 s off the middle, which nobody can tell from the way
    moments = iter([0.0, 10.0, 20.0, 30.0, 40.0, 50.0])
    assert check_clock(lambda: 1010.0, lambda: 1000.0, lambda: next(moments)).is_ok
