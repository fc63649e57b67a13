"""From the bytes of a request to a record.

Parsed once, strictly: duplicate keys, lone surrogates, NaN and bytes that aren't UTF-8 are refused, whatever store
is behind, so that no store has a rule of its own. What is refused is named by its JSON path.
"""

import io
import re
import zlib
from collections.abc import Mapping, Sequence
from errno import ECONNRESET
from typing import IO, Any, TypeVar

import jiter
from flask import Request
from flask.globals import request_ctx
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from werkzeug.exceptions import BadRequest, RequestEntityTooLarge, UnsupportedMediaType

from conversation.access.limits import COUNT_DECOMPRESSED, MAX_BODY

_CHUNK = 64 * 1024
_READ_ON = 16 * MAX_BODY  # bytes of a refused body that are read and forgotten; beyond, gunicorn hangs up

_Model = TypeVar("_Model", bound=BaseModel)
_PLAIN_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class InvalidBody(Exception):  # noqa: N818
    """The body is well-formed JSON, but not what this call takes."""

    def __init__(self, fields: list[dict[str, str]]) -> None:
        super().__init__(fields)
        self.fields = fields


def read(model: type[_Model]) -> _Model:
    """Return the request's body as a record. No body at all is an empty object."""
    return validate(model, _parse(_bytes_of(request_ctx.request)))


def receive(stream: IO[bytes], length: str | None) -> io.BytesIO:
    """Read a request's body to its end and return what is kept of it: one byte more than may be, at most.

    `length` is the one that was declared. Raises `ConnectionResetError` when less than that comes.

    It is read to its end since a client may send its next request as soon as it has the answer; gunicorn, discarding
    the rest only then, may take the beginning of that request for a part of it.
    """
    kept = stream.read(MAX_BODY + 1)
    size = len(kept)
    while size < _READ_ON and (forgotten := stream.read(_CHUNK)):
        size += len(forgotten)
    if length and size < min(int(length), _READ_ON):
        raise ConnectionResetError(ECONNRESET, "The client went before its request was complete")
    return io.BytesIO(kept)


def validate(model: type[_Model], value: Any, path: Sequence[str | int] = ()) -> _Model:
    """Return a JSON value as a record. `path`: where in the body the value stands."""
    if not isinstance(value, dict):
        raise InvalidBody([{"path": json_path(path), "detail": "Must be an object"}])
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise InvalidBody([_field(detail, path) for detail in error.errors(include_url=False)]) from None


def json_path(path: Sequence[str | int]) -> str:
    """Spell a path as RFC 9535 does: $.interactions[3].prompt."""
    return "$" + "".join(
        f"[{part}]"
        if isinstance(part, int)
        else f".{part}"
        if _PLAIN_KEY.fullmatch(part)
        else "['" + part.replace("\\", "\\\\").replace("'", "\\'") + "']"
        for part in path
    )


def _bytes_of(sent: Request) -> bytes:
    body = _received(sent)
    if not body and not sent.mimetype:
        return b"{}"
    # spelled as most spell it, a type need not be taken apart
    if sent.environ.get("CONTENT_TYPE") != "application/json" and not (
        sent.is_json and sent.mimetype_params.get("charset", "utf-8").lower() in {"utf-8", "utf8"}
    ):
        raise UnsupportedMediaType("Send JSON in UTF-8, with Content-Type: application/json")
    match sent.environ.get("HTTP_CONTENT_ENCODING", "identity").strip().lower():
        case "identity":
            return body or b"{}"
        case "gzip" | "x-gzip":
            plain = _gunzip(body)
            if count := sent.environ.get(COUNT_DECOMPRESSED):
                count(len(plain))
            return plain
        case other:
            raise UnsupportedMediaType(f"Content-Encoding {other!r} is not understood; send identity or gzip")


def _received(sent: Request) -> bytes:
    environ = sent.environ
    if environ.get("wsgi.input_terminated") and 0 < (length := sent.content_length or 0) <= MAX_BODY:
        body: bytes = environ["wsgi.input"].read(length)  # Werkzeug's own stream around it cost more than the read
        return body
    # one byte more than may be: a body without a length is cut at the limit, not refused
    sent.max_content_length = MAX_BODY + 1
    body = sent.get_data(cache=False)
    if len(body) > MAX_BODY:
        raise RequestEntityTooLarge
    return body


def _gunzip(body: bytes) -> bytes:
    unzip = zlib.decompressobj(wbits=31)
    try:
        plain = unzip.decompress(body, MAX_BODY + 1)
    except zlib.error as error:
        raise BadRequest("The body is not valid gzip") from error
    if len(plain) > MAX_BODY:
        raise RequestEntityTooLarge
    if not unzip.eof or unzip.unused_data:
        raise BadRequest("The gzip body is cut short, or something follows it")
    return plain


def _parse(body: bytes) -> Any:
    try:
        return jiter.from_json(body, allow_inf_nan=False, catch_duplicate_keys=True)
    except ValueError as error:
        raise BadRequest(f"The body is not JSON as Turnlog takes it: {error}") from error


def _field(error: ErrorDetails, path: Sequence[str | int]) -> dict[str, str]:
    context: Mapping[str, Any] = error.get("ctx", {})
    inner = context.get("path", ())
    match error["type"]:
        case "extra_forbidden":
            detail = "Not a field of this call"
        case "string_too_short":
            detail = "Must not be blank; leave it out instead"  # no text has to be longer than that
        case _:
            detail = error["msg"]
    return {"path": json_path((*path, *error["loc"], *inner)), "detail": detail}
