"""Any JSON: what of it can be kept as it was sent, and what is refused with its path.

The limits are those of the narrowest reader: Postgres text holds no NUL, and JSON numbers are exact in JavaScript only
to 2**53.
"""

import math
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_core import PydanticCustomError

from logging_store.records import json_schema

MAX_DEPTH = 64  # deeper JSON is a mistake or an attack; every JSON library reads this much
MAX_EXACT_INTEGER = 2**53  # beyond it, JavaScript and other double-based readers change the number
UNCOUNTED = 2**63 - 1  # the turn at which the store puts interactions without one: after all others

_Json = TypeVar("_Json")


def refuse(kind: str, message: str, path: tuple[str | int, ...] = ()) -> PydanticCustomError:
    """Return what a validator raises. `path`: of the part that is meant, within its value."""
    return PydanticCustomError(kind, message, {"path": path})


def without_nul(text: str) -> str:
    if "\0" in text:
        raise refuse("nul", "Text can't hold the NUL character")
    return text


def whole(value: object) -> object:
    # JSON has one kind of number: 5.0 is the integer 5, and some languages write it so
    return int(value) if isinstance(value, float) and value.is_integer() else value


def check_json(value: object, path: tuple[str | int, ...]) -> None:
    """Raise for the first part of a JSON value that could not be kept as it is."""
    match value:
        case list() | dict() if len(path) >= MAX_DEPTH:
            raise refuse("depth", f"Nested more than {MAX_DEPTH} levels deep", path)
        case str() if "\0" in value:
            raise refuse("nul", "Text can't hold the NUL character", path)
        case int() if abs(value) > MAX_EXACT_INTEGER:
            raise refuse("integer", "Integers past 2^53 lose digits on the way; send it as text", path)
        case float() if not math.isfinite(value):
            raise refuse("number", "Not a finite number", path)
        case list():
            for index, item in enumerate(value):
                check_json(item, (*path, index))
        case dict():
            for key, item in value.items():
                check_json(key, path)
                check_json(item, (*path, key))


def _json_object(value: dict[str, Any]) -> dict[str, Any]:
    check_json(value, ())
    return value


def _content(value: object) -> str | list[dict[str, Any]]:
    match value:
        case str():
            return without_nul(value)
        case []:
            raise refuse("empty", "An empty list of messages says nothing; leave it out instead")
        case list():
            for index, message in enumerate(value):
                if not isinstance(message, dict):
                    raise refuse("message", "Must be an object with a role and a content", (index,))
                if not isinstance(message.get("role"), str):
                    raise refuse("role", "A message needs a role, a text", (index, "role"))
            check_json(value, ())
            return value
        case _:
            raise refuse("content", "Must be a text or a list of messages")


def restore_numbers(value: _Json) -> _Json:
    """Return a JSON value read from the store with its large numbers as they were sent.

    Postgres writes 1e300 out as 301 digits. Integers past 2**53 are refused on the way in, so one on the way out was
    a float; but `UNCOUNTED`, which no float is.
    """
    match value:
        case int() if abs(value) > MAX_EXACT_INTEGER and value != UNCOUNTED:
            return float(value)  # type: ignore[return-value]
        case list():
            return [restore_numbers(item) for item in value]  # type: ignore[return-value]
        case dict():
            return {key: restore_numbers(item) for key, item in value.items()}  # type: ignore[return-value]
    return value


#: Stands last: what a field limits after it, the contract wouldn't show.
WHOLE = BeforeValidator(whole)
JsonObject = Annotated[
    dict[str, Any],
    AfterValidator(_json_object),
    json_schema.ShapedAs(json_schema.Object),
    Field(description="Any JSON; gains keys, keeps values."),
]
Content = Annotated[
    Any,
    AfterValidator(_content),
    json_schema.ShapedAs(json_schema.Content),
    Field(description="A text, or a list of messages."),
]
