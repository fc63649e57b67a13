"""`backup` and `restore`: everything comes back, all of it or nothing, and nothing else is touched."""

import io
import shutil
import signal
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import psycopg
import pytest
from flask.testing import FlaskClient

from app import create_app
from conversation.settings import Settings
from conversation.stack import Stack
from logging_store.batches import Receipt
from logging_store.postgres import backup, migrations
from logging_store.postgres.postgres_store import PostgresStore
from logging_store.records.models import Interaction, Session
from logging_store.repository import ConversationRepository
from logging_store.spool import DeadLetters, Limits, SpoolDirectory
from logging_store.store import Store
from tests.conftest import PROJECT
from tests.databases import TestServer, server_folder
from tests.doctor.operator import Operator
from tests.http_calls import KEYLESS, create, in_path, log, problem, transcript
from tests.service import inherited
from tests.spool.conftest import eventually
from tests.traffic import as_batch

pytestmark = pytest.mark.own_database

ROOT = Path(__file__).parents[2]
NEWER = "20990101000000"
#: Text that COPY has to escape.
ODD = "tab\t, backslash \\N \\., line\nand \r\n, 🙂, quote ' \", percent %s"

Rows = dict[str, list[tuple[Any, ...]]]


def rows_of(conninfo: str) -> Rows:
    """Return every row of the schema `turnlog`, by table."""
    with psycopg.connect(conninfo, client_encoding="utf8") as connection:
        names = connection.execute(
            "select relname from pg_class where relnamespace = 'turnlog'::regnamespace and relkind = 'r'"
        ).fetchall()
        return {
            name: sorted(connection.execute(f"select {name}::text from turnlog.{name}".encode()).fetchall())  # noqa: S608
            for (name,) in names
        }


def counts_of(file: Path) -> backup.Counts:
    with file.open("rb") as opened:
        return backup.read_manifest(opened).counts


def has_schema(conninfo: str) -> bool:
    with psycopg.connect(conninfo) as connection:
        return connection.execute("select to_regnamespace('turnlog') is not null").fetchone() == (True,)


@contextmanager
def service_on(conninfo: str, **settings: str) -> Iterator[FlaskClient]:
    """Yield a client of a service over a database; it asks for keys unless the settings say otherwise."""
    with closing(PostgresStore(conninfo)) as store:
        yield create_app(Settings.from_mapping(settings), store).test_client()


@pytest.fixture
def client(owner: Operator) -> Iterator[FlaskClient]:
    """Return a client of a service over the owner's database, whose address a backup needs."""
    with service_on(owner.database, **KEYLESS) as client:
        yield client


@pytest.fixture
def target(postgres_server: TestServer) -> Iterator[str]:
    """Return how to connect to an empty database."""
    with postgres_server.database(empty=True) as name:
        yield postgres_server.conninfo(name)


@pytest.fixture
def keeper(target: str, tmp_path: Path) -> Operator:
    """Return the owner of the empty database."""
    return Operator({"DATABASE_URL": target, "DATA_DIR": str(tmp_path / "elsewhere")}, target)


@pytest.fixture
def log_of_everything(client: FlaskClient) -> None:
    """Fill a log with a record of each kind, and erase some of it."""
    client.post("/v1/folders", json={"folder_id": "f", "name": "F", "plan": {"sessions_per_week": 2, "total_weeks": 2}})
    create(client, session_id="a", user_id="ada", title=ODD, tags=["x", "{}"], metadata={"deep": [1e300, {"ü": None}]})
    for n in range(5):
        log(client, session_id="a", interaction_id=str(n), prompt=ODD * 200, response=f"{n}", cost_usd=0.1, turn=n)
    log(client, session_id="born with it", prompt=[{"role": "user", "content": "Hi"}])
    client.post("/v1/feedback", json={"session_id": "a", "interaction_id": "1", "value": True, "comment": ODD})
    client.put(in_path("a") + "/participants/bob", json={"role": "guest", "state": "joined"})
    create(client, session_id="erased")
    log(client, session_id="erased", prompt="gone")
    assert client.delete(in_path("erased")).status_code == 200
    create(client, session_id="of grace", user_id="grace")
    assert client.delete("/v1/users/grace").status_code == 200


