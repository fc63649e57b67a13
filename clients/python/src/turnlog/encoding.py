"""Records as JSON: whatever a caller logs becomes something storable, as near to it as can be."""

from __future__ import annotations

import dataclasses
import json
import math
import uuid
from collections.abc import Iterable, Mapping
from datetime import date, datetime, timezone
from decimal import Decimal
from enum import Enum
from typing import Any

_DEEPEST = 200
_UTC = timezone.utc


def encode(record: Mapping[str, Any]) -> bytes:
    """Return a record as one line of UTF-8. Raises `ValueError` for one that refers to itself."""
    try:
        return _dumps(record)
    except (TypeError, ValueError, RecursionError):  # NaN, keys that are no text, half of an emoji
        return _dumps(_plain(record, 0))


def _dumps(value: Any) -> bytes:
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=plain_object)
    try:
        return text.encode()
    except UnicodeEncodeError:  # half of an emoji; the service replaces it and names the field
        return json.dumps(value, allow_nan=False, separators=(",", ":"), default=plain_object).encode()


def plain_object(value: Any) -> Any:
    """Return an object that JSON doesn't know as one that it does."""
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.astimezone()).isoformat()
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return f"[{len(value)} bytes]"
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, date | uuid.UUID | BaseException | type):
        return str(value)
    for name in ("model_dump", "to_dict", "dict", "tolist"):  # pydantic, other models, arrays
        if callable(method := getattr(value, name, None)):
            return method(mode="json", warnings=False) if name == "model_dump" else method()
    return list(value) if isinstance(value, Iterable) else str(value)


def _plain(value: Any, depth: int) -> Any:
    if depth > _DEEPEST:
        raise ValueError("The record refers to itself, or is too deep")
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item, depth + 1) for item in value]
    return _plain(plain_object(value), depth + 1)


def now() -> str:
    return datetime.now(_UTC).isoformat(timespec="microseconds")
