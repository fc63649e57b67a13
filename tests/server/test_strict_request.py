"""Requests are read in one way only, and in bounded memory: their heads, and the framing of their bodies."""

import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest
from gunicorn.config import Config
from gunicorn.http.errors import (
    ChunkMissingTerminator,
    InvalidChunkExtension,
    InvalidChunkSize,
    InvalidHeader,
    InvalidHeaderName,
    LimitRequestHeaders,
    NoMoreData,
    UnsupportedTransferCoding,
)
from gunicorn.http.parser import RequestParser
from gunicorn.workers.gthread import ThreadWorker

from conversation.server import strict_request
from conversation.server.worker import Worker

HEAD = b"POST / HTTP/1.1\r\nHost: x\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
NEXT = b"GET /next HTTP/1.1\r\nHost: x\r\n\r\n"
PIECE = 8192


def read(sent: bytes, piece: int = PIECE) -> list[tuple[str, bytes]]:
    """Return the path and the body of each request that arrives in pieces on a connection."""
    assert issubclass(Worker, ThreadWorker)  # it is what sets the class of requests
    pieces = (sent[at : at + piece] for at in range(0, len(sent), piece))
    return [(each.path, whole(each.body)) for each in RequestParser(Config(), pieces, ("127.0.0.1", 1))]


def whole(body: Any) -> bytes:
    return b"".join(iter(lambda: body.read(1024), b""))


@pytest.mark.parametrize("piece", [1, 7, PIECE])
def test_bodies_are_read_to_their_end_and_no_further(piece: int) -> None:
    length = HEAD + b"Content-Length: 5\r\n\r\nhello"
    chunks = CHUNKED + b"2\r\nhe\r\n3;a=b\r\nllo\r\n0\r\n\r\n"
    trailers = CHUNKED + b"000005 ;a\r\nhello\r\n0\r\nA: b\r\nC: d\r\n\r\n"
    hello = ("/", b"hello")
    for sent in (length, chunks, trailers):
        assert read(sent + NEXT + sent, piece) == [hello, ("/next", b""), hello]


def test_large_chunks_are_read_whatever_their_pieces() -> None:
    body = bytes(range(256)) * 4000
    sent = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (body[:1], body[1:90_000], body[90_000:]))
    for piece in (1000, PIECE, 1 << 20):
        assert read(CHUNKED + sent + b"0\r\n\r\n" + NEXT, piece) == [("/", body), ("/next", b"")]


@pytest.mark.parametrize(
    ("sent", "error"),
    [
        (HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", UnsupportedTransferCoding),
        (HEAD + b"Transfer-Encoding: gzip\r\n\r\n", UnsupportedTransferCoding),
        (HEAD + b"Transfer-Encoding: identity\r\n\r\n", UnsupportedTransferCoding),
        (HEAD + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", InvalidHeader),
        (HEAD + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n", InvalidHeader),
        (b"GET / HTTP/1.1\r\nAccept: a/b\r\n\r\n", InvalidHeader),
        (CHUNKED + b"5;a=\nb\r\nhello\r\n0\r\n\r\n", InvalidChunkExtension),
        (CHUNKED + b"5;a=\rb\r\nhello\r\n0\r\n\r\n", InvalidChunkExtension),
        (CHUNKED + b"5\nhello\r\n0\r\n\r\n", InvalidChunkSize),
        (CHUNKED + b"+5\r\nhello\r\n0\r\n\r\n", InvalidChunkSize),
        (CHUNKED + b"0x5\r\nhello\r\n0\r\n\r\n", InvalidChunkSize),
        (CHUNKED + b"\r\nhello\r\n0\r\n\r\n", InvalidChunkSize),
        (CHUNKED + b"f" * 20 + b"\r\nhello\r\n0\r\n\r\n", InvalidChunkSize),
        (CHUNKED + b"4\r\nhello\r\n0\r\n\r\n", ChunkMissingTerminator),
        (CHUNKED + b"5\r\nhel", NoMoreData),
        (CHUNKED + b"5\r\nhello\r\n0\r\n", NoMoreData),
        (CHUNKED + b"0\r\nAuthorization: a\r\n\r\n", InvalidHeaderName),
    ],
)
def test_what_others_might_read_otherwise_is_refused(sent: bytes, error: type[Exception]) -> None:
    for piece in (1, PIECE):
        with pytest.raises(error):
            read(sent, piece)


def test_http_1_0_needs_no_host() -> None:
    assert read(b"GET /old HTTP/1.0\r\n\r\n") == [("/old", b"")]


@pytest.mark.parametrize(
    ("begin", "again", "error"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\n", b"X: " + b"a" * 8000 + b"\r\n", LimitRequestHeaders),
        (CHUNKED + b"1;", b"a" * 1000, InvalidChunkExtension),
        (CHUNKED, b"0" * 1000, InvalidChunkSize),
        (CHUNKED, b"1\r\na\r\n" * 100, InvalidChunkSize),
        (CHUNKED + b"0\r\n", b"a: b\r\n" * 100, LimitRequestHeaders),
    ],
    ids=["head", "extension", "size", "chunks", "trailers"],
)
def test_what_has_no_end_is_refused_soon(begin: bytes, again: bytes, error: type[Exception]) -> None:
    taken = 0

    def pieces() -> Iterator[bytes]:
        nonlocal taken
        for piece in (begin, *[again] * 100_000):
            taken += len(piece)
            yield piece

    tracemalloc.start()
    try:
        with pytest.raises(error):
            whole(next(RequestParser(Config(), pieces(), ("127.0.0.1", 1))).body)
        assert tracemalloc.get_traced_memory()[1] < 2 << 20
    finally:
        tracemalloc.stop()
    assert taken <= max(strict_request.MAX_HEAD + 9000, 7 * strict_request.MAX_CHUNKS)
