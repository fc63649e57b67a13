"""Who signed in to the pages: a cookie that names a key, and is signed by it.

So nothing is kept of a sign-in, any worker of any machine knows it, and it ends with its key. A page is asked for by
people's browsers, which send a cookie whoever made them ask: what changes something must come from a page of ours.
"""

import hashlib
import re
from typing import Literal, NamedTuple
from urllib.parse import urlsplit

from flask import Request, Response
from itsdangerous import BadSignature, TimestampSigner
from werkzeug.exceptions import Unauthorized

from conversation.problem_codes import Refused
from conversation.settings import is_loopback

LIFETIME_S = 12 * 3600
OPERATOR = "operator"  # in the place of a key's digest: TURNLOG_API_KEY
_LONGEST = 4000  # characters; browsers keep no longer ones
_NAME = re.compile(rf"[0-9a-f]{{64}}|{OPERATOR}")
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})

Holder = Literal["key", "user"]


class NotSignedIn(Unauthorized):
    """A page was asked for by somebody who has not signed in, or whose sign-in is over."""

    description = "Sign in first"


class Visit(NamedTuple):
    """What a cookie says, unproven: `name` is a key's digest or `OPERATOR`, or a user's token."""

    holder: Holder
    name: str
    signed: str

    @classmethod
    def of(cls, sent: Request) -> "Visit | None":
        """Return what a request's cookie says; None if it has none that could be ours."""
        text = sent.cookies.get(cookie_name(sent), "")
        holder, _, said = text.partition(":")
        if len(text) > _LONGEST or not said:
            return None
        if holder == "user":
            return cls("user", said, "")
        name = said.partition(".")[0]
        return cls("key", name, said) if holder == "key" and _NAME.fullmatch(name) else None

    def is_signed_with(self, secret: str) -> bool:
        """Tell whether the key signed this, and not too long ago."""
        try:
            return _signer(secret).unsign(self.signed, max_age=LIFETIME_S).decode() == self.name
        except BadSignature:
            return False


def sign(name: str, secret: str) -> str:
    """Return the cookie of a key: its digest, or `OPERATOR`."""
    return "key:" + _signer(secret).sign(name).decode()


def cookie_name(sent: Request) -> str:
    """Return what the cookie is called: browsers keep one named `__Host-` only if no other host could have set it.

    They don't tell the ports of a host apart, and this machine may have several services.
    """
    if _is_secret(sent):
        return "__Host-turnlog"
    port = sent.host.rpartition(":")[2]
    return f"turnlog-{port if port.isdecimal() else 80}"


def fits(cookie: str) -> bool:
    """Tell whether browsers keep a cookie of this length, with its name and what it says of itself."""
    return len(cookie) <= _LONGEST - 200


def give(answer: Response, sent: Request, cookie: str, lifetime_s: int) -> None:
    answer.set_cookie(
        cookie_name(sent), cookie, max_age=lifetime_s, secure=_is_secret(sent), httponly=True, samesite="Lax"
    )


def are_kept(sent: Request) -> bool:
    return cookie_name(sent) in sent.cookies


def take_away(answer: Response, sent: Request) -> None:
    answer.delete_cookie(cookie_name(sent), secure=_is_secret(sent), httponly=True, samesite="Lax")


def require_our_page(sent: Request) -> None:
    """Refuse what changes something unless a page of this service asked for it. Raises `Refused`."""
    if sent.method in _SAFE:
        return
    site = sent.headers.get("Sec-Fetch-Site")
    if site == "same-origin":
        return
    if site is None and (origin := sent.headers.get("Origin")) is not None and _names(origin, sent.host):
        return  # a browser from before 2023
    raise Refused("forbidden", "Only this service's own pages may do this: open the page and use its form")


def _is_secret(sent: Request) -> bool:
    # only this machine is worth a sign-in without TLS; Safari keeps no secure cookie of it
    return not (sent.scheme == "http" and is_loopback(urlsplit(f"//{sent.host}").hostname or ""))


def _names(origin: str, host: str) -> bool:
    try:
        stated = urlsplit(origin)
    except ValueError:
        return False
    return stated.scheme in {"http", "https"} and stated.netloc.lower() == host.lower()


def _signer(secret: str) -> TimestampSigner:
    return TimestampSigner(secret, salt="turnlog.page-visit", key_derivation="hmac", digest_method=hashlib.sha256)
