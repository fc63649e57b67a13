"""`psql`: SIGTERM ends it and the embedded server with it."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from logging_store.embedded.server import EmbeddedPostgres
from tests.databases import server_folder
from tests.service import inherited
from tests.spool.conftest import eventually

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_sigterm_ends_psql_and_the_embedded_server() -> None:
    with server_folder() as folder:
        command = [sys.executable, "-m", "conversation.cli"]
        environment = inherited() | {"DATA_DIR": str(folder)}
        subprocess.run([*command, "migrate"], check=True, capture_output=True, cwd=ROOT, env=environment)
        number = folder / "psql.pid"
        script = ["--command", f"\\! echo $PPID > {number}.new && mv {number}.new {number}"]
        with subprocess.Popen(
            [*command, "psql", "--no-psqlrc", *script, "--command", "select pg_sleep(600)"],
            cwd=ROOT, env=environment, stdout=subprocess.DEVNULL,
        ) as running:  # fmt: skip
            try:
                eventually(number.exists, "psql runs")
                running.send_signal(signal.SIGTERM)
                assert running.wait(timeout=60) != 0
            finally:
                running.kill()
        assert not Path("/proc", number.read_text().strip()).exists()
        assert not EmbeddedPostgres(folder).is_running()
