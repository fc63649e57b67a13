"""Reads request bodies: from bytes to a validated record.

JSON is parsed once, strictly: duplicate keys, NaN and invalid UTF-8 are refused whichever store is used, so that stores
need no rules of their own. In a list of records only the item that holds them is. NUL and half pairs are replaced, or
refused if `TURNLOG_UNSTORABLE` says so. Problems and replacements name a field by its JSON path.
"""

import re
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from errno import ECONNRESET
from functools import cache
from itertools import islice
from os import SEEK_END
from typing import IO, Any, TypeVar

from flask import Request, current_app, has_request_context
from flask.globals import request_ctx
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails, to_json

from conversation import access
from conversation.access import limits
from conversation.access.limits import COUNT_DECOMPRESSED, MAX_BODY, MAX_EXPORT
from conversation.access.received import Received
from conversation.api import body_parts
from conversation.api.body_parts import Unparsed
from conversation.refusals import near_misses, validation_messages
from conversation.refusals.codes import Refused
from conversation.settings import Settings
from logging_store.records.intake import Intake, JsonPath
from logging_store.records.models import Record

MAX_FIELDS = 20  # wrong fields that a response lists, and altered ones of a record; beyond, it only counts them
MOST_TIMES = 10  # as long as what a restricted caller sent: the longest response to it, but for what is stored
_MAX_LISTED = 1500  # characters of the wrong fields that a response to a restricted caller lists
_MOST_VALUES = 500_000  # objects, lists and names in the body of a restricted caller; texts may hold such signs, too
_HEAD = 200  # bytes of a small request beside its body
_RECEIPT = 270  # bytes of a receipt with all its ids, beside what it repeats
MAX_ITEMS = 1000  # records or messages of one call
_STATE = "turnlog.body"  # in the request's environ

_GZIP_SIZE = 4  # bytes at its end: the size of what it holds
_CHUNK = 64 * 1024
_MAX_DRAINED = 2 * MAX_EXPORT  # bytes of a refused body that are read and dropped; beyond, gunicorn hangs up

_Model = TypeVar("_Model", bound=BaseModel)
_TOO_LARGE = "The body may hold {} MB, also after decompression; send it in parts"
TOO_LARGE = _TOO_LARGE.format(MAX_BODY >> 20)
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


@dataclass(slots=True)
class _State:
    """What is known of a request's body, and how much the response may still list.

    `altered`: the paths of altered values, by the path of their record.
    """

    is_restricted: bool = False
    fields_left: int = MAX_FIELDS
    characters_left: int = MAX_BODY
    altered_left: int = MAX_BODY
    look_ups: validation_messages.LookUps = field(default_factory=validation_messages.LookUps)
    has_half_pairs: bool = False
    altered: dict[JsonPath, list[str]] = field(default_factory=dict)


def read(model: type[_Model], list_hint: str = "", *, items: str | None = None, replaces: bool = True) -> _Model:
    """Return the request's body as a record; an empty body is an empty object.

    `list_hint`: a sentence for callers who send a list. `items`: the name of a list whose items the caller validates
    one by one; one that can't be parsed is an `Unparsed` there, which `validate` refuses. `replaces`: whether NUL and
    half pairs may be replaced, which `altered` names; else they are refused. Raises `InvalidBody` and `Refused`.
    """
    value = _parse(_bytes_of(request_ctx.request), items)
    if list_hint and isinstance(value, list):
        raise InvalidBody([{"path": "$", "detail": f"Must be an object, not a list. {list_hint}"}])
    return validate(model, value, replaces=replaces)


def altered(path: Sequence[str | int] = ()) -> dict[str, list[str]]:
    """Return the member `altered` of the receipt of the record at a path; empty if nothing of it was altered."""
    paths = _state().altered.get(tuple(path))
    return {"altered": listed_paths(paths, path)} if paths else {}


def listed_paths(paths: list[str], path: Sequence[str | int]) -> list[str]:
    """Return the paths of a record's altered values; the record's own where a response has listed too many."""
    state = _state()
    if len(paths) > state.altered_left:
        return [json_path(path)]
    state.altered_left -= len(paths)
    return paths


