"""What the embedded PostgreSQL makes of the files it finds in its data directory."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from logging_store.embedded.server import EmbeddedPostgres
from logging_store.errors import Misconfigured, StoreUnavailable
from tests.database.test_embedded import HOLDER, PATIENCE_S, ROOT, ask, stopped_at_the_end

pytestmark = pytest.mark.faults


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedPostgres]:
    with stopped_at_the_end(tmp_path) as server:
        yield server


def test_a_half_made_cluster_is_made_anew(server: EmbeddedPostgres) -> None:
    (server.cluster / "global").mkdir(parents=True)
    (server.cluster / "postgresql.conf").write_text("half a line of conf")
    server.start()
    assert ask(server, "select current_database()") == "turnlog"


def test_a_service_killed_during_initdb_is_followed_by_one_that_starts(
    server: EmbeddedPostgres, tmp_path: Path
) -> None:
    command = [sys.executable, "-c", HOLDER, str(tmp_path), str(os.geteuid()), "0"]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, start_new_session=True) as service:
        give_up = time.monotonic() + PATIENCE_S
        while not (begun := list(server.directory.glob("*/PG_VERSION"))):
            assert time.monotonic() < give_up
            time.sleep(0.001)
        service.kill()  # and initdb goes on
    assert begun != [server.cluster / "PG_VERSION"]
    assert not server.cluster.exists()
    server.start()
    assert ask(server, "select current_database()") == "turnlog"
    assert len([folder for folder in server.directory.iterdir() if (folder / "PG_VERSION").exists()]) == 1


def test_a_service_killed_while_the_server_starts_is_followed_by_one_that_uses_it(
    server: EmbeddedPostgres, tmp_path: Path
) -> None:
    server.start()
    server.stop()
    command = [sys.executable, "-c", HOLDER, str(tmp_path), str(os.geteuid()), "0"]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, start_new_session=True) as service:
        give_up = time.monotonic() + PATIENCE_S
        while not (server.cluster / "postmaster.pid").exists():
            assert time.monotonic() < give_up
            time.sleep(0.0005)
        service.kill()
    server.start()
    assert ask(server, "select current_database()") == "turnlog"


def test_a_database_without_its_version_is_left_alone(server: EmbeddedPostgres) -> None:
    control = server.cluster / "global" / "pg_control"
    control.parent.mkdir(parents=True)
    control.write_bytes(b"somebody's data")
    with pytest.raises(Misconfigured, match="restore it from a backup"):
        server.start()
    assert control.read_bytes() == b"somebody's data"


def test_a_cluster_of_another_version_is_refused_by_name(server: EmbeddedPostgres) -> None:
    server.cluster.mkdir(parents=True)
    (server.cluster / "PG_VERSION").write_text("9.6\n")
    with pytest.raises(Misconfigured, match=r"database of PostgreSQL 9\.6, .*turnlog backup FILE.*turnlog restore"):
        server.start()
    assert not server.is_running()


def test_a_server_that_cannot_start_says_why(server: EmbeddedPostgres) -> None:
    server.start()
    server.stop()
    shutil.rmtree(server.cluster / "global")
    with pytest.raises(StoreUnavailable, match="could not open file"):
        server.start()
    shutil.rmtree(server.cluster)


def test_backends_that_outlive_their_server_are_waited_for(server: EmbeddedPostgres) -> None:
    server.start()
    main = psutil.Process(int((server.cluster / "postmaster.pid").read_text().split("\n", 1)[0]))
    writer = next(child for child in main.children() if "checkpointer" in " ".join(child.cmdline()))
    writer.send_signal(signal.SIGSTOP)  # it can't notice that its server is gone
    main.kill()
    with subprocess.Popen([sys.executable, "-c", f"import time, os; time.sleep(1); os.kill({writer.pid}, 18)"]):
        server.start()
    assert ask(server, "select current_database()") == "turnlog"
