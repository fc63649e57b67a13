"""Identifies the caller: by the key or user's token of an API call, or by the cookie of a signed-in browser."""

import hmac
from base64 import b64decode
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from flask import Request
from werkzeug.exceptions import HTTPException

from conversation.access import limits, page_cookie
from conversation.access.cached_lookup import CachedLookup
from conversation.access.claims import Claims
from conversation.access.credential_errors import (
    InvalidToken,
    NotSignedIn,
    TokenUnverifiable,
    UnknownCredential,
    WrongTokenKind,
)
from conversation.access.key_cache import KeyCache
from conversation.access.loopback import require_loopback
from conversation.access.page_cookie import OPERATOR, PageCookie
from conversation.access.password_sign_in import PasswordSignIn, UserToken
from conversation.access.user_tokens import UserTokens
from conversation.keys import api_keys
from conversation.keys.api_keys import Key
from conversation.keys.callers import ALL_SCOPES, USER_SCOPES, Caller
from conversation.refusals.codes import Refused
from conversation.settings import Settings
from logging_store import operations as ops
from logging_store.errors import StoreUnavailable
from logging_store.store import Store


class AuthContext(NamedTuple):
    """The caller. `claims`: proof of owning sessions; None for callers who reach all sessions of the project."""

    caller: Caller
    claims: Claims | None = None


class Identification:
    """Identifies callers. Raises `StoreUnavailable` or `TokenUnverifiable` if it can't now.

    `store`: looks up keys. `cache_file`: keeps verified keys for the time that the store is away.
    """

    def __init__(self, settings: Settings, store: Store, cache_file: Path) -> None:
        operator = settings.turnlog_api_key
        self._operator_key = operator.get_secret_value().encode() if operator else None
        self._project = settings.turnlog_project
        self._user_tokens = UserTokens.of(settings)
        self._user_origins = settings.turnlog_user_origins
        self.password_sign_in = PasswordSignIn.of(settings)
        self.keyless = settings.turnlog_keyless

        def fetch(digest: str) -> Key | None:
            found = store.ask(ops.KEY, None, ops.KeyQuery(digest=digest))
            return Key.model_validate(found) if found else None

        self._keys = CachedLookup(fetch, KeyCache(cache_file))

    def sign_in(self, request: Request, text: str) -> str:
        """Return the sign-in cookie for a key. Raises `Refused`."""
        limits.count_address()
        try:
            if self._is_operator_key(text):
                return page_cookie.sign(OPERATOR, text)
            auth = self._from_key(text, request)
        except UnknownCredential:
            limits.count_refusal()
            raise
        if auth.caller.is_restricted:
            raise Refused("secret-key-required", "A publishable key opens no pages: sign in with a secret one")
        key = self._key(text)
        assert key is not None  # noqa: S101 - it was just authenticated
        return page_cookie.sign(str(api_keys.digest_of(text)), key.token_secret)

    def sign_in_user(self, mail: str, password: str) -> UserToken:
        """Return a user's token from the project's own sign-in. Raises as `sign_in` does, or `TokenUnverifiable`."""
        if self.password_sign_in is None:
            raise Refused("forbidden", "Users can't sign in here: SUPABASE_URL or TURNLOG_USER_TOKENS is not set")
        limits.count_address()
        try:
            return self.password_sign_in.sign_in(mail, password)
        except Refused as refused:
            if refused.problem.code == "sign-in-failed":
                limits.count_refusal()
            raise

    def sign_out(self, request: Request) -> None:
        """End the sign-in of a request's cookie, also for copies of it. Only a valid one is remembered."""
        cookie = PageCookie.of(request)
        with suppress(HTTPException, StoreUnavailable, TokenUnverifiable):
            self._from_page_cookie(cookie, request)
            assert cookie is not None  # noqa: S101 - else nobody is signed in
            limits.sign_out(cookie.id)

    def from_cookie(self, request: Request) -> AuthContext:
        try:
            return self._from_page_cookie(PageCookie.of(request), request)
        except NotSignedIn:
            if not self.keyless:
                raise
        # keyless: an old cookie of an earlier service on this machine doesn't matter
        require_loopback(request)
        return AuthContext(Caller("machine", self._project, ALL_SCOPES))

    def _from_page_cookie(self, cookie: PageCookie | None, request: Request) -> AuthContext:
        if cookie is None or limits.is_signed_out(cookie.id):
            raise NotSignedIn
        if cookie.kind == "user":
            return self._from_user_cookie(cookie.name, request)
        if cookie.name == OPERATOR:
            if self._operator_key and cookie.is_signed_with(self._operator_key.decode()):
                return AuthContext(Caller("operator", self._project, ALL_SCOPES))
            raise NotSignedIn
        key = self._keys.get(cookie.name)
        if key is None:
            limits.count_refusal()  # a forged cookie costs a look-up, as a forged key does
        if key is None or not key.is_valid_at(datetime.now(UTC)) or not cookie.is_signed_with(key.token_secret):
            raise NotSignedIn
        return AuthContext(key.caller)

    def _from_user_cookie(self, token: str, request: Request) -> AuthContext:
        if self._user_tokens is None:
            raise NotSignedIn
        try:
            user = self._user_tokens.verify(token)
        except InvalidToken:
            raise NotSignedIn from None
        if user.scopes:
            return AuthContext(Caller("member", self._project, user.scopes, user_id=user.user_id))
        return self._user_context(user.user_id, request)

    def from_header(self, request: Request) -> AuthContext:
        token = _token(request.environ.get("HTTP_AUTHORIZATION", ""))
        if self._is_operator_key(token):
            return AuthContext(Caller("operator", self._project, ALL_SCOPES))
        if token.startswith("turnlog_"):
            return self._from_key(token, request)
        if self._user_tokens and token.count(".") == 2:  # noqa: PLR2004 - a JWT has three parts
            return self._user(self._user_tokens, token, request)
        if self.keyless:
            require_loopback(request)
            return AuthContext(Caller("machine", self._project, ALL_SCOPES))
        raise _no_key(request.environ.get("HTTP_AUTHORIZATION", ""), token)

    def _is_operator_key(self, text: str) -> bool:
        return self._operator_key is not None and hmac.compare_digest(text.encode(), self._operator_key)

    def _key(self, text: str) -> Key | None:
        digest = api_keys.digest_of(text)
        return self._keys.get(digest) if digest else None

    def _from_key(self, token: str, request: Request) -> AuthContext:
        key = self._key(token)
        if key is None:
            raise _unknown(token)
        if key.revoked_at is not None:
            raise Refused("revoked-key", "This key was revoked")
        if not key.is_valid_at(datetime.now(UTC)):
            raise Refused("expired-key", "This key has expired")
        return AuthContext(key.caller, Claims(None, key, request) if key.caller.is_restricted else None)

    def _user(self, tokens: UserTokens, token: str, request: Request) -> AuthContext:
        try:
            user = tokens.verify(token)
        except WrongTokenKind as error:
            raise Refused("expired-token" if error.expired else "invalid-token", error.reason) from None
        except InvalidToken as error:
            raise UnknownCredential("invalid-token", error.reason) from None
        return self._user_context(user.user_id, request)

    def _user_context(self, user_id: str, request: Request) -> AuthContext:
        caller = Caller("user", self._project, USER_SCOPES, user_id=user_id, origins=self._user_origins)
        return AuthContext(caller, Claims(user_id, None, request))


