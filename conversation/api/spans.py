"""The span of time of an overview, and the buckets into which it is cut: hours, days or weeks.

With a time zone, days and weeks begin at local midnight, weeks on Monday, so a day is one bucket, also where it has 23
or 25 hours. Without one, buckets are counted from the beginning of the span.
"""

import difflib
import zoneinfo
from datetime import UTC, date, datetime, timedelta, tzinfo
from functools import cache
from typing import Literal, NamedTuple

from pydantic_core import PydanticCustomError

By = Literal["hour", "day", "week"]

LENGTH_S: dict[By, int] = {"hour": 3600, "day": 86400, "week": 7 * 86400}
MAX_BUCKETS = 750  # a month of hours, two years of days
_SIMILAR_ZONE = 0.6  # ratio of difflib: Amerika/New_York and America/New_York have 0.94


class Span(NamedTuple):
    """From `not_before` until `before`. `zone`: whose hours, days and weeks count; None: those since `not_before`."""

    not_before: datetime
    before: datetime
    by: By
    zone: tzinfo | None = None

    @property
    def bucket_s(self) -> int:
        """The length of a bucket in seconds; at a change of the clocks a day has an hour less or more."""
        return LENGTH_S[self.by]

    def buckets(self) -> list[datetime]:
        """Return the beginnings of the buckets, in UTC. The first one is that of the span."""
        step = timedelta(seconds=self.bucket_s)
        starts = [self.not_before.astimezone(UTC)]
        while True:
            after = starts[-1] + step if self.zone is None else end_of_bucket(starts[-1], self.by, self.zone)
            if after >= self.before:
                return starts
            starts.append(after)


def end_of_bucket(time: datetime, by: By, zone: tzinfo) -> datetime:
    """Return the end of the local hour, day or week of a time, in UTC."""
    local = time.astimezone(zone)
    if by == "hour":
        into = timedelta(minutes=local.minute, seconds=local.second, microseconds=local.microsecond)
        return time.astimezone(UTC) - into + timedelta(hours=1)
    days = 1 if by == "day" else 7 - local.weekday()
    return midnight(local.date() + timedelta(days=days), zone)


def midnight(day: date, zone: tzinfo) -> datetime:
    """Return the beginning of a local day, in UTC. Where the clocks skip midnight, it begins when they do."""
    return datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC)


def zone_named(name: str) -> zoneinfo.ZoneInfo:
    """Return a time zone by its name in the IANA database. Raises `PydanticCustomError`, with the likely name."""
    if name in _names():
        return zoneinfo.ZoneInfo(name)
    likely = _likely(name)
    hint = f". Did you mean {likely}?" if likely else ""
    raise PydanticCustomError("zone", "Must be the name of a time zone, such as Europe/Berlin{hint}", {"hint": hint})


@cache
def _names() -> frozenset[str]:
    return frozenset(zoneinfo.available_timezones())


def _likely(name: str) -> str | None:
    """Return the name closest to an unknown one: in another case, a city alone, or a similar one."""
    plain = "_".join(name[:60].split()).casefold()
    names = {each.casefold(): each for each in sorted(_names())}
    cities = {each.rpartition("/")[2]: each for each in names if "/" in each}
    if plain in names:
        return names[plain]
    if plain in cities:
        return names[cities[plain]]
    if similar := difflib.get_close_matches(plain, names, 1, _SIMILAR_ZONE):
        return names[similar[0]]
    return None
