"""Who calls: the role behind a JWT, an opaque key of Supabase's newer kind, or no key at all.

A missing key is no error, it is the anonymous role. Tokens are HS256, and their times are read with a
leeway of 30 seconds.
"""

import functools
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jwt

from tests.postgrest import answers

ANONYMOUS = "anon"
ALGORITHM = "HS256"
LEEWAY_S = 30


def sign(secret: str, role: str, *, lifetime_s: float = 3600, **claims: Any) -> str:
    """Sign a key as a Supabase project would issue it; `claims` adds to or replaces the usual ones."""
    now = int(time.time())
    return jwt.encode({"role": role, "iat": now, "exp": now + int(lifetime_s), **claims}, secret, ALGORITHM)


@dataclass(frozen=True)
class Caller:
    """A role to run as, and the claims that its functions can read from `request.jwt.claims`."""

    role: str
    claims: str

    @property
    def anonymous(self) -> bool:
        return self.role == ANONYMOUS


class Keyring:
    """Tells the caller from the headers. `opaque_keys` maps a key to its role, as Supabase's gateway does."""

    def __init__(self, secret: str, opaque_keys: Mapping[str, str]) -> None:
        self._secret = secret
        self._opaque_keys = dict(opaque_keys)
        # A client sends the same token with each call; the real server remembers checked ones too.
        self._verified = functools.lru_cache(maxsize=256)(self._verify)

    def caller(self, headers: Mapping[str, str]) -> Caller:
        scheme, _, token = headers.get("authorization", "").partition(" ")
        bearer = token.strip() if scheme.lower() == "bearer" else None
        api_key = headers.get("apikey", "")
        # The gateway swaps an opaque key for a token, unless a token of the user's own came along.
        if api_key in self._opaque_keys and bearer in (None, api_key):
            return _caller({"role": self._opaque_keys[api_key]})
        if bearer is None:
            return _caller({"role": ANONYMOUS})
        claims = self._verified(bearer)
        _check_times(claims)
        return _caller(claims)

    def _verify(self, token: str) -> dict[str, Any]:
        if not token:
            raise _undecodable("Empty JWT is sent in Authorization header")
        parts = token.count(".") + 1
        if parts != 3:
            raise _undecodable(f"Expected 3 parts in JWT; got {parts}")
        signatures = jwt.PyJWS(algorithms=[ALGORITHM])
        try:
            claims = json.loads(signatures.decode(token, self._secret, algorithms=[ALGORITHM]))
        except jwt.InvalidSignatureError as failure:
            raise _no_key("None of the keys was able to decode the JWT") from failure
        except jwt.InvalidAlgorithmError as failure:
            raise _no_key("No suitable key was found to decode the JWT") from failure
        except (jwt.InvalidTokenError, ValueError) as failure:
            raise _undecodable("JWT cryptographic operation failed") from failure
        if not isinstance(claims, dict):
            raise answers.RefusalError(answers.invalid_token("PGRST303", "Parsing claims failed"))
        return claims


def _caller(claims: Mapping[str, Any]) -> Caller:
    role = claims.get("role", ANONYMOUS)
    return Caller(str(role), json.dumps({**claims, "role": role}, separators=(",", ":")))


def _check_times(claims: Mapping[str, Any]) -> None:
    now = time.time()
    for claim in ("exp", "nbf", "iat"):
        if not isinstance(claims.get(claim, 0), int | float):
            raise _bad_claim(f"The JWT '{claim}' claim must be a number")
    if claims.get("exp", now) < now - LEEWAY_S:
        raise _bad_claim("JWT expired")
    if claims.get("nbf", now) > now + LEEWAY_S:
        raise _bad_claim("JWT not yet valid")
    if claims.get("iat", now) > now + LEEWAY_S:
        raise _bad_claim("JWT issued at future")


def _undecodable(message: str) -> answers.RefusalError:
    return answers.RefusalError(answers.invalid_token("PGRST301", message))


def _no_key(details: str) -> answers.RefusalError:
    return answers.RefusalError(answers.invalid_token("PGRST301", "No suitable key or wrong key type", details))


def _bad_claim(message: str) -> answers.RefusalError:
    return answers.RefusalError(answers.invalid_token("PGRST303", message))
