"""Other programs: SIGTERM ends `psql` and the embedded server with it, and none is given a secret of the service."""

import os
import signal
import subprocess
import sys
import webbrowser
from pathlib import Path

import pytest
from click.testing import CliRunner

from conversation.cli.main import command as top
from conversation.settings import Settings
from logging_store.embedded import binaries
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


def test_another_program_gets_no_secret_of_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    environment = {
        "TURNLOG_API_KEY": "k", "TURNLOG_KEY": "k", "SUPABASE_SECRET_KEY": "k", "DATABASE_URL": "k", "PORT": "1",
        "HOME": "/home/ada", "PAGER": "less", "PGSERVICEFILE": "x",
    }  # fmt: skip
    rest = {"HOME": "/home/ada", "PAGER": "less", "PGSERVICEFILE": "x"}
    assert Settings.without_ours(environment) == rest
    _, given = binaries.psql("postgresql://ada:secret@db/turnlog", [], rest)
    assert given == rest | {"PGPASSWORD": "secret"}
    given_to_browser: list[dict[str, str]] = []

    def look(_: str) -> bool:
        given_to_browser.append(dict(os.environ))
        return True

    monkeypatch.setattr(webbrowser, "open", look)
    key = "0123456789abcdef0123456789abcdef"
    result = CliRunner(env={"TURNLOG_API_KEY": key}).invoke(top, ["open"])
    assert result.exit_code == 0, result.output
    assert [key in environment.values() for environment in given_to_browser] == [False]
