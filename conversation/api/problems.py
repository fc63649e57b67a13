"""Every error as RFC 9457 problem details, decided in one place.

`code` says which kind of problem it is (see `problem_codes`) and `type` is the path of a page that explains it. A
problem also carries the request's id, and what helps to mend it: `fields` (each with its path), `constraint`,
`columns`, `attempted`, `retry_after`.
"""

import logging
from collections.abc import Callable
from typing import Any

from flask import Blueprint, Flask, Response, current_app, jsonify
from flask.globals import request_ctx
from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound, RequestEntityTooLarge
from werkzeug.routing import MapAdapter

from conversation import access, refusals
from conversation.access.errors import TokenUnverifiable
from conversation.api import near_misses
from conversation.api.requests import TOO_LARGE, InvalidBody, json_path
from conversation.api.route_templates import described_routes, template_of
from conversation.problem_codes import CODES, ProblemCode, Refused, of_status
from logging_store import errors
from logging_store.batches import Receipt, error_receipt

_log = logging.getLogger(__name__)

blueprint = Blueprint("errors", __name__)

_HTML = "turnlog_html_problems"
_THROTTLE = "turnlog_repeated_problems"

#: Returns a page about a problem (its kind, detail and further members); None where no page is asked for.
HtmlRenderer = Callable[[ProblemCode, str, dict[str, Any]], Response | None]


def register_html(app: Flask, renderer: HtmlRenderer) -> None:
    """Let an app answer people with pages about problems."""
    app.extensions[_HTML] = renderer


def problem(code: str, detail: str, **more: Any) -> Response:
    """Return an answer about a problem. `more`: further members of it."""
    return _answer(CODES[code], detail, more)


def _answer(kind: ProblemCode, detail: str, more: dict[str, Any]) -> Response:
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
    """Explain what a problem's `type` leads to, for people."""
    kind = CODES.get(code)
    if kind is None:
        raise Refused("not-found", "No problem has this code. GET /errors lists all")
    return _text(
        f"{kind.title} ({kind.code}, HTTP status {kind.status})\n\n{kind.meaning}\n\nWhat to do: {kind.remedy}"
    )


def _text(text: str) -> Response:
    return Response(text + "\n", content_type="text/plain; charset=utf-8")


def refused(receipt: Receipt, ids: dict[str, Any]) -> Response:
    """Answer for one record whose receipt is conflict or rejected. `ids` says which record."""
    more: dict[str, Any] = {"receipt": receipt.receipt, **ids}
    if receipt.receipt == "rejected" and receipt.reason == "erased":
        return problem("session-erased", "It was erased; nothing can be added to it", reason="erased", **more)
    if receipt.receipt == "rejected":
        fields = [{"path": f"$.{field}", "detail": receipt.reason} for field in receipt.fields]
        return problem("rejected", receipt.reason or "The store refused the record", fields=fields, **more)
    if receipt.constraint:
        more |= clash(receipt)
        return problem("unique-conflict", f"{_rule(receipt)}; nothing was changed", **more)
    if not receipt.fields:
        return problem("conflict", receipt.reason or "The store holds something else", **more)
    names = ", ".join(receipt.fields)
    detail = receipt.reason or f"Contradicts what is stored: {names}"
    return problem("conflict", f"{detail}; nothing was changed", fields=contradicted(receipt), **more)


def contradicted(receipt: Receipt) -> list[dict[str, str]]:
    """Name the fields of a record that contradict what is stored."""
    return [{"path": json_path(field.split(".", 1)), "detail": "Another value is stored"} for field in receipt.fields]


def _rule(receipt: Receipt) -> str:
    if receipt.constraint == "ai_sessions_folder_number_key" and receipt.held_by:
        number, folder = receipt.attempted["session_number"], receipt.attempted["folder_id"]
        return f"Session number {number} of folder {folder} is taken by session {receipt.held_by}"
    return f"The unique rule {receipt.constraint} ({', '.join(receipt.columns)}) is held by another record"


def clash(receipt: Receipt) -> dict[str, Any]:
    """Name the unique rule that a receipt met, and the values tried."""
    held_by: dict[str, str] = {"held_by": receipt.held_by} if receipt.held_by else {}
    return {
        "constraint": receipt.constraint,
        "columns": receipt.columns,
        "attempted": receipt.attempted,
        **held_by,
    }


