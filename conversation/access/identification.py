"""Who calls: by the key or the user's token of a call, or by the cookie of a visit to the pages."""

import hmac
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from flask import Request

from conversation.access import api_keys, limits, page_sessions
from conversation.access.api_keys import Key
from conversation.access.cached_lookup import Proofs
from conversation.access.callers import ALL_SCOPES, USERS_SCOPES, Caller
from conversation.access.claims import Claims
from conversation.access.key_cache import KnownKeys
from conversation.access.loopback import require_this_machine
from conversation.access.page_sessions import OPERATOR, NotSignedIn, Visit
from conversation.access.password_sign_in import SignedInUser, UsersSignIn
from conversation.access.user_tokens import InvalidToken, UnfitToken, UserTokens
from conversation.problem_codes import Refused
from conversation.settings import Settings
from logging_store import operations as ops
from logging_store.store import Store


class Admitted(NamedTuple):
    """Who calls. `claims`: what they can show of sessions; None for who reaches all of the project's."""

    caller: Caller
    claims: Claims | None = None


class Guessed(Refused):
    """What came as a key or a token is none, and never was: it may be a guess, and guessing is slowed down."""


class Identification:
    """Tells who calls. `store` knows the keys. Raises `StoreUnavailable` or `TokenUnprovable` if that can't be told."""

    def __init__(self, settings: Settings, store: Store, known: Path) -> None:
        operator = settings.turnlog_api_key
        self._operator_key = operator.get_secret_value().encode() if operator else None
        self._project = settings.turnlog_project
        self._user_tokens = UserTokens.of(settings)
        self._user_origins = settings.turnlog_user_origins
        self.users_sign_in = UsersSignIn.of(settings)
        self.keyless = settings.turnlog_keyless

        def ask(digest: str) -> Key | None:
            found = store.ask(ops.KEY, None, ops.KeyQuery(digest=digest))
            return Key.model_validate(found) if found else None

        self._keys = Proofs(ask, KnownKeys(known))

    def sign_in(self, sent: Request, text: str) -> str:
        """Return the cookie of who has a key. Raises `Refused`."""
        limits.count_address()
        try:
            if self._is_operators(text):
                return page_sessions.sign(OPERATOR, text)
            who = self._holder(text, sent)
        except Guessed:
            limits.count_refusal()
            raise
        if who.caller.is_restricted:
            raise Refused("secret-key-required", "A publishable key opens no pages: sign in with a secret one")
        key = self._key(text)
        assert key is not None  # noqa: S101 - its holder was just told
        return page_sessions.sign(str(api_keys.digest_of(text)), key.token_secret)

    def sign_in_user(self, mail: str, password: str) -> SignedInUser:
        """Return what the project's own sign-in gives a user. Raises as `sign_in` does, or `TokenUnprovable`."""
        if self.users_sign_in is None:
            raise Refused("forbidden", "Users can't sign in here: SUPABASE_URL or TURNLOG_USER_TOKENS is not set")
        limits.count_address()
        try:
            return self.users_sign_in.sign_in(mail, password)
        except Refused as refused:
            if refused.problem.code == "sign-in-failed":
                limits.count_refusal()
            raise

    def of_visit(self, sent: Request) -> Admitted:
        try:
            return self._signed_in(Visit.of(sent), sent)
        except NotSignedIn:
            if not self.keyless:
                raise
        # a cookie that an earlier service of this machine gave is in nobody's way
        require_this_machine(sent)
        return Admitted(Caller("machine", self._project, ALL_SCOPES))

    def _signed_in(self, visit: Visit | None, sent: Request) -> Admitted:
        if visit is None:
            raise NotSignedIn
        if visit.holder == "user":
            return self._signed_in_user(visit.name, sent)
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

    def _signed_in_user(self, token: str, sent: Request) -> Admitted:
        if self._user_tokens is None:
            raise NotSignedIn
        try:
            vouched = self._user_tokens.vouch(token)
        except InvalidToken:
            raise NotSignedIn from None
        if vouched.scopes:
            return Admitted(Caller("member", self._project, vouched.scopes, user_id=vouched.user_id))
        return self._as_user(vouched.user_id, sent)

    def of_call(self, sent: Request) -> Admitted:
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
        raise _no_key(sent.environ.get("HTTP_AUTHORIZATION", ""), token)

    def _is_operators(self, text: str) -> bool:
        return self._operator_key is not None and hmac.compare_digest(text.encode(), self._operator_key)

    def _key(self, text: str) -> Key | None:
        digest = api_keys.digest_of(text)
        return self._keys.get(digest) if digest else None

    def _holder(self, token: str, sent: Request) -> Admitted:
        key = self._key(token)
        if key is None:
            raise _unknown(token)
        if key.revoked_at is not None:
            raise Refused("revoked-key", "This key was revoked")
        if not key.opens_at(datetime.now(UTC)):
            raise Refused("expired-key", "This key has expired")
        return Admitted(key.caller, Claims(None, key, sent) if key.caller.is_restricted else None)

    def _user(self, tokens: UserTokens, token: str, sent: Request) -> Admitted:
        try:
            user_id = tokens.verify(token)
        except UnfitToken as error:
            raise Refused("expired-token" if error.expired else "invalid-token", error.reason) from None
        except InvalidToken as error:
            raise Guessed("invalid-token", error.reason) from None
        return self._as_user(user_id, sent)

    def _as_user(self, user_id: str, sent: Request) -> Admitted:
        caller = Caller("user", self._project, USERS_SCOPES, user_id=user_id, origins=self._user_origins)
        return Admitted(caller, Claims(user_id, None, sent))


def _no_key(header: str, token: str) -> Refused:
    """Return why what came in an Authorization header, if any, opens nothing."""
    if not header.strip():
        return Refused("missing-key", "Send a key: Authorization: Bearer turnlog_…; `turnlog keys create` makes one")
    if api_keys.is_key(header.rpartition(" ")[2].strip()):
        return Guessed("missing-bearer", "Put `Bearer ` before the key: Authorization: Bearer turnlog_…")
    if token.count(".") == 2:  # noqa: PLR2004 - as a JWT's three parts have
        return Guessed("not-a-key", "This service takes no users' tokens: TURNLOG_USER_TOKENS is not set")
    detail = "The Authorization header holds no key of this service; send Authorization: Bearer turnlog_…"
    return Guessed("not-a-key", detail)


def _unknown(token: str) -> Guessed:
    """Return why a text that begins as a key does opens nothing."""
    if api_keys.is_key(token):
        detail = (
            "This key is complete, but unknown to this service: it may be another service's. "
            "`turnlog keys list` lists this one's"
        )
        return Guessed("unknown-key", detail)
    return Guessed("mistyped-key", "This key is mistyped or incomplete: its checksum doesn't match. Copy it again")
