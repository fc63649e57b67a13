"""Reads single values out of a span's attributes: texts, counts, JSON in a text, and lists that were flattened."""

import base64
import math
import re
import sys
from collections.abc import Iterable
from typing import Any

import jiter

from conversation.otlp.spans import Attributes

_MAX_DEPTH = 16  # levels of a flattened value; a deeper name is one level
_MOST_COUNT = 2**53
_COUNT = re.compile(r"[0-9]{1,15}", re.ASCII)
#: What libraries write in the place of what they leave out.
_REDACTED = ("[Scrubbed", "__REDACTED__", "[REDACTED]")


def text(attributes: Attributes, *names: str) -> str | None:
    """Return the first of several attributes that is a text with something in it."""
    for name in names:
        value = attributes.get(name)
        if isinstance(value, str) and value.strip() and not is_redacted(value):
            return value
    return None


def is_redacted(value: object) -> bool:
    """Return whether a library put a placeholder in the place of a value."""
    return isinstance(value, str) and value.startswith(_REDACTED)


def count(attributes: Attributes, *names: str) -> int | None:
    """Return the first of several attributes that is a count."""
    for name in names:
        value = attributes.get(name)
        if isinstance(value, str) and _COUNT.fullmatch(value):
            value = int(value)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MOST_COUNT:
            return value
    return None


def number(attributes: Attributes, *names: str) -> float | None:
    """Return the first of several attributes that is a number from 0."""
    for name in names:
        value = attributes.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= sys.float_info.max:
            return float(value)
    return None


def first(value: Any) -> str | None:
    """Return a text, or the first text of a list, also of one that is JSON in a text."""
    value = parsed(value)
    if isinstance(value, list):
        value = next(iter(value), None)
    return value if isinstance(value, str) and value.strip() else None


def parsed(value: Any) -> Any:
    """Return what a text holds as JSON; any other value, and a text that is no JSON, as it is."""
    if not isinstance(value, str) or not value or value[0] not in '{["' or is_redacted(value):
        return value
    try:
        return jiter.from_json(value.encode(), allow_inf_nan=False)
    except ValueError:
        return _parsed_with_nan(value)


def _parsed_with_nan(text: str) -> Any:
    """Return what Python's encoder writes, which has numbers that JSON hasn't."""
    try:
        return plain(jiter.from_json(text.encode(errors="surrogatepass"), allow_inf_nan=True))
    except ValueError:
        return text


def parsed_object(value: Any) -> dict[str, Any]:
    """Return an object, also one that is JSON in a text; empty if it is none."""
    value = parsed(value)
    return value if isinstance(value, dict) else {}


def parsed_list(value: Any) -> list[Any]:
    """Return a list, also one that is JSON in a text; empty if it is none."""
    value = parsed(value)
    return value if isinstance(value, list) else []


def under(attributes: Attributes, prefix: str) -> dict[str, Any]:
    """Return the attributes whose names begin with a prefix, without it."""
    return {name[len(prefix) :]: value for name, value in attributes.items() if name.startswith(prefix)}


def nested(attributes: Attributes, prefix: str) -> Any:
    """Return what was flattened into attributes that begin with a prefix: objects, and lists by their indexes."""
    root: dict[str, Any] = {}
    for name, value in under(attributes, prefix).items():
        *path, leaf = name.split(".", _MAX_DEPTH)
        holder = root
        for part in path:
            inner = holder.get(part)
            if not isinstance(inner, dict):
                inner = holder[part] = {}
            holder = inner
        if not isinstance(holder.get(leaf), dict):
            holder[leaf] = value
    return _with_lists(root)


def _with_lists(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    inner = {name: _with_lists(each) for name, each in value.items()}
    if inner and all(name.isascii() and name.isdigit() for name in inner):
        return [inner[name] for name in sorted(inner, key=_by_number)]
    return inner


def _by_number(digits: str) -> tuple[int, str]:
    """Return what sorts digits as their number, however many they are."""
    number = digits.lstrip("0")
    return len(number), number


def plain(value: Any) -> Any:
    """Return a value as JSON can hold it: bytes as base64, numbers that JSON hasn't as texts."""
    match value:
        case float() if not math.isfinite(value):
            return str(value)
        case bytes():
            return base64.b64encode(value).decode()
        case list():
            return [plain(each) for each in value]
        case dict():
            return {name: plain(each) for name, each in value.items()}
    return value


def texts(value: Any) -> list[str]:
    """Return the texts of a list, also of one that is JSON in a text, or that is separated by commas."""
    value = parsed(value)
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",")]
    each: Iterable[Any] = value if isinstance(value, list) else ()
    return [part for part in each if isinstance(part, str) and part.strip() and not is_redacted(part)]
