"""The id of each request, and a log line for each refused call; `codes` has the kinds of problems.

A line names the route's template, never the path, the query or the body, which may hold content of conversations. Each
route logs at most a few lines a second, then the number of suppressed ones, so that refusals can't flood the log.
"""

import logging
import os
import re
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from flask import Flask, Response, current_app
from flask.globals import request_ctx
from werkzeug.exceptions import HTTPException, MethodNotAllowed

REQUEST_ID = "X-Request-Id"
_NO_ROUTE = "(no route)"
_LINES_A_SECOND = 5  # of one route
_REPEAT_S = 60.0

_ID, _CODE = "turnlog.request_id", "turnlog.problem_code"  # in the request's environ
_ACCEPTED_ID = re.compile(r"[\w.:/+=-]{1,64}", re.ASCII)

_log = logging.getLogger("turnlog.refused")


def request_id() -> str:
    """Return the id of this request: the caller's `X-Request-Id` if it is short and plain, else a new one."""
    environ = request_ctx.request.environ
    if (known := environ.get(_ID)) is None:
        known = environ[_ID] = accepted_id(environ.get("HTTP_X_REQUEST_ID"))
    found: str = known
    return found


def accepted_id(sent: str | None) -> str:
    """Return the caller's id of a request if it is short and plain, else a new one."""
    return sent if sent and _ACCEPTED_ID.fullmatch(sent) else new_id()


def new_id() -> str:
    return os.urandom(12).hex()


def note_code(code: str) -> None:
    """Set the problem code of this request, for its log line."""
    request_ctx.request.environ[_CODE] = code


def code() -> str | None:
    """Return the problem code of this request; None unless it is refused."""
    noted: str | None = request_ctx.request.environ.get(_CODE)
    return noted


class RefusalLog:
    """Logs refusals: a few lines per second and route, then the number of suppressed ones."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._second = 0
        self._written: dict[str, int] = {}

    def write(self, route: str, method: str, status: int, code: str, request_id: str) -> None:
        """Log a refusal. `method`: as sent; an unknown one is not repeated."""
        method = method if method in _METHODS else "(another method)"
        with self._lock:
            second = int(self._clock())
            suppressed: dict[str, int] = {}
            if second != self._second:
                suppressed = {
                    name: count - _LINES_A_SECOND for name, count in self._written.items() if count > _LINES_A_SECOND
                }
                self._second, self._written = second, {}
            self._written[route] = count = self._written.get(route, 0) + 1
        for name, more in suppressed.items():
            _log.info("refused %s: %d more in the same second", name, more)
        if count <= _LINES_A_SECOND:
            _log.info("refused %s %s: %d %s (request %s)", method, route, status, code, request_id)


class MessageThrottle:
    """Limits a repeated log message, such as that of an outage, to once a minute."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._due: dict[str, float] = {}
        self._suppressed: dict[str, int] = {}

    def suppressed(self, message: str) -> int | None:
        """Return how many messages were suppressed since the last logged one; None if this one is suppressed, too."""
        with self._lock:
            now = self._clock()
            if now < self._due.get(message, now):
                self._suppressed[message] = self._suppressed.get(message, 0) + 1
                return None
            self._due[message] = now + _REPEAT_S
            return self._suppressed.pop(message, 0)


def register(app: Flask) -> None:
    """Add the request's id to each response of an app, and log refusals."""
    app.extensions["turnlog_refusals"] = RefusalLog()
    app.after_request(_finish)


def _finish(response: Response) -> Response:
    response.headers.add(REQUEST_ID, request_id())
    if response.status_code >= 400:  # noqa: PLR2004
        _write(response.status_code)
    return response


def _write(status: int) -> None:
    request = request_ctx.request
    lines: RefusalLog = current_app.extensions["turnlog_refusals"]
    lines.write(_route(), request.method, status, code() or "without a code", request_id())


def _route() -> str:
    """Return the template of the request's route, also if it takes other methods."""
    rule = request_ctx.request.url_rule
    if rule is None and isinstance(request_ctx.request.routing_exception, MethodNotAllowed) and request_ctx.url_adapter:
        allowed = request_ctx.url_adapter.allowed_methods()
        with suppress(HTTPException):
            rule, _ = request_ctx.url_adapter.match(method=min(allowed), return_rule=True)
    return rule.rule if rule else _NO_ROUTE


_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
