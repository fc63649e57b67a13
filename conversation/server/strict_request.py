"""gunicorn's request, read strictly and in bounded memory and time.

gunicorn's own reader takes 250 µs for each KB of a line without an end, so a body's framing alone could occupy a
processor for minutes before anybody knows who sends it. It also takes what proxies may read otherwise.
"""

import re
from typing import Any

from gunicorn.http.body import ChunkedReader, LengthReader
from gunicorn.http.errors import (
    ChunkMissingTerminator,
    InvalidChunkExtension,
    InvalidChunkSize,
    InvalidHeader,
    LimitRequestHeaders,
    NoMoreData,
    UnsupportedTransferCoding,
)
from gunicorn.http.message import Request

MAX_HEAD = 32 * 1024  # bytes of all header fields of a request
MAX_CHUNKS = 4096  # of a body, and one more for each CHUNK_BYTES of it: each costs a microsecond or two
CHUNK_BYTES = 8192

_PIECE = 64 * 1024
_MAX_LINE = 1024  # bytes of a chunk's size and extensions
_MAX_TRAILERS = 8192
_END = b"\r\n"
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})(?:[ \t]*;[^\r\n]*)?\r\n")


class StrictRequest(Request):  # type: ignore[misc] # gunicorn has no types
    """A request with a bounded head and a bounded body, and with one reading only."""

    @property
    def max_buffer_headers(self) -> int:
        """The bytes of a head; gunicorn's would be 819,000, and it has no setting for it."""
        return MAX_HEAD

    @max_buffer_headers.setter
    def max_buffer_headers(self, _: int) -> None:
        pass

    def parse_headers(self, data: bytes, from_trailer: bool = False) -> Any:
        if len(data) > MAX_HEAD:
            raise LimitRequestHeaders("the head is too long")
        return super().parse_headers(data, from_trailer=from_trailer)

    def set_body_reader(self) -> None:
        names = {name for name, _ in self.headers}
        if self.version >= (1, 1) and "HOST" not in names:
            raise InvalidHeader("HOST", req=self)
        codings = [value.strip().lower() for name, value in self.headers if name == "TRANSFER-ENCODING"]
        if any(coding != "chunked" for coding in codings):
            raise UnsupportedTransferCoding(codings[0])
        super().set_body_reader()
        self.body: LengthBody | ChunkedBody
        reader = self.body.reader  # gunicorn's, until here
        self.unreader.mxchunk = _PIECE
        if isinstance(reader, ChunkedReader):
            self.body = ChunkedBody(self)
        elif isinstance(reader, LengthReader):
            self.body = LengthBody(self.unreader, reader.length)
        else:
            self.body = LengthBody(self.unreader, 0)


class LengthBody:
    """A body with a Content-Length."""

    def __init__(self, unreader: Any, length: int) -> None:
        self._unreader = unreader
        self._left = length

    def read(self, _: int = _PIECE) -> bytes:
        """Return the next piece, of any size; nothing at the end, or if the client has disconnected."""
        if not self._left:
            return b""
        piece: bytes = self._unreader.read()
        if len(piece) > self._left:
            self._unreader.unread(piece[self._left :])
            piece = piece[: self._left]
        self._left -= len(piece)
        return piece


class ChunkedBody:
    """A body in chunks."""

    def __init__(self, request: Any) -> None:
        self._request = request
        self._unreader = request.unreader
        self._buffer = b""  # what has arrived, from `_at` on
        self._at = 0
        self._left = 0  # bytes of the chunk under way
        self._chunks = 0
        self._size = 0
        self._is_at_end = False

    def read(self, _: int = _PIECE) -> bytes:
        """Return the next piece, of any size; nothing at the end. Raises gunicorn's errors."""
        if self._is_at_end:
            return b""
        pieces: list[bytes] = []
        while True:
            if self._left:
                if not pieces:
                    self._need(1)
                piece = self._buffer[self._at : self._at + self._left]
                self._at += len(piece)
                self._left -= len(piece)
                self._size += len(piece)
                pieces.append(piece)
                if self._left:  # the rest hasn't arrived
                    return b"".join(pieces)
                self._need(len(_END))
                if not self._buffer.startswith(_END, self._at):
                    raise ChunkMissingTerminator(b"")
                self._at += len(_END)
                if self._at == len(self._buffer):
                    return b"".join(pieces)
            self._left = self._next_size()
            if not self._left:
                self._end()
                return b"".join(pieces)

    def _next_size(self) -> int:
        while True:
            if found := _SIZE.match(self._buffer, self._at):
                break
            line = self._buffer[self._at :]
            if _END in line or len(line) > _MAX_LINE or b"\n" in line:
                # RFC 9112, 7.1.1: neither a bare CR nor a bare LF ends a line
                raise InvalidChunkExtension("a chunk's line") if b";" in line else InvalidChunkSize(line[:16])
            self._receive()
        self._at = found.end()
        self._chunks += 1
        if self._chunks > MAX_CHUNKS + self._size // CHUNK_BYTES:
            raise InvalidChunkSize(b"too many small chunks")
        return int(found[1], 16)

    def _end(self) -> None:
        """Read the trailers, and give back what follows the body."""
        self._need(len(_END))
        while not self._buffer.startswith(_END, self._at) and b"\r\n\r\n" not in self._buffer[self._at :]:
            if len(self._buffer) - self._at > _MAX_TRAILERS:
                raise LimitRequestHeaders("the trailers are too long")
            self._receive()
        end = self._at
        if not self._buffer.startswith(_END, self._at):
            end = self._buffer.index(b"\r\n\r\n", self._at) + 2
            if end - self._at > _MAX_TRAILERS:
                raise LimitRequestHeaders("the trailers are too long")
            self._request.trailers = self._request.parse_headers(self._buffer[self._at : end - 2], from_trailer=True)
        self._unreader.unread(self._buffer[end + 2 :])
        self._buffer, self._at, self._is_at_end = b"", 0, True

    def _need(self, count: int) -> None:
        while len(self._buffer) - self._at < count:
            self._receive()

    def _receive(self) -> None:
        more = self._unreader.read()
        if not more:
            raise NoMoreData(b"")
        self._buffer, self._at = self._buffer[self._at :] + more, 0
