"""A run that is interrupted, however it is, leaves no server, no browser, no service and no folder behind."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.databases import server_folder
from tests.service import inherited

ROOT = Path(__file__).parents[2]
START_S, PATIENCE_S = 90, 60

RUN = """
import json, os, threading
from pathlib import Path
import psutil
from psycopg import conninfo
from tests.conftest import _chromium, _watched, postgres_server
from tests.service import launch

def test_that_never_ends(postgres_server, chromium):
    with postgres_server.database() as name, launch({"DATABASE_URL": postgres_server.conninfo(name)}) as service:
        service.wait_until_ready()
        database = conninfo.conninfo_to_dict(postgres_server.conninfo(name))["host"]
        Path("new").write_text(json.dumps({"process": os.getpid(), "database": database}))
        Path("new").rename("ready")
        threading.Event().wait()
"""


@pytest.fixture
def temporary() -> Iterator[Path]:
    """Yield a folder for temporary files; all processes of the run have its name in their environment."""
    with server_folder() as folder:
        yield folder


def left_behind(*folders: str) -> list[str]:
    """Tell each process that is still there of a run with these folders: for temporary files, and for its database."""
    found = []
    for process in psutil.process_iter():
        try:
            told = process.environ().get("TMPDIR", ""), process.cwd(), *process.cmdline()
            if any(folder in each for each in told for folder in folders):
                found.append(f"{process.pid} {process.cmdline()[:4]}")
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def interrupt(run: subprocess.Popen[bytes], _: int) -> None:
    """As Ctrl-C does: every process of the terminal's group is told."""
    os.killpg(run.pid, signal.SIGINT)


def terminate(run: subprocess.Popen[bytes], _: int) -> None:
    run.terminate()


def kill(_: subprocess.Popen[bytes], tester: int) -> None:
    os.kill(tester, signal.SIGKILL)


@pytest.mark.parametrize(
    ("end", "workers"),
    [(interrupt, []), (terminate, []), (interrupt, ["-n1"]), (terminate, ["-n1"]), (kill, ["-n1"])],
    ids=["interrupted", "terminated", "interrupted with a worker", "terminated with a worker", "a killed worker"],
)
def test_an_ended_run_leaves_nothing_behind(
    end: Callable[[subprocess.Popen[bytes], int], None], workers: list[str], temporary: Path, tmp_path: Path
) -> None:
    (tmp_path / "test_run.py").write_text(RUN, encoding="utf-8")
    (tmp_path / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "--max-worker-restart=0", *workers, "test_run.py"]
    environment = inherited() | {"PYTHONPATH": str(ROOT), "TMPDIR": str(temporary)}
    with (
        (tmp_path / "said").open("w+") as said,
        subprocess.Popen(
            command, cwd=tmp_path, env=environment, stdout=said, stderr=said, start_new_session=True
        ) as run,
    ):
        try:
            give_up = time.monotonic() + START_S
            while not (tmp_path / "ready").exists():
                assert run.poll() is None, (tmp_path / "said").read_text()
                assert time.monotonic() < give_up, (tmp_path / "said").read_text()
                time.sleep(0.05)
            ready = json.loads((tmp_path / "ready").read_text())
            folders = str(temporary), ready["database"]
            there = " ".join(left_behind(*folders))
            assert [name for name in ("postgres", "gunicorn", "chrom", "playwright") if name not in there] == []
            end(run, ready["process"])
            give_up = time.monotonic() + PATIENCE_S
            while left := [*left_behind(*folders), *temporary.glob("turnlog-*")]:
                assert time.monotonic() < give_up, left
                time.sleep(0.05)
            assert run.wait() != 0
        finally:
            run.kill()