def _token(header: str) -> str:
    """Return the credential of an Authorization header; empty if it has none of a kind that is understood.

    With Basic it is the password, as Langfuse's SDKs send their secret key; the name before it doesn't matter. `%20` is
    the space of OTEL_EXPORTER_OTLP_HEADERS, which some exporters don't decode.
    """
    scheme, _, rest = header.replace("%20", " ", 1).partition(" ")
    match scheme.lower():
        case "bearer":
            return rest.strip()
        case "basic":
            with suppress(ValueError):  # not base64, or not UTF-8
                password = b64decode(rest.strip(), validate=True).decode().partition(":")[2]
                return password if api_keys.is_key(password) else ""
    return ""


def _no_key(header: str, token: str) -> Refused:
    """Return the refusal of a call whose Authorization header has no usable credential."""
    if not header.strip():
        return Refused("missing-key", "Send a key: Authorization: Bearer turnlog_…; `turnlog keys create` makes one")
    if api_keys.is_key(header.rpartition(" ")[2].strip()):
        return UnknownCredential("missing-bearer", "Put `Bearer ` before the key: Authorization: Bearer turnlog_…")
    if token.count(".") == 2:  # noqa: PLR2004 - a JWT has three parts
        return UnknownCredential("not-a-key", "This service takes no users' tokens: TURNLOG_USER_TOKENS is not set")
    detail = "The Authorization header holds no key of this service; send Authorization: Bearer turnlog_…"
    return UnknownCredential("not-a-key", detail)


def _unknown(token: str) -> UnknownCredential:
    """Return the refusal of a text that looks like a key but is none of ours."""
    if api_keys.is_key(token):
        detail = (
            "This key is complete, but unknown to this service: it may be another service's. "
            "`turnlog keys list` lists this one's"
        )
        return UnknownCredential("unknown-key", detail)
    return UnknownCredential(
        "mistyped-key", "This key is mistyped or incomplete: its checksum doesn't match. Copy it again"
    )
