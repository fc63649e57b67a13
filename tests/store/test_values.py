"""Field types: what each accepts unchanged, and what it rejects."""

import math
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ConfigDict, TypeAdapter, ValidationError

from logging_store.records.json_values import (
    MAX_DEPTH,
    MAX_EXACT_INTEGER,
    MAX_MESSAGES,
    MAX_METADATA_KEYS,
    MAX_VALUES,
    Content,
    JsonObject,
    Metadata,
    restore_numbers,
)
from logging_store.records.values import Amount, Count, Identifier, Name, Tags, Time


def taken(kind: Any, value: Any) -> Any:
    return TypeAdapter(kind, config=ConfigDict(strict=True)).validate_python(value)


def refused(kind: Any, value: Any) -> str:
    """Return the kind of refusal."""
    with pytest.raises(ValidationError) as caught:
        taken(kind, value)
    return caught.value.errors()[0]["type"]


@pytest.mark.parametrize("text", ["1899-12-31T23:59:59Z", "1900-01-01T00:00:00+14:00", "9000-01-01T00:00:00Z"])
def test_an_implausible_time_differs_from_an_invalid_one(text: str) -> None:
    assert (refused(Time, text), refused(Time, "2026-11-21T24:00:00Z")) == ("time_range", "time")


@pytest.mark.parametrize(
    ("text", "utc"),
    [
        ("2026-11-21T06:30:00Z", "2026-11-21T06:30:00+00:00"),
        ("2026-11-21t06:30:00z", "2026-11-21T06:30:00+00:00"),
        ("2026-11-21 06:30:00Z", "2026-11-21T06:30:00+00:00"),
        ("2026-11-21T06:30Z", "2026-11-21T06:30:00+00:00"),
        ("2026-11-21T06:30:00-00:00", "2026-11-21T06:30:00+00:00"),
        ("2026-11-21T06:30:00+05:45", "2026-11-21T00:45:00+00:00"),
        ("2026-11-21T06:30:00-0330", "2026-11-21T10:00:00+00:00"),
        ("2026-01-01T00:00:00+14:00", "2025-12-31T10:00:00+00:00"),
        ("2026-11-21T06:30:00.1Z", "2026-11-21T06:30:00.100000+00:00"),
        ("2026-11-21T06:30:00.123456789Z", "2026-11-21T06:30:00.123456+00:00"),
        ("2024-02-29T00:00:00Z", "2024-02-29T00:00:00+00:00"),
        ("1900-01-01T00:00:00Z", "1900-01-01T00:00:00+00:00"),
        ("8999-12-31T23:59:59.999999Z", "8999-12-31T23:59:59.999999+00:00"),
    ],
)
def test_a_time_with_a_zone_becomes_utc(text: str, utc: str) -> None:
    assert taken(Time, text).isoformat() == utc


@pytest.mark.parametrize(
    ("number", "utc"),
    [
        (1764000000, "2025-11-24T16:00:00+00:00"),
        (1764000000.5, "2025-11-24T16:00:00.500000+00:00"),
        (1764000000000, "2025-11-24T16:00:00+00:00"),
        (1764000000123, "2025-11-24T16:00:00.123000+00:00"),
        (1764000000123.4, "2025-11-24T16:00:00.123400+00:00"),
        (10**8, "1973-03-03T09:46:40+00:00"),
        (10**11, "1973-03-03T09:46:40+00:00"),
        (10**11 - 1, "5138-11-16T09:46:39+00:00"),
    ],
)
def test_a_number_is_unix_time_in_seconds_or_milliseconds(number: float, utc: str) -> None:
    assert taken(Time, number).isoformat() == utc


@given(
    st.datetimes(datetime(1900, 1, 3), datetime(8999, 12, 29)),  # noqa: DTZ001 - the zone is drawn on its own
    st.timezones() | st.just(UTC),
)
def test_any_time_that_python_writes_is_the_same_instant(naive: datetime, zone: Any) -> None:
    time = naive.replace(tzinfo=zone)
    if (offset := time.utcoffset()) is not None and offset % timedelta(minutes=1):
        assert refused(Time, time.isoformat()) == "time"  # local mean times of old have seconds, RFC 3339 has none
    else:
        assert taken(Time, time.isoformat()) == time


@pytest.mark.parametrize("kind", [Identifier, Name])
@pytest.mark.parametrize(
    "text", ["x", "a b", " a ", "é" * 200, "0", "-", "/", "\xa1", "\uffff", "nullable", "...", "%00"]
)
def test_a_name_is_any_visible_text(kind: Any, text: str) -> None:
    assert taken(kind, text) == text


