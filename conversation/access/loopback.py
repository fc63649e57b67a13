"""Keyless calls, allowed from this machine with `TURNLOG_KEYLESS`."""

from functools import lru_cache
from urllib.parse import urlsplit

from flask import Request

from conversation.refusals.codes import Refused
from conversation.settings import is_loopback

_FORWARDED = ("HTTP_X_FORWARDED", "HTTP_FORWARDED")


def require_loopback(request: Request) -> None:
    """Raise `Refused` unless a call comes from this machine, and not from a page of another site."""
    # gunicorn then listens on loopback only; another server might not
    if request.remote_addr and not is_loopback(request.remote_addr):
        raise Refused("not-this-machine", "With TURNLOG_KEYLESS only this machine may call without a key")
    # a proxy on this machine has its address, and may have its host name, too
    if any(name.startswith(_FORWARDED) for name in request.environ):
        raise Refused("not-this-machine", "With TURNLOG_KEYLESS nobody may call without a key through a proxy")
    # a page of another site, in a browser on this machine, has a host or origin of its own (DNS rebinding, CSRF)
    for url in (f"//{request.host}", request.environ.get("HTTP_ORIGIN", "//localhost")):
        if not _is_loopback_url(url):
            raise Refused("not-this-machine", "With TURNLOG_KEYLESS no page of another site may call without a key")


@lru_cache(maxsize=64)
def _is_loopback_url(url: str) -> bool:
    try:
        return is_loopback(urlsplit(url).hostname or "")
    except ValueError:
        return False
