"""How views respond: with JSON, with a stream, and with which status."""

from collections.abc import Iterator
from typing import Any

from flask import Response
from pydantic_core import to_json

from conversation.access import heavy_reads
from logging_store.batches import Receipt

_CHUNK = 64 * 1024  # bytes


def json_response(status: int, body: Any) -> Response:
    """Return a JSON response. It is built in one call: setting the status or the type afterwards doubles the cost."""
    return Response(to_json(body), status, content_type="application/json")


def streamed(lines: Iterator[bytes], content_type: str) -> Response:
    """Return a response that is sent while `lines` yields it, for a route whose rule is `heavy`.

    The first chunk is made before the response begins, so that an unavailable store is still a problem with a status.
    Each of the others has a turn of its own: a client that reads slowly keeps nobody waiting.
    """
    chunks, turns = _chunks(lines), heavy_reads.turns()
    first = next(chunks, b"")

    def body() -> Iterator[bytes]:
        chunk: bytes | None = first
        while chunk is not None:
            yield chunk
            with turns.further_turn():
                chunk = next(chunks, None)

    return Response(body(), content_type=content_type)


def _chunks(lines: Iterator[bytes]) -> Iterator[bytes]:
    """Join lines to chunks, so that not every line is a write of its own."""
    chunk = bytearray()
    for line in lines:
        chunk += line
        if len(chunk) >= _CHUNK:
            yield bytes(chunk)
            chunk.clear()
    yield bytes(chunk)


def status_of(receipt: Receipt) -> int:
    """Return the HTTP status of an acknowledged record: 201 created, 202 spooled, 200 already stored or filled."""
    return {"created": 201, "spooled": 202}.get(receipt.receipt, 200)
