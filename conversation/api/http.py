"""What the endpoints share: the repository, how answers are written, and paths that hold any text."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, TypeVar
from urllib.parse import quote, unquote

import jiter
from flask import Flask, Request, Response, current_app
from flask.globals import request_ctx
from flask.json.provider import JSONProvider
from pydantic_core import to_json
from werkzeug.exceptions import NotFound
from werkzeug.routing import BaseConverter, MapAdapter

from conversation import access
from conversation.access import limits
from conversation.api import requests as body
from logging_store.batches import Receipt
from logging_store.records.models import Record
from logging_store.repository import ConversationRepository, WriteResult

_Record = TypeVar("_Record", bound=Record)
_View = TypeVar("_View", bound=Callable[..., Any])
_SENT_AT_ONCE = 64 * 1024  # bytes
WsgiApp = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class App(Flask):
    """Flask without what no view here uses, each of which costs a request several microseconds."""

    def ensure_sync(self, func: _View) -> _View:  # no view is a coroutine
        return func

    def create_url_adapter(self, request: Request | None) -> MapAdapter | None:  # no route depends on the host
        if request is None:
            return super().create_url_adapter(request)
        return self.url_map.bind(
            request.host,  # raises if it isn't one
            request.root_path,
            "",
            request.scheme,
            request.method,
            request.path,
            request.query_string.decode("latin-1"),
        )


def answer(status: int, body: Any) -> Response:
    """Return a value as an answer; built at once, since a status or a type set later costs as much again."""
    return Response(to_json(body), status, content_type="application/json")


def streamed(lines: Iterator[bytes], content_type: str) -> Response:
    """Return an answer that is sent while it is made, from a first part that is made before it begins.

    So a store that is away is still told of as a problem.
    """
    parts = _parts(lines)
    first = next(parts, b"")

    def answered() -> Iterator[bytes]:
        yield first
        yield from parts

    return Response(answered(), content_type=content_type)


def _parts(lines: Iterator[bytes]) -> Iterator[bytes]:
    """Yield lines together, so that not each is a write of its own."""
    gathered = bytearray()
    for line in lines:
        gathered += line
        if len(gathered) >= _SENT_AT_ONCE:
            yield bytes(gathered)
            gathered.clear()
    yield bytes(gathered)


def read_record(model: type[_Record], list_hint: str = "") -> _Record:
    """Return the request's body as a record; one that is not counts as rejected. `list_hint`: see `body.read`."""
    sent = request_ctx.request
    if sent.query_string and sent.args.get("dry_run", "false") != "false":
        raise body.InvalidBody([{"path": "?dry_run", "detail": "This call has no dry run; nothing was written"}])
    try:
        return body.read(model, list_hint)
    except body.InvalidBody:
        repository().ledger.reject(1)
        raise


def status_of(receipt: Receipt) -> int:
    """Return the status that tells of a record that was kept: created, here already, or accepted for later."""
    return {"created": 201, "spooled": 202}.get(receipt.receipt, 200)


def repository(*, creating_session: bool = False) -> ConversationRepository:
    """Return the log as the caller reaches it. `creating_session`: the call makes a session, or finds the caller's."""
    attached: ConversationRepository = current_app.extensions["conversation_repository"]
    who = access.auth_context()
    if who is None:
        return attached
    if who.claims and creating_session:
        who.claims.before_create = partial(limits.check_sessions, who.caller)
    return attached.for_caller(who.caller.project, who.claims)


def session_token(kept: WriteResult) -> dict[str, str]:
    """Return the token of a session that was kept for a caller who needs one to append to it, and when it ends.

    A session that is new counts among those that the caller may create.
    """
    who = access.auth_context()
    if who and who.claims and kept.receipt.receipt in {"created", "spooled"}:
        limits.count_session(who.caller)
    return who.claims.token(kept.session.id) if who and who.claims and kept.receipt.acknowledged else {}


class Json(JSONProvider):
    """Writes answers with pydantic's serialiser: in the order given, and a batch of receipts several times as fast."""

    def dumps(self, obj: Any, **_: Any) -> str:
        return to_json(obj).decode()

    def loads(self, s: str | bytes, **_: Any) -> Any:
        return jiter.from_json(s.encode() if isinstance(s, str) else s)


class NameInPath(BaseConverter):
    """An id or a key in a path; a key may hold any character, also an encoded slash."""

    part_isolating = True

    def to_python(self, value: str) -> str:
        try:
            return unquote(value, errors="strict")
        except UnicodeDecodeError as error:
            raise NotFound from error  # no key is spelled so, and none that looks like it may be meant


def keep_paths_encoded(app: WsgiApp) -> WsgiApp:
    """Route by the path as it was sent, so that %2F in a key stays apart from the slashes around it.

    WSGI hands over a decoded path; gunicorn and Werkzeug also keep the original. Under other servers only a slash
    in a key is lost.
    """

    def with_encoded_path(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        raw: str = environ.get("RAW_URI", "").partition("?")[0]
        environ["PATH_INFO"] = raw if raw.startswith("/") else quote(environ["PATH_INFO"].encode("latin-1"))
        return app(environ, start_response)

    return with_encoded_path