@pytest.mark.parametrize(
    ("kind", "value", "why"),
    [
        (Identifier, "", "string_too_short"),
        (Identifier, "x" * 201, "string_too_long"),
        (Identifier, "\u3000", "blank"),
        (Identifier, "a\0", "control_character"),
        (Identifier, "a\x7fb", "control_character"),
        (Identifier, "a\x80", "control_character"),
        (Identifier, "uNdEfInEd", "placeholder"),
        (Identifier, "..", "unaddressable"),
        (Identifier, "00000000-0000-0000-0000-000000000000", "nil"),
        (Identifier, b"x", "name_type"),
        (Identifier, 42.0, "name_type"),
        (Identifier, True, "name_type"),
        (Identifier, 10**200, "string_too_long"),
        (Identifier, "a\ud83d", "string_unicode"),
        (Name, 42, "string_type"),
        (Name, "a\ud83d", "string_unicode"),
        (Name, "\n", "blank"),
        (Tags, ["x" * 101], "string_too_long"),
        (Tags, ["x"] * 101, "too_long"),
        (Tags, ("x",), "list_type"),
        (Tags, ["x", "y", "x"], "repeated"),
        (Count, -1, "greater_than_equal"),
        (Count, MAX_EXACT_INTEGER + 1, "less_than_equal"),
        (Count, 0.5, "int_type"),
        (Count, math.inf, "int_type"),
        (Count, math.nan, "int_type"),
        (Count, 1e300, "less_than_equal"),
        (Count, True, "int_type"),
        (Count, "", "int_type"),
        (Count, "x", "int_type"),
        (Count, " 1", "int_type"),
        (Count, "1_000", "int_type"),
        (Count, "0x1", "int_type"),
        (Count, "\N{ARABIC-INDIC DIGIT ONE}", "int_type"),
        (Count, "1.5", "int_type"),
        (Count, "-1", "greater_than_equal"),
        (Amount, "", "float_type"),
        (Amount, "1,5", "float_type"),
        (Amount, "NaN", "float_type"),
        (Amount, "1e999", "finite_number"),
        (Amount, math.nan, "finite_number"),
        (Amount, math.inf, "finite_number"),
        (Amount, -1e-9, "greater_than_equal"),
        (Amount, 1e12 + 1, "less_than_equal"),
        (Amount, True, "float_type"),
        (Time, datetime(2026, 11, 21, tzinfo=UTC), "time"),
        *(
            (Time, number, "time")
            for number in (0, -1, 2026, 20261121, 10**8 - 1, 221_845_392_000_000, 10**15, True, math.nan, math.inf)
        ),
        (Time, "1795242600", "time"),
        (Content, [], "empty"),
        (Content, 1, "content"),
        (Content, [1], "message"),
        (Content, [{}], "role"),
        (JsonObject, [], "dict_type"),
        (JsonObject, {"a": "\0"}, "nul"),
        (JsonObject, {"a": [MAX_EXACT_INTEGER + 1]}, "integer"),
        (JsonObject, {"a": -math.inf}, "number"),
        (Metadata, dict.fromkeys(map(str, range(MAX_METADATA_KEYS + 1))), "keys"),
        (Metadata, {"a": [0] * MAX_VALUES}, "values"),
        (Content, [{"role": "user"}] * (MAX_MESSAGES + 1), "messages"),
        (Content, [{"role": "user", "content": [[0]] * (MAX_VALUES // 2)}], "values"),
    ],
)
def test_values_that_cannot_be_stored_unchanged_are_rejected(kind: Any, value: Any, why: str) -> None:
    assert refused(kind, value) == why


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (Metadata, dict.fromkeys(map(str, range(MAX_METADATA_KEYS)), 1)),
        (Metadata, {"a": [0] * (MAX_VALUES - 1)}),
        (Content, [{"role": "user"}] * MAX_MESSAGES),
        (JsonObject, {"a": [0] * MAX_VALUES}),
    ],
)
def test_what_is_as_large_as_it_may_be_is_taken(kind: Any, value: Any) -> None:
    assert taken(kind, value) == value


def nested(levels: int, innermost: Any) -> dict[str, Any]:
    return {"a": nested(levels - 1, innermost) if levels > 1 else innermost}


@pytest.mark.parametrize(
    ("value", "taken_so"),
    [
        (nested(MAX_DEPTH, 1), True),
        (nested(MAX_DEPTH - 1, {}), True),
        (nested(MAX_DEPTH - 1, [[]]), False),
        (nested(MAX_DEPTH, []), False),
        (nested(MAX_DEPTH + 1, 1), False),
    ],
)
def test_json_is_at_most_64_levels_deep(value: dict[str, Any], taken_so: bool) -> None:
    if taken_so:
        assert taken(JsonObject, value) == value
    else:
        assert refused(JsonObject, value) == "depth"


@pytest.mark.parametrize("value", [0, 5, 5.0, -0.0, MAX_EXACT_INTEGER, float(MAX_EXACT_INTEGER)])
def test_a_count_is_a_whole_number_in_any_notation(value: float) -> None:
    count = taken(Count, value)
    assert (count, type(count)) == (value, int)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_large_numbers_come_back_as_the_floats_they_were(number: float) -> None:
    # a store may write a whole float out in digits, as Postgres does with 1e300
    written = int(number) if number.is_integer() else number
    assert restore_numbers({"a": [written, "text", None, True]}) == {"a": [number, "text", None, True]}


def test_numbers_that_were_integers_stay_integers() -> None:
    restored = restore_numbers([MAX_EXACT_INTEGER, -MAX_EXACT_INTEGER, 0, True])
    assert [type(each) for each in restored] == [int, int, int, bool]
