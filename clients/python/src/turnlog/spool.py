"""The spool: a folder of append-only files, one being written by each process, and all readable by whoever is left.

A file begins with the offset up to which its records are acknowledged; each further line is one record, with a
checksum. A process holds a lock on each file that it writes or sends, which the kernel releases with the process: a
file without a lock belongs to nobody, and whoever comes next adopts it. Sending again is harmless, since a record's id
is known before it is written, so nothing but that offset has to be kept about what was sent.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import json
import os
import secrets
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

try:
    import fcntl
except ImportError:  # Windows: no locks that suit, so the client keeps records in memory and says so
    fcntl = None  # type: ignore[assignment]

_HEADER = b"turnlog-spool-1 %020d\n"
_START = len(_HEADER % 0)
_ROTATE = 8 << 20  # bytes after which a process begins another file
_READ = 1 << 20
_SUFFIX = ".spool"
_DEAD = "dead-letters.jsonl"
MAX_RECORDS = 500
MAX_BYTES = 4 << 20


_numbers = itertools.count(1)


class SpoolFullError(Exception):
    """The spool has no room for the record."""


class Line(NamedTuple):
    """A record of the spool. `kind`: i(nteraction), s(ession), m(essages), f(eedback). `end`: its offset's end."""

    kind: str
    target: str
    payload: bytes
    end: int


class Segment:
    """One file of the spool, locked by this process. `waiting`: its records that aren't acknowledged."""

    durable = True

    def __init__(self, path: Path, fd: int, acked: int, end: int, *, own: bool) -> None:
        self.number = next(_numbers)
        self.path, self.fd, self.own = path, fd, own
        self.acked, self.end, self.synced, self.waiting = acked, end, acked, 0
        self.emptied = 0  # times
        self.is_closed = not own  # to further records

    def close(self) -> None:
        fd, self.fd = self.fd, -1  # the number may be another file's soon
        if fd >= 0:
            os.close(fd)


class Chunk(NamedTuple):
    """Records to send. `place`: None if they are in memory only. `damaged`: lines that can't be read."""

    place: Segment | None
    lines: list[Line]
    damaged: list[bytes]
    end: int
    size: int


def frame(kind: str, target: str, payload: bytes) -> bytes:
    line = b"%s %s %s" % (kind.encode(), target.encode(), payload)
    return b"%08x %s\n" % (zlib.crc32(line), line)


def _parse(line: bytes, end: int) -> Line | None:
    checksum, _, rest = line.partition(b" ")
    parts = rest.split(b" ", 2)
    if len(parts) != 3 or checksum != b"%08x" % zlib.crc32(rest):  # noqa: PLR2004
        return None
    return Line(parts[0].decode(), parts[1].decode(), parts[2], end)


