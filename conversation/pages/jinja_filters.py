"""Jinja filters that format times, numbers and states."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, tzinfo
from typing import Any

from flask import Flask
from markupsafe import Markup

from conversation.pages import embedded_files

MISSING = "\N{EN DASH}"
_SECOND_MS = 1000
_MINUTE_S = 60
_HOUR_S = 3600
_SMALL_USD = 0.01
_UNITS = (("G", 10**9), ("M", 10**6))

#: Bootstrap's badge colours; badges also name the state in words.
_COLOURS = {
    "completed": "text-bg-success",
    "failed": "text-bg-danger",
    "pending": "text-bg-warning",
    "abandoned": "text-bg-secondary",
    "spooled": "text-bg-info",
    "open": "text-bg-success",
    "active": "text-bg-success",
    "locked": "text-bg-secondary",
    "closed": "text-bg-dark",
}


def register(app: Flask) -> None:
    filters: tuple[Callable[..., Any], ...] = (
        *(timestamp, short_time, day, number, compact, percent, duration, dollars),
        *(badge, pretty_json, embedded_files.without_cut_files),
    )
    for each in filters:
        app.add_template_filter(each)


def timestamp(time: str | datetime | None) -> str:
    """Format a time in UTC, to the second."""
    return _time(time, "%Y-%m-%d %H:%M:%S")


def short_time(time: str | datetime | None, zone: tzinfo | None = None) -> str:
    """Format a time without year and seconds, in a zone, else in UTC."""
    return _time(time, "%m-%d %H:%M", zone)


def day(time: str | datetime | None) -> str:
    return _time(time, "%Y-%m-%d")


def number(value: float | None) -> str:
    if value is None:
        return MISSING
    return f"{value:,}" if isinstance(value, int) else f"{value:,.6g}"


def compact(value: float | None) -> str:
    """Format a number, from a million on in three digits and a unit."""
    for name, unit in _UNITS:
        if value is not None and value >= unit:
            return f"{value / unit:.3g}\N{NO-BREAK SPACE}{name}"
    return number(value)


def percent(share: float) -> str:
    return f"{100 * share:.3g}\N{NO-BREAK SPACE}%"


def duration(milliseconds: float | None) -> str:
    if milliseconds is None:
        return MISSING
    if milliseconds < _SECOND_MS:
        return f"{milliseconds:.0f} ms"
    seconds = milliseconds / _SECOND_MS
    if seconds < _MINUTE_S:
        return f"{seconds:.1f} s"
    if seconds < _HOUR_S:
        return f"{seconds / _MINUTE_S:.1f} min"
    return f"{seconds / _HOUR_S:.1f} h"


def dollars(usd: float | None) -> str:
    if usd is None:
        return MISSING
    return f"${usd:,.2f}" if usd == 0 or abs(usd) >= _SMALL_USD else f"${usd:.6f}".rstrip("0")


def badge(state: str) -> Markup:
    return Markup('<span class="badge {}">{}</span>').format(_COLOURS.get(state, "text-bg-secondary"), state)


def pretty_json(value: Any) -> str:
    """Format a JSON value with indentation, and with the descriptions of files in their place."""
    value = embedded_files.FileFinder().without_files(value)
    return json.dumps(value, indent=2, ensure_ascii=False)


def _time(time: str | datetime | None, form: str, zone: tzinfo | None = None) -> str:
    if time is None:
        return MISSING
    moment = (datetime.fromisoformat(time) if isinstance(time, str) else time).astimezone(zone or UTC)
    return Markup('<time datetime="{}">{}</time>').format(moment.isoformat(), moment.strftime(form))
