"""Opens a file, or standard input, for import; gzip is recognised by its first two bytes, whatever the file's name."""

import gzip
import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol

STDIN = Path("-")

_READ_AT_ONCE = 256 * 1024
_GZIP = b"\x1f\x8b"


class SourceError(Exception):
    """A source can't be read, or not any further. The message says why, and never holds a password."""


class Progress(Protocol):
    """How much of a source has been read."""

    @property
    def size(self) -> int | None:
        """Return how much there is, None if that can't be known."""

    @property
    def taken(self) -> int: ...


class Source:
    """An open file. `stream`: its decompressed content. `size`: its bytes on the disk; None for a pipe."""

    def __init__(self, raw: BinaryIO, size: int | None) -> None:
        self.size = size
        self._counted = _CountingReader(raw)
        stream = io.BufferedReader(self._counted, _READ_AT_ONCE)
        self.stream: io.BufferedIOBase = gzip.GzipFile(fileobj=stream) if self._counted.begins_with(_GZIP) else stream

    @property
    def taken(self) -> int:
        """Return how many of the file's bytes have been read, before decompression."""
        return self._counted.bytes_read


class _CountingReader(io.RawIOBase):
    """Counts the bytes read, and can peek at the first ones of a pipe."""

    def __init__(self, raw: BinaryIO) -> None:
        self._raw = raw
        self._first = b""
        self.bytes_read = 0

    def begins_with(self, magic: bytes) -> bool:
        while len(self._first) < len(magic) and (more := self._raw.read(len(magic) - len(self._first))):
            self._first += more
        return self._first == magic

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        data = self._first or self._raw.read(len(buffer))
        self._first = b""
        buffer[: len(data)] = data
        self.bytes_read += len(data)
        return len(data)


@contextmanager
def open_source(path: Path) -> Iterator[Source]:
    """Yield a file's content; `-` is standard input."""
    if path == STDIN:
        yield Source(sys.stdin.buffer, None)
        return
    with path.open("rb", buffering=0) as raw:
        yield Source(raw, path.stat().st_size if path.is_file() else None)
