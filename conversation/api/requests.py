"""Reads request bodies: from bytes to a validated record.

JSON is parsed once, strictly: duplicate keys, lone surrogates, NaN and invalid UTF-8 are refused whichever store is
used, so that stores need no rules of their own. Problems name a field by its JSON path.
"""

import io
import re
import zlib
from collections.abc import Sequence
from errno import ECONNRESET
from typing import IO, Any, TypeVar

import jiter
from flask import Request, has_request_context
from flask.globals import request_ctx
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from conversation.access.limits import COUNT_DECOMPRESSED, MAX_BODY
from conversation.refusals import near_misses, validation_messages
from conversation.refusals.codes import Refused

MAX_FIELDS = 20  # wrong fields that a response lists of one record
_LOOK_UPS = "turnlog.look_ups"  # in the request's environ

_CHUNK = 64 * 1024
_MAX_DRAINED = 16 * MAX_BODY  # bytes of a refused body that are read and dropped; beyond, gunicorn hangs up

_Model = TypeVar("_Model", bound=BaseModel)
TOO_LARGE = f"The body may hold {MAX_BODY // 1024 // 1024} MB, also after decompression; send smaller batches"
_POSITION = re.compile(r"line (\d+) column (\d+)")
_DUPLICATE = re.compile(r'(Detected duplicate key ")(.*)(" at line \d+ column \d+)', re.DOTALL)
_CONTEXT = 16  # bytes after the position where the parser stopped
_NOT_JSON = re.compile(rb"(None|True|False|NaN|-?Infinity|undefined)\b")
_PLAIN_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class InvalidBody(Exception):  # noqa: N818
    """The body is well-formed JSON, but not what this call takes.

    `fields`: a path and a sentence for each. `is_cut`: the last of them counts those that are not listed.
    """

    def __init__(self, fields: list[dict[str, str]], *, is_cut: bool = False) -> None:
        super().__init__(fields)
        self.fields = fields
        self.is_cut = is_cut


def read(model: type[_Model], list_hint: str = "") -> _Model:
    """Return the request's body as a record; an empty body is an empty object.

    `list_hint`: a sentence for callers who send a list. Raises `InvalidBody` and `Refused`.
    """
    value = _parse(_bytes_of(request_ctx.request))
    if list_hint and isinstance(value, list):
        raise InvalidBody([{"path": "$", "detail": f"Must be an object, not a list. {list_hint}"}])
    return validate(model, value)


def receive(stream: IO[bytes], length: str | None) -> io.BytesIO:
    """Read a request's body to its end and return it, cut one byte beyond the limit.

    `length`: its declared length. Raises `ConnectionResetError` if less arrives.

    The body is read to its end because a client may send its next request as soon as it has the response; gunicorn
    discards the rest only then, and could take the start of that request for a part of this one.
    """
    body = stream.read(MAX_BODY + 1)
    size = len(body)
    while size < _MAX_DRAINED and (dropped := stream.read(_CHUNK)):
        size += len(dropped)
    if length and size < min(int(length), _MAX_DRAINED):
        raise ConnectionResetError(ECONNRESET, "The client closed the connection before its request was complete")
    return io.BytesIO(body)


def validate(model: type[_Model], value: Any, path: Sequence[str | int] = (), most: int = MAX_FIELDS) -> _Model:
    """Return a JSON value as a record. Raises `InvalidBody`.

    `path`: the value's place in the body. `most`: how many of its wrong fields to list.
    """
    if not isinstance(value, dict):
        kind = validation_messages.kind_of(value)
        raise InvalidBody([{"path": json_path(path), "detail": f"Must be an object, not {kind}"}])
    try:
        return model.model_validate(value)
    except ValidationError as error:
        found = error.errors(include_url=False)
        listed = found if len(found) <= most else found[: most - 1]
        fields = [_field(detail, path, model) for detail in listed]
        rest = not_listed(len(found) - len(listed), path, listed=bool(listed))
        raise InvalidBody(fields + rest, is_cut=bool(rest)) from None


def not_listed(count: int, path: Sequence[str | int], *, listed: bool) -> list[dict[str, str]]:
    """Return the entry that counts a value's wrong fields that are not listed, if any. `listed`: others are."""
    more = "more wrong fields" if listed else "wrong fields"
    return [{"path": json_path(path), "detail": f"There are {count:,} {more}"}] if count else []


def look_ups() -> validation_messages.LookUps:
    """Return the suggestions of this request; those of nothing outside a request."""
    if not has_request_context():
        return validation_messages.LookUps()
    known: validation_messages.LookUps = request_ctx.request.environ.setdefault(
        _LOOK_UPS, validation_messages.LookUps()
    )
    return known


def json_path(path: Sequence[str | int]) -> str:
    """Return a path in the notation of RFC 9535: $.interactions[3].prompt."""
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
    # the usual spelling needs no parsing
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
    # one byte more than allowed: Werkzeug cuts a body without a length at the limit, it doesn't refuse it
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
        raise Refused(
            "invalid-json", f"The body is not valid JSON: {_cut(str(error))}{_hint(body, str(error))}"
        ) from error


def _cut(error: str) -> str:
    """Return the parser's message with a repeated key of 60 characters at most."""
    return _DUPLICATE.sub(lambda found: f"{found[1]}{found[2][: near_misses.LONGEST]}{found[3]}", error)


def _hint(body: bytes, error: str) -> str:
    """Return a hint for the commonest mistakes, from the bytes at which the parser stopped."""
    quotes = "; use double quotes around names and texts"
    position = _POSITION.search(error)
    if error.startswith("key must be a string"):
        return quotes
    if position is None:
        return ""
    line, column = (int(number) - 1 for number in position.groups())
    context = body.split(b"\n", line + 1)[line][max(0, column - 1) :][:_CONTEXT] if body else b""
    if b"'" in context[:2]:
        return quotes
    if _NOT_JSON.match(context.lstrip(b": ,[")):
        return "; JSON writes null, true and false, and has no NaN or undefined"
    return ""


def _field(error: ErrorDetails, path: Sequence[str | int], model: type[BaseModel]) -> dict[str, str]:
    inner = error.get("ctx", {}).get("path", ())
    return {
        "path": json_path((*path, *error["loc"], *inner)),
        "detail": validation_messages.sentence(error, model, look_ups=look_ups()),
    }
