"""Parses the query strings of the pages' forms into the API's parameters.

Browsers send every field, also empty ones; their dates and times have no zone, and mean UTC on the pages.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TypeVar

from flask import request
from pydantic import BaseModel
from werkzeug.datastructures import MultiDict

from conversation.api import pagination
from conversation.api.requests import InvalidBody

_Query = TypeVar("_Query", bound=BaseModel)
_TIMES = {"from", "to"}
_DAY = re.compile(r"\d{4}-\d\d-\d\d")
_MINUTE = re.compile(rf"{_DAY.pattern}T\d\d:\d\d")
_SECOND = re.compile(rf"{_MINUTE.pattern}:\d\d(\.\d+)?")
_MESSAGE = "message"  # of a flash message, which is no parameter of the API: see `pages.FLASH_MESSAGES`
_INVALID_TIME = "That date isn't valid. Use 2026-11-21."


def parameters() -> dict[str, str]:
    """Return the parameters that have a value, in the form that the API takes."""
    return dict(_filled_in())


def read(model: type[_Query]) -> _Query:
    """Return the query of a form. Raises `InvalidBody`, naming each parameter as ?name."""
    return pagination.parse(MultiDict(_filled_in()), model)


def read_with_times(model: type[_Query]) -> tuple[_Query, dict[str, str]]:
    """Return the query of a form without invalid dates, and a message for each of those, by field.

    So the page shows its list all the same, with the message beside the field. Raises `InvalidBody` for other errors.
    """
    try:
        return read(model), {}
    except InvalidBody as error:
        invalid = {field["path"].removeprefix("?") for field in error.fields}
        if not invalid <= _TIMES:
            raise
    valid = [(name, value) for name, value in _filled_in() if name not in invalid]
    return pagination.parse(MultiDict(valid), model), dict.fromkeys(invalid, _INVALID_TIME)


def times(not_before: datetime | None, before: datetime | None) -> dict[str, str]:
    """Return the values of the form fields `from` and `to`: in UTC without a zone; empty for None."""
    return {
        name: time.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="seconds") if time else ""
        for name, time in (("from", not_before), ("to", before))
    }


def without(parameters: Mapping[str, str], *names: str) -> dict[str, str]:
    return {name: value for name, value in parameters.items() if name not in names}


def _filled_in() -> list[tuple[str, str]]:
    return [
        (name, _with_zone(value) if name in _TIMES else value)
        for name, value in request.args.items(multi=True)
        if value.strip() and name != _MESSAGE
    ]


def _with_zone(time: str) -> str:
    if _DAY.fullmatch(time):
        return f"{time}T00:00:00Z"
    if _MINUTE.fullmatch(time):
        return f"{time}:00Z"
    return f"{time}Z" if _SECOND.fullmatch(time) else time
