"""Who may call: each route says which scope it takes, and a caller proves to have it before the view runs.

A key or a user's token comes as a Bearer token; to the web pages, which are asked for by people, as the cookie of a
sign-in. With `TURNLOG_KEYLESS` calls from this machine need none. A route that says nothing lets nobody in.
"""

from flask import Flask, Request, Response, current_app, has_request_context
from flask.globals import request_ctx

from conversation import refusals
from conversation.access import limits, page_sessions
from conversation.access.cached_lookup import Proofs
from conversation.access.callers import Caller, Scope
from conversation.access.claims import Claims
from conversation.access.cors import Cors
from conversation.access.identification import Admitted, Guessed, Identification
from conversation.access.key_cache import KnownOrigins
from conversation.access.page_sessions import NotSignedIn
from conversation.access.route_rules import open_page, open_to_all, page, requires, rule_of
from conversation.problem_codes import Refused
from conversation.settings import Settings
from logging_store import operations as ops
from logging_store.store import Store

# fmt: off
__all__ = [
    "Admitted", "Caller", "Claims", "Gate", "Guessed", "NotSignedIn", "Scope",
    "admitted", "attach", "identification", "is_page", "open_page", "open_to_all", "page", "requires", "rule_of",
    "treat_as_page",
]
# fmt: on

_ADMITTED = "turnlog.admitted"  # in the request's environ
_OPEN = "turnlog.open_to_all"
_PAGE = "turnlog.page"
_LONGEST_ORIGIN = 100  # characters that are repeated
_PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "font-src 'self'; connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    "Cache-Control": "no-store",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Frame-Options": "DENY",
}


def admitted() -> Admitted | None:
    """Return who makes this request; None outside of one, and on routes that are open to all."""
    return request_ctx.request.environ.get(_ADMITTED) if has_request_context() else None


def attach(app: Flask, settings: Settings, store: Store) -> None:
    """Guard all routes of an application."""
    guard = Gate(settings, store)
    app.extensions["turnlog_gate"] = guard
    app.before_request(guard.admit)
    app.after_request(guard.finish)


def identification() -> Identification:
    """Return what tells who calls this application."""
    guard: Gate = current_app.extensions["turnlog_gate"]
    return guard.identification


def is_page() -> bool:
    """Tell whether this request is for a page, by a person."""
    return has_request_context() and _PAGE in request_ctx.request.environ


def treat_as_page() -> None:
    """Let the answer to this request have what a page has: it is one, also where no route was found."""
    request_ctx.request.environ[_PAGE] = True


class Gate:
    """Tells whether who calls may."""

    def __init__(self, settings: Settings, store: Store) -> None:
        self._project = settings.turnlog_project
        known = settings.data_dir / "keys" / f"{settings.spool_dir.name}.sqlite3"
        self.identification = Identification(settings, store, known)

        def origins_of_keys(_: str) -> frozenset[str]:
            return frozenset(store.ask(ops.ORIGINS, None, ops.NoQuery())["origins"])

        origins = Proofs(origins_of_keys, KnownOrigins(known))
        self.cors = Cors(origins, settings.turnlog_user_origins)

    def admit(self) -> Response | None:
        """Let a request pass, or raise what refuses it.

        That is `Refused`; `StoreUnavailable` or `TokenUnprovable`, if who calls
        can't be told now.
        """
        sent: Request = request_ctx.request
        if sent.endpoint is None:
            return None  # there is no such route, for anybody
        if sent.method == "OPTIONS" and (preflight := self.cors.preflight(sent)):
            return preflight
        rule = rule_of(current_app.view_functions[sent.endpoint])
        if rule is None:
            raise Refused("forbidden", "Nobody may call this")
        if rule.page:
            sent.environ[_PAGE] = True
            page_sessions.require_our_page(sent)
        if rule.scope is None:
            sent.environ[_OPEN] = True  # strangers may ask as often as they like, so nothing is looked up for them
            return None
        who = self._tell_who(sent, is_page=rule.page)
        if not who.caller.may(rule.scope):
            raise Refused("missing-scope", f"This needs a key with the scope {rule.scope}")
        if who.caller.is_restricted and not rule.restricted:
            raise Refused("secret-key-required", "This needs a secret key")
        if rule.of_service and who.caller.project != self._project:
            detail = f"This is about all projects: it needs a key of the project {self._project}"
            raise Refused("wrong-project", detail)
        return None

    def _tell_who(self, sent: Request, *, is_page: bool) -> Admitted:
        limits.count_address()
        try:
            who = self.identification.of_visit(sent) if is_page else self.identification.of_call(sent)
        except Guessed:
            limits.count_refusal()
            raise
        sent.environ[_ADMITTED] = who
        limits.count_call(who.caller)
        if not is_page:
            self._require_origin(sent, who.caller)
        return who

    def finish(self, answer: Response) -> Response:
        environ = request_ctx.request.environ
        answer.headers["X-Content-Type-Options"] = "nosniff"
        if _ADMITTED in environ:
            answer.headers["Cache-Control"] = "no-store"  # what people said is nobody's on the way to keep
        if _PAGE in environ:
            answer.headers.update(_PAGE_HEADERS)
        if (origin := environ.get("HTTP_ORIGIN")) and _OPEN not in environ and _PAGE not in environ:
            who: Admitted | None = environ.get(_ADMITTED)
            # a page of another key's origin may read that this one isn't for it
            known = who and refusals.code() != "wrong-origin"
            self.cors.allow(answer, origin, who.caller if who and known else None)
        return answer

    def _require_origin(self, sent: Request, caller: Caller) -> None:
        origin = sent.environ.get("HTTP_ORIGIN")
        if origin is None or caller.kind == "machine":
            return
        if not caller.is_restricted:
            detail = "A secret key may not be used in a web page, where anyone could read it. Use a publishable key"
            raise Refused("secret-key-in-browser", detail)
        if origin not in caller.origins:
            allowed = ", ".join(sorted(caller.origins)) or "none"
            what = "This key" if caller.kind == "publishable" else "A user's token"
            detail = f"{what} may not be used from {origin[:_LONGEST_ORIGIN]}. Allowed: {allowed}"
            self.cors.note_refused(origin)
            raise Refused("wrong-origin", detail)
