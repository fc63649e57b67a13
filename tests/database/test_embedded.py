"""The embedded PostgreSQL: shared by processes, found again after a crash, out of other users' reach."""

import os
import pwd
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import psycopg
import pytest

from logging_store.embedded import binaries
from logging_store.embedded.server import EmbeddedPostgres
from logging_store.errors import Misconfigured
from tests import guardian

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PATIENCE_S = 60

# Holds the server of a data directory until its standard input ends. As another user it takes nothing along but what
# it has imported: the interpreter may live where that user can't look.
HOLDER = """
import os, sys
from pathlib import Path
from logging_store.embedded.server import EmbeddedPostgres
data_dir, user, group = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
if user != os.geteuid():
    os.setgroups([]); os.setgid(group); os.setuid(user)
server = EmbeddedPostgres(Path(data_dir))
server.start()
print("started", flush=True)
sys.stdin.read()
server.stop()
print("stopped", flush=True)
"""


@contextmanager
def holder(data_dir: Path, user: int | None = None, group: int = 0) -> Iterator[subprocess.Popen[str]]:
    """Run a process that has started the server; it stops when its standard input is closed."""
    identity = [str(os.geteuid() if user is None else user), str(group)]
    command = [sys.executable, "-c", HOLDER, str(data_dir), *identity]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "started\n"
            yield process
        finally:
            process.kill()


def let_go(process: subprocess.Popen[str]) -> None:
    assert process.communicate(timeout=PATIENCE_S)[0] == "stopped\n"
    assert process.returncode == 0


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedPostgres]:
    with stopped_at_the_end(tmp_path) as server:
        yield server


@contextmanager
def stopped_at_the_end(data_dir: Path) -> Iterator[EmbeddedPostgres]:
    server = EmbeddedPostgres(data_dir)
    try:
        yield server
    finally:
        if server.is_running():
            server.start()  # joins it, so that it is ours to stop
        server.stop()


def connect(server: EmbeddedPostgres) -> psycopg.Connection:
    return psycopg.connect(server.conninfo(), autocommit=True)


def ask(server: EmbeddedPostgres, query: str) -> object:
    with connect(server) as connection:
        row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return row[0]


def postmaster(server: EmbeddedPostgres) -> psutil.Process:
    return psutil.Process(int((server.cluster / "postmaster.pid").read_text().split("\n", 1)[0]))


def kill(process: psutil.Process) -> None:
    process.send_signal(signal.SIGKILL)
    eventually(lambda: is_gone(process))


