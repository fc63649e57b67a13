"""Converts values of columns to values of fields. One that a field can't hold raises `ValueError`."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any

from conversation.archive.dialogues import to_text
from conversation.archive.formats import extended_json
from conversation.archive.from_database.tables import Kind

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_UNITS = ((1e11, 1e6), (1e14, 1e3), (1e17, 1.0), (float("inf"), 1e-3))  # up to which number, microseconds in one
_NUMBER = re.compile(r"-?\d+(\.\d+)?")

_INTERACTION_STATUS = {
    **dict.fromkeys(
        ("completed", "complete", "success", "succeeded", "successful", "ok", "done", "finished"), "completed"
    ),
    **dict.fromkeys(("failed", "failure", "error", "errored"), "failed"),
    **dict.fromkeys(("pending", "queued", "running", "processing", "in_progress", "streaming", "started"), "pending"),
    **dict.fromkeys(("abandoned", "cancelled", "canceled", "aborted", "stopped", "timeout", "timed_out"), "abandoned"),
}
_SESSION_STATUS = {
    **dict.fromkeys(("open", "active", "ongoing", "in_progress", "started", "running"), "open"),
    **dict.fromkeys(("closed", "ended", "completed", "complete", "archived", "done", "finished", "inactive"), "closed"),
    "locked": "locked",
}


@dataclass(frozen=True, slots=True)
class Zone:
    """The time zone of times that have none."""

    of_unzoned: tzinfo


def converter(field: str, kind: Kind, zone: Zone, shape: str) -> Callable[[Any], Any]:
    """Return the function that converts a column's values to a field's."""
    match field:
        case "started_at" | "ended_at" | "completed_at" | "said_at":
            return lambda value: _time(value, zone)
        case "prompt" | "response":
            return _said if kind == "json" else _text
        case "content":
            return plain if kind == "json" else _text
        case (
            "input_tokens"
            | "output_tokens"
            | "cached_input_tokens"
            | "cache_write_tokens"
            | "reasoning_tokens"
            | "turn"
            | "position"
        ):
            return _count
        case "latency_ms" | "time_to_first_token_ms" | "cost_usd":
            return _amount
        case "tags":
            return _tags
        case "status":
            return _session_status if shape == "sessions" else _interaction_status
        case "session_id" | "interaction_id" | "reply_to":
            return _as_it_is
    return _text


def is_exact(field: str, theirs: Any, ours: Any) -> bool:
    """Return whether the conversion of a value lost nothing."""
    return field != "status" or theirs == ours


def plain(value: Any) -> Any:
    """Return a value as metadata can store it."""
    return extended_json.plain(value) if isinstance(value, int | float) else _plain_json(value)


def _plain_json(value: Any) -> Any:
    match value:
        case dict():
            return {key: plain(item) for key, item in value.items()}
        case list():
            return [plain(item) for item in value]
    return value


def _as_it_is(value: Any) -> Any:
    return value


def _text(value: Any) -> str:
    match value:
        case str():
            return value
        case bool():
            raise ValueError("Must be a text")
        case int() | float():
            return str(value)
    return to_text(value)


def _said(value: Any) -> Any:
    """Return messages as a list; any other value that isn't a text as JSON text."""
    match value:
        case {"role": str()}:
            return [plain(value)]
        case [{"role": str()}, *_] if all(
            isinstance(each, dict) and isinstance(each.get("role"), str) for each in value
        ):
            return plain(value)
    return _text(value) if not isinstance(value, bool) else to_text(value)


def _time(value: Any, zone: Zone) -> str:
    if isinstance(value, str) and not _NUMBER.fullmatch(value):
        moment = datetime.fromisoformat(value)
        return (moment if moment.tzinfo else moment.replace(tzinfo=zone.of_unzoned)).isoformat()
    number = _number(value)
    per_unit = next(micros for most, micros in _UNITS if abs(number) < most)
    try:
        return (_EPOCH + timedelta(microseconds=round(number * per_unit))).isoformat()
    except OverflowError:
        raise ValueError("Not a time") from None


def _number(value: Any) -> int | float:
    match value:
        case bool():
            raise ValueError("Must be a number")
        case int() | float():
            return value
        case str():
            return float(value)
    raise ValueError("Must be a number")


def _count(value: Any) -> int:
    number = _number(value)
    if not float(number).is_integer():
        raise ValueError("Must be a whole number")
    return int(number)


def _amount(value: Any) -> float:
    return float(_number(value))


def _tags(value: Any) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise ValueError("Must be a list of texts")
    return list(dict.fromkeys(value))


def _interaction_status(value: Any) -> str:
    return _known_status(value, _INTERACTION_STATUS)


def _session_status(value: Any) -> str:
    return _known_status(value, _SESSION_STATUS)


def _known_status(value: Any, known: dict[str, str]) -> str:
    status = known.get(str(value).strip().lower())
    if status is None:
        raise ValueError(f"Must be one of {', '.join(sorted(set(known.values())))}, or a synonym")
    return status