def listed(fields: Iterable[dict[str, str]], path: Sequence[str | int], count: int) -> list[dict[str, str]]:
    """Return as many of a value's `count` wrong fields as the response may still list, and a count of the others."""
    state = _state()
    found: list[dict[str, str]] = []
    for each in islice(fields, count if count <= state.fields_left else max(state.fields_left - 1, 0)):
        state.characters_left -= len(each["path"]) + len(each["detail"])
        if state.characters_left < 0:
            break
        found.append(each)
    state.fields_left -= min(len(found) + (len(found) < count), state.fields_left)
    return found + not_listed(count - len(found), path, listed=bool(found))


def listed_conflicts(fields: list[dict[str, str]], path: Sequence[str | int]) -> list[dict[str, str]]:
    """Return fields that contradict what is stored: all, but for a restricted caller as many as `listed` does."""
    return listed(fields, path, len(fields)) if _state().is_restricted else fields


def require_proportion(receipts: int, repeated: Iterable[Any]) -> None:
    """Refuse a restricted caller's list whose response would be more than ten times as long as what was sent.

    Only a list of hardly anything, or one that gzip compresses to hardly anything, has such a response. `receipts`: how
    many it has. `repeated`: JSON values that they repeat.
    """
    if not _state().is_restricted:
        return
    length = receipts * _RECEIPT + sum(map(_length, repeated))
    if length > MOST_TIMES * (limits.size() + _HEAD):
        detail = (
            f"The response would be more than {MOST_TIMES} times as long as what was sent: send fewer records in a "
            "call, or the body without compression"
        )
        raise Refused("too-large", detail)


def intake(*, replaces: bool = True) -> Intake:
    """Return how this request's records are read."""
    if not has_request_context():
        return Intake(replaces=replaces)
    settings: Settings = current_app.extensions["turnlog_settings"]
    return Intake(
        replaces=replaces and settings.turnlog_unstorable == "replace",
        has_half_pairs=_state().has_half_pairs,
        zone=settings.time_zone,
    )


def receive(stream: IO[bytes], length: str | None) -> Received:
    """Read a request's body to its end and return it, cut one byte beyond the highest limit. The caller closes it.

    `length`: its declared length. Raises `ConnectionResetError` if less arrives.

    The body is read to its end because a client may send its next request as soon as it has the response; gunicorn
    discards the rest only then, and could take the start of that request for a part of this one.
    """
    body, size = Received(), 0
    body.size = MAX_EXPORT + 1 if length and int(length) > MAX_EXPORT else 0
    while size < _MAX_DRAINED and (piece := stream.read(_CHUNK)):
        size += len(piece)
        if body.size <= MAX_EXPORT:
            body.add(piece[: MAX_EXPORT + 1 - body.size])
    if length and size < min(int(length), _MAX_DRAINED):
        body.close()
        raise ConnectionResetError(ECONNRESET, "The client closed the connection before its request was complete")
    body.seek(0)
    return body


def plain_size(body: Received, encoding: str | None) -> int:
    """Return how many bytes a body has after decompression: as gzip's last four say, which decompressing checks."""
    if encoding is None or body.size < _GZIP_SIZE:
        return body.size
    body.seek(-_GZIP_SIZE, SEEK_END)
    plain = int.from_bytes(body.read(), "little")
    body.seek(0)
    return min(max(body.size, plain), MAX_EXPORT)


def validate(
    model: type[_Model],
    value: Any,
    path: Sequence[str | int] = (),
    *,
    replaces: bool = True,
) -> _Model:
    """Return a JSON value as a record, and note what had to be altered. Raises `InvalidBody`.

    `path`: the value's place in the body. `replaces`: see `read`.
    """
    if isinstance(value, Unparsed):
        problems = ({"path": json_path((*path, *inner)), "detail": detail} for inner, detail in value.problems)
        raise _invalid(problems, path, len(value.problems))
    if not isinstance(value, dict):
        kind = validation_messages.kind_of(value)
        raise _invalid([{"path": json_path(path), "detail": f"Must be an object, not {kind}"}], path, 1)
    if (unknown := _count_unknown(model, value)) > MAX_FIELDS:  # pydantic would make an error of each
        errors = (_unknown(model, (*path, *inner)) for inner in _unknown_names(model, value))
        raise _invalid(errors, path, unknown)
    how = intake(replaces=replaces)
    try:
        record = model.model_validate(value, context=how)
    except ValidationError as error:
        details = error.errors(include_url=False) if _state().fields_left else []
        raise _invalid((_field(detail, path, model) for detail in details), path, error.error_count()) from None
    if how.altered:
        _state().altered[tuple(path)] = _altered_paths(record, how.altered, path)
    return record


