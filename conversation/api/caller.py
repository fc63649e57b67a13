"""What a view needs of its caller: the log as this caller reaches it, the token of a new session, the record sent."""

from functools import partial
from typing import TypeVar

from flask import current_app
from flask.globals import request_ctx

from conversation import access
from conversation.access import limits
from conversation.api import requests
from logging_store.records.models import Record
from logging_store.repository import ConversationRepository, WriteResult

_Record = TypeVar("_Record", bound=Record)


def repository(*, creating_session: bool = False) -> ConversationRepository:
    """Return the log, limited to what the caller may reach.

    `creating_session`: the call creates a session, so it counts against the sessions that the caller may create.
    """
    attached: ConversationRepository = current_app.extensions["conversation_repository"]
    auth = access.auth_context()
    if auth is None:
        return attached
    if auth.claims and creating_session:
        auth.claims.before_create = partial(limits.check_sessions, auth.caller)
    return attached.for_caller(auth.caller.project, auth.claims)


def is_restricted() -> bool:
    """Return whether the caller, an untrusted browser or user, reaches only sessions of its own."""
    auth = access.auth_context()
    return auth is not None and auth.caller.is_restricted


def session_token(result: WriteResult) -> dict[str, str]:
    """Return the token that a caller in a browser needs to append to this session, and when it expires.

    Empty for callers that need none. A new session is counted against those that the caller may create.
    """
    auth = access.auth_context()
    if auth and auth.claims and result.receipt.receipt in {"created", "spooled"}:
        limits.count_session(auth.caller)
    return auth.claims.token(result.session.id) if auth and auth.claims and result.receipt.acknowledged else {}


def read_record(model: type[_Record], list_hint: str = "", *, items: str | None = None) -> _Record:
    """Return the request's body as a record; an invalid body is counted as a rejected record.

    `list_hint`, `items`: see `requests.read`. Raises `InvalidBody`, also for `?dry_run`, which would be ignored
    otherwise.
    """
    request = request_ctx.request
    if request.query_string and request.args.get("dry_run", "false") != "false":
        raise requests.InvalidBody([{"path": "?dry_run", "detail": "This call has no dry run; nothing was written"}])
    try:
        return requests.read(model, list_hint, items=items)
    except requests.InvalidBody:
        repository().ledger.reject(1)
        raise
