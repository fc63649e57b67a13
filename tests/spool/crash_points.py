"""Every write, sync, truncation and removal of a spool, numbered; at one of them something goes wrong.

    python -m tests.spool.crash_points FOLDER   # reads one scenario a line on its standard input, answers one line

Each scenario runs in a process of its own, forked from this one. What goes wrong:

- `kill`: the process ends there; of a write, the first half was made
- `power`: the same, and whatever was not synced is gone
- `error`: the disk answers EIO to this operation, `dead`: to this and every later one
- `full`: it answers ENOSPC to this operation

`largest_file` (bytes) makes the kernel refuse to let any file grow further, with EFBIG, while the store is away.
"""

import contextlib
import gc
import json
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import apsw

from logging_store.batches import Batch, BatchReceipts, Receipt
from logging_store.errors import StoreUnavailable
from logging_store.operations import ServerSettings
from logging_store.postgres.migrations import SCHEMA_VERSION
from logging_store.spool import CircuitBreaker, Limits, Spool, drain
from tests.spool.flaky_store import batch_of

Wrong = Literal["kill", "power", "error", "dead", "full"]

WRITES = 4
_PATIENCE_S = 20
_REAL_DISK = apsw.vfs_names()[0]


class Points:
    """Counts operations on the disk; the one numbered `at` goes wrong."""

    def __init__(self, at: int, wrong: Wrong) -> None:
        self.at, self.wrong = at, wrong
        self.passed = 0
        self.lock = threading.RLock()  # one operation at a time; after a power cut there is no other
        self.synced: dict[str, bytes] = {}

    def reach(self, half: Callable[[], Any] = lambda: None) -> None:
        self.passed += 1
        if self.passed < self.at or (self.passed > self.at and self.wrong != "dead"):
            return
        match self.wrong:
            case "error" | "dead":
                raise apsw.IOError("injected")
            case "full":
                raise apsw.FullError("injected")
            case "kill":
                half()
            case "power":
                for path, content in list(self.synced.items()):
                    if Path(path).exists():
                        Path(path).write_bytes(content)
        os.kill(os.getpid(), signal.SIGKILL)

    def opened(self, path: str) -> None:
        self.synced.setdefault(path, Path(path).read_bytes() if Path(path).exists() else b"")

    def sync(self, path: str) -> None:
        self.synced[path] = Path(path).read_bytes()


class FaultyFile(apsw.VFSFile):
    def __init__(self, points: Points, name: Any, flags: list[int]) -> None:
        self._points = points
        self._path = name.filename() if isinstance(name, apsw.URIFilename) else name
        with points.lock:
            points.opened(self._path)
        super().__init__(_REAL_DISK, name, flags)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802 - SQLite's name, as those below
        write = super().xWrite
        with self._points.lock:
            self._points.reach(lambda: write(data[: len(data) // 2], offset))
            write(data, offset)

    def xSync(self, flags: int) -> None:  # noqa: N802
        with self._points.lock:
            self._points.reach()
            super().xSync(flags)
            self._points.sync(self._path)

    def xTruncate(self, newsize: int) -> None:  # noqa: N802
        with self._points.lock:
            self._points.reach()
            super().xTruncate(newsize)


class FaultyDisk(apsw.VFS):
    def __init__(self, points: Points) -> None:
        self._points = points
        super().__init__("faulty", _REAL_DISK, makedefault=True)

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:  # noqa: N802
        return FaultyFile(self._points, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: N802
        with self._points.lock:
            self._points.reach()
            super().xDelete(filename, syncdir)


class FileStore:
    """A store that keeps prompts in a file, once each; its calls are points as well, before and after the commit."""

    def __init__(self, path: Path, points: Points) -> None:
        self._path, self._points = path, points
        self.away = True

    def write(self, batch: Batch) -> BatchReceipts:
        if self.away:
            raise StoreUnavailable
        self._crash_point()
        known = self._path.read_text().split() if self._path.exists() else []
        with self._path.open("a") as file:
            file.writelines(f"{row['prompt']}\n" for row in batch.interactions if row["prompt"] not in known)
        self._crash_point()
        return BatchReceipts(
            [Receipt(receipt="created")] * len(batch.sessions), [Receipt(receipt="created")] * len(batch.interactions)
        )

    def ping(self) -> ServerSettings:
        if self.away:
            raise StoreUnavailable
        return {
            "schema": SCHEMA_VERSION,
            "database_id": "0123456789abcdef-01234567",
            "server_version": "18.0",
            "read_only": False,
            "fsync": "on",
            "synchronous_commit": "on",
            "full_page_writes": "on",
            "transaction_isolation": "read committed",
            "rows_hidden": False,
            "now": "2026-11-29T12:00:00+00:00",
        }

    def _crash_point(self) -> None:
        with contextlib.suppress(apsw.Error), self._points.lock:  # a disk fails in the spool, not in the store
            self._points.reach()

    def start(self) -> None: ...

    def close(self) -> None: ...

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"{name} is not of this test")


def run(folder: Path, scenario: dict[str, Any]) -> None:
    """Write while the store is away, let it come back, and wait until all is delivered; note what is acknowledged."""
    drain.ORPHAN_SCAN_S = 0.02
    if scenario["largest_file"]:
        resource.setrlimit(resource.RLIMIT_FSIZE, (scenario["largest_file"], resource.RLIM_INFINITY))
    points = Points(scenario["at"], scenario["wrong"])
    disk = FaultyDisk(points)
    store = FileStore(folder / "stored", points)
    spool = Spool(
        store,
        folder / "spool" / "embedded",
        Limits(min_free_bytes=0),
        breaker=CircuitBreaker(shortest_s=0.001, longest_s=0.005),
    )
    with (folder / "acknowledged").open("ab", buffering=0) as acknowledged:
        for n in range(scenario["writes"]):
            prompt = f"{scenario['name']}-{n}"
            with contextlib.suppress(StoreUnavailable):
                text = scenario["filler"] * "x"
                if {receipt.receipt for receipt in spool.write(batch_of(prompt, response=text))} <= {
                    "spooled",
                    "created",
                }:
                    acknowledged.write(f"{prompt}\n".encode())
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    store.away = False
    spool.start()
    give_up = time.monotonic() + _PATIENCE_S
    while points.wrong != "dead" and (not spool.breaker.is_closed or list((folder / "spool").rglob("spool-*.sqlite3"))):
        if time.monotonic() > give_up:
            os._exit(3)
        time.sleep(0.002)
    spool.close()
    disk.unregister()
    # told to the caller: did the scenario reach its point at all?
    os._exit(0 if points.passed >= points.at else 4)


def main() -> None:
    gc.freeze()  # what was imported stays shared with every child
    for line in sys.stdin:
        scenario = json.loads(line)
        child = os.fork()
        if child == 0:
            try:
                run(Path(scenario["folder"]), scenario)
            except BaseException as error:  # noqa: BLE001 - it must not go on as the parent does
                sys.stderr.write(f"{scenario}: {error!r}\n")
            os._exit(5)
        _, status = os.waitpid(child, 0)
        print(json.dumps({"status": os.waitstatus_to_exitcode(status)}), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
