"""Validates JSON values. Those that can't be stored unchanged are rejected with their path, or replaced and noted.

The limits are those of the strictest reader: PostgreSQL's text has no NUL and no half of a surrogate pair, and
JavaScript's numbers are only exact up to 2**53. What is replaced, and when: see `intake`.
"""

import math
import re
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo
from pydantic_core import PydanticCustomError

from logging_store.records import json_schema
from logging_store.records.intake import Intake, JsonPath, has_half_pair, is_storable, storable

MAX_DEPTH = 64  # deeper JSON is a mistake or an attack; every JSON library reads this depth
# What a store compares and writes within a call's time, also on a busy machine. Measured on one core: a record with so
# many keys of metadata takes 3 ms to be filled, with so many messages 0.1 s, with so many names and items 0.7 s.
MAX_METADATA_KEYS = 1_000
MAX_MESSAGES = 10_000
MAX_VALUES = 200_000
MAX_EXACT_INTEGER = 2**53  # beyond it, JavaScript and other double-based readers change the number
NO_TURN = 2**63 - 1  # where cursors put interactions without a turn: after all others

_Json = TypeVar("_Json")


def validation_error(kind: str, message: str, path: tuple[str | int, ...] = ()) -> PydanticCustomError:
    """Return the error that a validator raises. `path`: of the invalid part within the value."""
    return PydanticCustomError(kind, message, {"path": path})


_NUL, _HALF_PAIR = "Text can't hold the NUL character", "Text can't hold half of a surrogate pair"
_BIG_INTEGER = "Integers past 2^53 lose digits on the way; send it as text"
_KEYS_COLLIDE = "Two keys would be the same after a character that can't be stored is replaced"
#: A number as a text: as JSON writes it, also with a sign or zeros before it.
_NUMBER = re.compile(r"[+-]?\d{1,40}(\.\d{1,40})?([eE][+-]?\d{1,3})?", re.ASCII)


def storable_text(value: object, info: ValidationInfo) -> object:
    """Return a text as it can be stored; what is no text is left to the validation that follows."""
    intake = Intake.of(info)
    if not isinstance(value, str) or ("\0" not in value and not (intake and intake.has_half_pairs)):
        return value
    return _text(value, intake, info)


def _text(value: str, intake: Intake | None, info: ValidationInfo) -> str:
    if intake is None or not intake.replaces:
        check_text(value, ())
    elif not is_storable(value):
        intake.note(info, ())
        return storable(value)
    return value


def check_text(text: str, path: JsonPath) -> None:
    """Raise for a text that PostgreSQL can't hold."""
    if "\0" in text:
        raise validation_error("nul", _NUL, path)
    if has_half_pair(text):
        raise validation_error("half_pair", _HALF_PAIR, path)


def to_integer(value: object) -> object:
    # JSON has one number type: 5.0 is the integer 5, and some languages write it so
    return int(value) if isinstance(value, float) and value.is_integer() else value


def to_number(value: object) -> object:
    """Return a number that was sent as a text, as databases' decimals are; anything else unchanged."""
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        return int(value) if value.lstrip("+-").isdigit() else float(value)
    return value


def _to_count(value: object) -> object:
    return value if type(value) is int else to_integer(to_number(value))  # nearly always


def check_json(value: object, path: JsonPath) -> int:
    """Raise for the first part of a JSON value that can't be stored unchanged; return how many names and items it has.

    Half pairs in nested texts aren't looked for: no parser but the one of `Intake.has_half_pairs` lets them pass.
    """
    match value:
        case list() | dict() if len(path) >= MAX_DEPTH:
            raise validation_error("depth", f"Nested more than {MAX_DEPTH} levels deep", path)
        case str() if "\0" in value:
            raise validation_error("nul", _NUL, path)
        case int() if abs(value) > MAX_EXACT_INTEGER:
            raise validation_error("integer", _BIG_INTEGER, path)
        case float() if not math.isfinite(value):
            raise validation_error("number", "Not a finite number", path)
        case list():
            return len(value) + sum([check_json(item, (*path, index)) for index, item in enumerate(value)])
        case dict():
            for key in value:
                check_json(key, path)
            return len(value) + sum([check_json(item, (*path, key)) for key, item in value.items()])
    return 0


