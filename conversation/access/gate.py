"""The gate before all routes: authenticates the caller of each request and checks the rule of its route.

API callers send a key or a user's token as a Bearer token; browsers on the web pages send the cookie of their sign-in.
With `TURNLOG_KEYLESS`, calls from this machine need neither. A route that declares no rule is closed to everybody.
"""

from flask import Flask, Request, Response, current_app, has_request_context
from flask.globals import request_ctx

from conversation import refusals
from conversation.access import heavy_reads, limits, page_cookie
from conversation.access.cached_lookup import CachedLookup
from conversation.access.cors import Cors
from conversation.access.credential_errors import UnknownCredential
from conversation.access.identification import AuthContext, Identification
from conversation.access.key_cache import OriginCache
from conversation.access.route_rules import rule_of
from conversation.keys.callers import Caller
from conversation.refusals.codes import Refused
from conversation.settings import Settings
from logging_store import operations as ops
from logging_store.store import Store

_AUTH = "turnlog.auth_context"  # in the request's environ
_OPEN = "turnlog.open_to_all"
_PAGE = "turnlog.page"
_MAX_FORM = 128 * 1024  # bytes: a note of 10,000 characters, each of up to four bytes that a browser sends as %XX
_MAX_FORM_OF_STRANGERS = 16 * 1024  # of signing in, which is parsed before anybody is known
_MAX_ORIGIN = 100  # characters of it in a message
_PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "font-src 'self'; connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    "Cache-Control": "no-store",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Frame-Options": "DENY",
}


def auth_context() -> AuthContext | None:
    """Return the authenticated caller of this request; None outside a request and on routes that are open to all."""
    return request_ctx.request.environ.get(_AUTH) if has_request_context() else None


def attach(app: Flask, settings: Settings, store: Store) -> None:
    """Put a gate before all routes of an application."""
    gate = Gate(settings, store)
    app.extensions["turnlog_gate"] = gate
    heavy_reads.register(app)
    app.before_request(gate.admit)
    app.after_request(gate.finish)


def identification() -> Identification:
    """Return the application's identification of callers."""
    gate: Gate = current_app.extensions["turnlog_gate"]
    return gate.identification


def is_page() -> bool:
    """Return whether this request is for a web page."""
    return has_request_context() and _PAGE in request_ctx.request.environ


def treat_as_page() -> None:
    """Give the response the headers of a page, also where no route matched, as on an error page."""
    request_ctx.request.environ[_PAGE] = True


class Gate:
    """Authenticates each request and checks it against its route's rule."""

    def __init__(self, settings: Settings, store: Store) -> None:
        self._project = settings.turnlog_project
        cache_file = settings.data_dir / "keys" / f"{settings.address}.sqlite3"
        self.identification = Identification(settings, store, cache_file)

        def origins_of_keys(_: str) -> frozenset[str]:
            return frozenset(store.ask(ops.ORIGINS, None, ops.NoQuery())["origins"])

        origins = CachedLookup(origins_of_keys, OriginCache(cache_file))
        self.cors = Cors(origins, settings.turnlog_user_origins)

    def admit(self) -> Response | None:
        """Authorise a request; return a response only for a CORS preflight.

        Raises `Refused`; `StoreUnavailable` or `TokenUnverifiable` if the caller
        can't be identified now.
        """
        request: Request = request_ctx.request
        if request.endpoint is None:
            return None  # no such route: 404 for everybody
        if request.method == "OPTIONS" and (preflight := self.cors.preflight(request)):
            return preflight
        rule = rule_of(current_app.view_functions[request.endpoint])
        if rule is None:
            raise Refused("forbidden", "Nobody may call this")
        if rule.page:
            request.environ[_PAGE] = True
            page_cookie.require_same_origin(request)
            limits.bound_form(request, _MAX_FORM_OF_STRANGERS if rule.scope is None else _MAX_FORM)
        if rule.scope is None:
            request.environ[_OPEN] = True  # unlimited and anonymous, so it must not cost a look-up
            return None
        auth = self._authenticate(request, is_page=rule.page)
        if not auth.caller.may(rule.scope):
            raise Refused("missing-scope", f"This needs a key with the scope {rule.scope}")
        if auth.caller.is_restricted and not rule.restricted:
            raise Refused("secret-key-required", "This needs a secret key")
        if rule.service_wide and auth.caller.project != self._project:
            detail = f"This is about all projects: it needs a key of the project {self._project}"
            raise Refused("wrong-project", detail)
        if rule.is_heavy(request):
            limits.count_heavy_read(auth.caller)
            heavy_reads.take_turn()
        return None

    def _authenticate(self, request: Request, *, is_page: bool) -> AuthContext:
        limits.count_address()
        try:
            auth = self.identification.from_cookie(request) if is_page else self.identification.from_header(request)
        except UnknownCredential:
            limits.count_refusal()
            raise
        request.environ[_AUTH] = auth
        limits.count_call(auth.caller)
        if not is_page:
            self._require_origin(request, auth.caller)
        return auth

    def finish(self, answer: Response) -> Response:
        environ = request_ctx.request.environ
        answer.headers["X-Content-Type-Options"] = "nosniff"
        if _AUTH in environ:
            answer.headers["Cache-Control"] = "no-store"  # no cache on the way may keep conversations
        if _PAGE in environ:
            for name, value in _PAGE_HEADERS.items():
                answer.headers.setdefault(name, value)  # an image in a message has a stricter policy
        if (origin := environ.get("HTTP_ORIGIN")) and _OPEN not in environ and _PAGE not in environ:
            auth: AuthContext | None = environ.get(_AUTH)
            # a page may read that its key is for another origin, if any key allows its own
            is_known = auth and refusals.code() != "wrong-origin"
            self.cors.allow(answer, origin, auth.caller if auth and is_known else None)
        return answer

    def _require_origin(self, request: Request, caller: Caller) -> None:
        origin = request.environ.get("HTTP_ORIGIN")
        if origin is None or caller.kind == "machine":
            return
        if not caller.is_restricted:
            detail = "A secret key may not be used in a web page, where anyone could read it. Use a publishable key"
            raise Refused("secret-key-in-browser", detail)
        if origin not in caller.origins:
            allowed = ", ".join(sorted(caller.origins)) or "none"
            what = "This key" if caller.kind == "publishable" else "A user's token"
            detail = f"{what} may not be used from {origin[:_MAX_ORIGIN]}. Allowed: {allowed}"
            self.cors.note_refused(origin)
            raise Refused("wrong-origin", detail)