def backed_up(owner: Operator, folder: Path) -> Path:
    file = folder / "log.zip"
    result = owner.run("backup", str(file))
    assert result.exit_code == 0, result.output
    return file


@pytest.mark.usefixtures("log_of_everything")
def test_everything_comes_back_and_the_doctor_finds_it_well(
    owner: Operator, keeper: Operator, client: FlaskClient, tmp_path: Path
) -> None:
    key = owner.run("keys", "create").stdout.strip()
    assert owner.run("projects", "set", "default", "--keep-days", "77").exit_code == 0
    file = tmp_path / "log.zip"
    told = owner.run("backup", str(file))
    assert (told.exit_code, "NOT IN THE BACKUP" in told.stderr) == (0, False)
    assert told.stdout.startswith("Backed up 6 sessions, 6 interactions, 2 tombstones and 1 key (")
    assert file.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [file]  # nothing else is left, no folder of a spool either

    result = keeper.run("restore", str(file))
    assert result.exit_code == 0, result.output
    assert "Restored 6 sessions, 6 interactions, 2 tombstones and 1 key.\n" in result.output
    assert "all is well" in result.output
    before, after = rows_of(owner.database), rows_of(keeper.database)
    assert before == after
    assert all(before[name] for name in ("ai_feedback", "ai_session_participants", "ai_erased_users", "ai_projects"))
    assert keeper.find() == []

    with service_on(keeper.database) as restored:
        opened = {"Authorization": f"Bearer {key}"}
        assert restored.get(in_path("a"), headers=opened).get_json() == client.get(in_path("a")).get_json()
        assert restored.get(in_path("a")).status_code == 401
    assert "77 days" in keeper.run("projects", "list").output


@pytest.mark.usefixtures("log_of_everything")
def test_what_was_erased_stays_erased(owner: Operator, keeper: Operator, tmp_path: Path) -> None:
    assert keeper.run("restore", str(backed_up(owner, tmp_path))).exit_code == 0
    with service_on(keeper.database, **KEYLESS) as restored:
        assert problem(restored.get(in_path("erased")), 410)
        late = log(restored, session_id="erased", prompt="gone", started_at="2020-01-01T00:00:00Z").get_json()
        assert "erased" in str(late), late
        of_grace = create(restored, session_id="of grace", user_id="grace").get_json()
        assert "erased" in str(of_grace), of_grace
        assert transcript(restored, "a")[0]["response"] == "0"


def test_what_was_acknowledged_before_is_in_it_while_writes_go_on(
    owner: Operator, keeper: Operator, tmp_path: Path
) -> None:
    acknowledged: list[str] = []
    ended = threading.Event()
    failed: list[BaseException] = []

    def write(name: int) -> None:
        try:
            with closing(PostgresStore(owner.database)) as store:
                repository = ConversationRepository(store, PROJECT)
                n = 0
                while not ended.is_set():
                    repository.log([Interaction(session_id=f"{name} {n}", interaction_id=f"{name} {n}", prompt=ODD)])
                    acknowledged.append(f"{name} {n}")
                    n += 1
        except BaseException as error:
            failed.append(error)
            raise

    writers = [threading.Thread(target=write, args=[n]) for n in range(3)]
    for writer in writers:
        writer.start()
    try:
        eventually(lambda: len(acknowledged) > 100, "written")
        before = set(acknowledged)
        file = backed_up(owner, tmp_path)
        eventually(lambda: len(acknowledged) > len(before) + 100, "written while the backup was made, and after")
    finally:
        ended.set()
        for writer in writers:
            writer.join()
    assert not failed
    assert keeper.run("restore", str(file)).exit_code == 0
    found = {key for (key,) in keeper.execute("select key from turnlog.ai_interactions")}
    assert before <= found < set(acknowledged)


