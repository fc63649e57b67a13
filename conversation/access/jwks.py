"""The public keys of an issuer of tokens, fetched from its JWKS URL and cached.

The first look-up fetches them. Neither made-up key ids nor an outage of the issuer make fetches frequent, and no caller
waits longer than one fetch may take. While fetches fail only the caller that fetches waits, so that a slow issuer holds
one thread. An answer is read up to a size, is never decompressed, and a redirection isn't followed.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import httpx
import jiter
import jwt

from conversation.access.credential_errors import TokenUnverifiable
from logging_store.postgres import http_deadline

FETCH_S = 2.0  # for one fetch, until its last byte
FRESH_S = 300.0  # then the set is fetched again
STALE_S = 600.0  # how much longer it serves while fetches fail; so a withdrawn key is accepted no longer than this
RETRY_S = 5.0  # between fetches while they fail
UNKNOWN_S = 30.0  # between fetches for key ids that the set doesn't have
_MAX_BYTES = 256 * 1024
_RSA_BITS = range(2048, 8193)  # shorter keys are weak, longer ones only keep a worker busy
_PUBLIC = ("kty", "crv", "x", "y", "n", "e")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A key and the one algorithm that it verifies; the algorithm that a token names is ignored."""

    algorithm: str
    key: Any


@dataclass(frozen=True, slots=True)
class _CachedKeys:
    keys: Mapping[str, SigningKey]
    fetched_at: float


class KeySet:
    """The keys behind one URL, by their ids. Safe to use from any thread. `clock`: seconds, never backwards."""

    def __init__(self, url: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._url, self._clock = url, clock
        self._cached = _CachedKeys({}, float("-inf"))
        self._tried_at = {RETRY_S: float("-inf"), UNKNOWN_S: float("-inf")}
        self._failing = False
        self._fetching = threading.Lock()

    def key(self, kid: object) -> SigningKey | None:
        """Return the key of this id; None if the issuer has none. Raises `TokenUnverifiable` in an outage."""
        if not isinstance(kid, str):
            return None
        cached = self._cached
        if self._clock() - cached.fetched_at > FRESH_S:
            self._refresh(RETRY_S, wait=not self._serves(cached))
        elif kid not in cached.keys:
            self._refresh(UNKNOWN_S, wait=True)
        cached = self._cached
        if not self._serves(cached):
            raise TokenUnverifiable
        found = cached.keys.get(kid)
        if found is None and self._failing:
            raise TokenUnverifiable  # it may be a new key, not fetched yet
        return found

    def _serves(self, cached: _CachedKeys) -> bool:
        return self._clock() - cached.fetched_at <= FRESH_S + STALE_S

    def _refresh(self, pause: float, *, wait: bool) -> None:
        """Fetch the set, unless that was tried for the same cause less than `pause` seconds ago.

        `wait`: for a fetch by another thread, where the cached set can't serve meanwhile.
        """
        if not self._fetching.acquire(timeout=FETCH_S + 1 if wait and not self._failing else 0):
            return
        try:
            now = self._clock()
            if now - self._tried_at[pause] < pause:
                return
            self._tried_at[pause] = now
            self._cached = _CachedKeys(_fetch(self._url), self._clock())
        except (httpx.HTTPError, OSError, ValueError) as error:
            if not self._failing:  # once for each outage
                _log.warning("can't fetch the key set %s, using the cached one for a while: %s", self._url, error)
            self._failing = True
        else:
            self._failing = False
        finally:
            self._fetching.release()


def _fetch(url: str) -> dict[str, SigningKey]:
    """Return the keys that may sign. Raises `httpx.HTTPError` or `ValueError`."""
    with httpx.Client(timeout=FETCH_S, headers={"Accept": "application/json", "Accept-Encoding": "identity"}) as client:
        http_deadline.install(client)
        with http_deadline.until(time.monotonic() + FETCH_S), client.stream("GET", url) as answer:
            if answer.status_code != httpx.codes.OK:
                raise ValueError(f"the server answered {answer.status_code}")
            body = bytearray()
            for piece in answer.iter_raw():
                body += piece
                if len(body) > _MAX_BYTES:
                    raise ValueError(f"it is larger than {_MAX_BYTES // 1024} KB")
    answered = jiter.from_json(bytes(body))
    members = answered.get("keys") if isinstance(answered, dict) else None
    if not isinstance(members, list):
        raise ValueError("it isn't a JSON Web Key Set")  # noqa: TRY004 - callers catch one kind of error
    keys: dict[str, SigningKey] = {}
    for member in members:
        if isinstance(member, dict) and isinstance(kid := member.get("kid"), str) and (key := signing_key(member)):
            keys.setdefault(kid, key)
    if not keys:
        # Supabase publishes an empty set as long as a project signs with a shared secret
        raise ValueError("it holds no key for ES256 or RS256; TURNLOG_USER_TOKENS=hs256 is for a shared secret")
    return keys


def signing_key(member: Mapping[str, Any]) -> SigningKey | None:
    """Return a member of a key set as a key; None if it isn't for verifying ES256 or RS256 signatures."""
    match member.get("kty"), member.get("crv"):
        case "EC", "P-256":
            algorithm = "ES256"
        case "RSA", None:
            algorithm = "RS256"
        case _:
            return None
    operations = member.get("key_ops", ["verify"])
    for_verifying = isinstance(operations, list) and "verify" in operations
    if member.get("alg", algorithm) != algorithm or member.get("use", "sig") != "sig" or not for_verifying:
        return None
    try:
        key = jwt.PyJWK({name: member[name] for name in _PUBLIC if name in member}, algorithm).key
    except (jwt.PyJWTError, ValueError, TypeError):
        return None
    return SigningKey(algorithm, key) if algorithm == "ES256" or key.key_size in _RSA_BITS else None
