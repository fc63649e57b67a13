"""What a page's form asks for: the parameters of the API, as browsers send them.

A browser sends every field, also what was left empty; its days and times have no zone, and are UTC on the pages.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TypeVar

from flask import request
from pydantic import BaseModel
from werkzeug.datastructures import MultiDict

from conversation.api import pagination

_Query = TypeVar("_Query", bound=BaseModel)
_TIMES = {"from", "to"}
_DAY = re.compile(r"\d{4}-\d\d-\d\d")
_MINUTE = re.compile(rf"{_DAY.pattern}T\d\d:\d\d")
_SECOND = re.compile(rf"{_MINUTE.pattern}:\d\d(\.\d+)?")
_NOT_ASKED = "said"  # what a page tells after something was done: see `pages.SAID`


def asked() -> dict[str, str]:
    """Return the parameters that somebody gave a value, as the API takes them."""
    return dict(_given())


def read(model: type[_Query]) -> _Query:
    """Return what a form asks for. Raises `InvalidBody`, naming each parameter as ?name."""
    return pagination.parse(MultiDict(_given()), model)


def times(not_before: datetime | None, before: datetime | None) -> dict[str, str]:
    """Return from and to as the fields of a form hold them: in UTC, without saying so; empty for None."""
    return {
        name: time.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="seconds") if time else ""
        for name, time in (("from", not_before), ("to", before))
    }


def without(parameters: Mapping[str, str], *names: str) -> dict[str, str]:
    return {name: value for name, value in parameters.items() if name not in names}


def _given() -> list[tuple[str, str]]:
    return [
        (name, _with_zone(value) if name in _TIMES else value)
        for name, value in request.args.items(multi=True)
        if value.strip() and name != _NOT_ASKED
    ]


def _with_zone(time: str) -> str:
    if _DAY.fullmatch(time):
        return f"{time}T00:00:00Z"
    if _MINUTE.fullmatch(time):
        return f"{time}:00Z"
    return f"{time}Z" if _SECOND.fullmatch(time) else time