def others(connection: psycopg.Connection) -> int:
    """Return how many other connections a database has."""
    row = connection.execute(
        "select count(*) from pg_stat_activity where datname = current_database()"
        " and backend_type = 'client backend' and pid <> pg_backend_pid()"
    ).fetchone()
    assert row is not None
    return int(row[0])


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def change_a_bit(file: Path) -> None:
    with zipfile.ZipFile(file) as archive:
        member = archive.getinfo("ai_interactions.copy")
    content = bytearray(file.read_bytes())
    content[member.header_offset + 30 + len(member.filename) + member.compress_size // 2] ^= 1
    file.write_bytes(content)


def empty(file: Path) -> None:
    file.write_bytes(b"")


def put_in_something_else(file: Path) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("manifest.json", '{"name": "an extension of a browser"}')


def repack(file: Path, name: str, content: str | None) -> None:
    """Write an archive anew with another content of a member, or without it."""
    with zipfile.ZipFile(file) as archive:
        members = {each: archive.read(each) for each in archive.namelist() if each != name}
    if content is not None:
        members[name] = content.encode()
    with zipfile.ZipFile(file, "w") as archive:
        for each, data in members.items():
            archive.writestr(each, data)


def lose_a_table(file: Path) -> None:
    repack(file, "ai_sessions.copy", None)


def forget_a_table(file: Path) -> None:
    with file.open("rb") as opened:
        manifest = backup.read_manifest(opened)
    left = [table for table in manifest.tables if table.name != "ai_erased_users"]
    repack(file, "manifest.json", manifest.model_copy(update={"tables": left}).model_dump_json())


def name_a_server(file: Path, name: str) -> None:
    with file.open("rb") as opened:
        manifest = backup.read_manifest(opened)
    repack(file, "manifest.json", manifest.model_copy(update={"server_version": name}).model_dump_json())


def name_no_server(file: Path) -> None:
    name_a_server(file, "")


def clear_the_terminal(file: Path) -> None:
    name_a_server(file, "18\x1b[2J")


def grow_the_manifest(file: Path) -> None:
    with zipfile.ZipFile(file) as archive:
        content = archive.read("manifest.json").decode()
    repack(file, "manifest.json", content + " " * (4 << 20))


def change_a_header(file: Path) -> None:
    with zipfile.ZipFile(file) as archive:
        member = archive.getinfo("ai_interactions.copy")
    content = bytearray(file.read_bytes())
    content[member.header_offset] ^= 1
    file.write_bytes(content)


def encrypt_a_table(file: Path) -> None:
    content = bytearray(file.read_bytes())
    name = content.rindex(b"ai_interactions.copy")  # in the directory at the end, 46 bytes after its entry's start
    content[name - 46 + 8] |= 1
    file.write_bytes(content)


def lose_rows(file: Path) -> None:
    repack(file, "ai_session_participants.copy", "")


@pytest.mark.usefixtures("log_of_everything")
@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (cut, "not a whole backup"),
        (empty, "not a whole backup"),
        (put_in_something_else, "This is not a backup"),
        (lose_a_table, "is damaged: it lacks ai_sessions.copy"),
        (forget_a_table, "is damaged: it lacks ai_erased_users"),
        (name_no_server, "This is not a backup"),
        (clear_the_terminal, "This is not a backup"),
        (grow_the_manifest, "This is not a backup"),
        (change_a_header, "is damaged: "),
        (encrypt_a_table, "is damaged: "),
        (lose_rows, "is damaged: ai_session_participants has 0 rows, not 1"),
        (change_a_bit, "is damaged"),
    ],
)
def test_a_damaged_file_is_refused_and_leaves_nothing(
    owner: Operator, keeper: Operator, tmp_path: Path, damage: Callable[[Path], None], sentence: str
) -> None:
    file = backed_up(owner, tmp_path)
    damage(file)
    result = keeper.run("restore", str(file))
    assert result.exit_code == 1
    assert sentence in result.output
    assert "\x1b" not in result.output
    assert not has_schema(keeper.database)