def is_gone(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def eventually(look: Callable[[], bool]) -> None:
    give_up = time.monotonic() + PATIENCE_S
    while not look():
        assert time.monotonic() < give_up
        time.sleep(0.02)


def test_the_server_starts_answers_and_stops(server: EmbeddedPostgres) -> None:
    server.stop()  # not started: nothing to do
    assert not server.is_running()
    server.start()
    server.start()  # again: the same
    process = postmaster(server)
    assert server.is_running()
    assert ask(server, "select current_database()") == "turnlog"
    server.stop()
    assert not server.is_running()
    eventually(lambda: is_gone(process))


def test_environment_variables_of_another_server_are_ignored(
    server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"PGPORT": "5791", "PGHOSTADDR": "127.0.0.1", "PGDATABASE": "theirs"}.items():
        monkeypatch.setenv(name, value)
    server.start()
    assert server.is_running()
    assert ask(server, "select current_database()") == "turnlog"
    assert ask(server, "select current_setting('port')") == "5432"


def test_the_server_knows_nothing_of_the_services_environment(
    server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("TURNLOG_API_KEY", "TURNLOG_JWT_SECRET", "SUPABASE_SECRET_KEY", "DATABASE_URL", "OPENAI_API_KEY"):
        monkeypatch.setenv(name, "hush-0123456789")
    server.start()
    with connect(server):
        main = postmaster(server)
        for process in (main, *main.children()):
            environment = process.environ()
            assert "hush-0123456789" not in environment.values()
            assert set(environment) <= {
                *("PATH", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH"),  # ours
                *("PWD", "OLDPWD", "SHLVL", "_"),  # of the shell that pg_ctl starts
                *("PGDATA", "PGLOCALEDIR", "PGSYSCONFDIR", "PG_GRANDPARENT_PID", "PG_OOM_ADJUST_FILE"),  # its own
                *("LC_COLLATE", "LC_CTYPE", "LC_MESSAGES", "LC_MONETARY", "LC_NUMERIC", "LC_TIME"),
            }


def test_the_last_process_that_uses_it_stops_it(server: EmbeddedPostgres, tmp_path: Path) -> None:
    server.start()
    first = postmaster(server)
    with holder(tmp_path) as other:
        server.stop()
        assert server.is_running()
        assert postmaster(server) == first
        let_go(other)
    assert not server.is_running()


def test_the_server_survives_a_killed_service_and_is_found_again(server: EmbeddedPostgres, tmp_path: Path) -> None:
    with holder(tmp_path) as service:
        process = postmaster(server)
        service.kill()
        service.wait()
        assert server.is_running()
    server.start()
    assert postmaster(server) == process
    server.stop()
    assert not server.is_running()


def test_services_that_start_together_share_one_server(server: EmbeddedPostgres, tmp_path: Path) -> None:
    with holder(tmp_path) as one, holder(tmp_path) as two:
        assert ask(server, "select count(*) from pg_stat_activity where backend_type = 'checkpointer'") == 1
        let_go(one)
        assert server.is_running()
        let_go(two)
    assert not server.is_running()


@pytest.mark.parametrize("the_number_is_taken", [False, True])
def test_committed_rows_survive_a_crash_of_the_server(server: EmbeddedPostgres, the_number_is_taken: bool) -> None:
    server.start()
    with connect(server) as connection:
        connection.execute("create table kept (n int)")
        connection.execute("insert into kept values (42)")
    kill(postmaster(server))
    with subprocess.Popen(["sleep", "600"], **binaries.identity()) as bystander:
        if the_number_is_taken:  # as happens when a container starts again
            for file in (server.cluster / "postmaster.pid", server.socket_dir / ".s.PGSQL.5432.lock"):
                _, rest = file.read_text().split("\n", 1)
                file.write_text(f"{bystander.pid}\n{rest}")
        try:
            assert not server.is_running()
            server.start()
            assert ask(server, "select n from kept") == 42
            assert postmaster(server).pid != bystander.pid
        finally:
            bystander.kill()


@pytest.mark.parametrize("name", ["d" * 120, "with spaces", "it's quoted", '$HOME "and", `more`\\', "é"])
def test_any_path_works(tmp_path: Path, name: str) -> None:
    with stopped_at_the_end(tmp_path / name) as server:
        server.start()
        assert ask(server, "show data_directory") == str(server.cluster)
        assert server.cluster.parent.parent == tmp_path / name
        assert len(os.fsencode(server.socket_dir / ".s.PGSQL.5432")) <= 107
        assert stat.S_IMODE(server.socket_dir.stat().st_mode) == 0o700
    if server.socket_dir != server.directory:
        server.socket_dir.rmdir()


def test_a_long_folder_for_temporary_files_holds_no_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = tmp_path / ("t" * 120)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    server = EmbeddedPostgres(tmp_path / ("d" * 120))
    assert len(os.fsencode(server.socket_dir / ".s.PGSQL.5432")) <= 107


def test_a_socket_directory_of_another_user_is_refused(tmp_path: Path) -> None:
    server = EmbeddedPostgres(tmp_path / ("d" * 120))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    server.socket_dir.symlink_to(elsewhere)  # as somebody may who knows where DATA_DIR is
    try:
        with pytest.raises(Misconfigured, match="belongs to another user"):
            server.start()
    finally:
        server.socket_dir.unlink()
    assert elsewhere.stat().st_uid == os.geteuid()


def test_only_its_owner_reaches_the_server(server: EmbeddedPostgres) -> None:
    server.start()
    process = postmaster(server)
    assert ask(server, "show listen_addresses") == ""
    assert [c.laddr for c in process.net_connections("inet")] == []
    assert [stat.S_IMODE(folder.stat().st_mode) for folder in (server.directory, server.cluster)] == [0o700, 0o700]
    assert process.username() == (binaries.SYSTEM_USER if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name)


def test_acknowledged_rows_are_on_disk(server: EmbeddedPostgres) -> None:
    server.start()
    settings = {name: ask(server, f"show {name}") for name in ("fsync", "full_page_writes", "synchronous_commit")}
    assert settings == {"fsync": "on", "full_page_writes": "on", "synchronous_commit": "on"}


def test_an_ordinary_user_runs_the_server_as_itself() -> None:
    user = pwd.getpwnam("nobody") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
    if os.geteuid() == 0:
        binaries.make_reachable(binaries.folder())  # the checkout may be in root's home
    with guardian.folder() as data_dir:
        os.chown(data_dir, user.pw_uid, user.pw_gid)
        server = EmbeddedPostgres(data_dir)
        with holder(data_dir, user.pw_uid, user.pw_gid) as service:
            assert postmaster(server).username() == user.pw_name
            assert server.directory.stat().st_uid == user.pw_uid
            assert ask(server, "select 1") == 1
            let_go(service)
        assert not server.is_running()
