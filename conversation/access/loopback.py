"""Calls from this machine, which need no key where the settings say so."""

from functools import lru_cache
from urllib.parse import urlsplit

from flask import Request

from conversation.problem_codes import Refused
from conversation.settings import is_loopback

_FORWARDED = ("HTTP_X_FORWARDED", "HTTP_FORWARDED")


def require_this_machine(sent: Request) -> None:
    """Raise `Refused` unless a call comes from this machine, and from no page of another site."""
    # the service listens on loopback then; this holds under any other server, too
    if sent.remote_addr and not is_loopback(sent.remote_addr):
        raise Refused("not-this-machine", "With TURNLOG_KEYLESS only this machine may call without a key")
    # whoever calls through a proxy on this machine has its address, and may have its name for the service, too
    if any(name.startswith(_FORWARDED) for name in sent.environ):
        raise Refused("not-this-machine", "With TURNLOG_KEYLESS nobody may call without a key through a proxy")
    # a page from elsewhere, in a browser on this machine, gives itself away by its own name
    for url in (f"//{sent.host}", sent.environ.get("HTTP_ORIGIN", "//localhost")):
        if not _names_this_machine(url):
            raise Refused("not-this-machine", "With TURNLOG_KEYLESS no page of another site may call without a key")


@lru_cache(maxsize=64)
def _names_this_machine(url: str) -> bool:
    try:
        return is_loopback(urlsplit(url).hostname or "")
    except ValueError:
        return False
