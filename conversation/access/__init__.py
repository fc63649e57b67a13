"""Who may call: each route says which scope it takes, and a caller proves to have it before the view runs.

A key or a user's token comes as a Bearer token; to the web pages, which are asked for by people, as the cookie of a
sign-in. With `TURNLOG_KEYLESS` calls from this machine need none. A route that says nothing lets nobody in.
"""

import hmac
from datetime import UTC, datetime
from typing import NamedTuple

from flask import Flask, Request, Response, current_app, has_request_context
from flask.globals import request_ctx
from werkzeug.exceptions import Forbidden, Unauthorized

from conversation.access import keys, limits, page_visits
from conversation.access.callers import ALL_SCOPES, USERS_SCOPES, Caller, Scope
from conversation.access.claims import Claims
from conversation.access.cors import Cors
from conversation.access.keys import Key
from conversation.access.known_keys import KnownKeys, KnownOrigins
from conversation.access.page_visits import OPERATOR, NotSignedIn, Visit
from conversation.access.proofs import Proofs
from conversation.access.rules import open_page, open_to_all, page, requires, rule_of
from conversation.access.this_machine import require_this_machine
from conversation.access.user_tokens import InvalidToken, UnfitToken, UserTokens
from conversation.settings import Settings
from logging_store.store import Store

# fmt: off
__all__ = [
    "Admitted", "Caller", "Claims", "Gate", "Guessed", "NotSignedIn", "Scope",
    "admitted", "attach", "gate", "is_page", "open_page", "open_to_all", "page", "requires", "rule_of",
]
# fmt: on

_ADMITTED = "turnlog.admitted"  # in the request's environ
_OPEN = "turnlog.open_to_all"
_PAGE = "turnlog.page"
_PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "font-src 'self'; connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    "Cache-Control": "no-store",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Frame-Options": "DENY",
}


class Admitted(NamedTuple):
    """Who calls. `claims`: what they can show of sessions; None for who reaches all of the project's."""

    caller: Caller
    claims: Claims | None = None


class Guessed(Unauthorized):
    """What came as a key or a token is none, and never was: it may be a guess, and guessing is slowed down."""


def admitted() -> Admitted | None:
    """Return who makes this request; None outside of one, and on routes that are open to all."""
    return request_ctx.request.environ.get(_ADMITTED) if has_request_context() else None


def attach(app: Flask, settings: Settings, store: Store) -> None:
    """Guard all routes of an application."""
    guard = Gate(settings, store)
    app.extensions["turnlog_gate"] = guard
    app.before_request(guard.admit)
    app.after_request(guard.finish)


def gate() -> "Gate":
    """Return what guards this application."""
    guard: Gate = current_app.extensions["turnlog_gate"]
    return guard


def is_page() -> bool:
    """Tell whether this request is for a page, by a person."""
    return has_request_context() and _PAGE in request_ctx.request.environ


