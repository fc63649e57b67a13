"""Who may call: each route says which scope it takes, and a caller proves to have it before the view runs.

A key or a user's token comes as a Bearer token. With `TURNLOG_KEYLESS` calls from this machine need none. A route that
says nothing lets nobody in.
"""

import hmac
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

from flask import Flask, Request, Response, current_app, has_request_context
from flask.globals import request_ctx
from werkzeug.exceptions import Forbidden, Unauthorized

from conversation.access import keys, limits
from conversation.access.callers import ALL_SCOPES, USERS_SCOPES, Caller, Scope
from conversation.access.claims import Claims
from conversation.access.cors import Cors
from conversation.access.keys import Key
from conversation.access.known_keys import KnownKeys, KnownOrigins
from conversation.access.proofs import Proofs
from conversation.access.user_tokens import InvalidToken, UnfitToken, UserTokens
from conversation.settings import Settings, is_loopback
from logging_store.store import Store

__all__ = ["Caller", "Claims", "Scope", "admitted", "attach", "open_to_all", "requires"]

_View = TypeVar("_View", bound=Callable[..., Any])

_ADMITTED = "turnlog.admitted"  # in the request's environ
_OPEN = "turnlog.open_to_all"
_RULE = "access_rule"
_FORWARDED = ("HTTP_X_FORWARDED", "HTTP_FORWARDED")


class Rule(NamedTuple):
    """Who may call a route. `scope` is None where everybody may.

    `restricted`: also who only reaches sessions of their own. `of_service`: it tells of all projects, so only who has a
    key of the service's own one, TURNLOG_PROJECT.
    """

    scope: Scope | None
    restricted: bool = False
    of_service: bool = False


class Admitted(NamedTuple):
    """Who calls. `claims`: what they can show of sessions; None for who reaches all of the project's."""

    caller: Caller
    claims: Claims | None = None


class Guessed(Unauthorized):
    """What came as a key or a token is none, and never was: it may be a guess, and guessing is slowed down."""


def requires(scope: Scope, *, restricted: bool = False, of_service: bool = False) -> Callable[[_View], _View]:
    """Let a view be called by who has a scope: see `Rule`."""

    def attach_rule(view: _View) -> _View:
        view.__dict__[_RULE] = Rule(scope, restricted, of_service)
        return view

    return attach_rule


def open_to_all(view: _View) -> _View:
    """Let a view be called by everybody: it tells nothing of the log."""
    view.__dict__[_RULE] = Rule(None)
    return view


def rule_of(view: Callable[..., Any]) -> Rule | None:
    return getattr(view, _RULE, None)


def admitted() -> Admitted | None:
    """Return who makes this request; None outside of one, and on routes that are open to all."""
    return request_ctx.request.environ.get(_ADMITTED) if has_request_context() else None


def attach(app: Flask, settings: Settings, store: Store) -> None:
    """Guard all routes of an application."""
    gate = Gate(settings, store)
    app.extensions["turnlog_gate"] = gate
    app.before_request(gate.admit)
    app.after_request(gate.finish)


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
        if rule.scope is None:
            sent.environ[_OPEN] = True  # strangers may ask as often as they like, so nothing is looked up for them
            return None
        limits.count_address()
        try:
            who = self._identify(sent)
        except Guessed:
            limits.count_refusal()
            raise
        sent.environ[_ADMITTED] = who
        limits.count_call(who.caller)
        self._require_origin(sent, who.caller)
        if not who.caller.may(rule.scope):
            raise Forbidden(f"This needs a key with the scope {rule.scope}")
        if who.caller.is_restricted and not rule.restricted:
            raise Forbidden("This needs a secret key")
        if rule.of_service and who.caller.project != self._project:
            raise Forbidden(f"This is of all projects: it needs a key of the project {self._project}")
        return None

    def finish(self, answer: Response) -> Response:
        environ = request_ctx.request.environ
        answer.headers["X-Content-Type-Options"] = "nosniff"
        if _ADMITTED in environ:
            answer.headers["Cache-Control"] = "no-store"  # what people said is nobody's on the way to keep
        if (origin := environ.get("HTTP_ORIGIN")) and _OPEN not in environ:
            who: Admitted | None = environ.get(_ADMITTED)
            self.cors.allow(answer, origin, who.caller if who else None)
        return answer

    def _identify(self, sent: Request) -> Admitted:
        scheme, _, token = sent.environ.get("HTTP_AUTHORIZATION", "").partition(" ")
        token = token.strip() if scheme.lower() == "bearer" else ""
        if self._operator_key and hmac.compare_digest(token.encode(), self._operator_key):
            return Admitted(Caller("operator", self._project, ALL_SCOPES))
        if token.startswith("turnlog_"):
            return self._holder(token, sent)
        if self._user_tokens and token.count(".") == 2:  # noqa: PLR2004 - as a JWT's three parts have
            return self._user(self._user_tokens, token, sent)
        if self.keyless:
            _require_this_machine(sent)
            return Admitted(Caller("machine", self._project, ALL_SCOPES))
        if not sent.environ.get("HTTP_AUTHORIZATION"):
            raise Unauthorized("Send a key: Authorization: Bearer turnlog_…")
        if token.count(".") == 2:  # noqa: PLR2004
            raise Guessed("This service takes no users' tokens: TURNLOG_USER_TOKENS is not set")
        raise Guessed("What was sent is no key of this service; send Authorization: Bearer turnlog_…")

    def _holder(self, token: str, sent: Request) -> Admitted:
        digest = keys.digest_of(token)
        key = self._keys.get(digest) if digest else None
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


def _require_this_machine(sent: Request) -> None:
    # the service listens on loopback then; this holds under any other server, too
    if sent.remote_addr and not is_loopback(sent.remote_addr):
        raise Forbidden("With TURNLOG_KEYLESS only this machine may call without a key")
    # whoever calls through a proxy on this machine has its address, and may have its name for the service, too
    if any(name.startswith(_FORWARDED) for name in sent.environ):
        raise Forbidden("With TURNLOG_KEYLESS nobody may call without a key through a proxy")
    # a page from elsewhere, in a browser on this machine, gives itself away by its own name
    for url in (f"//{sent.host}", sent.environ.get("HTTP_ORIGIN", "//localhost")):
        if not _names_this_machine(url):
            raise Forbidden("With TURNLOG_KEYLESS no page of another site may call without a key")


@lru_cache(maxsize=64)
def _names_this_machine(url: str) -> bool:
    try:
        return is_loopback(urlsplit(url).hostname or "")
    except ValueError:
        return False
