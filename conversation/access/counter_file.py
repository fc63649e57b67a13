"""Fixed-window counters of calls, in a file that all processes of this machine share.

In a file instead of memory, so that all workers count together, whatever server started them, and a daily quota
survives a restart. Nothing is synced to disk: a crash of the machine may lose counts, but never fails a call. A process
that is killed while it writes leaves a wrong count until that window ends.
"""

import fcntl
import hashlib
import os
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from limits.storage import Storage

_MAGIC = b"turnlog2"
_SALT = 16  # bytes; it stops callers from choosing addresses that share a row
_HEADER = 32
# hash of the window's name, when it ends (seconds since the epoch), its count, and how long it lasts (seconds)
_ENTRY = struct.Struct("=16sdqd")
_ROW = 8  # windows whose hashes begin alike; a ninth replaces the one that ends first
_ROWS = 8192
_LOCK_TIMEOUT_S = 0.5  # the file's lock is held for microseconds, unless its holder was stopped


class CounterFile(Storage):
    """A storage of the `limits` library: fixed windows in a file of 3 MB, opened at first use.

    Raises `OSError` when the disk fails or is full, and `TimeoutError` when another process keeps the file's lock.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        super().__init__()
        self._path, self._clock = path, clock
        self._lock = threading.Lock()
        self._file: int | None = None
        self._salt = b""

    @property
    def base_exceptions(self) -> type[Exception]:
        return OSError

    def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        """Add to a window, which lasts `expiry` seconds from its first count, and return its new count."""
        with self._locked() as file:
            now = self._clock()
            name, at, row = self._row(file, key)
            found, ends, count, _ = _find(row, name)
            if not _is_open(now, ends, expiry):
                ends, count = now + expiry, 0
            os.pwrite(file, _ENTRY.pack(name, ends, count + amount, expiry), at + found)
        return count + amount

    def get(self, key: str) -> int:
        ends, count, lasts = self._look(key)
        return count if _is_open(self._clock(), ends, lasts) else 0

    def get_expiry(self, key: str) -> float:
        """Return when the window ends, or now if there is none; in seconds since the epoch."""
        ends, _, lasts = self._look(key)
        now = self._clock()
        return ends if _is_open(now, ends, lasts) else now

    def check(self) -> bool:
        self.get("")
        return True

    def reset(self) -> None:
        with self._locked() as file:
            os.ftruncate(file, _HEADER)
            os.ftruncate(file, _HEADER + _ROWS * _ROW * _ENTRY.size)

    def clear(self, key: str) -> None:
        with self._locked() as file:
            name, at, row = self._row(file, key)
            os.pwrite(file, _ENTRY.pack(name, 0, 0, 0), at + _find(row, name)[0])

    def close(self) -> None:
        with self._lock:
            if self._file is not None:
                os.close(self._file)
                self._file = None

    def _look(self, key: str) -> tuple[float, int, float]:
        # no lock needed: one read returns the whole row
        file = self._file
        if file is None:
            with self._locked() as file:
                name, _, row = self._row(file, key)
        else:
            name, _, row = self._row(file, key)
        at, ends, count, lasts = _find(row, name)
        return (ends, count, lasts) if row[at : at + len(name)] == name else (0, 0, 0)

    def _row(self, file: int, key: str) -> tuple[bytes, int, bytes]:
        name = hashlib.blake2b(key.encode(errors="replace"), digest_size=16, key=self._salt).digest()
        size = _ROW * _ENTRY.size
        at = _HEADER + int.from_bytes(name[:4], "little") % _ROWS * size
        return name, at, os.pread(file, size, at).ljust(size, b"\0")

    @contextmanager
    def _locked(self) -> Iterator[int]:
        if not self._lock.acquire(timeout=_LOCK_TIMEOUT_S):
            raise TimeoutError("another thread holds the lock")
        try:
            file = self._open() if self._file is None else self._file
            _lock(file)
            try:
                yield file
            finally:
                fcntl.flock(file, fcntl.LOCK_UN)
        finally:
            self._lock.release()

    def _open(self) -> int:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            _lock(file)
            header = os.pread(file, _HEADER, 0)
            if header[: len(_MAGIC)] != _MAGIC:
                header = (_MAGIC + os.urandom(_SALT)).ljust(_HEADER, b"\0")
                os.ftruncate(file, 0)
                os.pwrite(file, header, 0)
            fcntl.flock(file, fcntl.LOCK_UN)
        except BaseException:
            os.close(file)
            raise
        self._salt = header[len(_MAGIC) : len(_MAGIC) + _SALT]
        self._file = file
        return file


def _is_open(now: float, ends: float, lasts: float) -> bool:
    """Return whether a window still runs; one that ends too late was written before the clock was set back."""
    return now < ends <= now + lasts


def _find(row: bytes, name: bytes) -> tuple[int, float, int, float]:
    """Return a window's offset in its row, its end, count and length; if it is absent, the offset to write it to."""
    first, soonest = 0, float("inf")
    for at, (other, ends, count, lasts) in enumerate(_ENTRY.iter_unpack(row)):
        if other == name:
            return at * _ENTRY.size, ends, count, lasts
        if ends < soonest:
            first, soonest = at, ends
    return first * _ENTRY.size, 0, 0, 0


def _lock(file: int) -> None:
    give_up, pause = time.monotonic() + _LOCK_TIMEOUT_S, 20e-6
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > give_up:
                raise TimeoutError("another process holds the lock") from None
            time.sleep(pause)
            pause = min(2 * pause, 1e-3)
        else:
            return