@pytest.mark.slow
@pytest.mark.usefixtures("log_of_everything")
def test_a_restore_that_is_killed_leaves_nothing(owner: Operator, keeper: Operator, tmp_path: Path) -> None:
    file = backed_up(owner, tmp_path)
    # once the rows are in, it meets a lock when it makes the indexes
    keeper.execute(
        "create function public.wait() returns event_trigger language plpgsql as $$ begin"
        " if to_regclass('turnlog.ai_sessions') is not null then"
        " if (select count(*) from turnlog.ai_sessions) > 0 then perform pg_advisory_xact_lock(1); end if;"
        " end if; end $$;"
        "create event trigger wait on ddl_command_start when tag in ('CREATE INDEX') execute function public.wait()"
    )
    with psycopg.connect(keeper.database, autocommit=True) as holder:
        holder.execute("select pg_advisory_lock(1)")

        def waits() -> bool:
            query = "select count(*) from pg_locks where locktype = 'advisory' and objid = 1 and not granted"
            return holder.execute(query).fetchone() == (1,)

        with subprocess.Popen(
            [sys.executable, "-m", "flask", "--app", "app", "restore", str(file)],
            cwd=ROOT, env=inherited() | keeper.environment, stdout=subprocess.DEVNULL,
        ) as restoring:  # fmt: skip
            try:
                eventually(waits, "the rows are in")
            finally:
                restoring.send_signal(signal.SIGKILL)
        assert not has_schema(keeper.database)
        holder.execute("select pg_advisory_unlock(1)")
        eventually(lambda: others(holder) == 0, "the server has ended what the killed process began")
    assert not has_schema(keeper.database)


def test_an_existing_file_is_replaced_only_if_that_is_asked_for(owner: Operator, tmp_path: Path) -> None:
    file = tmp_path / "log.zip"
    file.write_text("mine")
    refused = owner.run("backup", str(file))
    assert (refused.exit_code, file.read_text()) == (1, "mine")
    assert f"{file} exists" in refused.output
    assert owner.run("backup", "--force", str(file)).exit_code == 0
    assert counts_of(file) == (0, 0, 0, 0)
    assert owner.run("backup", str(tmp_path / "nowhere" / "log.zip")).exit_code == 2


def test_a_backup_that_fails_leaves_the_file_that_was_there(keeper: Operator, tmp_path: Path) -> None:
    file = tmp_path / "log.zip"
    file.write_text("the last good one")
    result = keeper.run("backup", "--force", str(file))
    assert result.exit_code == 1
    assert "no schema turnlog" in result.output
    assert (list(tmp_path.iterdir()), file.read_text()) == ([file], "the last good one")


@pytest.mark.usefixtures("log_of_everything")
def test_a_backup_goes_through_a_pipe(owner: Operator, keeper: Operator) -> None:
    result = owner.run("backup", "-")
    assert result.exit_code == 0
    assert "\nBacked up 6 sessions" in result.stderr
    assert zipfile.ZipFile(io.BytesIO(result.stdout_bytes)).testzip() is None
    restored = create_app(keeper.settings).test_cli_runner().invoke(args=["restore", "-"], input=result.stdout_bytes)
    assert restored.exit_code == 0, restored.output
    assert rows_of(keeper.database) == rows_of(owner.database)


@pytest.mark.usefixtures("log_of_everything")
def test_a_database_in_use_is_never_touched(owner: Operator, client: FlaskClient, tmp_path: Path) -> None:
    file = backed_up(owner, tmp_path)
    log(client, session_id="later", prompt="Hi")
    before = rows_of(owner.database)
    for arguments in ([], ["--force"]):
        result = owner.run("restore", *arguments, str(file))
        assert result.exit_code == 1
        assert "The database is in use" in result.output
        assert "7 rows of ai_interactions" in result.output
    assert rows_of(owner.database) == before


@pytest.mark.usefixtures("log_of_everything")
def test_a_log_that_was_renamed_makes_room_and_stays(owner: Operator, tmp_path: Path) -> None:
    file = backed_up(owner, tmp_path)
    owner.execute("update turnlog.ai_sessions set title = 'before'; alter schema turnlog rename to turnlog_before")
    result = owner.run("restore", str(file))
    assert result.exit_code == 0, result.output
    assert owner.execute("select count(*) from turnlog_before.ai_sessions where title = 'before'") == [(8,)]
    assert owner.execute("select count(*) from turnlog.ai_sessions where title = 'before'") == [(0,)]


