"""Every kind of problem that a caller can meet: its code, its status, its meaning and its remedy.

Problem details, `GET /errors/<code>` and the documentation's page of errors all come from this table. Codes are stable,
because callers branch on them: add to the table, and never change the meaning of a code.
"""

from typing import Any, NamedTuple

from werkzeug.exceptions import HTTPException


class ProblemCode(NamedTuple):
    """`title`, `meaning` and `remedy` are sentences for people; `status` is the usual one."""

    code: str
    status: int
    title: str
    meaning: str
    remedy: str

    @property
    def path(self) -> str:
        """The path of the page that explains it: the problem's `type`."""
        return f"/errors/{self.code}"


_ALL = (
    ProblemCode(
        "invalid-json",
        400,
        "Invalid JSON",
        "The body is not valid JSON, or JSON that can't be stored: an object with a key twice, NaN, text that isn't "
        "UTF-8.",
        "Correct the body at the line and column that `detail` names. Use a JSON library rather than joining texts.",
    ),
    ProblemCode(
        "invalid-encoding",
        400,
        "Invalid Compression",
        "The body is announced as gzip, but it is not gzip, is truncated, or has data after its end.",
        "Compress the whole body once, or send it without `Content-Encoding`.",
    ),
    ProblemCode(
        "bad-request",
        400,
        "Bad Request",
        "The request can't be read: a header or the request line is malformed or too long.",
        "Correct what `detail` names. Proxies and hand-written HTTP clients are the usual cause.",
    ),
    ProblemCode(
        "missing-key",
        401,
        "Missing Key",
        "The call came without a key.",
        "Send `Authorization: Bearer turnlog_…`. `turnlog keys create` makes a key.",
    ),
    ProblemCode(
        "missing-bearer",
        401,
        "Key Without Bearer",
        "The `Authorization` header holds a key, but not the word `Bearer` before it.",
        "Put `Bearer ` before the key: `Authorization: Bearer turnlog_…`.",
    ),
    ProblemCode(
        "mistyped-key",
        401,
        "Mistyped Key",
        "The key is incomplete or has a wrong character: its checksum doesn't match.",
        "Copy the whole key again, without quotation marks, spaces or line breaks.",
    ),
    ProblemCode(
        "unknown-key",
        401,
        "Unknown Key",
        "The key is complete, but this service doesn't know it.",
        "Check that it belongs to this service and its database: `turnlog keys list` lists its keys.",
    ),
    ProblemCode(
        "revoked-key",
        401,
        "Revoked Key",
        "The key was revoked.",
        "Create another with `turnlog keys create`.",
    ),
    ProblemCode(
        "expired-key",
        401,
        "Expired Key",
        "The key has expired.",
        "Create another with `turnlog keys create`, or replace a key before it expires with `turnlog keys rotate`.",
    ),
    ProblemCode(
        "not-a-key",
        401,
        "Not a Key",
        "The `Authorization` header holds neither a key of this service nor a token that it accepts.",
        "Send `Authorization: Bearer turnlog_…`, or set TURNLOG_USER_TOKENS if users sign in with tokens.",
    ),
    ProblemCode(
        "invalid-token",
        401,
        "Invalid Token",
        "The user's token was not issued by the project's sign-in, or not for this service.",
        "Send the access token of the signed-in user, whole and unchanged.",
    ),
    ProblemCode(
        "expired-token",
        401,
        "Expired Token",
        "The user's token has expired.",
        "Renew the token with the sign-in's own client and send the call again.",
    ),
    ProblemCode(
        "sign-in-failed",
        401,
        "Sign-in Failed",
        "The sign-in doesn't know this mail address with this password, or the page was opened without a sign-in.",
        "Sign in again.",
    ),
    ProblemCode(
        "missing-scope",
        403,
        "Missing Scope",
        "The key is valid, but lacks the scope that this call needs.",
        "Use a key with the scope that `detail` names: `turnlog keys create --scope …`.",
    ),
    ProblemCode(
        "secret-key-required",
        403,
        "Secret Key Required",
        "This call needs a secret key. Publishable keys and users' tokens only reach their own sessions.",
        "Make this call from a backend, with a secret key.",
    ),
    ProblemCode(
        "secret-key-in-browser",
        403,
        "Secret Key in a Browser",
        "A web page sent a secret key. Everyone who opens the page can read that key.",
        "Revoke the key if the page was published. Use a publishable key: `turnlog keys create --kind publishable`.",
    ),
    ProblemCode(
        "wrong-origin",
        403,
        "Wrong Origin",
        "The key does not allow this origin.",
        "Create a key for it: `turnlog keys create --kind publishable --origin https://app.example.com`.",
    ),
    ProblemCode(
        "wrong-project",
        403,
        "Wrong Project",
        "The call concerns the whole service, and the key belongs to another project than the service's own.",
        "Use a key of the project that TURNLOG_PROJECT names.",
    ),
    ProblemCode(
        "missing-session-token",
        403,
        "Missing Session Token",
        "Callers in browsers append to a session with the token they got when they opened it. This call has none.",
        "Send the token in the header `Turnlog-Session-Token`, or open the session again for a new one.",
    ),
    ProblemCode(
        "invalid-session-token",
        400,
        "Invalid Session Token",
        "The header `Turnlog-Session-Token` or `Turnlog-Session-Claim` is malformed.",
        "Correct the header that `detail` names.",
    ),
    ProblemCode(
        "not-this-machine",
        403,
        "Not This Machine",
        "The service runs with TURNLOG_KEYLESS: it needs no key, and accepts calls from its own machine only.",
        "Unset TURNLOG_KEYLESS and use keys to call from elsewhere.",
    ),
    ProblemCode(
        "forbidden",
        403,
        "Forbidden",
        "This call is not allowed.",
        "Read `detail`.",
    ),
    ProblemCode(
        "unknown-route",
        404,
        "Unknown Route",
        "The service has no such path.",
        "Use the route that `detail` suggests. `/openapi.json` lists all, `/docs` shows them.",
    ),
    ProblemCode(
        "session-not-found",
        404,
        "Session Not Found",
        "The key's project has no session with this id or key.",
        "Check the id, and that the key belongs to the project the session was logged in.",
    ),
    ProblemCode(
        "interaction-not-found",
        404,
        "Interaction Not Found",
        "The session has no interaction with this id or key.",
        "Check the id, and the session that it was logged in.",
    ),
    ProblemCode(
        "folder-not-found",
        404,
        "Folder Not Found",
        "The key's project has no folder with this id or key.",
        "Check the id, and that the key belongs to the folder's project.",
    ),
    ProblemCode(
        "not-found",
        404,
        "Not Found",
        "The call names something that doesn't exist.",
        "Read `detail`.",
    ),
    ProblemCode(
        "method-not-allowed",
        405,
        "Method Not Allowed",
        "The path exists, but takes another method.",
        "Use a method that `detail` and the header `Allow` name.",
    ),
    ProblemCode(
        "conflict",
        409,
        "Conflict",
        "The record contradicts what is stored. Nothing was changed.",
        "`fields` names the fields that contradict. Use another id for another record, or `on_conflict`.",
    ),
    ProblemCode(
        "unique-conflict",
        409,
        "Unique Conflict",
        "Another record holds a value that must be unique, such as a session number within its folder.",
        "`constraint`, `columns` and `attempted` name the rule and the values, `held_by` the record that holds them.",
    ),
    ProblemCode(
        "session-erased",
        410,
        "Session Erased",
        "The session was erased. Nothing can be read from it or added to it any more.",
        "Log under a new session id.",
    ),
    ProblemCode(
        "interaction-erased",
        410,
        "Interaction Erased",
        "The interaction was erased. Nothing can be added to it any more; its session goes on.",
        "Leave the interaction out.",
    ),
    ProblemCode(
        "interaction-expired",
        410,
        "Interaction Expired",
        "The interaction's texts have expired: its project keeps them for a number of days (`TURNLOG_KEEP_TEXT_DAYS`). "
        "Nothing can be added to it any more; its session goes on.",
        "Leave the interaction out.",
    ),
    ProblemCode(
        "too-large",
        413,
        "Too Large",
        "The body is larger than 16 MB, as sent or after decompression, or a form of a page larger than it can be. Of "
        "a browser's list: its receipts would be more than ten times as long as what was sent, or its items of one "
        "interaction take too long to compare.",
        "Send smaller batches, and from a browser without compression. A single record this large holds files: store "
        "these elsewhere, and log their addresses.",
    ),
    ProblemCode(
        "unsupported-media-type",
        415,
        "Unsupported Media Type",
        "The body is not announced as JSON in UTF-8, or has an unknown encoding.",
        "Send `Content-Type: application/json`, and `Content-Encoding: gzip` or none.",
    ),
    ProblemCode(
        "invalid",
        422,
        "Invalid",
        "The request is well-formed, but a field or a parameter is unknown, missing or has a wrong value.",
        "`fields` names each by its path, with what it must be.",
    ),
    ProblemCode(
        "rejected",
        422,
        "Rejected",
        "The store refused the data of the record, and would refuse it again.",
        "Correct the record as `detail` and `fields` say.",
    ),
    ProblemCode(
        "rate-limited",
        429,
        "Too Many Requests",
        "The caller, or the address, made more calls than the service's limits allow.",
        "Wait for as many seconds as `retry_after` says, then send the same call again.",
    ),
    ProblemCode(
        "internal-error",
        500,
        "Internal Error",
        "Something unexpected happened. Whether the record was stored is unknown.",
        "Send the same call again: nothing is stored twice. Give the operator the request id.",
    ),
    ProblemCode(
        "store-unavailable",
        503,
        "Store Unavailable",
        "The database is unavailable, and nothing was acknowledged.",
        "Send the same call again after `retry_after` seconds.",
    ),
    ProblemCode(
        "store-reconnecting",
        503,
        "Store Reconnecting",
        "Supabase's API has lost its connections to the database and is opening new ones, which takes it up to half a "
        "minute. Nothing was acknowledged.",
        "Send the same call again after `retry_after` seconds.",
    ),
    ProblemCode(
        "spool-full",
        503,
        "Spool Full",
        "The database is unavailable, and the spool on the service's disk is full. Nothing was acknowledged.",
        "Send the same call again later. The operator finds out more with `turnlog spool status`.",
    ),
    ProblemCode(
        "store-misconfigured",
        503,
        "Store Misconfigured",
        "The database responds, but is not set up for this version of Turnlog.",
        "The operator finds the cause in the service's log, or with `turnlog doctor`.",
    ),
    ProblemCode(
        "sign-in-unavailable",
        503,
        "Sign-in Unavailable",
        "Users' tokens can't be verified now, because the keys of the project's sign-in can't be fetched.",
        "Send the same call again after `retry_after` seconds.",
    ),
    ProblemCode(
        "too-busy",
        503,
        "Too Busy",
        "The service has more calls than it can handle, and did nothing.",
        "Send the same call again after `retry_after` seconds. The operator may raise TURNLOG_WORKERS.",
    ),
)

CODES: dict[str, ProblemCode] = {each.code: each for each in _ALL}

#: The general code of a status, for errors without a finer one.
_BY_STATUS = {
    400: "bad-request",
    401: "not-a-key",
    403: "forbidden",
    404: "not-found",
    405: "method-not-allowed",
    409: "conflict",
    410: "session-erased",
    413: "too-large",
    415: "unsupported-media-type",
    422: "invalid",
    429: "rate-limited",
    503: "store-unavailable",
}


class Refused(HTTPException):
    """A refused call. `problem`: its kind; the description: why; `more`: further members of the problem."""

    def __init__(self, code: str, detail: str, **more: Any) -> None:
        super().__init__(detail)
        self.problem = CODES[code]
        self.code = self.problem.status
        self.more = more


def of_status(status: int) -> ProblemCode:
    """Return the general kind of problem of an HTTP status."""
    return CODES[_BY_STATUS.get(status, "bad-request" if status < 500 else "internal-error")]  # noqa: PLR2004
