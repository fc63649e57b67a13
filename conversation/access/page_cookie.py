"""The cookie of a sign-in to the pages: it names a key, and is signed with that key's secret.

So sign-ins need no storage, hold on all workers and machines, and end with their key. Only a sign-out is remembered,
where calls are counted: a copy of its cookie opens nothing any more. Browsers also send the cookie
with requests that other sites make (CSRF), so requests that change something must come from our own pages.
"""

import hashlib
import re
import secrets
import time
from typing import Literal, NamedTuple
from urllib.parse import urlsplit

from flask import Request, Response
from itsdangerous import BadSignature, TimestampSigner

from conversation.refusals.codes import Refused
from conversation.settings import is_loopback

LIFETIME_S = 12 * 3600
_CLOCK_SKEW_S = 60  # a clock is set back a little, or that of another machine is behind: it is signed for later then
OPERATOR = "operator"  # instead of a key's digest: TURNLOG_API_KEY
_MAX_LENGTH = 4000  # characters; browsers drop longer cookies
_NAME = re.compile(rf"[0-9a-f]{{64}}|{OPERATOR}")
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})

Kind = Literal["key", "user"]


class PageCookie(NamedTuple):
    """A parsed cookie, not verified yet. `name`: a key's digest or `OPERATOR`, or a user's token."""

    kind: Kind
    name: str
    signed: str

    @property
    def id(self) -> str:
        """Return what tells this sign-in from others, without what opens the pages."""
        return hashlib.sha256((self.signed or self.name).encode()).hexdigest()

    @classmethod
    def of(cls, request: Request) -> "PageCookie | None":
        """Return a request's cookie; None if it has none of ours, or a malformed one."""
        text = request.cookies.get(cookie_name(request), "")
        kind, _, content = text.partition(":")
        if len(text) > _MAX_LENGTH or not content:
            return None
        if kind == "user":
            return cls("user", content, "")
        name = content.partition(".")[0]
        return cls("key", name, content) if kind == "key" and _NAME.fullmatch(name) else None

    def is_signed_with(self, secret: str) -> bool:
        """Return whether this secret signed the cookie within the last `LIFETIME_S`."""
        try:
            signed, signed_at = _signer(secret).unsign(self.signed, return_timestamp=True)
        except BadSignature:
            return False
        age = time.time() - signed_at.timestamp()
        return signed.decode().partition(".")[0] == self.name and -_CLOCK_SKEW_S <= age <= LIFETIME_S


def sign(name: str, secret: str) -> str:
    """Return the cookie for a key. `name`: its digest, or `OPERATOR`."""
    # of two sign-ins in the same second, one may be signed out
    return "key:" + _signer(secret).sign(f"{name}.{secrets.token_urlsafe(8)}").decode()


def cookie_name(request: Request) -> str:
    """Return the cookie's name: `__Host-`, which browsers accept from no other host, or on this machine with the port.

    Browsers send cookies to all ports of a host, and this machine may run several services.
    """
    if _needs_secure_cookie(request):
        return "__Host-turnlog"
    port = request.host.rpartition(":")[2]
    return f"turnlog-{port if port.isdecimal() else 80}"


def fits(cookie: str) -> bool:
    """Return whether browsers accept a cookie of this length, together with its name and attributes."""
    return len(cookie) <= _MAX_LENGTH - 200


def set_cookie(response: Response, request: Request, cookie: str, lifetime_s: int) -> None:
    response.set_cookie(
        cookie_name(request),
        cookie,
        max_age=lifetime_s,
        secure=_needs_secure_cookie(request),
        httponly=True,
        samesite="Lax",
    )


def browser_accepts_cookies(request: Request) -> bool:
    return cookie_name(request) in request.cookies


def delete_cookie(response: Response, request: Request) -> None:
    response.delete_cookie(cookie_name(request), secure=_needs_secure_cookie(request), httponly=True, samesite="Lax")


def require_same_origin(request: Request) -> None:
    """Raise `Refused` for a request that changes something and doesn't come from a page of this service."""
    if request.method in _SAFE:
        return
    site = request.headers.get("Sec-Fetch-Site")
    if site == "same-origin":
        return
    if site is None and (origin := request.headers.get("Origin")) is not None and _has_host(origin, request.host):
        return  # a browser from before 2023
    raise Refused("forbidden", "Only this service's own pages may do this: open the page and use its form")


def _needs_secure_cookie(request: Request) -> bool:
    # only loopback is safe without TLS, and Safari drops its secure cookies
    return not (request.scheme == "http" and is_loopback(urlsplit(f"//{request.host}").hostname or ""))


def _has_host(origin: str, host: str) -> bool:
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    return parts.scheme in {"http", "https"} and parts.netloc.lower() == host.lower()


def _signer(secret: str) -> TimestampSigner:
    return TimestampSigner(secret, salt="turnlog.page-cookie", key_derivation="hmac", digest_method=hashlib.sha256)
