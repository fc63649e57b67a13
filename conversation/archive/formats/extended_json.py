"""Converts MongoDB's Extended JSON (canonical, relaxed and legacy) to plain JSON.

Ids become text, times ISO 8601 in UTC, numbers numbers. Values that plain JSON can't hold exactly (integers past 2^53,
decimals, NaN) become text. Types without a plain form (binary data, regular expressions …) are left as they are.
"""

import base64
import binascii
import math
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from pydantic import TypeAdapter, ValidationError

from logging_store.records.json_values import MAX_EXACT_INTEGER
from logging_store.records.values import Time

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TIME: TypeAdapter[datetime] = TypeAdapter(Time)
_UUID_SUBTYPE = 4


def plain(value: Any) -> Any:
    """Return a document, or a part of one, as plain JSON."""
    match value:
        case dict():
            return _unwrapped(value)
        case list():
            return [plain(item) for item in value]
        case int() if abs(value) > MAX_EXACT_INTEGER:
            return str(value)
        case float() if not math.isfinite(value):
            return str(value)
    return value


def _unwrapped(value: dict[str, Any]) -> Any:
    match value, len(value):
        case (({"$oid": str(text)} | {"$symbol": str(text)} | {"$uuid": str(text)} | {"$numberDecimal": str(text)}), 1):
            return text
        case {"$date": moment}, 1:
            return _date(moment)
        case (({"$numberInt": str(digits)} | {"$numberLong": str(digits)}), 1):
            return _whole(digits)
        case {"$numberDouble": str(digits)}, 1:
            return _double(digits)
        case {"$undefined": True}, 1:
            return None
        case ({"$binary": {"base64": str(data), "subType": str(kind)}}, 1) | (
            {"$binary": str(data), "$type": str(kind)},
            2,
        ):
            return _uuid(data, kind) or value
    return {key: plain(item) for key, item in value.items()}


def time_of(value: Any) -> str | None:
    """Return a text that is a time as ISO 8601 in UTC with microseconds; None for anything else."""
    if not isinstance(value, str):
        return None
    try:
        return _TIME.validate_python(value).isoformat(timespec="microseconds")
    except ValidationError:
        return None


def _date(moment: Any) -> Any:
    moment = plain(moment)
    if isinstance(moment, int) and not isinstance(moment, bool):
        try:
            return (_EPOCH + timedelta(milliseconds=moment)).isoformat(timespec="milliseconds")
        except OverflowError:
            return moment
    return moment


def _whole(digits: str) -> int | str:
    try:
        number = int(digits)
    except ValueError:
        return digits
    return number if abs(number) <= MAX_EXACT_INTEGER else digits


def _double(digits: str) -> float | str:
    try:
        number = float(digits)
    except ValueError:
        return digits
    return number if math.isfinite(number) else digits


def _uuid(data: str, kind: str) -> str | None:
    try:
        return str(UUID(bytes=base64.b64decode(data, validate=True))) if int(kind, 16) == _UUID_SUBTYPE else None
    except (ValueError, binascii.Error):
        return None
