"""Serves `/static/turnlog.js`, with which web pages log from a browser."""

import hashlib
from functools import cache
from pathlib import Path

from flask import Blueprint, Response, request

from conversation import access

blueprint = Blueprint("browser_client", __name__)

_FILE = Path(__file__).parent / "static" / "turnlog.js"
_FRESH_S = 300  # browsers revalidate after this time


@blueprint.get("/static/turnlog.js")
@access.open_to_all
def turnlog_js() -> Response:
    source, etag = _source()
    response = Response(source, content_type="text/javascript; charset=utf-8")
    response.set_etag(etag)
    response.cache_control.public = True
    response.cache_control.max_age = _FRESH_S
    # any site may import it: it holds no secret, and its rights are those of the page's key
    response.headers["Access-Control-Allow-Origin"] = "*"
    response.headers["Cross-Origin-Resource-Policy"] = "cross-origin"
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.make_conditional(request)
    return response


@cache
def _source() -> tuple[bytes, str]:
    # by its content, so that all machines of a service return the same
    source = _FILE.read_bytes()
    return source, hashlib.sha256(source).hexdigest()[:32]
