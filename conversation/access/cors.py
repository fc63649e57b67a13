"""Cross-origin requests (CORS): which web origins may call the API.

Each publishable key lists its exact origins. A preflight names no key, so it is answered for the origins of all keys;
the request itself is checked against those of its own key. Cookies are never allowed.
"""

import logging

from flask import Request, Response

from conversation import refusals
from conversation.access.cached_lookup import CachedLookup
from conversation.access.claims import CLAIM_HEADER, TOKEN_HEADER
from conversation.keys.callers import Caller
from conversation.settings.value_types import exact_origin
from logging_store.errors import Misconfigured, StoreUnavailable

_ALL = "origins"  # one look-up for all origins, so that made-up ones cost nothing
_METHODS = "GET, POST, PUT, PATCH, DELETE"
_HEADERS = f"Authorization, Content-Type, Content-Encoding, {TOKEN_HEADER}, {CLAIM_HEADER}"
_PREFLIGHT_S = 600

_log = logging.getLogger("turnlog.access")


class Cors:
    """Answers preflights and adds the CORS headers. `origins`: of all keys. `user_origins`: TURNLOG_USER_ORIGINS."""

    def __init__(self, origins: CachedLookup[frozenset[str]], user_origins: frozenset[str]) -> None:
        self._origins = origins
        self._user_origins = user_origins
        self._throttle = refusals.MessageThrottle()

    def preflight(self, request: Request) -> Response | None:
        """Return the response to a preflight; None if the request is none."""
        origin = request.environ.get("HTTP_ORIGIN")
        if origin is None or "HTTP_ACCESS_CONTROL_REQUEST_METHOD" not in request.environ:
            return None
        answer = Response(status=204)
        if self._is_known(origin):
            answer.headers["Access-Control-Allow-Methods"] = _METHODS
            answer.headers["Access-Control-Allow-Headers"] = _HEADERS
            answer.headers["Access-Control-Max-Age"] = str(_PREFLIGHT_S)
        else:
            self.note_refused(origin)
        return answer

    def note_refused(self, origin: str) -> None:
        """Log, at most once a minute, that no key allows an origin: the page itself only sees a failed request."""
        try:
            exact_origin(origin)
        except ValueError:
            return  # no key could allow it
        suppressed = self._throttle.suppressed("origin")
        if suppressed is not None:
            more = f" ({suppressed:,} more refused since the last such line)" if suppressed else ""
            command = "turnlog keys create --kind publishable --origin"
            _log.info(
                "refused a page of %s: no key allows this origin; to allow it: %s %s%s", origin, command, origin, more
            )

    def allow(self, answer: Response, origin: str, caller: Caller | None) -> None:
        """Let the calling page read the response; also refusals, or it would see only a network error."""
        if "Access-Control-Allow-Origin" in answer.headers:
            return
        answer.vary.add("Origin")
        # without a valid key the response is only a refusal, which any known origin may read
        if origin in caller.origins if caller else self._is_known(origin):
            answer.headers["Access-Control-Allow-Origin"] = origin
            answer.headers["Access-Control-Expose-Headers"] = f"Retry-After, Location, {refusals.REQUEST_ID}"

    def _is_known(self, origin: str) -> bool:
        if origin in self._user_origins:
            return True
        try:
            return origin in self._origins.get(_ALL)
        except (StoreUnavailable, Misconfigured):
            return False  # unknown while the store is away
