"""Who may call.

With `TURNLOG_API_KEY` set, every call of the log carries it as a Bearer token. Without, only this machine may call.
"""

import hmac
from functools import lru_cache
from urllib.parse import urlsplit

from flask import Blueprint, Flask, current_app, request
from flask.globals import request_ctx
from werkzeug.exceptions import Forbidden, Unauthorized

from conversation.settings import Settings, is_loopback


def guard(blueprint: Blueprint) -> Blueprint:
    """Make every route of a blueprint ask for the key."""
    blueprint.before_request(_require_key)
    return blueprint


def attach(app: Flask, settings: Settings) -> None:
    key = settings.turnlog_api_key
    app.extensions["turnlog_api_key"] = key.get_secret_value().encode() if key else None


def _require_key() -> None:
    key: bytes | None = current_app.extensions["turnlog_api_key"]
    if key is None:
        _require_this_machine()
        return
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not hmac.compare_digest(token.strip().encode(), key):
        raise Unauthorized("Send the key: Authorization: Bearer TURNLOG_API_KEY")


def _require_this_machine() -> None:
    # the service listens on loopback then; this holds under any other server, too
    sent = request_ctx.request  # itself: each look through the proxy `request` costs
    if sent.remote_addr and not is_loopback(sent.remote_addr):
        raise Forbidden("Without TURNLOG_API_KEY only this machine may call")
    # a page from elsewhere, in a browser on this machine, gives itself away by its own name
    for url in (f"//{sent.host}", sent.environ.get("HTTP_ORIGIN", "//localhost")):
        if not _names_this_machine(url):
            raise Forbidden("Without TURNLOG_API_KEY no page of another site may call")


@lru_cache(maxsize=64)
def _names_this_machine(url: str) -> bool:
    return is_loopback(urlsplit(url).hostname or "")
