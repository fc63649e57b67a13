"""The types of the records' fields, and their validation.

Nothing is changed silently: a value is stored as it was sent, rejected with its path, or replaced and noted (`intake`).
"""

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BeforeValidator,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    ValidationInfo,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import PydanticCustomError, core_schema

from logging_store.records import json_schema
from logging_store.records.intake import Intake
from logging_store.records.json_values import (
    COUNTED,
    MAX_EXACT_INTEGER,
    MEASURED,
    STORABLE,
    check_json,
    check_text,
    storable_text,
    to_integer,
    validation_error,
)

MAX_KEY_PARTS, MAX_KEY_PART_NAME, MAX_KEY_PART = 8, 50, 100
MAX_FEEDBACK = 10_000  # characters of a value, and of a comment
MAX_NAME = 200  # characters of an id, a user, a model: they are index keys

_MAX_NUMBER = 1e12  # of an amount, and of a feedback value on either side of 0

_DATE = re.compile(r"\d{4}-\d\d-\d\d")
#: A time as ISO 8601, and as databases and languages write it: `2026-03-01 10:00:00+00`, `2026-03-01T10:00:00 UTC`.
_TIME = re.compile(
    r"(?P<at>\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d(:\d\d(\.\d+)?)?)( ?(?P<zone>[Zz]|UTC|GMT|[+-]\d\d(:?\d\d)?))?", re.ASCII
)
BLANK, CONTROL_CHARACTER = "Must not be blank; leave it out instead", "Must not hold control characters"
_DIGITS = re.compile(r"[0-9]{9,15}(\.[0-9]{1,6})?")
_CONTROL_CHARACTER = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_UNADDRESSABLE = frozenset({".", ".."})
_NIL = "00000000-0000-0000-0000-000000000000"
PLACEHOLDERS = frozenset({"null", "undefined", "none"})  # a missing id after string formatting
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MIN_EPOCH_S = 10**8  # seconds of 1973: a smaller number is more likely 0, a year or a day as 20261121
_MIN_EPOCH_MS = 10**11  # the same day in milliseconds; as seconds it would be in the year 5138
_MAX_EPOCH_MS = 221_845_392_000_000  # the year 9000
_MIN_TIME, _MAX_TIME = datetime(1900, 1, 1, tzinfo=UTC), datetime(9000, 1, 1, tzinfo=UTC)


