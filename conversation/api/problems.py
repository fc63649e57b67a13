"""Every error as RFC 9457 problem details, decided in one place.

`code` is the kind of the problem (see `refusals.codes`), and `type` the path of a page that explains it. A problem also
carries the request's id and what helps to fix it: `fields` (each with its path), `constraint`, `columns`, `attempted`,
`retry_after`.
"""

import logging
from collections.abc import Callable
from typing import Any

from flask import Blueprint, Flask, Response, current_app, jsonify
from flask.globals import request_ctx
from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound, RequestEntityTooLarge
from werkzeug.routing import MapAdapter

from conversation import access, refusals
from conversation.access.credential_errors import TokenUnverifiable
from conversation.api.requests import MAX_FIELDS, TOO_LARGE, InvalidBody, json_path, listed_conflicts
from conversation.api.route_templates import described_routes, template_of
from conversation.refusals import near_misses
from conversation.refusals.codes import CODES, ProblemCode, Refused, of_status
from logging_store import errors
from logging_store.batches import Receipt, error_receipt
from logging_store.records.json_values import MAX_METADATA_KEYS

_log = logging.getLogger(__name__)

blueprint = Blueprint("errors", __name__)

_HTML = "turnlog_html_problems"
_THROTTLE = "turnlog_repeated_problems"

#: Returns a page about a problem (its kind, detail and further members); None if the caller doesn't accept HTML.
HtmlRenderer = Callable[[ProblemCode, str, dict[str, Any]], Response | None]


def register_html(app: Flask, renderer: HtmlRenderer) -> None:
    """Render an app's problems as pages for callers that accept HTML."""
    app.extensions[_HTML] = renderer


def problem(code: str, detail: str, **more: Any) -> Response:
    """Return the response for a problem. `more`: its further members."""
    return _respond(CODES[code], detail, more)


def _respond(kind: ProblemCode, detail: str, more: dict[str, Any]) -> Response:
    refusals.note_code(kind.code)
    renderer: HtmlRenderer | None = current_app.extensions.get(_HTML)
    response = (renderer and renderer(kind, detail, more)) or _details(kind, detail, more)
    if "retry_after" in more:
        response.headers["Retry-After"] = str(more["retry_after"])
    return response


def _details(kind: ProblemCode, detail: str, more: dict[str, Any]) -> Response:
    body = {
        "type": kind.path,
        "title": kind.title,
        "status": kind.status,
        "code": kind.code,
        "detail": detail,
        "request_id": refusals.request_id(),
    }
    response = jsonify(body | more)
    response.status_code, response.mimetype = kind.status, "application/problem+json"
    return response


@blueprint.get("/errors")
@access.open_to_all
def list_codes() -> Response:
    """List every code, for people."""
    return _text("\n".join(f"{kind.code} ({kind.status}): {kind.meaning}" for kind in CODES.values()))


@blueprint.get("/errors/<code>")
@access.open_to_all
def explain_code(code: str) -> Response:
    """Explain one code, for people: a problem's `type` leads here."""
    kind = CODES.get(code)
    if kind is None:
        raise Refused("not-found", "No problem has this code. GET /errors lists all")
    return _text(
        f"{kind.title} ({kind.code}, HTTP status {kind.status})\n\n{kind.meaning}\n\nWhat to do: {kind.remedy}"
    )


def _text(text: str) -> Response:
    return Response(text + "\n", content_type="text/plain; charset=utf-8")


_HAND_OVER = (
    ". PATCH /v1/sessions/{session} gives a session to another user, POST /v1/users/{user}/merge all that a guest has"
)


def receipt_problem(receipt: Receipt, ids: dict[str, Any]) -> Response:
    """Return the problem of one record whose receipt is conflict or rejected. `ids`: which record."""
    more: dict[str, Any] = {"receipt": receipt.receipt, **ids}
    if receipt.receipt == "rejected" and receipt.reason == "erased":
        code = "interaction-erased" if receipt.fields else "session-erased"
        return problem(code, "It was erased; nothing can be added to it", reason="erased", **more)
    if receipt.receipt == "rejected" and receipt.reason == "expired":
        detail = "Its texts have expired; nothing can be added to it"
        return problem("interaction-expired", detail, reason="expired", **more)
    if receipt.receipt == "rejected":
        reason = receipt.reason or "The store refused the record"
        fields = listed_conflicts([{"path": f"$.{field}", "detail": reason} for field in receipt.fields], ())
        return problem("rejected", reason, fields=fields, **more)
    if receipt.constraint:
        more |= constraint_details(receipt)
        return problem("unique-conflict", f"{_constraint_sentence(receipt)}; nothing was changed", **more)
    if not receipt.fields:
        return problem("conflict", receipt.reason or "The store holds another record", **more)
    names = ", ".join(str(each)[: near_misses.LONGEST] for each in receipt.fields[:MAX_FIELDS])
    detail = receipt.reason or f"Contradicts what is stored: {names}"
    way = _HAND_OVER if "user_id" in receipt.fields else ""
    return problem("conflict", f"{detail}; nothing was changed{way}", fields=conflicting_fields(receipt), **more)


