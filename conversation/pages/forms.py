"""What a page's form asks for: the parameters of the API, as browsers send them.

A browser sends every field, also one that was left empty, and times without a zone, which are UTC on the pages.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TypeVar

from flask import request
from pydantic import BaseModel
from werkzeug.datastructures import MultiDict

from conversation import paging

_Query = TypeVar("_Query", bound=BaseModel)
_OF_A_FORM = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d+)?)?")
_NOT_ASKED = "said"  # what a page tells after something was done: see `pages.SAID`


def asked() -> dict[str, str]:
    """Return the parameters that somebody gave a value, as the API takes them."""
    return {name: _with_zone(value) for name, value in request.args.items() if value and name != _NOT_ASKED}


def read(model: type[_Query]) -> _Query:
    """Return what a form asks for. Raises `InvalidBody`, naming each parameter as ?name."""
    given = [(name, _with_zone(value)) for name, value in request.args.items(multi=True) if value]
    return paging.parse(MultiDict(pair for pair in given if pair[0] != _NOT_ASKED), model)


def field_of_time(time: str | datetime | None) -> str:
    """Write a time as a field of a form holds it, in UTC; nothing for None."""
    if time is None:
        return ""
    moment = datetime.fromisoformat(time) if isinstance(time, str) else time
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="seconds")


def without(parameters: Mapping[str, str], *names: str) -> dict[str, str]:
    return {name: value for name, value in parameters.items() if name not in names}


def _with_zone(value: str) -> str:
    if not _OF_A_FORM.fullmatch(value):
        return value
    return f"{value}Z" if value.count(":") > 1 else f"{value}:00Z"
