"""Parses the query strings of the pages' forms into the API's parameters.

Browsers send every field, also empty ones. Their dates and times have no zone, and mean UTC where a page has no other.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, tzinfo
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
#: What a page says beside a field whose value isn't valid.
_MESSAGES = {
    **dict.fromkeys(_TIMES, "That date isn't valid. Use 2026-11-21."),
    "metadata": "Write a key and its value, such as channel=web.",
    **dict.fromkeys(("min_turns", "max_turns"), "Use a whole number from 0 to 1000."),
}


def parameters() -> dict[str, str]:
    """Return the parameters that have a value, in the form that the API takes."""
    return dict(_filled_in())


def read(model: type[_Query], zone: tzinfo = UTC) -> _Query:
    """Return the query of a form. Raises `InvalidBody`, naming each parameter as ?name."""
    return pagination.parse(MultiDict(_filled_in(zone)), model)


def read_with_times(model: type[_Query], zone: tzinfo = UTC) -> tuple[_Query, dict[str, str]]:
    """Return the query of a form without fields that aren't valid, and a message for each of those.

    So the page shows its list all the same, with the message beside the field. Raises `InvalidBody` for other errors.
    """
    try:
        return read(model, zone), {}
    except InvalidBody as error:
        invalid = {field["path"].removeprefix("?") for field in error.fields}
        if not invalid <= _MESSAGES.keys():
            raise
    valid = [(name, value) for name, value in _filled_in(zone) if name not in invalid]
    return pagination.parse(MultiDict(valid), model), {name: _MESSAGES[name] for name in invalid}


def times(not_before: datetime | None, before: datetime | None) -> dict[str, str]:
    """Return the values of the form fields `from` and `to`: in UTC without a zone; empty for None."""
    return {
        name: time.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="seconds") if time else ""
        for name, time in (("from", not_before), ("to", before))
    }


def without(parameters: Mapping[str, str], *names: str) -> dict[str, str]:
    return {name: value for name, value in parameters.items() if name not in names}


def _filled_in(zone: tzinfo = UTC) -> list[tuple[str, str]]:
    return [
        _as_in_api(name, _with_zone(value, zone) if name in _TIMES else value)
        for name, value in request.args.items(multi=True)
        if value.strip() and name != _MESSAGE
    ]


def _as_in_api(name: str, value: str) -> tuple[str, str]:
    """Return a field as the API's parameter: one for metadata has its key, and unrated ones are a rating of a form."""
    key, equals, of_key = (part.strip() for part in value.partition("="))
    if name == "metadata" and key and equals and of_key:
        return f"metadata.{key}", of_key
    return ("unrated", "true") if (name, value) == ("rating", "none") else (name, value)


def _with_zone(text: str, zone: tzinfo) -> str:
    if not any(form.fullmatch(text) for form in (_DAY, _MINUTE, _SECOND)):
        return text
    try:
        return datetime.fromisoformat(text).replace(tzinfo=zone).isoformat()
    except ValueError:  # the 31st of November
        return text
