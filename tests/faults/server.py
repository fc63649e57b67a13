"""A PostgreSQL server that a test owns: it may be killed, stopped and made to hang."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import psycopg

from logging_store.embedded import binaries
from logging_store.embedded.server import EmbeddedPostgres

_PATIENCE_S = 60


class OwnServer:
    """Faults of the server that runs in a data directory, whoever started it."""

    def __init__(self, embedded: EmbeddedPostgres) -> None:
        self.embedded = embedded

    def postmaster(self) -> psutil.Process:
        return psutil.Process(int((self.embedded.cluster / "postmaster.pid").read_text().split("\n", 1)[0]))

    def kill(self) -> None:
        """Kill the postmaster with SIGKILL; its backends find out and end by themselves."""
        postmaster = self.postmaster()
        postmaster.kill()
        postmaster.wait(_PATIENCE_S)

    def stop(self) -> None:
        stopped = binaries.run(
            "pg_ctl", "stop", "-D", self.embedded.cluster.name, "-m", "fast", "-w", folder=self.embedded.directory
        )
        assert stopped.returncode == 0, stopped.stdout

    def start(self) -> None:
        self.embedded.start()

    def wait_until_started(self) -> None:
        """Return when it answers again, started by somebody else. Raises `AssertionError` if that doesn't happen."""
        give_up = time.monotonic() + _PATIENCE_S
        while not self._answers():
            assert time.monotonic() < give_up, "nobody started the server again"
            time.sleep(0.05)

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.embedded.conninfo(), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    @contextmanager
    def hanging(self) -> Iterator[None]:
        """Stop the postmaster and all its children with SIGSTOP; their sockets stay open and nobody answers."""
        postmaster = self.postmaster()
        postmaster.send_signal(signal.SIGSTOP)  # first, so that it makes no more children
        stopped = [postmaster]
        try:
            for child in postmaster.children():
                child.send_signal(signal.SIGSTOP)
                stopped.append(child)
            yield
        finally:
            for process in reversed(stopped):
                process.send_signal(signal.SIGCONT)


def wait_for_death(processes: list[psutil.Process], seconds: float = _PATIENCE_S) -> None:
    """Return when these processes have ended. Raises `AssertionError` if they don't in time."""
    give_up = time.monotonic() + seconds
    while left := [each for each in processes if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]:
        assert time.monotonic() < give_up, f"still running after {seconds} s: {left}"
        time.sleep(0.05)
