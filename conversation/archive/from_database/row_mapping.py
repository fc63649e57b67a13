"""Reads rows into fields and metadata, and derives the keys of their sessions and interactions."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

from pydantic import ValidationError

from conversation.archive import session_keys
from conversation.archive.dialogues import describe_errors, to_text
from conversation.archive.entries import Entry, Location, MovedToMetadata, ParsedRecord, RejectedEntry
from conversation.archive.from_database import column_values
from conversation.archive.from_database.column_mapping import TableMapping
from conversation.archive.from_database.column_values import Zone
from conversation.archive.from_database.seen_rows import SeenRows
from conversation.archive.from_database.tables import Column, Row
from conversation.archive.session_keys import key_from_content
from logging_store.records import identity
from logging_store.records.models import Interaction, Session

_Record = TypeVar("_Record", Session, Interaction)


class SessionKey(NamedTuple):
    """A session's key; if it differs from the row's value, that value (`was`) and the reason."""

    name: str
    was: Any = None
    reason: str | None = None


@dataclass(slots=True)
class ParsedRow:
    """A row split into fields and metadata. `entries`: reports of values that didn't fit their fields."""

    location: Location
    row: Row
    fields: dict[str, Any] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)
    entries: list[Entry] = field(default_factory=list)


class RowReader:
    """Reads the rows of a table by its mapping."""

    def __init__(self, mapping: TableMapping, zone: Zone, seen: SeenRows) -> None:
        self.mapping = mapping
        self.seen = seen
        self._convert: list[tuple[str, Column, Callable[[Any], Any]]] = [
            (field, column, column_values.converter(field, column.kind, zone, mapping.shape))
            for field, column in mapping.fields.items()
            if field != "metadata"
        ]
        self._derived: tuple[Row, str] | None = None  # cache for the last row
        self._metadata = mapping.fields.get("metadata")

    def read(self, location: Location, row: Row) -> ParsedRow:
        parsed = ParsedRow(location, row)
        if self._metadata and (given := row[self._metadata.name]) is not None:
            given = column_values.plain(given)
            parsed.metadata = dict(given) if isinstance(given, dict) else {self._metadata.name: given}
        for column in self.mapping.aside:
            if (value := row[column.name]) is not None:
                self._move_to_metadata(parsed, column, value)
        for name, column, convert in self._convert:
            if (value := row[column.name]) is None:
                continue
            try:
                ours = convert(value)
            except ValueError as error:
                self._note(parsed, column, value, str(error))
                continue
            parsed.fields[name] = ours
            if not column_values.is_exact(name, value, ours):
                self._move_to_metadata(parsed, column, value)
        return parsed

    def record(self, parsed: ParsedRow, model: type[_Record], fields: dict[str, Any]) -> Iterator[Entry]:
        """Yield a row's record; a value that its field can't hold goes to metadata and is reported."""
        while True:
            values = fields | ({"metadata": parsed.metadata} if parsed.metadata else {})
            try:
                record = model.model_validate(values)
            except ValidationError as error:
                wrong = {str(each["loc"][0]) for each in error.errors() if each["loc"]}
                movable = {
                    name: column
                    for name in wrong & fields.keys() - {"session_id"}
                    if (column := self.mapping.fields.get("user_id" if name == "participant" else name))
                }
                if not movable:
                    yield RejectedEntry(parsed.location, describe_errors(error), to_text(dict(parsed.row)))
                    return
                for name, column in movable.items():
                    del fields[name]
                    self._note(parsed, column, parsed.row[column.name], describe_errors(error))
            else:
                yield from parsed.entries
                yield ParsedRecord(parsed.location, record)
                return

    def session(self, row: Row) -> SessionKey:
        """Return the session key of a row; one derived from the row if it has no usable one."""
        column = self.mapping.fields["session_id"]
        was = row[column.name]
        name, reason = session_keys.usable_key(was)
        if name is None:
            return SessionKey(self.derived(row), was, reason)
        who = identity.session("", name)
        return SessionKey(who.key or who.id)

    def own_name(self, row: Row) -> str:
        """Return the row's own id as a key; one derived from the row if it has no usable one."""
        column = self.mapping.fields.get("interaction_id")
        name, _ = session_keys.usable_key(row[column.name]) if column else (None, None)
        return name or self.derived(row)

    def derived(self, row: Row) -> str:
        """Return a key derived from table and primary key, or else from the content and its number of repetitions."""
        if self._derived is None or self._derived[0] is not row:
            self._derived = row, self._derive(row)
        return self._derived[1]

    def _derive(self, row: Row) -> str:
        table = self.mapping.table
        key = [row[name] for name in table.key]
        if key and None not in key:
            name, _ = session_keys.usable_key("-".join([table.name.name, *(str(part) for part in key)]))
            return name or key_from_content({"key": key})
        content = key_from_content(dict(row))
        times = self.seen.count_without_id(f"{table.name} {content}")
        return content if times == 1 else f"{content}-{times}"

    def _note(self, parsed: ParsedRow, column: Column, value: Any, reason: str) -> None:
        self._move_to_metadata(parsed, column, value)
        parsed.entries.append(MovedToMetadata(parsed.location, reason, column.name))

    def _move_to_metadata(self, parsed: ParsedRow, column: Column, value: Any) -> None:
        value = column_values.plain(value)
        name = column.name
        if parsed.metadata.get(name, value) != value:  # the source's metadata has this name as well
            name = f"{self.mapping.table.name.name}.{name}"
        parsed.metadata[name] = value
