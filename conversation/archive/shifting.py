"""Moves the times of records so that the newest of them is now: a recording then looks like today's log.

Times move by one offset, so what lay between two of them still does. Dates move by whole days. Times within messages
and metadata are somebody's text and stay as they are.
"""

from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any, NamedTuple, Self, TypeVar

from pydantic import ValidationError

from conversation.archive.dialogues import spelled, told
from conversation.archive.entries import Entry, Refused, Stated
from logging_store.records.models import Record

_Record = TypeVar("_Record", bound=Record)


class Shift(NamedTuple):
    """How far times and dates move. `days`: whole days."""

    time: timedelta
    days: timedelta

    @classmethod
    def to_now(cls, entries: Iterable[Entry]) -> Self:
        """Return the shift by which the newest time of all entries is now; no shift if none has a time."""
        now = datetime.now(UTC)
        records = (entry.record for entry in entries if isinstance(entry, Stated))
        newest = max((time for record in records for time in _times(record)), default=now)
        return cls(now - newest, now.date() - newest.date())

    def moved(self, entries: Iterable[Entry]) -> Iterator[Entry]:
        """Yield the entries with their records moved; a record whose time can't be kept then is refused."""
        for entry in entries:
            if not isinstance(entry, Stated):
                yield entry
                continue
            try:
                yield entry._replace(record=self._record(entry.record))
            except OverflowError:
                yield Refused(entry.place, "One of its times leaves the calendar", spelled(entry.record.json_fields()))
            except ValidationError as error:
                yield Refused(entry.place, told(error), spelled(entry.record.json_fields()))

    def _record(self, record: _Record) -> _Record:
        moved = {name: self._value(value) for name, value in record.python_fields().items()}
        return type(record).model_validate(record.model_copy(update=moved).json_fields())

    def _value(self, value: Any) -> Any:
        match value:
            case datetime():
                return value + self.time
            case date():
                return value + self.days
            case Record():
                return self._record(value)
        return value


def _times(record: Record) -> Iterator[datetime]:
    return (value for value in record.python_fields().values() if isinstance(value, datetime))
