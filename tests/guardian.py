"""Ends what a test process leaves behind, however that one ended: by itself, by Ctrl-C, SIGTERM or SIGKILL.

A server that `pg_ctl` starts, a browser and a service each run in a session of their own, so no signal to the test
process reaches them. They inherit its environment, though, and `start` puts a mark there; an embedded server, which
inherits next to nothing, is known by its working directory. The guardian is a process beside it that waits for the end
of a pipe, which the kernel closes with the test process; then it ends every process with the mark, or within the
folders that were told to it, and removes the folders.

    with guardian.folder() as folder:
        ...
"""

import contextlib
import os
import secrets
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

MARK = "TESTS_GUARDIAN"  # the name of a variable that all processes of a test process have
_PREFIX = "turnlog-test-"
_SHUTDOWN_S = 5  # for a database server, which gives its shared memory back
_GIVE_UP_S = 60
_AGAIN_S = 0.1


@dataclass
class _Guarded:
    """The process that is guarded, and the pipe by which folders are told."""

    pid: int
    pipe: int


_guarded: _Guarded | None = None


def start() -> None:
    """Guard this process from now on; again, it does nothing."""
    _tell(b"")


@contextlib.contextmanager
def folder(parent: Path | None = None) -> Iterator[Path]:
    """Yield a temporary folder, which a server may use that runs as another user; pytest's are closed to others."""
    with tempfile.TemporaryDirectory(prefix=_PREFIX, dir=parent) as name:
        _tell(os.fsencode(name) + b"\0")
        yield Path(name)


def _tell(message: bytes) -> None:
    global _guarded  # noqa: PLW0603 - there is one guardian for a process
    if _guarded is None or _guarded.pid != os.getpid():  # a fork needs one of its own
        _guarded = _Guarded(os.getpid(), _spawn())
    os.write(_guarded.pipe, message)


def _spawn() -> int:
    """Start a guardian and return its pipe; this process may end without waiting for it."""
    mark = f"{os.getpid()}-{secrets.token_hex(8)}"
    unmarked = {name: value for name, value in os.environ.items() if name != MARK}  # nobody else's guardian ends ours
    reading, writing = os.pipe()
    os.posix_spawn(
        sys.executable,
        [sys.executable, __file__, mark],
        unmarked,
        file_actions=[
            (os.POSIX_SPAWN_DUP2, reading, 0),
            (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),  # whoever reads what we print doesn't wait for it
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsigmask=[],
    )
    os.close(reading)
    os.environ[MARK] = mark
    return writing


def _wait(mark: str) -> None:
    for ending in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, signal.SIG_IGN)
    os.setsid()
    folders = [Path(os.fsdecode(name)) for name in sys.stdin.buffer.read().split(b"\0")[:-1]]  # the pipe is closed
    give_up = time.monotonic() + _GIVE_UP_S
    _end_all(mark, folders, give_up)
    # a worker's processes may still write into the folders of the run, until its own guardian has ended them
    while (left := [each for each in folders if each.exists()]) and time.monotonic() < give_up:
        for each in left:
            shutil.rmtree(each, ignore_errors=True)
        time.sleep(_AGAIN_S)


def _end_all(mark: str, folders: list[Path], give_up: float) -> None:
    first = True
    while (left := _ours(mark, folders)) and time.monotonic() < give_up:
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                if first and process.name() == "postgres":
                    process.send_signal(signal.SIGQUIT)
                    process.send_signal(signal.SIGCONT)  # tests stop servers, too
                else:
                    process.kill()
        psutil.wait_procs(left, timeout=_SHUTDOWN_S)
        first = False


def _ours(mark: str, folders: list[Path]) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            if process.environ().get(MARK) == mark or any(map(Path(process.cwd()).is_relative_to, folders)):
                found.append(process)
    return found


if __name__ == "__main__":
    _wait(sys.argv[1])
