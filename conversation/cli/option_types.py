"""Value types of options; an invalid value is refused with an example of a valid one."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from conversation.archive.ratings import FeedbackFilter

_SPAN = re.compile(r"(\d{1,6})([smhdw])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_LONGEST = timedelta(days=3660)


class _Project(click.ParamType[str]):
    name = "project"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        from conversation import settings

        if not re.fullmatch(settings.PROJECT, value):
            self.fail("must be 1 to 100 letters, digits, dots, dashes or underscores", param, ctx)
        return value


class _Name(click.ParamType[str]):
    """A name for people, as the records' names are."""

    name = "name"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        from pydantic import TypeAdapter, ValidationError

        from conversation.refusals import validation_messages
        from logging_store.records.values import Name

        try:
            return TypeAdapter[str](Name).validate_python(value)
        except ValidationError as error:
            self.fail(validation_messages.sentence(error.errors()[0]), param, ctx)


class _Span(click.ParamType[timedelta]):
    name = "span"

    def convert(self, value: str | timedelta, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        if isinstance(value, timedelta):
            return value
        match = _SPAN.fullmatch(value)
        span = timedelta(**{_UNITS[match[2]]: int(match[1])}) if match else timedelta()
        if not timedelta() < span <= _LONGEST:
            self.fail("must be a number and s, m, h, d or w, as in 90d, and no more than ten years", param, ctx)
        return span


class _Feedback(click.ParamType["FeedbackFilter"]):
    """Feedback with a name and a value."""

    name = "name=value"

    def convert(
        self, value: str | FeedbackFilter, param: click.Parameter | None, ctx: click.Context | None
    ) -> FeedbackFilter:
        from conversation.archive.ratings import FeedbackFilter

        if isinstance(value, FeedbackFilter):
            return value
        try:
            return FeedbackFilter.parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class Origin(click.ParamType[str]):
    """The origin of a web site, as browsers send it."""

    name = "origin"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        from conversation.settings.value_types import exact_origin

        try:
            return exact_origin(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class Time(click.ParamType[datetime]):
    """A time with its zone."""

    name = "time"

    def convert(self, value: str | datetime, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        if isinstance(value, datetime):
            return value
        try:
            time = datetime.fromisoformat(value)
        except ValueError:
            self.fail("must be a time with its zone, as in 2026-11-21T18:00:00Z", param, ctx)
        if time.tzinfo is None:
            self.fail("needs its zone, as in 2026-11-21T18:00:00Z", param, ctx)
        return time.astimezone(UTC)


class NewFile(click.Path):
    """A file to write, whose folder must exist; this is checked before the command begins.

    `allow_dash`: - is standard output. `folder`: it may be a folder as well.
    """

    def __init__(self, *, allow_dash: bool = False, folder: bool = False) -> None:
        super().__init__(dir_okay=folder, path_type=Path, allow_dash=allow_dash)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        path = Path(str(super().convert(value, param, ctx)))
        if not path.parent.is_dir():
            self.fail(f"There is no folder {str(path.parent)!r}.", param, ctx)
        return path


FEEDBACK = _Feedback()
NAME = _Name()
PROJECT = _Project()
SPAN = _Span()