@pytest.mark.usefixtures("log_of_everything")
def test_a_key_of_the_first_start_is_replaced_only_if_that_is_asked_for(
    owner: Operator, keeper: Operator, tmp_path: Path
) -> None:
    file = backed_up(owner, tmp_path)
    assert keeper.run("migrate").exit_code == 0
    assert keeper.run("keys", "create").exit_code == 0
    refused = keeper.run("restore", str(file))
    assert refused.exit_code == 1
    assert "no conversations, but 1 row of ai_keys" in refused.output
    assert len(rows_of(keeper.database)["ai_keys"]) == 1
    restored = keeper.run("restore", "--force", str(file))
    assert restored.exit_code == 0, restored.output
    assert "Replaced what the database held: 1 row of ai_keys." in restored.output
    assert rows_of(keeper.database) == rows_of(owner.database)


def test_an_empty_log_is_a_place_for_a_backup(owner: Operator, keeper: Operator, tmp_path: Path) -> None:
    assert keeper.run("migrate").exit_code == 0
    assert keeper.run("restore", str(backed_up(owner, tmp_path))).exit_code == 0


def test_what_needs_our_tables_or_has_our_name_is_left_alone(owner: Operator, keeper: Operator, tmp_path: Path) -> None:
    file = backed_up(owner, tmp_path)
    assert keeper.run("migrate").exit_code == 0
    keeper.execute("create view public.theirs as select id from turnlog.ai_sessions")
    result = keeper.run("restore", str(file))
    assert result.exit_code == 1
    assert "view public.theirs depends on table turnlog.ai_sessions" in result.output
    keeper.execute(
        "drop view public.theirs; drop schema turnlog cascade; create schema turnlog; create table turnlog.x ()"
    )
    result = keeper.run("restore", str(file))
    assert result.exit_code == 1
    assert 'The schema "turnlog" of this database is not marked as Turnlog\'s' in result.output
    assert keeper.execute("select relname from pg_class where relnamespace = 'turnlog'::regnamespace") == [("x",)]


