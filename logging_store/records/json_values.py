"""Validates JSON values, and rejects with their path those that can't be stored unchanged.

The limits are those of the strictest reader: PostgreSQL's text has no NUL, and JavaScript's numbers are only exact up
to 2**53.
"""

import math
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_core import PydanticCustomError

from logging_store.records import json_schema

MAX_DEPTH = 64  # deeper JSON is a mistake or an attack; every JSON library reads this depth
MAX_EXACT_INTEGER = 2**53  # beyond it, JavaScript and other double-based readers change the number
NO_TURN = 2**63 - 1  # where cursors put interactions without a turn: after all others

_Json = TypeVar("_Json")


def validation_error(kind: str, message: str, path: tuple[str | int, ...] = ()) -> PydanticCustomError:
    """Return the error that a validator raises. `path`: of the invalid part within the value."""
    return PydanticCustomError(kind, message, {"path": path})


def reject_nul(text: str) -> str:
    if "\0" in text:
        raise validation_error("nul", "Text can't hold the NUL character")
    return text


def to_integer(value: object) -> object:
    # JSON has one number type: 5.0 is the integer 5, and some languages write it so
    return int(value) if isinstance(value, float) and value.is_integer() else value


def check_json(value: object, path: tuple[str | int, ...]) -> None:
    """Raise for the first part of a JSON value that can't be stored unchanged."""
    match value:
        case list() | dict() if len(path) >= MAX_DEPTH:
            raise validation_error("depth", f"Nested more than {MAX_DEPTH} levels deep", path)
        case str() if "\0" in value:
            raise validation_error("nul", "Text can't hold the NUL character", path)
        case int() if abs(value) > MAX_EXACT_INTEGER:
            raise validation_error("integer", "Integers past 2^53 lose digits on the way; send it as text", path)
        case float() if not math.isfinite(value):
            raise validation_error("number", "Not a finite number", path)
        case list():
            for index, item in enumerate(value):
                check_json(item, (*path, index))
        case dict():
            for key, item in value.items():
                check_json(key, path)
                check_json(item, (*path, key))


def _validate_json_object(value: dict[str, Any]) -> dict[str, Any]:
    check_json(value, ())
    return value


def _validate_content(value: object) -> str | list[dict[str, Any]]:
    match value:
        case str():
            return reject_nul(value)
        case []:
            raise validation_error("empty", "Must not be an empty list; leave it out instead")
        case list():
            for index, message in enumerate(value):
                if not isinstance(message, dict):
                    raise validation_error("message", "Must be an object with a role and a content", (index,))
                if not isinstance(message.get("role"), str):
                    raise validation_error("role", "A message needs a role, a text", (index, "role"))
            check_json(value, ())
            return value
        case _:
            raise validation_error("content", "Must be a text or a list of messages")


def restore_numbers(value: _Json) -> _Json:
    """Return a JSON value from the store with its large numbers as they were sent.

    PostgreSQL writes 1e300 as 301 digits. Integers past 2**53 are rejected on writing, so such a number was a float,
    except `NO_TURN`.
    """
    match value:
        case int() if abs(value) > MAX_EXACT_INTEGER and value != NO_TURN:
            return float(value)  # type: ignore[return-value]
        case list():
            return [restore_numbers(item) for item in value]  # type: ignore[return-value]
        case dict():
            return {key: restore_numbers(item) for key, item in value.items()}  # type: ignore[return-value]
    return value


#: Must be the last annotation: the contract wouldn't show limits of a field after it.
INTEGRAL = BeforeValidator(to_integer)
JsonObject = Annotated[
    dict[str, Any],
    AfterValidator(_validate_json_object),
    json_schema.DocumentedAs(json_schema.Object),
    Field(description="Any JSON object. Later records add keys and never replace values."),
]
Content = Annotated[
    Any,
    AfterValidator(_validate_content),
    json_schema.DocumentedAs(json_schema.Content),
    Field(description="A text, or a list of messages."),
]
