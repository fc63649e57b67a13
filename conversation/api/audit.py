"""The audit of reads: who read whose conversations, where `TURNLOG_AUDIT_READS` is set.

Each call that shows conversations adds one record, after it was read and before it is sent. If the record can't be
stored, the call fails with 503: nothing is read unrecorded. Callers who only reach sessions of their own add none.
"""

from collections.abc import Callable, Collection, Mapping
from datetime import datetime
from functools import wraps
from typing import Annotated, Any, Literal
from uuid import UUID, uuid4

from flask import Blueprint, Flask, Response, has_request_context, jsonify, request
from flask.globals import request_ctx
from pydantic import Field

from conversation import access
from conversation.api import caller, cursors, pagination, route_templates
from conversation.api.openapi import describe
from conversation.api.schemas import ResponseModel
from logging_store import operations as ops
from logging_store.batches import Batch, BatchReceipts
from logging_store.operations import A, Operation, Q
from logging_store.records import identity
from logging_store.repository import ConversationRepository
from logging_store.store import Backlog, Store

blueprint = Blueprint("audit", __name__)

_SHOWN = "turnlog.sessions_shown"  # in the request's environ
_BAD = 400
_ROWS = ("sessions", "interactions")  # of an answer, each with a session_id
#: Views that ask for sessions and show none.
_SHOW_NONE = {"audit.get_reads", "pages_overview.overview"}


class Reader(ResponseModel):
    """`kind`: how the reader was authenticated; `command` for `turnlog export`."""

    kind: Literal["machine", "operator", "secret", "member", "command"]
    key_id: UUID | None
    user_id: str | None


class Read(ResponseModel):
    id: UUID
    at: datetime
    reader: Reader
    call: Annotated[str, Field(description="The route, as in GET /v1/sessions/{session}")]
    user_id: Annotated[str | None, Field(description="The user whose records the call asked for")]
    session_ids: Annotated[list[UUID], Field(description="The sessions that it showed")]


class Reads(ResponseModel):
    reads: list[Read]
    next: str | None


@blueprint.get("/v1/audit")
@access.requires("admin", heavy=True)
@describe("List who read conversations, newest first", None, {200: Reads}, query=pagination.AuditQuery)
def get_reads() -> Response:
    log = caller.repository()
    query = pagination.read(request, pagination.AuditQuery).to_json()
    if (session := query.pop("session", None)) is not None:
        query["session_id"] = identity.session(log.project, session).id
    page = log.reads(query)
    return jsonify(reads=[Read.arrange(_view(row)) for row in page["reads"]], next=cursors.read_cursor(page["after"]))


def _view(row: ops.Read) -> dict[str, Any]:
    return {**row, "reader": {"kind": row["kind"], "key_id": row["key_id"], "user_id": row["reader"]}}


def register(app: Flask) -> None:
    """Record the reads of an app's views. Call this when all blueprints are registered."""
    attached: ConversationRepository = app.extensions["conversation_repository"]
    attached.store = _NotingStore(attached.store)
    for endpoint, view in app.view_functions.items():
        rule = access.rule_of(view)
        if rule is not None and rule.scope in {"read", "admin"} and endpoint not in _SHOW_NONE:
            app.view_functions[endpoint] = _recorded(view)


def note(session_ids: Collection[str]) -> None:
    """Remember that this request shows some sessions, if reads are recorded."""
    if has_request_context():
        request_ctx.request.environ.setdefault(_SHOWN, set()).update(session_ids)


def _recorded(view: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(view)
    def read(**arguments: Any) -> Any:
        response = view(**arguments)
        auth = access.auth_context()
        if request.method == "GET" and response.status_code < _BAD and auth and not auth.caller.is_restricted:
            _record(auth.caller, arguments)
        return response

    return read


def _record(reader: access.Caller, arguments: Mapping[str, Any]) -> None:
    """Record what this request read, if it showed a session or asked for a user. Raises `StoreUnavailable`."""
    shown: set[str] = set(request_ctx.request.environ.get(_SHOWN, ()))
    user = arguments.get("user") or request.args.get("user_id")
    if "session" in arguments:  # also those that are read while the response is sent
        shown.add(identity.session(reader.project, arguments["session"]).id)
    if not shown and user is None:
        return
    assert request.url_rule is not None  # noqa: S101 - a view was called
    record: ops.NewRead = {
        "id": str(uuid4()),
        "kind": reader.kind,
        "key_id": reader.key_id,
        "reader": reader.user_id,
        "call": f"{request.method} {route_templates.template_of(request.url_rule)}",
        "user_id": user,
        "session_ids": sorted(shown),
    }
    caller.repository().store.ask(ops.ADD_READ, reader.project, record)


class _NotingStore:
    """A store that notes the sessions in its answers; see `note`."""

    def __init__(self, inner: Store) -> None:
        self.inner = inner

    def start(self) -> None:
        self.inner.start()

    def write(self, batch: Batch) -> BatchReceipts:
        return self.inner.write(batch)

    def ask(self, operation: Operation[Q, A], project: str | None, query: Q) -> A:
        answer = self.inner.ask(operation, project, query)
        note(_sessions_in(query, answer))
        return answer

    def ping(self) -> ops.ServerSettings:
        return self.inner.ping()

    def backlog(self) -> Backlog:
        return self.inner.backlog()

    def close(self) -> None:
        self.inner.close()


def _sessions_in(query: Mapping[str, Any], answer: Any) -> set[str]:
    found = {query["session_id"]} if isinstance(query.get("session_id"), str) else set()
    if isinstance(answer, dict):
        rows = (row for name in _ROWS if isinstance(answer.get(name), list) for row in answer[name])
        found.update(row["session_id"] for row in rows if isinstance(row, dict) and "session_id" in row)
    return found