@pytest.mark.usefixtures("log_of_everything")
def test_a_backup_of_an_older_schema_is_brought_up_to_date(
    owner: Operator, keeper: Operator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = backed_up(owner, tmp_path)
    (*_, last) = released = migrations.available()
    newer = replace(
        last,
        version=NEWER,
        sql="begin;\nalter table turnlog.ai_sessions add column if not exists mood text not null default 'fine';\n"
        f"insert into turnlog.migrations values ('{NEWER}') on conflict do nothing;\ncommit;\n",
    )
    monkeypatch.setattr(migrations, "available", lambda: [*released, newer])
    with file.open("rb") as opened:
        restored = backup.restore(keeper.database, opened)
    assert restored.manifest.schema_versions == [each.version for each in released]
    assert keeper.execute("select distinct mood from turnlog.ai_sessions") == [("fine",)]
    assert keeper.execute("select max(version) from turnlog.migrations") == [(NEWER,)]

    second = tmp_path / "newer.zip"
    with second.open("wb") as opened:
        backup.write(keeper.database, opened)
    monkeypatch.undo()
    refused = keeper.run("restore", str(second))
    assert refused.exit_code == 1
    assert f"has Turnlog's schema {NEWER}, which this version doesn't know" in refused.output


@pytest.mark.usefixtures("log_of_everything")
def test_what_somebody_added_to_our_tables_is_not_lost(owner: Operator, keeper: Operator, tmp_path: Path) -> None:
    owner.execute(
        "create type public.mood as enum ('fine'); create table turnlog.theirs (id int);"
        "insert into turnlog.theirs values (1);"
        'alter table turnlog.ai_sessions add column rank numeric(5, 2) not null default 7, add column "a mood" mood'
    )
    file = backed_up(owner, tmp_path)
    lacking = keeper.run("restore", str(file))
    assert (lacking.exit_code, has_schema(keeper.database)) == (1, False)
    assert "create the type first" in lacking.output
    keeper.execute("create type public.mood as enum ('fine')")
    result = keeper.run("restore", str(file))
    assert result.exit_code == 0, result.output
    assert "ai_sessions.rank isn't Turnlog's: its values are back" in result.output
    assert "theirs isn't Turnlog's: it was left out" in result.output
    assert keeper.execute("select distinct rank, pg_typeof(rank)::text from turnlog.ai_sessions") == [(7, "numeric")]


@pytest.mark.usefixtures("log_of_everything")
def test_what_a_database_has_set_changes_nothing(owner: Operator, keeper: Operator, tmp_path: Path) -> None:
    for database in (owner.database, keeper.database):
        with psycopg.connect(database, autocommit=True) as connection:
            name = connection.info.dbname
            for setting in (
                "datestyle = 'SQL, DMY'", "extra_float_digits = -9", "bytea_output = escape", "timezone = 'Asia/Tokyo'",
                "search_path = nowhere", "row_security = on", "client_encoding = latin1",
            ):  # fmt: skip
                connection.execute(f"alter database {name} set {setting}".encode())
    assert keeper.run("restore", str(backed_up(owner, tmp_path))).exit_code == 0
    assert rows_of(keeper.database) == rows_of(owner.database)


@pytest.mark.usefixtures("log_of_everything")
def test_it_moves_between_supabase_and_other_servers(
    owner: Operator, bare_server: TestServer, postgres_server: TestServer, tmp_path: Path
) -> None:
    with ExitStack() as closing_both:
        from_file = backed_up(owner, tmp_path)
        for step, server in enumerate((bare_server, postgres_server)):
            there = server.conninfo(closing_both.enter_context(server.database(empty=True)))
            keeper = Operator({"DATABASE_URL": there, "DATA_DIR": str(tmp_path)}, there)
            result = keeper.run("restore", str(from_file))
            assert result.exit_code == 0, result.output
            assert rows_of(there) == rows_of(owner.database)
            door = keeper.execute("select to_regprocedure('public.turnlog(text, jsonb)') is not null")
            assert door == [(server is postgres_server,)]
            from_file = tmp_path / f"{step}.zip"
            assert keeper.run("backup", str(from_file)).exit_code == 0


@pytest.mark.usefixtures("log_of_everything")
def test_an_owner_with_no_other_right_restores(owner: Operator, bare_server: TestServer, tmp_path: Path) -> None:
    file = backed_up(owner, tmp_path)
    with bare_server.database(empty=True) as name:
        with bare_server.connect(name) as connection:
            connection.execute(
                f"create role restorer login; create schema turnlog authorization restorer; "
                f"revoke create on schema public from public; grant connect on database {name} to restorer".encode()
            )
        there = bare_server.conninfo(name, user="restorer")
        keeper = Operator({"DATABASE_URL": there, "DATA_DIR": str(tmp_path)}, there)
        result = keeper.run("restore", str(file))
        assert result.exit_code == 0, result.output
        assert rows_of(there) == rows_of(owner.database)


def spooled(owner: Operator, *stated: Session | Interaction) -> None:
    """Leave records in the spool, as a service does that was killed while the database was away."""
    directory = SpoolDirectory(owner.settings.spool_dir, Limits(min_free_bytes=0))
    directory.append(as_batch(stated))
    directory.close()


def test_what_waits_in_the_spool_is_delivered_first(owner: Operator, keeper: Operator, tmp_path: Path) -> None:
    spooled(owner, Session(session_id="a"), Interaction(session_id="a", prompt="Hi"))
    (tmp_path / "backups").mkdir()
    file = backed_up(owner, tmp_path / "backups")
    assert counts_of(file) == (1, 0, 1, 0)
    assert "waiting: 0 records" in owner.run("spool", "status").output


def test_what_is_not_in_it_is_told_and_the_status_says_so(
    owner: Operator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("conversation.cli.backup._DELIVERY_TIMEOUT_S", 0.2)
    letters = DeadLetters(owner.settings.spool_dir)
    refused = as_batch([Interaction(session_id="a", prompt="Hi")])
    owner.settings.spool_dir.mkdir(parents=True)
    letters.add(refused, Receipt(receipt="rejected"), 1.0, lambda: True)
    held = SpoolDirectory(owner.settings.spool_dir, Limits(min_free_bytes=0))
    held.append(as_batch([Interaction(session_id="b", prompt="Hi")]))  # by a process that lives
    try:
        result = owner.run("backup", str(tmp_path / "log.zip"))
    finally:
        held.close()
    assert result.exit_code == 3
    assert "NOT IN THE BACKUP: 1 record in the spool" in result.stderr
    assert "NOT IN THE BACKUP: 1 dead letter," in result.stderr
    assert str(owner.settings.spool_dir) in result.stderr
    assert counts_of(tmp_path / "log.zip") == (0, 0, 0, 0)


def owner_store(owner: Operator) -> Store:
    return Stack.build(owner.settings).repository.store


def test_what_is_spooled_before_the_snapshot_is_reported(
    owner: Operator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = backup.write

    def write_after_a_lock(conninfo: str, file: BinaryIO, *, before_snapshot: Callable[[], None]) -> backup.Manifest:
        spooled(owner, Interaction(session_id="a", prompt="Hi"))
        manifest = write(conninfo, file, before_snapshot=before_snapshot)
        with closing(owner_store(owner)) as store:  # a service delivers it while the file is written
            store.start()
            eventually(lambda: store.backlog().records == 0, "it is delivered")
        return manifest

    monkeypatch.setattr(backup, "write", write_after_a_lock)
    result = owner.run("backup", str(tmp_path / "log.zip"))
    assert result.exit_code == 3
    assert "NOT IN THE BACKUP: 1 record in the spool" in result.stderr
    assert str(owner.settings.spool_dir) in result.stderr
    assert counts_of(tmp_path / "log.zip") == (0, 0, 0, 0)


@pytest.mark.parametrize(("command", "instead"), [("backup", "turnlog export"), ("restore", "turnlog import")])
def test_supabases_api_alone_can_do_neither(tmp_path: Path, command: str, instead: str) -> None:
    (tmp_path / "there.zip").touch()
    file = "there.zip" if command == "restore" else "new.zip"
    settings = {"SUPABASE_URL": "http://127.0.0.1:1", "SUPABASE_SECRET_KEY": "k", "DATA_DIR": str(tmp_path)}
    result = Operator(settings, "").run(command, str(tmp_path / file))
    assert result.exit_code == 1
    assert "Set DATABASE_URL" in result.output
    assert instead in result.output


@pytest.mark.parametrize("command", ["backup", "restore"])
def test_a_database_that_is_away_is_named(owner: Operator, keeper: Operator, tmp_path: Path, command: str) -> None:
    file = backed_up(owner, tmp_path)
    away = {"DATABASE_URL": "postgresql://ada:secret-word@127.0.0.1:1/x", "DATA_DIR": str(tmp_path)}
    name = file if command == "restore" else tmp_path / "new.zip"
    result = Operator(away, "").run(command, str(name))
    assert result.exit_code == 1
    assert "The database can't be reached" in result.output
    assert "secret-word" not in result.output
    assert keeper.run("backup", str(tmp_path / "new.zip")).exit_code == 1


@pytest.mark.slow
def test_an_embedded_database_moves_to_another_folder() -> None:
    with server_folder() as folder:
        here, there = ({"DATA_DIR": str(folder / name)} for name in ("here", "there"))
        file = folder / "log.zip"
        nothing = Operator(here, "").run("backup", str(file))
        assert nothing.exit_code == 1
        assert "No Turnlog log in" in nothing.output
        assert not (folder / "here").exists()
        assert Operator(here, "").run("migrate").exit_code == 0
        assert Operator(here, "").run("keys", "create", "--name", "mine").exit_code == 0
        assert Operator(here, "").run("backup", str(file)).exit_code == 0
        # as somebody does who upgrades the server: the old folder goes away, and the backup comes in
        shutil.move(folder / "here" / "postgres", folder / "old")
        for place in (here, there):
            result = Operator(place, "").run("restore", str(file))
            assert result.exit_code == 0, result.output
            assert "mine" in Operator(place, "").run("keys", "list").output
