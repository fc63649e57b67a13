"""Verifies the tokens (JWT) of users of the project's own sign-in, such as Supabase Auth.

The issuer signs them with its published keys (ES256, RS256), or with a secret that it shares with us (HS256); the
settings choose which, never the token. After a user signs out there, the token is still accepted here until it expires,
by default after an hour at most.
"""

import base64
import re
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol, Self

import jiter
import jwt
import jwt.exceptions

from conversation.access.credential_errors import InvalidToken, TokenUnverifiable, WrongTokenKind
from conversation.access.jwks import KeySet, SigningKey
from conversation.keys.callers import ALL_SCOPES, Scope
from conversation.settings import Settings
from logging_store.records.values import MAX_NAME

__all__ = ["InvalidToken", "SharedSecret", "TokenUnverifiable", "UserTokens", "WrongTokenKind"]

LEEWAY_S = 30
ROLE = "authenticated"
_MAX_TOKEN = 8192  # characters; gunicorn takes no longer header
# the canonical encoding only; PyJWT would accept padding as well
_TOKEN = re.compile(r"[\w-]+\.[\w-]+\.[\w-]+", re.ASCII)
_REQUIRED = ("exp", "iss", "aud", "sub")

#: Claims are checked only after the signature.
_WRONG_KIND: dict[type[jwt.PyJWTError], str] = {
    jwt.ExpiredSignatureError: "The token has expired: renew it and send the call again",
    jwt.ImmatureSignatureError: "The token is not valid yet",
    jwt.InvalidIssuerError: "The token is of another issuer than the project's",
    jwt.InvalidAudienceError: "The token is for another audience than the project's users",
    jwt.exceptions.InvalidSubjectError: "The token names no user",
}
_FORGED: dict[type[jwt.PyJWTError], str] = {
    jwt.InvalidAlgorithmError: "The token is signed by another algorithm than its key is for",
    jwt.InvalidSignatureError: "The token's signature is wrong",
}
_MALFORMED = "This is not a token of the project's sign-in"


class VerifiedUser(NamedTuple):
    """A user whose token is valid. `scopes`: a team member's, from `app_metadata.turnlog`; empty for other users."""

    user_id: str
    scopes: frozenset[Scope]


class SigningKeys(Protocol):
    """The source of the keys that sign tokens."""

    def key(self, kid: object) -> SigningKey | None:
        """Return the key of this id; None if there is none. Raises `TokenUnverifiable` in an outage."""


class SharedSecret:
    """The one secret that an issuer signs with and shares with us."""

    def __init__(self, secret: str) -> None:
        self._key = SigningKey("HS256", secret.encode())

    def key(self, kid: object) -> SigningKey:  # noqa: ARG002 - there is only one key
        return self._key


class UserTokens:
    """Verifies users' tokens. `anonymous`: whether to accept tokens of anonymous sign-ins."""

    def __init__(self, keys: SigningKeys, *, issuer: str, audience: str = ROLE, anonymous: bool = False) -> None:
        self._keys, self._issuer, self._audience, self._anonymous = keys, issuer, audience, anonymous

    @classmethod
    def of(cls, settings: Settings) -> Self | None:
        """Return the verifier that the settings configure; None if users' tokens are off."""
        keys: SigningKeys
        match settings.turnlog_user_tokens, settings.turnlog_jwt_secret:
            case "hs256", secret if secret:
                keys = SharedSecret(secret.get_secret_value())
            case "jwks", _:
                keys = KeySet(settings.jwks_url)
            case _:
                return None
        return cls(
            keys,
            issuer=settings.jwt_issuer,
            audience=settings.turnlog_jwt_audience,
            anonymous=settings.turnlog_anonymous_users,
        )

    def verify(self, token: str) -> VerifiedUser:
        """Return the user of a token.

        Raises `InvalidToken`, or `TokenUnverifiable` if the issuer's keys are unavailable.
        """
        if len(token) > _MAX_TOKEN or not _TOKEN.fullmatch(token):
            raise InvalidToken(_MALFORMED)
        try:
            # the header only chooses among our keys
            key = self._keys.key(_key_id(token))
            if key is None:
                raise InvalidToken("The token is signed with a key that the project doesn't have")
            claims = jwt.decode(
                token,
                key.key,
                algorithms=[key.algorithm],
                options={"require": list(_REQUIRED), "enforce_minimum_key_length": True},
                audience=self._audience,
                issuer=self._issuer,
                leeway=LEEWAY_S,
            )
        except jwt.MissingRequiredClaimError as error:
            raise WrongTokenKind(f"The token doesn't state {error.claim}") from None
        except (jwt.PyJWTError, ValueError) as error:  # PyJWT's message may quote the token
            if reason := _reason(error, _WRONG_KIND):
                raise WrongTokenKind(reason, expired=isinstance(error, jwt.ExpiredSignatureError)) from None
            raise InvalidToken(_reason(error, _FORGED) or _MALFORMED) from None
        return VerifiedUser(self._user(claims), _scopes(claims))

    def _user(self, claims: Mapping[str, Any]) -> str:
        if claims.get("role") != ROLE:
            raise WrongTokenKind("The token is not one of a signed-in user")
        if claims.get("is_anonymous") not in (None, False) and not self._anonymous:
            raise WrongTokenKind("The token is of an anonymous sign-in, which this service doesn't take")
        user: str = claims["sub"]
        if not user.strip() or not user.isprintable() or len(user) > MAX_NAME:
            raise WrongTokenKind("The token names no user")
        return user


def _scopes(claims: Mapping[str, Any]) -> frozenset[Scope]:
    # only the project's secret key can write app_metadata
    metadata = claims.get("app_metadata")
    granted = metadata.get("turnlog") if isinstance(metadata, dict) else None
    return frozenset(scope for scope in ALL_SCOPES if isinstance(granted, list) and scope in granted)


def _key_id(token: str) -> object:
    """Return the key id (`kid`) of a token's header; PyJWT's own function would parse the whole token."""
    header = jiter.from_json(base64.urlsafe_b64decode(token.partition(".")[0] + "=="))
    return header.get("kid") if isinstance(header, dict) else None


def _reason(error: Exception, reasons: Mapping[type[jwt.PyJWTError], str]) -> str | None:
    return next((reason for kind, reason in reasons.items() if isinstance(error, kind)), None)
