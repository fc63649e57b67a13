"""The kinds of values that the settings of redaction take.

The libraries that find things take memory and time to load, so they are imported where something is to be found.
"""

import json
import re
from typing import Literal, get_args

RedactedKind = Literal["secrets", "mail", "card", "ip", "phone"]

#: Settings that mean something only where that is redacted.
NEEDS: dict[str, RedactedKind] = {"turnlog_redact_gitleaks": "secrets", "turnlog_redact_phone_regions": "phone"}

_MOST_PATTERNS = 50
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,29}")


def listed(value: object) -> object:
    """Return the names of a list with commas."""
    if not isinstance(value, str):
        return value
    names = [name.strip() for name in value.split(",") if name.strip()]
    kinds = get_args(RedactedKind)
    if unknown := [name for name in names if name not in kinds]:
        raise ValueError(f"{unknown[0]} is nothing that can be redacted by name; there are: {', '.join(kinds)}")
    return tuple(dict.fromkeys(names))


def patterns(value: object) -> object:
    """Return expressions by their names, from a JSON object; each can be compiled and matches something."""
    if not isinstance(value, str):
        return value
    example = """must be a JSON object of names and regular expressions, as in {"badge": "\\\\bB-[0-9]{6}\\\\b"}"""
    try:
        stated = json.loads(value, object_pairs_hook=_once_each)
    except json.JSONDecodeError:
        raise ValueError(example) from None
    if not isinstance(stated, dict) or not all(isinstance(each, str) for each in stated.values()):
        raise ValueError(example)
    if len(stated) > _MOST_PATTERNS:
        raise ValueError(f"holds {len(stated)} expressions, and may hold {_MOST_PATTERNS}")
    for name, expression in stated.items():
        _check(name, expression)
    return stated


def regions(value: object) -> object:
    """Return ISO 3166 codes of regions that have a numbering plan."""
    if not isinstance(value, str):
        return value
    import phonenumbers  # noqa: PLC0415 - see above

    codes = [code.strip().upper() for code in value.split(",") if code.strip()]
    if unknown := [code for code in codes if code not in phonenumbers.SUPPORTED_REGIONS]:
        raise ValueError(f"{unknown[0]} is no region with telephone numbers; write ISO 3166 codes, as in US,GB,DE")
    if not codes:
        raise ValueError("names no region; write ISO 3166 codes, as in US,GB,DE")
    return tuple(dict.fromkeys(codes))


def _once_each(pairs: list[tuple[str, object]]) -> dict[str, object]:
    names = [name for name, _ in pairs]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"names {name} twice")
    return dict(pairs)


def _check(name: str, expression: str) -> None:
    from logging_store.redaction.linear_regex import Pattern  # noqa: PLC0415 - see above

    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no name for a pattern: a small letter, and up to 29 of a-z, 0-9, _ and -")
    if name in get_args(RedactedKind):
        raise ValueError(f"{name} is a name that TURNLOG_REDACT has; choose another")
    try:
        matches_nothing = Pattern(expression).matches(b"")
    except ValueError as error:
        raise ValueError(f"{name} can't be used: {error} (the syntax is RE2's, without look-around)") from None
    if matches_nothing:
        raise ValueError(f"{name} matches the empty text, and so everywhere; let it need a character")