def _storable_json(value: Any, info: ValidationInfo, most: int | None = None) -> Any:
    """Return a JSON value as it can be stored. Raises for what is rejected. `most`: names and items it may have."""
    intake = Intake.of(info)
    if intake is None or not intake.has_half_pairs:
        try:
            _check_count(check_json(value, ()), most)
        except PydanticCustomError as error:
            if intake is None or not intake.replaces or error.type not in {"nul", "integer"}:
                raise
        else:
            return value  # nearly always
    value = _replaced(value, (), intake, info)
    _check_count(check_json(value, ()), most)
    return value


def _check_count(count: int, most: int | None) -> None:
    if most is not None and count > most:
        raise validation_error("values", f"May hold {most:,} names and items in all, and holds {count:,}")


def _validate_metadata(value: dict[str, Any], info: ValidationInfo) -> Any:
    if len(value) > MAX_METADATA_KEYS:
        raise validation_error(
            "keys", f"May have {MAX_METADATA_KEYS:,} keys, and has {len(value):,}; put some below one key"
        )
    return _storable_json(value, info, MAX_VALUES)


def _replaced(value: Any, path: JsonPath, intake: Intake, info: ValidationInfo) -> Any:
    match value:
        case list() | dict() if len(path) >= MAX_DEPTH:
            raise validation_error("depth", f"Nested more than {MAX_DEPTH} levels deep", path)
        case str() if not is_storable(value):
            if not intake.replaces:
                check_text(value, path)
            intake.note(info, path)
            return storable(value)
        case int() if abs(value) > MAX_EXACT_INTEGER:
            if not intake.replaces:
                raise validation_error("integer", _BIG_INTEGER, path)
            intake.note(info, path)
            return str(value)
        case float() if not math.isfinite(value):
            raise validation_error("number", "Not a finite number", path)
        case list():
            return [_replaced(item, (*path, index), intake, info) for index, item in enumerate(value)]
        case dict():
            # a key's own path would hold what can't be stored
            named = {
                _replaced(key, path, intake, info): _replaced(item, (*path, storable(key)), intake, info)
                for key, item in value.items()
            }
            if len(named) < len(value):
                raise validation_error("keys", _KEYS_COLLIDE, path)
            return named
    return value


def _validate_content(value: object, info: ValidationInfo) -> str | list[dict[str, Any]]:
    match value:
        case str():
            text = storable_text(value, info)
            assert isinstance(text, str)  # noqa: S101 - as it came in
            return text
        case list():
            return _validate_messages(value, info)
        case _:
            raise validation_error("content", "Must be a text or a list of messages")


def _validate_messages(value: object, info: ValidationInfo) -> list[dict[str, Any]]:
    match value:
        case []:
            raise validation_error("empty", "Must not be an empty list; leave it out instead")
        case list():
            if len(value) > MAX_MESSAGES:
                raise validation_error("messages", f"May have {MAX_MESSAGES:,} messages, and has {len(value):,}")
            for index, message in enumerate(value):
                if not isinstance(message, dict):
                    raise validation_error("message", "Must be an object with a role and a content", (index,))
                if not isinstance(message.get("role"), str):
                    raise validation_error("role", "A message needs a role, a text", (index, "role"))
            stored: list[dict[str, Any]] = _storable_json(value, info, MAX_VALUES)
            return stored
        case _:
            raise validation_error("content", "Must be a list of messages")


def restore_numbers(value: _Json) -> _Json:
    """Return a JSON value from the store with its large numbers as they were sent.

    PostgreSQL writes 1e300 as 301 digits. Integers past 2**53 are stored as texts, so such a number was a float, except
    `NO_TURN`.
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
#: The same for numbers that may also be texts. Must be the last annotations, too.
COUNTED = json_schema.NumberOrText(r"^[0-9]{1,9}$", _to_count)
MEASURED = json_schema.NumberOrText(r"^[0-9]{1,9}(\.[0-9]{1,6})?$", to_number)
#: Makes a text storable. Must be the last annotation, too.
STORABLE = BeforeValidator(storable_text)
JsonObject = Annotated[dict[str, Any], AfterValidator(_storable_json), json_schema.DocumentedAs(json_schema.Object)]
Metadata = Annotated[
    dict[str, Any],
    AfterValidator(_validate_metadata),
    json_schema.DocumentedAs(json_schema.Metadata),
    Field(
        description="Any JSON object of up to 1,000 keys. Later records add keys, up to as many, and never replace any."
    ),
]
Messages = Annotated[
    Any,
    AfterValidator(_validate_messages),
    json_schema.DocumentedAs(json_schema.Messages),
]
Content = Annotated[
    Any,
    AfterValidator(_validate_content),
    json_schema.DocumentedAs(json_schema.Content),
    Field(description="A text, or a list of messages."),
]
