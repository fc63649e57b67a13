"""Serves `/static/turnlog.js`, by which pages of other sites log from a browser."""

import hashlib
from functools import cache
from pathlib import Path

from flask import Blueprint, Response, request

from conversation import access

blueprint = Blueprint("browser_client", __name__)

_FILE = Path(__file__).parent / "static" / "turnlog.js"
_FRESH_S = 300  # a browser asks for a newer one after this


@blueprint.get("/static/turnlog.js")
@access.open_to_all
def turnlog_js() -> Response:
    source, etag = _source()
    answer = Response(source, content_type="text/javascript; charset=utf-8")
    answer.set_etag(etag)
    answer.cache_control.public = True
    answer.cache_control.max_age = _FRESH_S
    # any site may import it; it holds no secret, and what it may do depends on the key that the page has
    answer.headers["Access-Control-Allow-Origin"] = "*"
    answer.headers["Cross-Origin-Resource-Policy"] = "cross-origin"
    answer.headers["X-Content-Type-Options"] = "nosniff"
    answer.make_conditional(request)
    return answer


@cache
def _source() -> tuple[bytes, str]:
    # named by its content: machines of one service must not disagree
    source = _FILE.read_bytes()
    return source, hashlib.sha256(source).hexdigest()[:32]