class Spool:
    """The files of one folder, as this process sees them. `lock` guards all of it; no call holds it while it syncs."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        if fcntl is None:
            raise OSError("This system has no file locks that suit")
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(f"{folder} isn't writable")
        self.folder, self._max_bytes = folder, max_bytes
        self._foreign_bytes = 0
        self._inherited: set[str] = set()
        self._open()

    def _open(self) -> None:
        self.lock, self._reading = threading.Lock(), threading.Lock()
        self._current: Segment | None = None
        self._segments: list[Segment] = []
        self._turns = 0

    def leave_to_parent(self) -> None:
        """Forget the files after a fork: they are the parent's, and so must be their locks."""
        for segment in self._segments:
            self._inherited.add(segment.path.name)
            segment.close()
        self._open()

    @property
    def adopted_waiting(self) -> int:
        return sum(each.waiting for each in list(self._segments) if not each.own)

    def put(self, data: bytes) -> tuple[Segment, int]:
        """Append a framed record; it outlives the process then. Raises `SpoolFullError`, and `OSError`."""
        with self.lock:
            held = sum(each.end for each in self._segments) + self._foreign_bytes
            if held + len(data) > self._max_bytes:
                raise SpoolFullError(f"The spool holds {held:,} bytes, and may hold {self._max_bytes:,}")
            segment = self._current
            if segment is None or segment.is_closed or segment.end >= _ROTATE:
                segment = self._begin()
            _write(segment.fd, data, segment.end)
            segment.end += len(data)
            segment.waiting += 1
            return segment, segment.end

    def _begin(self) -> Segment:
        if self._current is not None:
            self._current.is_closed = True
        name = f"{time.time_ns():020d}-{os.getpid()}-{secrets.token_hex(4)}"
        temporary, path = self.folder / f".{name}", self.folder / f"{name}{_SUFFIX}"
        fd = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _write(fd, _HEADER % _START, 0)
            temporary.rename(path)  # locked already, so nobody adopts it
        except BaseException:
            os.close(fd)
            temporary.unlink(missing_ok=True)
            raise
        self._current = Segment(path, fd, _START, _START, own=True)
        self._segments.append(self._current)
        return self._current

    def sync(self) -> None:
        """Bring what was put so far to the disk, past the system's cache."""
        for segment in list(self._segments):
            if segment.own and segment.synced < (end := segment.end):
                emptied = segment.emptied
                # a file may be sent and removed meanwhile, or its disk fail
                with contextlib.suppress(OSError, ValueError):
                    if segment.synced == _START:
                        _sync_folder(self.folder)
                    os.fsync(segment.fd)
                    with self.lock:
                        if segment.emptied == emptied:
                            segment.synced = end

    def take(self) -> Chunk | None:
        """Return the next records to send: in turn of the files that have any, each from its beginning."""
        with self.lock:
            self._remove_sent()
            waiting = [each for each in self._segments if each.waiting]
            if not waiting:
                return None
            self._turns += 1
            own = [each for each in waiting if each.own]
            segment = own[0] if own and self._turns % 2 else waiting[0]
            end = segment.end
        with self._reading:
            return _read(segment, end) if segment.fd >= 0 else None

    def ack(self, chunk: Chunk) -> None:
        """Note that the records of a chunk are settled."""
        segment = chunk.place
        if segment is None:
            return
        with self.lock:
            segment.acked = chunk.end
            segment.waiting = max(0, segment.waiting - chunk.size) if chunk.end < segment.end else 0
            with contextlib.suppress(OSError):  # else they are sent again, and are duplicates
                os.pwrite(segment.fd, _HEADER % chunk.end, 0)
            self._remove_sent()

    def _remove_sent(self) -> None:
        """Keep nothing of what is sent: not even in the file that is being written."""
        for segment in [each for each in self._segments if each.acked >= each.end]:
            if segment.is_closed:
                self._remove(segment)
            elif segment.end > _START:
                with contextlib.suppress(OSError):
                    os.pwrite(segment.fd, _HEADER % _START, 0)
                    os.ftruncate(segment.fd, _START)
                    segment.acked = segment.end = segment.synced = _START
                    segment.emptied += 1

    def _remove(self, segment: Segment) -> None:
        segment.is_closed = True
        segment.path.unlink(missing_ok=True)
        self._segments.remove(segment)
        segment.close()

    def adopt(self) -> None:
        """Take over the files of processes that are gone."""
        with self.lock:
            ours = {each.path.name for each in self._segments} | self._inherited
        foreign = 0
        for path in sorted(self.folder.glob(f"*{_SUFFIX}")):
            if path.name in ours:
                continue
            with contextlib.suppress(OSError):
                foreign += self._adopt(path)
        with contextlib.suppress(OSError):
            foreign += (self.folder / _DEAD).stat().st_size
        self._foreign_bytes = foreign

    def _adopt(self, path: Path) -> int:
        """Adopt a file unless it is locked; return the bytes that stay somebody else's."""
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            size = os.fstat(fd).st_size
            os.close(fd)
            return size
        size = os.fstat(fd).st_size
        if os.fstat(fd).st_nlink == 0:  # sent and removed by another process that was as quick
            os.close(fd)
            return 0
        head = os.pread(fd, _START, 0)
        number = head[-21:-1]
        acked = int(number) if len(head) == _START and number.isdigit() else _START
        segment = Segment(path, fd, min(max(acked, _START), max(size, _START)), max(size, _START), own=False)
        position = segment.acked
        while data := os.pread(fd, _READ, position):
            segment.waiting += data.count(b"\n")
            position += len(data)
        if position > segment.acked and not data and os.pread(fd, 1, position - 1) != b"\n":
            segment.waiting += 1  # cut off
        with self.lock:
            self._segments.insert(0, segment)
            self._remove_sent()
        return 0

    def bury(self, letter: dict[str, Any]) -> bool:
        """Keep a record that the service refused; return whether there was room."""
        data = json.dumps(letter).encode() + b"\n"
        path = self.folder / _DEAD
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        except OSError:
            return False
        try:
            size = os.fstat(fd).st_size
            return size + len(data) <= self._max_bytes // 4 and os.write(fd, data) == len(data)
        except OSError:
            return False
        finally:
            os.close(fd)

    def dead_letters(self) -> Iterator[dict[str, Any]]:
        with contextlib.suppress(FileNotFoundError), (self.folder / _DEAD).open("rb") as file:
            for line in file:
                with contextlib.suppress(ValueError):
                    yield json.loads(line)

    def take_dead_letters(self) -> list[Path]:
        """Set the file of dead letters aside, so that its records can be logged again; return where they are."""
        with contextlib.suppress(FileNotFoundError):
            (self.folder / _DEAD).rename(self.folder / f"dead-letters.{time.time_ns()}.jsonl")
        return sorted(self.folder.glob("dead-letters.*.jsonl"))

    def close(self) -> None:
        """Release the files; those without waiting records are removed."""
        with self._reading, self.lock:
            for segment in list(self._segments):
                if segment.acked >= segment.end:
                    self._remove(segment)
                segment.close()
        self._open()


def _write(fd: int, data: bytes, offset: int) -> None:
    """Write all of it, or nothing. Raises `OSError`."""
    if os.pwrite(fd, data, offset) < len(data):
        with contextlib.suppress(OSError):  # else the next record overwrites what there is of this one
            os.ftruncate(fd, offset)
        raise OSError(errno.ENOSPC, "The disk is full")


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _read(segment: Segment, end: int) -> Chunk:
    """Read the next records of a file, as many as one call may send, and at least one."""
    lines: list[Line] = []
    damaged: list[bytes] = []
    position, data, at, size = segment.acked, b"", 0, 0
    while position < end and len(lines) + len(damaged) < MAX_RECORDS and size < MAX_BYTES:
        newline = data.find(b"\n", at)
        if newline < 0:
            read_to = position + len(data) - at
            more = os.pread(segment.fd, min(_READ, end - read_to), read_to)
            data, at = data[at:] + more, 0
            if more:
                continue
            newline = len(data)  # cut off
        line = data[at:newline]
        at = newline + 1
        position = min(end, position + len(line) + 1)
        size += len(line)
        parsed = _parse(line, position)
        if parsed is not None:
            lines.append(parsed)
        else:
            damaged.append(line)
    return Chunk(segment, lines, damaged, position, len(lines) + len(damaged))
