"""`turnlog serve` and `turnlog demo`: the service from any folder, and one sentence where it can't start."""

import re
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest

from conversation.server import ports
from logging_store.errors import TurnlogError
from tests.cli.conftest import ROOT
from tests.databases import server_folder
from tests.service import inherited

_START_S = 90


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


@contextmanager
def serving(folder: Path, port: int, *arguments: str, **settings: str) -> Iterator[Path]:
    """Run a command that serves, in a folder with an `app.py` of somebody else's; yield its log."""
    (folder / "app.py").write_text("raise SystemExit('another application')\n")
    log = folder / "log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "conversation.cli", *arguments],
            cwd=folder, stdin=subprocess.DEVNULL, stdout=file, stderr=file,
            env=inherited() | {"PYTHONPATH": str(ROOT), "TURNLOG_WORKERS": "1", "PYTHONUNBUFFERED": "1"} | settings,
        )  # fmt: skip
    try:
        give_up = time.monotonic() + _START_S
        while True:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < give_up, log.read_text()
            with suppress(httpx.TransportError):
                if httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=5).is_success:
                    break
            time.sleep(0.1)
        yield log
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()


@pytest.mark.slow
def test_the_demo_serves_a_week_from_a_database_of_its_own() -> None:
    port = free_port()
    with server_folder(on_disk=True) as folder:
        elsewhere = {"DATABASE_URL": "postgresql://nobody@127.0.0.1:1/not-this-one"}
        for times in ("a week of conversations", "filled already"):
            with serving(folder, port, "demo", "--port", str(port), **elsewhere) as log:
                text = log.read_text()
                assert "Database: embedded, data/demo/postgres" in text
                assert times in text
                way_in = re.search(r"Open {2}(\S+)\n {4}Key {3}(turnlog_sk_\w+)", text)
                assert way_in
                assert way_in[1] == f"http://127.0.0.1:{port}/"
                call = {"Authorization": f"Bearer {way_in[2]}"}
                answer = httpx.get(f"{way_in[1]}v1/sessions", headers=call, timeout=30)
                assert len(answer.json()["sessions"]) > 10
        assert [each.name for each in (folder / "data").iterdir()] == ["demo"]


@pytest.mark.slow
def test_who_speaks_tls_to_the_plain_port_is_named() -> None:
    port = free_port()
    with server_folder(on_disk=True) as folder, serving(folder, port, "serve", "--port", str(port)) as log:
        assert "export TURNLOG_KEY=turnlog_sk_" in log.read_text()
        begun = time.monotonic()
        with pytest.raises(ssl.SSLError), socket.create_connection(("127.0.0.1", port), timeout=30) as plain:
            ssl.create_default_context().wrap_socket(plain, server_hostname="localhost")
        assert time.monotonic() - begun < 5, "it isn't left to wait"
        give_up = time.monotonic() + 30
        while "127.0.0.1 spoke TLS to a port without TLS" not in log.read_text():
            assert time.monotonic() < give_up
            time.sleep(0.05)
        assert "too slow" not in log.read_text()


def test_a_port_in_use_is_one_sentence_before_anything_is_made(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        for command in ("serve", "demo"):
            run = subprocess.run(
                [sys.executable, "-m", "conversation.cli", command, "--port", str(port)],
                capture_output=True, text=True, check=False, cwd=tmp_path, timeout=60,
                env=inherited() | {"PYTHONPATH": str(ROOT)},
            )  # fmt: skip
            assert run.returncode == 1
            assert f"port {port} is in use by another program: stop that, or choose another" in run.stderr
            assert "turnlog_sk_" not in run.stderr + run.stdout
            assert list(tmp_path.iterdir()) == []


def test_a_port_is_waited_for(tmp_path: Path) -> None:
    said: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]

        def let_go(sentence: str) -> None:
            said.append(sentence)
            other.close()

        ports.require_free("127.0.0.1", port, let_go)
    assert len(said) == 1


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(TurnlogError, match=r"can't listen on 192\.0\.2\.1, port 8000"):
        ports.require_free("192.0.2.1", 8000, print)
