"""From the bytes of a request to a record.

Parsed once, strictly: duplicate keys, lone surrogates, NaN and bytes that aren't UTF-8 are refused, whatever store
is behind, so that no store has a rule of its own. What is refused is named by its JSON path.
"""

import io
import re
import zlib
from collections.abc import Sequence
from errno import ECONNRESET
from typing import IO, Any, TypeVar

import jiter
from flask import Request
from flask.globals import request_ctx
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from conversation.access.limits import COUNT_DECOMPRESSED, MAX_BODY
from conversation.api import validation_messages
from conversation.problem_codes import Refused

_CHUNK = 64 * 1024
_READ_ON = 16 * MAX_BODY  # bytes of a refused body that are read and forgotten; beyond, gunicorn hangs up

_Model = TypeVar("_Model", bound=BaseModel)
TOO_LARGE = f"The body may hold {MAX_BODY // 1024 // 1024} MB, also after decompression; send smaller batches"
_PLACE = re.compile(r"line (\d+) column (\d+)")
_LOOKED_AT = 16  # bytes from where the parser stopped
_NOT_JSON = re.compile(rb"(None|True|False|NaN|-?Infinity|undefined)\b")
_PLAIN_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class InvalidBody(Exception):  # noqa: N818
    """The body is well-formed JSON, but not what this call takes. `fields`: a path and a sentence for each."""

    def __init__(self, fields: list[dict[str, str]]) -> None:
        super().__init__(fields)
        self.fields = fields


def read(model: type[_Model], list_hint: str = "") -> _Model:
    """Return the request's body as a record. No body at all is an empty object.

    `list_hint`: what to tell a caller who sends a list.
    """
    value = _parse(_bytes_of(request_ctx.request))
    if list_hint and isinstance(value, list):
        raise InvalidBody([{"path": "$", "detail": f"Must be an object, not a list. {list_hint}"}])
    return validate(model, value)


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
        kind = validation_messages.kind_of(value)
        raise InvalidBody([{"path": json_path(path), "detail": f"Must be an object, not {kind}"}])
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise InvalidBody([_field(detail, path, model) for detail in error.errors(include_url=False)]) from None


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
        raise Refused("unsupported-media-type", "Send JSON in UTF-8, with Content-Type: application/json")
    match sent.environ.get("HTTP_CONTENT_ENCODING", "identity").strip().lower():
        case "identity":
            return body or b"{}"
        case "gzip" | "x-gzip":
            plain = _gunzip(body)
            if count := sent.environ.get(COUNT_DECOMPRESSED):
                count(len(plain))
            return plain
        case other:
            detail = f"Content-Encoding {other[:40]!r} is not understood; send identity or gzip"
            raise Refused("unsupported-media-type", detail)


def _received(sent: Request) -> bytes:
    environ = sent.environ
    if environ.get("wsgi.input_terminated") and 0 < (length := sent.content_length or 0) <= MAX_BODY:
        body: bytes = environ["wsgi.input"].read(length)  # Werkzeug's own stream around it cost more than the read
        return body
    # one byte more than may be: a body without a length is cut at the limit, not refused
    sent.max_content_length = MAX_BODY + 1
    body = sent.get_data(cache=False)
    if len(body) > MAX_BODY:
        raise Refused("too-large", TOO_LARGE)
    return body


def _gunzip(body: bytes) -> bytes:
    unzip = zlib.decompressobj(wbits=31)
    try:
        plain = unzip.decompress(body, MAX_BODY + 1)
    except zlib.error as error:
        raise Refused("invalid-encoding", "The body is not valid gzip") from error
    if len(plain) > MAX_BODY:
        raise Refused("too-large", TOO_LARGE)
    if not unzip.eof or unzip.unused_data:
        raise Refused("invalid-encoding", "The gzip body is cut short, or something follows it")
    return plain


def _parse(body: bytes) -> Any:
    try:
        return jiter.from_json(body, allow_inf_nan=False, catch_duplicate_keys=True)
    except ValueError as error:
        raise Refused("invalid-json", f"The body is not valid JSON: {error}{_hint(body, str(error))}") from error


def _hint(body: bytes, error: str) -> str:
    """Return what mends the commonest mistakes, judged by what stands where the parser stopped."""
    quotes = "; use double quotes around names and texts"
    place = _PLACE.search(error)
    if error.startswith("key must be a string"):
        return quotes
    if place is None:
        return ""
    line, column = (int(number) - 1 for number in place.groups())
    there = body.split(b"\n", line + 1)[line][max(0, column - 1) :][:_LOOKED_AT] if body else b""
    if b"'" in there[:2]:
        return quotes
    if _NOT_JSON.match(there.lstrip(b": ,[")):
        return "; JSON writes null, true and false, and has no NaN or undefined"
    return ""


def _field(error: ErrorDetails, path: Sequence[str | int], model: type[BaseModel]) -> dict[str, str]:
    inner = error.get("ctx", {}).get("path", ())
    return {
        "path": json_path((*path, *error["loc"], *inner)),
        "detail": validation_messages.sentence(error, model),
    }
