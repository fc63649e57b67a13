"""Every error as RFC 9457 problem details, decided in one place.

`type` is a stable name; beside title, status and detail a problem carries what helps to mend it: `fields` (each with
its JSON path), `constraint`, `columns`, `attempted`, `retry_after`.
"""

import logging
from typing import Any

from flask import Flask, Response, jsonify
from werkzeug.exceptions import HTTPException

from conversation import pages
from conversation.access.limits import MAX_BODY
from conversation.access.token_errors import TokenUnprovable
from conversation.api.requests import InvalidBody, json_path
from logging_store import errors
from logging_store.batches import Receipt, error_receipt

_log = logging.getLogger(__name__)

_TYPES = {
    400: "malformed",
    401: "unauthorized",
    403: "forbidden",
    404: "not-found",
    405: "method-not-allowed",
    409: "conflict",
    410: "erased",
    413: "too-large",
    415: "unsupported-media-type",
    422: "invalid",
    429: "too-many",
    500: "internal",
    503: "unavailable",
}


def problem(status: int, title: str, detail: str, **more: Any) -> Response:
    response = pages.problem(status, title, detail, more) if pages.wanted() else _details(status, title, detail, more)
    if "retry_after" in more:
        response.headers["Retry-After"] = str(more["retry_after"])
    return response


def _details(status: int, title: str, detail: str, more: dict[str, Any]) -> Response:
    body = {
        "type": f"urn:turnlog:problem:{_TYPES.get(status, 'other')}",
        "title": title,
        "status": status,
        "detail": detail,
    }
    response = jsonify(body | more)
    response.status_code, response.mimetype = status, "application/problem+json"
    return response


def refused(receipt: Receipt, ids: dict[str, Any]) -> Response:
    """Answer for one record whose receipt is conflict or rejected. `ids` says which record."""
    more: dict[str, Any] = {"receipt": receipt.receipt, **ids}
    if receipt.receipt == "rejected" and receipt.reason == "erased":
        return problem(410, "Erased", "It was erased; nothing can be added to it", reason="erased", **more)
    if receipt.receipt == "rejected":
        fields = [{"path": f"$.{field}", "detail": receipt.reason} for field in receipt.fields]
        return problem(
            422,
            "Refused by the store",
            receipt.reason or "The store refused the record",
            fields=fields,
            **more,
        )
    if receipt.constraint:
        more |= clash(receipt)
        return problem(409, "Conflict", f"{_rule(receipt)}; nothing was changed", **more)
    if not receipt.fields:
        return problem(409, "Conflict", receipt.reason or "The store holds something else", **more)
    names = ", ".join(receipt.fields)
    detail = receipt.reason or f"Contradicts what is stored: {names}"
    return problem(409, "Conflict", f"{detail}; nothing was changed", fields=contradicted(receipt), **more)


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
    app.register_error_handler(HTTPException, _http)
    app.register_error_handler(InvalidBody, _invalid)
    app.register_error_handler(errors.SessionNotFound, _not_found)
    app.register_error_handler(errors.FolderNotFound, _not_found)
    app.register_error_handler(errors.NotOwner, _not_yours)
    app.register_error_handler(TokenUnprovable, _unprovable)
    app.register_error_handler(errors.SessionErased, _erased)
    app.register_error_handler(errors.StoreUnavailable, _unavailable)
    app.register_error_handler(errors.Invalid, _refused_by_the_store)
    app.register_error_handler(errors.Conflict, _refused_by_the_store)
    app.register_error_handler(errors.StoreError, _store_failed)
    app.register_error_handler(Exception, _unexpected)


def _http(error: HTTPException) -> Response:
    status = error.code or 500
    detail = error.description or ""
    if status == 413:  # noqa: PLR2004
        detail = f"The body may hold {MAX_BODY // 1024 // 1024} MB, also after decompression; send smaller batches"
    wait = getattr(error, "retry_after", None)  # seconds
    answer = problem(status, error.name, detail, **({} if wait is None else {"retry_after": wait}))
    if status == 401:  # noqa: PLR2004
        answer.headers["WWW-Authenticate"] = "Bearer"
    if status == 405 and (valid := getattr(error, "valid_methods", None)):  # noqa: PLR2004
        answer.headers["Allow"] = ", ".join(valid)
    return answer


def _invalid(error: InvalidBody) -> Response:
    names = ", ".join(dict.fromkeys(field["path"] for field in error.fields))
    return problem(422, "Invalid", f"Not what this call takes: {names}", fields=error.fields)


def _not_found(error: errors.SessionNotFound | errors.FolderNotFound) -> Response:
    return problem(404, "Not Found", str(error))


def _not_yours(error: errors.NotOwner) -> Response:
    return problem(403, "Forbidden", str(error))


def _unprovable(error: TokenUnprovable) -> Response:
    return problem(
        503,
        "Sign-in Unavailable",
        "Whether the token is good can't be told now, and nothing was acknowledged; send the same call again",
        retry_after=error.retry_after,
    )


def _erased(error: errors.SessionErased) -> Response:
    return problem(410, "Erased", str(error), session_id=error.session_id, erased_at=error.erased_at)


def _unavailable(error: errors.StoreUnavailable) -> Response:
    _log.warning("store unavailable: %s", error)
    return problem(
        503,
        "Store Unavailable",
        "The store can't answer now and nothing was acknowledged; send the same call again",
        retry_after=error.retry_after,
    )


def _refused_by_the_store(error: errors.Invalid | errors.Conflict) -> Response:
    return refused(error_receipt(error), {})


def _store_failed(error: errors.StoreError) -> Response:
    # set up wrongly, or an answer of the store that no caller can mend: a person has to look
    _log.error("store: %s", error)
    return problem(
        503,
        "Store Misconfigured",
        "The store is not set up for Turnlog; its operator finds the cause in the log",
        retry_after=60,
    )


def _unexpected(error: Exception) -> Response:
    _log.error("unexpected error", exc_info=error)
    return problem(
        500,
        "Internal Error",
        "Unexpected; whether the record was stored is unknown. Send the same call again",
    )
