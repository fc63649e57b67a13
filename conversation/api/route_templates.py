"""Routes in the notation of OpenAPI, for the contract and for suggestions: `/v1/sessions/{session}`."""

import re
from collections.abc import Iterator

from flask import Flask
from werkzeug.routing import Rule

_PARAMETER = re.compile(r"<(?:\w+:)?(\w+)>")
_UNLISTED = frozenset({"HEAD", "OPTIONS"})


def template_of(rule: Rule) -> str:
    return _PARAMETER.sub(r"{\1}", rule.rule)


def described_routes(app: Flask) -> Iterator[tuple[str, frozenset[str]]]:
    """Yield the templates of the API's routes, each with its methods."""
    for rule in app.url_map.iter_rules():
        if hasattr(app.view_functions[rule.endpoint], "description"):
            yield template_of(rule), frozenset(rule.methods or ()) - _UNLISTED