def conflicting_fields(receipt: Receipt) -> list[dict[str, str]]:
    """Return the fields of a record that contradict what is stored."""
    fields = [{"path": json_path(field.split(".", 1)), "detail": contradiction(field)} for field in receipt.fields]
    return listed_conflicts(fields, ())


def contradiction(field: str) -> str:
    """Return why a record's field contradicts what is stored; of metadata as a whole only the number of keys does."""
    return f"It would have more than {MAX_METADATA_KEYS:,} keys" if field == "metadata" else "Another value is stored"


def _constraint_sentence(receipt: Receipt) -> str:
    if receipt.constraint == "ai_sessions_folder_number_key" and receipt.held_by:
        number, folder = receipt.attempted["session_number"], receipt.attempted["folder_id"]
        return f"Session number {number} of folder {folder} is taken by session {receipt.held_by}"
    return f"The unique rule {receipt.constraint} ({', '.join(receipt.columns)}) is held by another record"


def constraint_details(receipt: Receipt) -> dict[str, Any]:
    """Return the violated unique constraint of a receipt, with the attempted values."""
    held_by: dict[str, str] = {"held_by": receipt.held_by} if receipt.held_by else {}
    return {
        "constraint": receipt.constraint,
        "columns": receipt.columns,
        "attempted": receipt.attempted,
        **held_by,
    }


def register(app: Flask) -> None:
    app.extensions[_THROTTLE] = refusals.MessageThrottle()
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(InvalidBody, _invalid)
    app.register_error_handler(errors.SessionNotFound, _session_not_found)
    app.register_error_handler(errors.InteractionNotFound, _interaction_not_found)
    app.register_error_handler(errors.FolderNotFound, _folder_not_found)
    app.register_error_handler(errors.AlreadyMerged, _already_merged)
    app.register_error_handler(errors.NotOwner, _not_owner)
    app.register_error_handler(TokenUnverifiable, _token_unverifiable)
    app.register_error_handler(errors.SessionErased, _erased)
    app.register_error_handler(errors.StoreUnavailable, _unavailable)
    app.register_error_handler(errors.Invalid, _refused_by_the_store)
    app.register_error_handler(errors.Conflict, _refused_by_the_store)
    app.register_error_handler(errors.StoreError, _store_failed)
    app.register_error_handler(Exception, _unexpected)


def _http_error(error: HTTPException) -> Response:
    kind, detail, more = _classify(error)
    response = _respond(kind, detail, more)
    if kind.status == 401:  # noqa: PLR2004
        response.headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, MethodNotAllowed) and error.valid_methods:
        response.headers["Allow"] = ", ".join(error.valid_methods)
    return response


def _classify(error: HTTPException) -> tuple[ProblemCode, str, dict[str, Any]]:
    """Return the kind of problem of an HTTP error, its detail, and further members."""
    match error:
        case Refused():
            return error.problem, error.description or error.problem.meaning, error.more
        case NotFound() if request_ctx.request.url_rule is None:
            return CODES["unknown-route"], _unknown_route_detail(), {}
        case MethodNotAllowed():
            return CODES["method-not-allowed"], _allowed_methods_detail(error), {}
        case RequestEntityTooLarge():
            return CODES["too-large"], TOO_LARGE, {}
    kind = of_status(error.code or 500)
    return kind, kind.meaning, {}


def _unknown_route_detail() -> str:
    request = request_ctx.request
    meant = near_misses.route(request.path, request.method, described_routes(current_app))
    return f"No such route. {f'Did you mean {meant}? ' if meant else ''}All routes: /openapi.json"


def _allowed_methods_detail(error: MethodNotAllowed) -> str:
    methods = sorted(set(error.valid_methods or ()) - {"HEAD", "OPTIONS"}) or ["OPTIONS"]
    adapter: MapAdapter | None = request_ctx.url_adapter
    assert adapter is not None  # noqa: S101 - a request has one
    rule, _ = adapter.match(method=methods[0], return_rule=True)
    *others, last = methods
    taken = f"{', '.join(others)} or {last}" if others else last
    return f"{template_of(rule)} takes {taken}, not {request_ctx.request.method[:20]}"