class Gate:
    """Tells who calls, and whether they may. `store` knows the keys."""

    def __init__(self, settings: Settings, store: Store) -> None:
        operator = settings.turnlog_api_key
        self._operator_key = operator.get_secret_value().encode() if operator else None
        self._project = settings.turnlog_project
        self._user_tokens = UserTokens.of(settings)
        self._user_origins = settings.turnlog_user_origins
        self.keyless = settings.turnlog_keyless

        def ask(digest: str) -> Key | None:
            found = store.key(digest)
            return Key.model_validate(found) if found else None

        known = settings.data_dir / "keys" / f"{settings.spool_dir.name}.sqlite3"
        self._keys = Proofs(ask, KnownKeys(known))
        origins = Proofs(lambda _: frozenset(store.origins()), KnownOrigins(known))
        self.cors = Cors(origins, settings.turnlog_user_origins)

    def admit(self) -> Response | None:
        """Let a request pass, or raise what refuses it.

        That is `Unauthorized`, `Forbidden` or `TooManyRequests`; `StoreUnavailable` or `TokenUnprovable`, if who calls
        can't be told now.
        """
        sent: Request = request_ctx.request
        if sent.endpoint is None:
            return None  # there is no such route, for anybody
        if sent.method == "OPTIONS" and (preflight := self.cors.preflight(sent)):
            return preflight
        rule = rule_of(current_app.view_functions[sent.endpoint])
        if rule is None:
            raise Forbidden("Nobody may call this")
        if rule.page:
            sent.environ[_PAGE] = True
            page_visits.require_our_page(sent)
        if rule.scope is None:
            sent.environ[_OPEN] = True  # strangers may ask as often as they like, so nothing is looked up for them
            return None
        who = self._tell_who(sent, is_page=rule.page)
        if not who.caller.may(rule.scope):
            raise Forbidden(f"This needs a key with the scope {rule.scope}")
        if who.caller.is_restricted and not rule.restricted:
            raise Forbidden("This needs a secret key")
        if rule.of_service and who.caller.project != self._project:
            raise Forbidden(f"This is of all projects: it needs a key of the project {self._project}")
        return None

    def _tell_who(self, sent: Request, *, is_page: bool) -> Admitted:
        limits.count_address()
        try:
            who = self._visitor(sent) if is_page else self._identify(sent)
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
        if (origin := environ.get("HTTP_ORIGIN")) and _OPEN not in environ:
            who: Admitted | None = environ.get(_ADMITTED)
            self.cors.allow(answer, origin, who.caller if who else None)
        return answer

    def sign_in(self, sent: Request, text: str) -> str:
        """Return the cookie of who has a key. Raises `Unauthorized`, `Forbidden` or `TooManyRequests`."""
        limits.count_address()
        try:
            if self._is_operators(text):
                return page_visits.sign(OPERATOR, text)
            who = self._holder(text, sent)
        except Guessed:
            limits.count_refusal()
            raise
        if who.caller.is_restricted:
            raise Forbidden("A publishable key opens no pages: sign in with a secret one")
        key = self._key(text)
        assert key is not None  # noqa: S101 - its holder was just told
        return page_visits.sign(str(keys.digest_of(text)), key.token_secret)

    def _visitor(self, sent: Request) -> Admitted:
        visit = Visit.of(sent)
        if visit is None:
            if not self.keyless:
                raise NotSignedIn
            require_this_machine(sent)
            return Admitted(Caller("machine", self._project, ALL_SCOPES))
        if visit.name == OPERATOR:
            if self._operator_key and visit.is_signed_with(self._operator_key.decode()):
                return Admitted(Caller("operator", self._project, ALL_SCOPES))
            raise NotSignedIn
        key = self._keys.get(visit.name)
        if key is None:
            limits.count_refusal()  # a made-up cookie costs a look-up, as a made-up key does
        if key is None or not key.opens_at(datetime.now(UTC)) or not visit.is_signed_with(key.token_secret):
            raise NotSignedIn
        return Admitted(key.caller)

    def _identify(self, sent: Request) -> Admitted:
        scheme, _, token = sent.environ.get("HTTP_AUTHORIZATION", "").partition(" ")
        token = token.strip() if scheme.lower() == "bearer" else ""
        if self._is_operators(token):
            return Admitted(Caller("operator", self._project, ALL_SCOPES))
        if token.startswith("turnlog_"):
            return self._holder(token, sent)
        if self._user_tokens and token.count(".") == 2:  # noqa: PLR2004 - as a JWT's three parts have
            return self._user(self._user_tokens, token, sent)
        if self.keyless:
            require_this_machine(sent)
            return Admitted(Caller("machine", self._project, ALL_SCOPES))
        if not sent.environ.get("HTTP_AUTHORIZATION"):
            raise Unauthorized("Send a key: Authorization: Bearer turnlog_…")
        if token.count(".") == 2:  # noqa: PLR2004
            raise Guessed("This service takes no users' tokens: TURNLOG_USER_TOKENS is not set")
        raise Guessed("What was sent is no key of this service; send Authorization: Bearer turnlog_…")

    def _is_operators(self, text: str) -> bool:
        return self._operator_key is not None and hmac.compare_digest(text.encode(), self._operator_key)

    def _key(self, text: str) -> Key | None:
        digest = keys.digest_of(text)
        return self._keys.get(digest) if digest else None

    def _holder(self, token: str, sent: Request) -> Admitted:
        key = self._key(token)
        if key is None:
            raise Guessed("There is no such key: look for a typing error")
        if key.revoked_at is not None:
            raise Unauthorized("This key was revoked")
        if not key.opens_at(datetime.now(UTC)):
            raise Unauthorized("This key has expired")
        return Admitted(key.caller, Claims(None, key, sent) if key.caller.is_restricted else None)

    def _user(self, tokens: UserTokens, token: str, sent: Request) -> Admitted:
        try:
            user_id = tokens.verify(token)
        except UnfitToken as error:
            raise Unauthorized(error.reason) from None
        except InvalidToken as error:
            raise Guessed(error.reason) from None
        caller = Caller("user", self._project, USERS_SCOPES, user_id=user_id, origins=self._user_origins)
        return Admitted(caller, Claims(user_id, None, sent))

    def _require_origin(self, sent: Request, caller: Caller) -> None:
        origin = sent.environ.get("HTTP_ORIGIN")
        if origin is None or caller.kind == "machine":
            return
        if not caller.is_restricted:
            raise Forbidden(
                "A secret key may not be used by a web page, where everybody reads it: use a publishable one"
            )
        if origin not in caller.origins:
            raise Forbidden("Pages of this origin may not call with it")
