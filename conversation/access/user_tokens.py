"""The token that a user of the project's own sign-in (Supabase Auth) carries: does it prove who they are?

Signed by the issuer's published keys (ES256, RS256), or with a secret that the issuer shares with us (HS256): which of
them is configured, never read from the token. A session that the user ended there stays good here until its token
expires, an hour at most by default.
"""

import base64
import re
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol, Self

import jiter
import jwt
import jwt.exceptions

from conversation.access.callers import ALL_SCOPES, Scope
from conversation.access.jwks import KeySet, SigningKey
from conversation.access.token_errors import InvalidToken, TokenUnprovable, UnfitToken
from conversation.settings import Settings
from logging_store.records.values import MAX_NAME

__all__ = ["InvalidToken", "SharedSecret", "TokenUnprovable", "UnfitToken", "UserTokens"]

LEEWAY_S = 30
ROLE = "authenticated"
_MAX_TOKEN = 8192  # characters; gunicorn takes no longer header
# one spelling of a token only; PyJWT would also take padding
_TOKEN = re.compile(r"[\w-]+\.[\w-]+\.[\w-]+", re.ASCII)
_REQUIRED = ("exp", "iss", "aud", "sub")

#: Claims are looked at only when the signature is good.
_UNFIT: dict[type[jwt.PyJWTError], str] = {
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


class Vouched(NamedTuple):
    """`scopes`: what the project's sign-in lets a user do as one of its team, by `app_metadata.turnlog`."""

    user_id: str
    scopes: frozenset[Scope]


class Keys(Protocol):
    """Where the keys come from that tokens are signed with."""

    def key(self, kid: object) -> SigningKey | None:
        """Return the key of this id; None if there is none. Raises `TokenUnprovable` if that can't be told now."""


class SharedSecret:
    """The one secret that an issuer signs with and has told us."""

    def __init__(self, secret: str) -> None:
        self._key = SigningKey("HS256", secret.encode())

    def key(self, kid: object) -> SigningKey:  # noqa: ARG002 - whatever a token calls it
        return self._key


class UserTokens:
    """Verifies users' tokens. `anonymous`: whether a user who hasn't said who they are is one, too."""

    def __init__(self, keys: Keys, *, issuer: str, audience: str = ROLE, anonymous: bool = False) -> None:
        self._keys, self._issuer, self._audience, self._anonymous = keys, issuer, audience, anonymous

    @classmethod
    def of(cls, settings: Settings) -> Self | None:
        """Return what the settings ask for; None if users' tokens are off."""
        keys: Keys
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

    def verify(self, token: str) -> str:
        """Return the id of the user whom a token vouches for. Raises as `vouch` does."""
        return self.vouch(token).user_id

    def vouch(self, token: str) -> Vouched:
        """Return whom a token vouches for.

        Raises `InvalidToken`, or `TokenUnprovable` if the issuer's keys are not to be had.
        """
        if len(token) > _MAX_TOKEN or not _TOKEN.fullmatch(token):
            raise InvalidToken(_MALFORMED)
        try:
            # the header chooses among our keys, and nothing else
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
            raise UnfitToken(f"The token doesn't state {error.claim}") from None
        except (jwt.PyJWTError, ValueError) as error:  # what PyJWT says may quote the token
            if unfit := _reason(error, _UNFIT):
                raise UnfitToken(unfit, expired=isinstance(error, jwt.ExpiredSignatureError)) from None
            raise InvalidToken(_reason(error, _FORGED) or _MALFORMED) from None
        return Vouched(self._user(claims), _scopes(claims))

    def _user(self, claims: Mapping[str, Any]) -> str:
        if claims.get("role") != ROLE:
            raise UnfitToken("The token is not one of a signed-in user")
        if claims.get("is_anonymous") not in (None, False) and not self._anonymous:
            raise UnfitToken("The token is of an anonymous sign-in, which this service doesn't take")
        user: str = claims["sub"]
        if not user.strip() or not user.isprintable() or len(user) > MAX_NAME:
            raise UnfitToken("The token names no user")
        return user


def _scopes(claims: Mapping[str, Any]) -> frozenset[Scope]:
    # only who holds the project's secret key can write app_metadata
    metadata = claims.get("app_metadata")
    stated = metadata.get("turnlog") if isinstance(metadata, dict) else None
    return frozenset(scope for scope in ALL_SCOPES if isinstance(stated, list) and scope in stated)


def _key_id(token: str) -> object:
    """Return the id of the key that a token says it is signed with; PyJWT's own look takes apart all of the token."""
    header = jiter.from_json(base64.urlsafe_b64decode(token.partition(".")[0] + "=="))
    return header.get("kid") if isinstance(header, dict) else None


def _reason(error: Exception, reasons: Mapping[type[jwt.PyJWTError], str]) -> str | None:
    return next((reason for kind, reason in reasons.items() if isinstance(error, kind)), None)
