"""Value types of the redaction settings.

The libraries that find phone numbers and patterns take memory and time to load, so they are imported when needed.
"""

import json
import re
from typing import Literal, get_args

RedactedKind = Literal["secrets", "mail", "card", "ip", "phone"]

#: Settings that need TURNLOG_REDACT to name a kind.
NEEDS: dict[str, RedactedKind] = {"turnlog_redact_gitleaks": "secrets", "turnlog_redact_phone_regions": "phone"}

_MAX_PATTERNS = 50
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,29}")


def listed(value: object) -> object:
    """Return the kinds in a comma-separated list. Raises `ValueError` for an unknown one."""
    if not isinstance(value, str):
        return value
    names = [name.strip() for name in value.split(",") if name.strip()]
    kinds = get_args(RedactedKind)
    if unknown := [name for name in names if name not in kinds]:
        raise ValueError(f"{unknown[0]} can't be redacted by name; there are: {', '.join(kinds)}")
    return tuple(dict.fromkeys(names))


def patterns(value: object) -> object:
    """Return named expressions from a JSON object. Raises `ValueError` if one doesn't compile or matches nothing."""
    if not isinstance(value, str):
        return value
    example = """must be a JSON object of names and regular expressions, as in {"badge": "\\\\bB-[0-9]{6}\\\\b"}"""
    try:
        expressions = json.loads(value, object_pairs_hook=_once_each)
    except json.JSONDecodeError:
        raise ValueError(example) from None
    if not isinstance(expressions, dict) or not all(isinstance(each, str) for each in expressions.values()):
        raise ValueError(example)
    if len(expressions) > _MAX_PATTERNS:
        raise ValueError(f"holds {len(expressions)} expressions; the most is {_MAX_PATTERNS}")
    for name, expression in expressions.items():
        _check(name, expression)
    return expressions


def regions(value: object) -> object:
    """Return the ISO 3166 codes in a comma-separated list. Raises `ValueError` for an unknown region."""
    if not isinstance(value, str):
        return value
    import phonenumbers  # noqa: PLC0415 - see above

    codes = [code.strip().upper() for code in value.split(",") if code.strip()]
    if unknown := [code for code in codes if code not in phonenumbers.SUPPORTED_REGIONS]:
        raise ValueError(f"{unknown[0]} is not a region with telephone numbers; use ISO 3166 codes, as in US,GB,DE")
    if not codes:
        raise ValueError("names no region; use ISO 3166 codes, as in US,GB,DE")
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
        raise ValueError(
            f"{name!r} is not a valid name: it needs a lower-case letter, then up to 29 of a-z, 0-9, _ and -"
        )
    if name in get_args(RedactedKind):
        raise ValueError(f"{name} is a kind of TURNLOG_REDACT; choose another name")
    try:
        matches_nothing = Pattern(expression).matches(b"")
    except ValueError as error:
        raise ValueError(f"{name} can't be used: {error} (the syntax is RE2's, without look-around)") from None
    if matches_nothing:
        raise ValueError(f"{name} matches the empty text; it must need at least one character")
