"""The service as its users run it: gunicorn in processes of its own, on a free loopback port.

    with running_service({"DATA_DIR": str(tmp_path)}, workers=2) as url:
        httpx.post(f"{url}/v1/sessions", json={})

`launch` gives the processes as well, for tests that kill them. Whatever happens inside the block, at its end no
process is left; a failure carries the end of the service's log as a note.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import httpx
import psutil

from logging_store.embedded.server import EmbeddedPostgres
from tests import guardian, leaks

_ROOT = Path(__file__).resolve().parent.parent
_START_S = 60  # the first start of an embedded database runs initdb
_STOP_S = 50  # more than requests under way get to end
_LOG_LINES = 40
_INHERITED = ("PATH", "HOME", "LANG", "TMPDIR", "TZ", guardian.MARK)


def inherited() -> dict[str, str]:
    """Return what our processes have of our own environment: none of the settings of whoever runs the tests."""
    return {name: os.environ[name] for name in _INHERITED if name in os.environ}


@dataclass
class Service:
    """A gunicorn master with its workers; `url` has no slash at its end."""

    url: str
    process: subprocess.Popen[bytes]
    environment: Mapping[str, str]
    application: str
    _log: IO[bytes]

    @property
    def pid(self) -> int:
        return self.process.pid

    def workers(self) -> list[psutil.Process]:
        return psutil.Process(self.pid).children()

    def log(self) -> str:
        """Return the last lines of what the service wrote to its standard output and error."""
        return "\n".join(self.whole_log().splitlines()[-_LOG_LINES:])

    def whole_log(self) -> str:
        # read beside the service's own writing: its position in the file is not ours
        size = os.fstat(self._log.fileno()).st_size
        return os.pread(self._log.fileno(), size, 0).decode(errors="replace")

    def wait_until_ready(self, path: str = "/readyz", seconds: float = _START_S) -> None:
        """Return when the service answers 200 on `path`. Raises `AssertionError` when it ends or time is up."""
        give_up = time.monotonic() + seconds
        answer = "nothing"
        with httpx.Client(timeout=5) as client:
            while True:
                assert self.process.poll() is None, f"the service ended with status {self.process.returncode}"
                with contextlib.suppress(httpx.TransportError):
                    response = client.get(self.url + path)
                    if response.status_code == httpx.codes.OK:
                        return
                    answer = f"{response.status_code} {response.text}"
                assert time.monotonic() < give_up, f"not ready after {seconds} s; {path} answered {answer}"
                time.sleep(0.05)

    def start_again(self) -> None:
        """Start another master in the place of one that was killed: the same settings, port and log."""
        self.process = _start(self.environment, self.application, self._log)

    def stop(self) -> None:
        """End the service as an operator does, and by force what is left after that. Raises if force was needed."""
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the service was still running {_STOP_S} s after SIGTERM") from None
        finally:
            self.kill()

    def kill(self) -> None:
        """Leave nothing behind: neither workers nor an embedded server whose master was killed."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.process.wait()
        if (data_dir := self.environment.get("DATA_DIR")) and (Path(data_dir) / "postgres").exists():
            server = EmbeddedPostgres(Path(data_dir))
            if server.is_running():
                server.start()  # joins the running one, so that it is ours to stop
                server.stop()


@contextlib.contextmanager
def running_service(environment: Mapping[str, str], workers: int = 2) -> Iterator[str]:
    """Run Turnlog with these settings (environment variables) and yield its URL once /readyz answers 200."""
    with launch(environment, workers) as service:
        service.wait_until_ready()
        yield service.url


@contextlib.contextmanager
def launch(
    environment: Mapping[str, str], workers: int = 2, application: str = "app:create_app()"
) -> Iterator[Service]:
    """Start a WSGI application under the project's gunicorn.conf.py and yield it without waiting for it."""
    port = _free_port()
    variables = inherited() | {"PORT": str(port), "TURNLOG_WORKERS": str(workers), **environment}
    with tempfile.TemporaryFile() as log, guardian.folder() as data_dir:
        if not {"TURNLOG_API_KEY", "TURNLOG_KEYLESS"} & variables.keys():
            variables["TURNLOG_KEYLESS"] = "true"  # as the tests' clients are on this machine
        variables.setdefault(
            "DATA_DIR", str(data_dir)
        )  # of its own: what one service spools is not another's to deliver
        service = Service(
            f"http://127.0.0.1:{variables['PORT']}",
            _start(variables, application, log),
            variables,
            application,
            log,
        )
        try:
            yield service
        except BaseException as error:
            error.add_note(f"The service's log ends with:\n{service.log()}")
            service.kill()
            raise
        try:
            if service.process.poll() is None:
                service.stop()
        except AssertionError as error:
            error.add_note(f"The service's log ends with:\n{service.log()}")
            raise
        finally:
            service.kill()
            leaks.WATCH.look_at_service(service.whole_log(), Path(variables["DATA_DIR"]))


def _start(variables: Mapping[str, str], application: str, log: IO[bytes]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "gunicorn", "--config", "gunicorn.conf.py", application],
        cwd=_ROOT, env=variables, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        start_new_session=True,  # a group of its own, so that none of it can be left behind
    )  # fmt: skip


def _free_port() -> int:
    # free now, and one of thousands: nobody else is likely to be given it before gunicorn takes it
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port
