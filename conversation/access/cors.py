"""Which pages of other sites may call, as browsers ask before they let them (CORS).

Each key says the exact origins that may use it. A browser's question beforehand (a preflight) names no key, so it is
answered for the origins of all keys; the call itself is held to those of its own. Cookies are never involved.
"""

import logging

from flask import Request, Response

from conversation import refusals
from conversation.access.cached_lookup import Proofs
from conversation.access.callers import Caller
from conversation.access.claims import CLAIM_HEADER, TOKEN_HEADER
from conversation.setting_types import exact_origin
from logging_store.errors import Misconfigured, StoreUnavailable

_ALL = "origins"  # the one look-up is for all of them: strangers, who make up any, ask for no other
_METHODS = "GET, POST, PUT, PATCH, DELETE"
_HEADERS = f"Authorization, Content-Type, Content-Encoding, {TOKEN_HEADER}, {CLAIM_HEADER}"
_PREFLIGHT_S = 600

_log = logging.getLogger("turnlog.access")


class Cors:
    """`origins`: those of all keys; `of_users`: those of pages that people sign in to."""

    def __init__(self, origins: Proofs[frozenset[str]], of_users: frozenset[str]) -> None:
        self._origins = origins
        self._of_users = of_users
        self._repeated = refusals.Repeated()

    def preflight(self, sent: Request) -> Response | None:
        """Answer a browser's question; None if this is none."""
        origin = sent.environ.get("HTTP_ORIGIN")
        if origin is None or "HTTP_ACCESS_CONTROL_REQUEST_METHOD" not in sent.environ:
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
        """Log, now and then, that pages of an origin may not call: all that a page sees is a failed request."""
        try:
            exact_origin(origin)
        except ValueError:
            return  # no key could allow it
        left_out = self._repeated.left_out("origin")
        if left_out is not None:
            more = f" ({left_out:,} more refused since the last such line)" if left_out else ""
            command = "turnlog keys create --kind publishable --origin"
            _log.info("refused a page of %s, which no key allows; to allow it: %s %s%s", origin, command, origin, more)

    def allow(self, answer: Response, origin: str, caller: Caller | None) -> None:
        """Let the page that asked read the answer; refusals too, or it could not tell them from a broken network."""
        if "Access-Control-Allow-Origin" in answer.headers:
            return
        answer.vary.add("Origin")
        # who has no key that counts is only refused: any page that has one may read why
        if origin in caller.origins if caller else self._is_known(origin):
            answer.headers["Access-Control-Allow-Origin"] = origin
            answer.headers["Access-Control-Expose-Headers"] = "Retry-After, Location"

    def _is_known(self, origin: str) -> bool:
        if origin in self._of_users:
            return True
        try:
            return origin in self._origins.get(_ALL)
        except (StoreUnavailable, Misconfigured):
            return False  # nobody can tell now