def _invalid(error: InvalidBody) -> Response:
    # a field that is missing was often sent under another name
    first = next((each for each in error.fields if each["detail"].startswith("Unknown ")), error.fields[0])
    others = len(error.fields) - 1 - error.is_cut
    more = f" ({others} more in `fields`)" if others else ""
    return problem("invalid", f"{_field_sentence(first)}{more}", fields=error.fields)


def _field_sentence(field: dict[str, str]) -> str:
    """Return a sentence about a field, with its name."""
    path, detail = field["path"], field["detail"]
    is_complete = not detail.startswith(("Must ", "May ", "Looks "))
    if detail.startswith("Unknown ") or (path == "$" and is_complete):
        return detail
    name = "The body" if path == "$" else f"`{path.removeprefix('$.').removeprefix('?')}`"
    if not is_complete:
        return f"{name} {detail[0].lower()}{detail[1:]}"
    return f"{name}: {detail}"


def _session_not_found(_: errors.SessionNotFound) -> Response:
    return problem("session-not-found", _not_found_detail("session"))


def _interaction_not_found(_: errors.InteractionNotFound) -> Response:
    return problem("interaction-not-found", _not_found_detail("interaction"))


def _folder_not_found(_: errors.FolderNotFound) -> Response:
    return problem("folder-not-found", _not_found_detail("folder"))


def _not_found_detail(kind: str) -> str:
    name = (request_ctx.request.view_args or {}).get(kind)
    return f'There is no {kind} "{str(name)[: near_misses.LONGEST]}"' if name else f"There is no such {kind}"


def _already_merged(error: errors.AlreadyMerged) -> Response:
    guest = (request_ctx.request.view_args or {}).get("user")
    merged = (
        f'"{error.into}" was merged into'
        if error.into == guest
        else f'"{guest}" was merged into "{error.into}", not into'
    )
    return problem("conflict", f"{merged} this user; nothing was changed", merged_into=error.into)


def _not_owner(error: errors.NotOwner) -> Response:
    return problem("missing-session-token", str(error))


def _token_unverifiable(error: TokenUnverifiable) -> Response:
    return problem(
        "sign-in-unavailable",
        "The token can't be verified now, and nothing was acknowledged; send the same call again",
        retry_after=error.retry_after,
    )


def _erased(error: errors.SessionErased) -> Response:
    return problem("session-erased", str(error), session_id=error.session_id, erased_at=error.erased_at)


def _unavailable(error: errors.StoreUnavailable) -> Response:
    _warn_throttled("store unavailable", error)
    code, state = "store-unavailable", "The store is unavailable, and nothing"
    if isinstance(error, errors.SpoolFull):
        code, state = "spool-full", "The store is unavailable, and the spool is full. Nothing"
    elif isinstance(error, errors.StoreReconnecting):
        code, state = "store-reconnecting", "Supabase's API is reconnecting to its database, and nothing"
    elif isinstance(error, errors.StoreBusy):
        state = "The store is busy, this call took too long, and nothing"
    return problem(code, f"{state} was acknowledged; send the same call again", retry_after=error.retry_after)


def _warn_throttled(message: str, error: Exception) -> None:
    """Log an error that every call of an outage meets: at first, then once a minute with a count."""
    throttle: refusals.MessageThrottle = current_app.extensions[_THROTTLE]
    suppressed = throttle.suppressed(message)
    if suppressed is not None:
        more = f" ({suppressed:,} more calls since the last such line)" if suppressed else ""
        _log.warning("%s: %s%s", message, error, more)


def _refused_by_the_store(error: errors.Invalid | errors.Conflict) -> Response:
    return receipt_problem(error_receipt(error), {})


def _store_failed(error: errors.StoreError) -> Response:
    # a wrong set-up, or a store's response that no caller can fix: the operator has to look
    _log.error("store: %s", error)
    return problem(
        "store-misconfigured",
        "The store is not set up for Turnlog; its operator finds the cause in the log",
        retry_after=60,
    )


def _unexpected(error: Exception) -> Response:
    _log.error("unexpected error in request %s", refusals.request_id(), exc_info=error)
    return problem(
        "internal-error",
        "Unexpected; whether the record was stored is unknown. Send the same call again",
    )
