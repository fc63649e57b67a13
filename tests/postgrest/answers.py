"""What the stand-in answers, and how PostgREST words it when Postgres or the request is to blame.

Error bodies are `{"code", "details", "hint", "message"}` in that order, and every error also names its code
in a `Proxy-Status` header. The status follows PostgREST's table of SQLSTATEs.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus

JSON_TYPE = "application/json; charset=utf-8"

STATUS_OF_CODE = {
    "21000": 500,
    "23503": 409,
    "23505": 409,
    "25006": 405,
    "42883": 404,
    "42P01": 404,
    "42P17": 500,
    "53400": 500,
    "57P01": 503,
    "P0001": 400,
}
STATUS_OF_CLASS = {
    "08": 503,
    "09": 500,
    "0L": 403,
    "0P": 403,
    "25": 500,
    "28": 403,
    "2D": 500,
    "38": 500,
    "39": 500,
    "3B": 500,
    "40": 500,
    "53": 503,
    "54": 500,
    "55": 500,
    "57": 500,
    "58": 500,
    "F0": 500,
    "HV": 500,
    "P0": 500,
    "XX": 500,
}


@dataclass(frozen=True)
class Answer:
    """One HTTP answer; `committed`, which the client never sees, says that a transaction stands behind it."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    reason: str | None = None
    committed: bool = False


class RefusalError(Exception):
    """Ends a request early with its answer."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status, answer.body)
        self.answer = answer


@dataclass(frozen=True)
class PostgresErrorFields:
    sqlstate: str
    message: str
    details: str | None = None
    hint: str | None = None


def error(
    status: int,
    code: str,
    message: str,
    *,
    details: str | None = None,
    hint: str | None = None,
    headers: Mapping[str, str] | None = None,
    reason: str | None = None,
) -> Answer:
    body = {"code": code, "details": details, "hint": hint, "message": message}
    # The real server names its reconnection back-off on each 503; recorded it was always 0.
    retry = {"Retry-After": "0"} if status == HTTPStatus.SERVICE_UNAVAILABLE else {}
    return Answer(
        status,
        json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode(),
        {"Content-Type": JSON_TYPE, "Proxy-Status": f"PostgREST; error={code}", **retry, **(headers or {})},
        reason,
    )


def not_implemented(what: str) -> Answer:
    """Answer what PostgREST can do and the stand-in can't, so that nobody takes it for PostgREST's word."""
    text = f"the PostgREST stand-in of these tests does not know {what}"
    return Answer(501, json.dumps({"message": text}).encode(), {"Content-Type": JSON_TYPE})


def invalid_body(message: str = "Empty or invalid json") -> Answer:
    return error(400, "PGRST102", message)


def invalid_token(code: str, message: str, details: str | None = None) -> Answer:
    challenge = f'Bearer error="invalid_token", error_description="{message}"'
    return error(401, code, message, details=details, headers={"WWW-Authenticate": challenge})


def no_schema_cache() -> Answer:
    return error(503, "PGRST002", "Could not query the database for the schema cache. Retrying.")


def connection_lost() -> Answer:
    message = "Database client error. Retrying the connection."
    return error(503, "PGRST001", message, details="no connection to the server\n")


def connection_was_ended() -> Answer:
    """Answer the first call on a connection that Postgres ended while it was idle."""
    message = "terminating connection due to administrator command"
    return error(503, "57P01", message)


def pool_exhausted() -> Answer:
    return error(504, "PGRST003", "Timed out acquiring connection from connection pool.")


def postgres_error(fields: PostgresErrorFields, *, anonymous: bool) -> Answer:
    if fields.sqlstate == "PGRST":
        return _raised_answer(fields)
    reason = None
    if fields.sqlstate.startswith("PT") and fields.sqlstate[2:].isdigit():
        status, reason = int(fields.sqlstate[2:]), fields.message
    else:
        status = _status(fields, anonymous=anonymous)
    challenge = {"WWW-Authenticate": "Bearer"} if status == HTTPStatus.UNAUTHORIZED else None
    return error(
        status,
        fields.sqlstate,
        fields.message,
        details=fields.details,
        hint=fields.hint,
        headers=challenge,
        reason=reason,
    )


def _status(fields: PostgresErrorFields, *, anonymous: bool) -> int:
    code, message = fields.sqlstate, fields.message
    if code == "42501":
        return 401 if anonymous else 403
    if code == "22023" and message.startswith("role ") and message.endswith("does not exist"):
        return 401
    if code.startswith("PT"):
        return 500
    return STATUS_OF_CODE.get(code) or STATUS_OF_CLASS.get(code[:2], 400)


def _raised_answer(fields: PostgresErrorFields) -> Answer:
    """Build the answer that a function spells out itself: its body in MESSAGE, the rest in DETAIL."""
    try:
        body = json.loads(fields.message)
        rest = json.loads(fields.details or "")
        return error(
            rest["status"],
            body["code"],
            body["message"],
            details=body.get("details"),
            hint=body.get("hint"),
            headers=rest["headers"],
            reason=rest.get("status_text"),
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return error(500, "PGRST121", "Could not parse JSON in the \"RAISE SQLSTATE 'PGRST'\" error")