class _NameRules:
    """Validates names in pydantic's core: in Python that took a third of a batch's validation."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        rules = (("blank", r"\S", BLANK), ("control_character", r"^[^\x00-\x1f\x7f-\x9f]*$", CONTROL_CHARACTER))
        return core_schema.chain_schema(
            [
                handler(source),
                *(
                    core_schema.custom_error_schema(
                        core_schema.str_schema(pattern=pattern), custom_error_type=kind, custom_error_message=message
                    )
                    for kind, pattern, message in rules
                ),
            ]
        )

    def __get_pydantic_json_schema__(self, schema: Any, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        while "steps" not in schema:
            schema = schema["schema"]
        return handler(schema["steps"][0]) | json_schema.NAME  # this pattern covers the other steps


_NAME_RULES = _NameRules()


class _DigitsAsText:
    """Reads a whole number as the text of its digits, in pydantic's core. Must be the last annotation."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        # strict, or true and 42.0 would be numbers, too; the rules of the text come afterwards
        digits = core_schema.chain_schema(
            [core_schema.int_schema(strict=True), core_schema.str_schema(strict=False, coerce_numbers_to_str=True)]
        )
        text_or_number = core_schema.union_schema(
            [core_schema.str_schema(strict=True), digits],
            mode="left_to_right",
            custom_error_type="name_type",
            custom_error_message="Must be a text or a whole number",
        )
        return core_schema.chain_schema([text_or_number, handler(source)])

    def __get_pydantic_json_schema__(self, schema: Any, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        while "steps" not in schema:
            schema = schema["schema"]
        text = handler(schema["steps"][-1])
        shared = {name: text.pop(name) for name in ("title", "description") if name in text}
        return {"anyOf": [text, {"type": "integer"}]} | shared


_DIGITS_AS_TEXT = _DigitsAsText()


def _check_name(text: str, path: tuple[str | int, ...]) -> None:
    if not text.strip():
        raise validation_error("blank", BLANK, path)
    if _CONTROL_CHARACTER.search(text):
        raise validation_error("control_character", CONTROL_CHARACTER, path)
    check_text(text, path)


def _validate_identifier(text: str) -> str:
    if text.lower() in PLACEHOLDERS:
        raise validation_error("placeholder", "Looks like a missing id converted to text; leave it out instead")
    if text in _UNADDRESSABLE:
        raise validation_error("unaddressable", "Can't be part of a URL")
    if text == _NIL:
        raise validation_error("nil", "The nil UUID identifies nothing; leave it out instead")
    return text


def _parse_time(value: object, info: ValidationInfo) -> datetime:
    time = None
    if isinstance(value, str):
        time = _read_time(value, info)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        time = _epoch_time(value)
    if time is None:
        raise validation_error("time", _time_error(value, info))
    return _check_time_range(time)


def _read_time(text: str, info: ValidationInfo) -> datetime | None:
    """Return the time that a text states; None for one that states none, or no zone where none is set."""
    found = _TIME.fullmatch(text)
    if found is None:
        return None
    zone = found["zone"]
    try:
        if zone is None:
            intake = Intake.of(info)
            if intake is None or intake.zone is None:
                return None
            # to UTC by hand: comparing times in a zone of their own would compare clocks
            return datetime.fromisoformat(found["at"].upper()).replace(tzinfo=intake.zone).astimezone(UTC)
        return datetime.fromisoformat(found["at"].upper() + ("Z" if zone.isalpha() else zone))
    except (ValueError, OverflowError):
        return None


def _epoch_time(value: float) -> datetime:
    """Return the time of a Unix timestamp in seconds, or, from 10^11 on, in milliseconds, to the microsecond."""
    if _MIN_EPOCH_S <= value < _MIN_EPOCH_MS:
        return _EPOCH + timedelta(seconds=value)
    if _MIN_EPOCH_MS <= value < _MAX_EPOCH_MS:
        return _EPOCH + timedelta(milliseconds=value)
    raise validation_error("time", f"Must be Unix time in seconds or milliseconds if it is a number, or {_A_TIME}")


_A_TIME = "an ISO 8601 date and time with a zone, as in 2026-11-21T06:30:00Z"


def _time_error(value: object, info: ValidationInfo) -> str:
    """Return a message for a value that isn't a time, with the likely correction."""
    if not isinstance(value, str):
        return f"Must be {_A_TIME}, or Unix time as a number"
    if _DIGITS.fullmatch(value):
        with suppress(PydanticCustomError):
            meant = _epoch_time(float(value))
            return f"Looks like Unix time; send it as a number, or as {meant:%Y-%m-%dT%H:%M:%SZ}"
    if _DATE.fullmatch(value):
        return "Must have a time and a zone as well, as in 2026-11-21T06:30:00Z"
    if (found := _TIME.fullmatch(value)) and found["zone"] is None:
        left_out = f", or leave {info.field_name} out{_ARRIVAL}" if info.field_name in _MAY_BE_LEFT_OUT else ""
        return f"Must have a zone, as in 2026-11-21T06:30:00Z; add Z if it is UTC{left_out}"
    return f"Must be {_A_TIME}"


_MAY_BE_LEFT_OUT = frozenset({"started_at", "completed_at", "ended_at", "given_at"})
_ARRIVAL = ": the service knows when the record arrived"


def _validate_date_format(value: object) -> object:
    if isinstance(value, str) and _DATE.fullmatch(value):
        return value
    raise validation_error("date", "Must be an ISO 8601 date, as in 2026-11-21")


def _check_date_range(value: date) -> date:
    if not _MIN_TIME.date() <= value < _MAX_TIME.date():
        raise validation_error("date_range", "Must be after the year 1900 and before the year 9000")
    return value


def _check_time_range(value: datetime) -> datetime:
    if not _MIN_TIME <= value < _MAX_TIME:
        raise validation_error("time_range", "Must be after the year 1900 and before the year 9000")
    return value if value.tzinfo is UTC else value.astimezone(UTC)


def _reject_duplicate_tags(tags: list[str]) -> list[str]:
    for index, tag in enumerate(tags):
        if tag in tags[:index]:
            raise validation_error("repeated", "Tags are a set, and this one is there already", (index,))
    return tags


def _reject_duplicate_names(names: list[str]) -> list[str]:
    for index, name in enumerate(names):
        if name in names[:index]:
            raise validation_error("repeated", "Named once already", (index,))
    return names


def _validate_composite_key(value: dict[str, Any]) -> dict[str, Any]:
    if not 1 <= len(value) <= MAX_KEY_PARTS:
        raise validation_error("key", f"A key has 1 to {MAX_KEY_PARTS} parts")
    value = {name: to_integer(part) for name, part in value.items()}
    for name, part in value.items():
        _check_name(name, ())
        if len(name) > MAX_KEY_PART_NAME:
            raise validation_error("key_part", f"The name of a part may have {MAX_KEY_PART_NAME} characters", (name,))
        match part:
            case bool() | int():
                pass
            case str() if len(part) <= MAX_KEY_PART:
                _check_name(part, (name,))
            case None:
                raise validation_error("key_part", "A part of a key can't be missing", (name,))
            case _:
                raise validation_error(
                    "key_part",
                    f"A part of a key is a text of {MAX_KEY_PART} characters at most, an integer, true or false",
                    (name,),
                )
    check_json(value, ())
    return value


def canonical_key(parts: Mapping[str, Any]) -> str:
    """Return a composite key as canonical JSON (RFC 8785), whatever the order of its parts."""
    in_order = sorted(parts.items(), key=lambda part: part[0].encode("utf-16-be"))
    return json.dumps(dict(in_order), ensure_ascii=False, separators=(",", ":"))


def _validate_feedback_value(value: object, info: ValidationInfo) -> bool | float | str | None:
    match value:
        case bool() | None:
            return value
        case str() if not value.strip():
            raise validation_error("blank", "Must not be blank; null takes feedback back")
        case str() if len(value) <= MAX_FEEDBACK:
            text = storable_text(value, info)
            assert isinstance(text, str)  # noqa: S101 - as it came in
            return text
        case str():
            raise validation_error("long", f"A text may have {MAX_FEEDBACK} characters")
        case int() | float() if abs(value) <= _MAX_NUMBER:
            return int(value) if float(value).is_integer() else value  # 4.0 is 4
        case int() | float():
            raise validation_error("number", f"A number may be up to {_MAX_NUMBER:.0f}, on either side of 0")
    raise validation_error("value", "Must be true or false, a number or a text; null takes feedback back")


Text = Annotated[str, STORABLE]
Title = Annotated[str, Field(max_length=1000), STORABLE]
Comment = Annotated[str, Field(min_length=1, max_length=MAX_FEEDBACK), STORABLE]
Name = Annotated[str, Field(min_length=1, max_length=MAX_NAME), _NAME_RULES]
#: Who it is: a user, a participant, an author. Serial ids are numbers in many programs.
Person = Annotated[str, Field(min_length=1, max_length=MAX_NAME), _NAME_RULES, _DIGITS_AS_TEXT]
Identifier = Annotated[
    str,
    Field(min_length=1, max_length=MAX_NAME),
    _NAME_RULES,
    AfterValidator(_validate_identifier),
    Field(
        description="A UUID, or any other text of the caller's own. A whole number means its digits.",
        json_schema_extra=json_schema.IDENTIFIER,
    ),
    _DIGITS_AS_TEXT,
]
Tag = Annotated[str, Field(min_length=1, max_length=100), _NAME_RULES]
Tags = Annotated[
    list[Tag],
    Field(
        max_length=100,
        description="A set: shown in the order in which its tags first arrived.",
        json_schema_extra={"uniqueItems": True},
    ),
    AfterValidator(_reject_duplicate_tags),
]
Time = Annotated[
    AwareDatetime,
    BeforeValidator(_parse_time),
    json_schema.DocumentedAs(json_schema.Time),
    Field(
        strict=False,
        description="ISO 8601 with a zone, or Unix time as a number, in seconds or, from 10^11 on, in milliseconds; "
        "stored in UTC, to the microsecond.",
    ),
]
Date = Annotated[
    date,
    Field(strict=False, json_schema_extra=json_schema.DATE),
    BeforeValidator(_validate_date_format),
    AfterValidator(_check_date_range),
]
Count = Annotated[int, Field(ge=0, le=MAX_EXACT_INTEGER), COUNTED]
Amount = Annotated[float, Field(ge=0, le=_MAX_NUMBER, allow_inf_nan=False), MEASURED]
FeedbackValue = Annotated[
    Any,
    AfterValidator(_validate_feedback_value),
    json_schema.DocumentedAs(json_schema.FeedbackValue),
    Field(description="true or false, a number or a text; null takes it back."),
]
CompositeKey = Annotated[
    dict[str, Any],
    AfterValidator(_validate_composite_key),
    json_schema.DocumentedAs(json_schema.CompositeKey),
    Field(description="The caller's own key where that has several parts, in any order; the id derives from it."),
]
KeyFields = Annotated[
    list[Annotated[str, Field(max_length=MAX_KEY_PART_NAME), _NAME_RULES]],
    Field(
        min_length=1,
        max_length=MAX_KEY_PARTS,
        description="The parts that a key has, all of them.",
        json_schema_extra={"uniqueItems": True},
    ),
    AfterValidator(_reject_duplicate_names),
]
