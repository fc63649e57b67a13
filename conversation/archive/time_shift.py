"""Shifts the times of records so that the newest one is now, which makes a recording look like today's log.

All times shift by the same offset, so the intervals between them stay. Dates shift by whole days. Times inside messages
and metadata are content and stay as they are.
"""

from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any, NamedTuple, Self, TypeVar

from pydantic import ValidationError

from conversation.archive.dialogues import describe_errors, to_text
from conversation.archive.entries import Entry, ParsedRecord, RejectedEntry
from logging_store.records.models import Record

_Record = TypeVar("_Record", bound=Record)


class TimeShift(NamedTuple):
    """The offsets of times and dates. `days`: whole days."""

    time: timedelta
    days: timedelta

    @classmethod
    def to_now(cls, entries: Iterable[Entry]) -> Self:
        """Return the shift that makes the newest time of all entries now; a shift of zero if none has a time."""
        now = datetime.now(UTC)
        records = (entry.record for entry in entries if isinstance(entry, ParsedRecord))
        newest = max((time for record in records for time in _times(record)), default=now)
        return cls(now - newest, now.date() - newest.date())

    def apply(self, entries: Iterable[Entry]) -> Iterator[Entry]:
        """Yield the entries with their records shifted; a record whose time becomes invalid is rejected."""
        for entry in entries:
            if not isinstance(entry, ParsedRecord):
                yield entry
                continue
            try:
                yield entry._replace(record=self._record(entry.record))
            except OverflowError:
                yield RejectedEntry(
                    entry.location,
                    "One of its times is out of range after the shift",
                    to_text(entry.record.json_fields()),
                )
            except ValidationError as error:
                yield RejectedEntry(entry.location, describe_errors(error), to_text(entry.record.json_fields()))

    def _record(self, record: _Record) -> _Record:
        shifted = {name: self._value(value) for name, value in record.python_fields().items()}
        return type(record).model_validate(record.model_copy(update=shifted).json_fields())

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