def register(app: Flask) -> None:
    app.extensions[_THROTTLE] = refusals.MessageThrottle()
    app.register_error_handler(HTTPException, _http)
    app.register_error_handler(InvalidBody, _invalid)
    app.register_error_handler(errors.SessionNotFound, _session_not_found)
    app.register_error_handler(errors.FolderNotFound, _folder_not_found)
    app.register_error_handler(errors.NotOwner, _not_yours)
    app.register_error_handler(TokenUnverifiable, _token_unverifiable)
    app.register_error_handler(errors.SessionErased, _erased)
    app.register_error_handler(errors.StoreUnavailable, _unavailable)
    app.register_error_handler(errors.Invalid, _refused_by_the_store)
    app.register_error_handler(errors.Conflict, _refused_by_the_store)
    app.register_error_handler(errors.StoreError, _store_failed)
    app.register_error_handler(Exception, _unexpected)


def _http(error: HTTPException) -> Response:
    kind, detail, more = _of_http(error)
    answer = _answer(kind, detail, more)
    if kind.status == 401:  # noqa: PLR2004
        answer.headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, MethodNotAllowed) and error.valid_methods:
        answer.headers["Allow"] = ", ".join(error.valid_methods)
    return answer


def _of_http(error: HTTPException) -> tuple[ProblemCode, str, dict[str, Any]]:
    """Return what kind of problem an HTTP error is, what to say of it, and further members."""
    match error:
        case Refused():
            return error.problem, error.description or error.problem.meaning, error.more
        case NotFound() if request_ctx.request.url_rule is None:
            return CODES["unknown-route"], _no_route(), {}
        case MethodNotAllowed():
            return CODES["method-not-allowed"], _other_method(error), {}
        case RequestEntityTooLarge():
            return CODES["too-large"], TOO_LARGE, {}
    kind = of_status(error.code or 500)
    return kind, kind.meaning, {}


def _no_route() -> str:
    sent = request_ctx.request
    meant = near_misses.route(sent.path, sent.method, described_routes(current_app))
    return f"No such route. {f'Did you mean {meant}? ' if meant else ''}All routes: /openapi.json"


def _other_method(error: MethodNotAllowed) -> str:
    methods = sorted(set(error.valid_methods or ()) - {"HEAD", "OPTIONS"}) or ["OPTIONS"]
    adapter: MapAdapter | None = request_ctx.url_adapter
    assert adapter is not None  # noqa: S101 - a request has one
    rule, _ = adapter.match(method=methods[0], return_rule=True)
    *others, last = methods
    taken = f"{', '.join(others)} or {last}" if others else last
    return f"{template_of(rule)} takes {taken}, not {request_ctx.request.method[:20]}"


def _invalid(error: InvalidBody) -> Response:
    # what is missing was often given another name
    first = next((each for each in error.fields if each["detail"].startswith("Unknown ")), error.fields[0])
    others = len(error.fields) - 1
    more = f" ({others} more in `fields`)" if others else ""
    return problem("invalid", f"{_about(first)}{more}", fields=error.fields)


def _about(field: dict[str, str]) -> str:
    """Return a sentence about a field that names it."""
    path, detail = field["path"], field["detail"]
    speaks_for_itself = not detail.startswith(("Must ", "May ", "Looks "))
    if detail.startswith("Unknown ") or (path == "$" and speaks_for_itself):
        return detail
    name = "The body" if path == "$" else f"`{path.removeprefix('$.').removeprefix('?')}`"
    if not speaks_for_itself:
        return f"{name} {detail[0].lower()}{detail[1:]}"
    return f"{name}: {detail}"


def _session_not_found(_: errors.SessionNotFound) -> Response:
    return problem("session-not-found", _names_what_was_looked_for("session"))


def _folder_not_found(_: errors.FolderNotFound) -> Response:
    return problem("folder-not-found", _names_what_was_looked_for("folder"))


def _names_what_was_looked_for(kind: str) -> str:
    name = (request_ctx.request.view_args or {}).get(kind)
    return f'There is no {kind} "{name}"' if name else f"There is no such {kind}"


def _not_yours(error: errors.NotOwner) -> Response:
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
    _warn_now_and_then("store unavailable", error)
    code, more = "store-unavailable", ""
    if isinstance(error, errors.SpoolFull):
        code, more = "spool-full", ", the disk has no room to keep more for it,"
    return problem(
        code,
        f"The store can't answer now{more} and nothing was acknowledged; send the same call again",
        retry_after=error.retry_after,
    )


def _warn_now_and_then(message: str, error: Exception) -> None:
    """Log what each call of an outage meets: the first time, and then each minute with a count."""
    throttle: refusals.MessageThrottle = current_app.extensions[_THROTTLE]
    suppressed = throttle.suppressed(message)
    if suppressed is not None:
        more = f" ({suppressed:,} more calls since the last such line)" if suppressed else ""
        _log.warning("%s: %s%s", message, error, more)


def _refused_by_the_store(error: errors.Invalid | errors.Conflict) -> Response:
    return refused(error_receipt(error), {})


def _store_failed(error: errors.StoreError) -> Response:
    # set up wrongly, or an answer of the store that no caller can mend: a person has to look
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