def _invalid(fields: Iterable[dict[str, str]], path: Sequence[str | int], count: int) -> InvalidBody:
    shown = listed(fields, path, count)
    return InvalidBody(shown, is_cut=len(shown) < count or count > MAX_FIELDS)


def _length(value: Any) -> int:
    try:
        return len(to_json(value))
    except ValueError:  # it has half pairs, and isn't repeated as it is
        return len(str(value)) * 6


@cache
def _known_names(model: type[BaseModel]) -> frozenset[str]:
    return frozenset(validation_messages.names_of(model))


@cache
def _inner_models(model: type[BaseModel]) -> dict[str, type[BaseModel]]:
    """Return the models of the objects in a model's fields, by the names of the fields."""
    inner = {name: validation_messages.model_of(model, name) for name in _known_names(model)}
    return {name: each for name, each in inner.items() if each is not None}


def _count_unknown(model: type[BaseModel], value: Any) -> int:
    """Return how many names a value has that a model doesn't take, also within it; 0 if they are certainly few."""
    if not isinstance(value, dict):
        return 0
    known = _known_names(model)
    own = 0
    if len(value) > MAX_FIELDS and model.model_config.get("extra") == "forbid":
        own = len(value) - sum(name in value for name in known)
    return own + sum(
        _count_unknown(inner, each)
        for name, inner in _inner_models(model).items()
        if (held := value.get(name)) is not None
        for each in (held[:MAX_ITEMS] if isinstance(held, list) else [held])
    )


def _unknown_names(model: type[BaseModel], value: Any) -> Iterable[tuple[str | int, ...]]:
    if not isinstance(value, dict):
        return
    known = _known_names(model)
    if len(value) > MAX_FIELDS and model.model_config.get("extra") == "forbid":
        yield from ((name,) for name in value if name not in known)
    for name, inner in _inner_models(model).items():
        held = value.get(name)
        if isinstance(held, list):
            for place, each in enumerate(held[:MAX_ITEMS]):
                yield from ((name, place, *rest) for rest in _unknown_names(inner, each))
        else:
            yield from ((name, *rest) for rest in _unknown_names(inner, held))


def _unknown(model: type[BaseModel], path: Sequence[str | int]) -> dict[str, str]:
    detail = validation_messages.unknown(model, path, "field", look_ups())
    return {"path": json_path(path), "detail": detail}


def _altered_paths(record: BaseModel, altered: Sequence[JsonPath], path: Sequence[str | int]) -> list[str]:
    """Return the paths of altered values in the body."""
    name_of = record.name_sent if isinstance(record, Record) else str
    return [json_path((*path, name_of(str(inner[0])), *inner[1:])) for inner in altered]


def not_listed(count: int, path: Sequence[str | int], *, listed: bool) -> list[dict[str, str]]:
    """Return the entry that counts a value's wrong fields that are not listed, if any. `listed`: others are."""
    more = "more " if listed else ""
    detail = f"There is 1 {more}wrong field" if count == 1 else f"There are {count:,} {more}wrong fields"
    return [{"path": json_path(path), "detail": detail}] if count else []


def look_ups() -> validation_messages.LookUps:
    """Return the suggestions of this request; those of nothing outside a request."""
    return _state().look_ups


def _state() -> _State:
    """Return the state of this request; an empty one outside a request."""
    if not has_request_context():
        return _State()
    environ = request_ctx.request.environ
    state: _State | None = environ.get(_STATE)
    if state is None:
        auth = access.auth_context()
        state = environ[_STATE] = _State()
        if auth and auth.caller.is_restricted:
            state.is_restricted, state.characters_left, state.altered_left = True, _MAX_LISTED, MAX_FIELDS
    return state


def json_path(path: Sequence[str | int]) -> str:
    """Return a path in the notation of RFC 9535: $.interactions[3].prompt. A long name in it is cut."""
    return "$" + "".join(
        f"[{part}]"
        if isinstance(part, int)
        else f".{part}"
        if _PLAIN_KEY.fullmatch(part)
        else "['" + part.replace("\\", "\\\\").replace("'", "\\'") + "']"
        for part in map(_cut_name, path)
    )


def _cut_name(part: str | int) -> str | int:
    is_long = isinstance(part, str) and len(part) > near_misses.LONGEST
    return f"{str(part)[: near_misses.LONGEST]}…" if is_long else part


def _bytes_of(sent: Request) -> bytes:
    body = _received(sent, MAX_BODY)
    if not body and not sent.mimetype:
        return b"{}"
    # the usual spelling needs no parsing
    if sent.environ.get("CONTENT_TYPE") != "application/json" and not (
        sent.is_json and sent.mimetype_params.get("charset", "utf-8").lower() in {"utf-8", "utf8"}
    ):
        raise Refused("unsupported-media-type", "Send JSON in UTF-8, with Content-Type: application/json")
    return _plain(sent, body, MAX_BODY) or b"{}"


def plain_body(most: int) -> bytes:
    """Return the request's body of any type after decompression. Raises `Refused` beyond `most` bytes."""
    sent = request_ctx.request
    return _plain(sent, _received(sent, most), most)


def _plain(sent: Request, body: bytes, most: int) -> bytes:
    match sent.environ.get("HTTP_CONTENT_ENCODING", "identity").strip().lower():
        case "identity":
            return body
        case "gzip" | "x-gzip":
            plain = _gunzip(body, most)
            if count := sent.environ.get(COUNT_DECOMPRESSED):
                count(len(plain))
            return plain
        case other:
            detail = f"Content-Encoding {other[:40]!r} is not understood; send identity or gzip"
            raise Refused("unsupported-media-type", detail)


def _received(sent: Request, most: int) -> bytes:
    environ = sent.environ
    if environ.get("wsgi.input_terminated") and 0 < (length := sent.content_length or 0) <= most:
        body: bytes = environ["wsgi.input"].read(length)  # Werkzeug's own stream around it cost more than the read
        return body
    # one byte more than allowed: Werkzeug cuts a body without a length at the limit, it doesn't refuse it
    sent.max_content_length = most + 1
    body = sent.get_data(cache=False)
    if len(body) > most:
        raise Refused("too-large", _TOO_LARGE.format(most >> 20))
    return body


def _gunzip(body: bytes, most: int) -> bytes:
    unzip = zlib.decompressobj(wbits=31)
    try:
        # no more than it says at its end, by which it was given its turn
        stated = min(int.from_bytes(body[-_GZIP_SIZE:], "little"), most)
        plain = unzip.decompress(body, stated + 1)
    except zlib.error as error:
        raise Refused("invalid-encoding", "The body is not valid gzip") from error
    if len(plain) > most:
        raise Refused("too-large", _TOO_LARGE.format(most >> 20))
    if not unzip.eof or unzip.unused_data:
        raise Refused("invalid-encoding", "The gzip body is cut short, or something follows it")
    return plain


def _parse(body: bytes, items: str | None) -> Any:
    # 15 MB of empty objects take 360 MB, and compress to 15 KB
    if len(body) > _MOST_VALUES and _state().is_restricted:
        values = sum(map(body.count, (b"{", b"[", b'":')))
        if values > _MOST_VALUES:
            raise Refused(
                "too-large", f"The body holds more than {_MOST_VALUES:,} objects, lists and names; send fewer"
            )
    try:
        value, has_half_pairs = body_parts.parse(body, items, MAX_ITEMS)
    except ValueError as error:
        raise Refused(
            "invalid-json", f"The body is not valid JSON: {_cut(str(error))}{_hint(body, str(error))}"
        ) from error
    if has_half_pairs:
        _state().has_half_pairs = True
    return value


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
