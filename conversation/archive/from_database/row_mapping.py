"""A row as fields of ours and metadata, and the names that its session and itself have."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

from pydantic import ValidationError

from conversation.archive import names
from conversation.archive.dialogues import name_from_content, spelled, told
from conversation.archive.entries import Entry, KeptAside, Place, Refused, Stated
from conversation.archive.from_database import column_values
from conversation.archive.from_database.column_values import Zone
from conversation.archive.from_database.duplicates import Seen
from conversation.archive.from_database.mapping import Understood
from conversation.archive.from_database.tables import Column, Row
from logging_store.records import identity
from logging_store.records.models import Interaction, Session

_Record = TypeVar("_Record", Session, Interaction)


class Named(NamedTuple):
    """A session's name; if it isn't the one that the row gives, what the row gives, and the reason."""

    name: str
    was: Any = None
    reason: str | None = None


@dataclass(slots=True)
class Read:
    """A row as it was read. `metadata` holds what has no field; `entries` tells of what did not fit its field."""

    place: Place
    row: Row
    fields: dict[str, Any] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)
    entries: list[Entry] = field(default_factory=list)


class Reading:
    """Reads the rows of a table as it was understood."""

    def __init__(self, understood: Understood, zone: Zone, seen: Seen) -> None:
        self.understood = understood
        self.seen = seen
        self._convert: list[tuple[str, Column, Callable[[Any], Any]]] = [
            (field, column, column_values.converter(field, column.kind, zone, understood.shape))
            for field, column in understood.fields.items()
            if field != "metadata"
        ]
        self._derived: tuple[Row, str] | None = None  # of the row that was asked about last
        self._metadata = understood.fields.get("metadata")

    def read(self, place: Place, row: Row) -> Read:
        read = Read(place, row)
        if self._metadata and (given := row[self._metadata.name]) is not None:
            given = column_values.plain(given)
            read.metadata = dict(given) if isinstance(given, dict) else {self._metadata.name: given}
        for column in self.understood.aside:
            if (value := row[column.name]) is not None:
                self._keep_aside(read, column, value)
        for name, column, convert in self._convert:
            if (value := row[column.name]) is None:
                continue
            try:
                ours = convert(value)
            except ValueError as error:
                self._note(read, column, value, str(error))
                continue
            read.fields[name] = ours
            if not column_values.is_exact(name, value, ours):
                self._keep_aside(read, column, value)
        return read

    def stated(self, read: Read, model: type[_Record], fields: dict[str, Any]) -> Iterator[Entry]:
        """Yield a row's record; a value that its field can't hold goes to metadata, and is told of."""
        while True:
            stated = fields | ({"metadata": read.metadata} if read.metadata else {})
            try:
                record = model.model_validate(stated)
            except ValidationError as error:
                wrong = {str(each["loc"][0]) for each in error.errors() if each["loc"]}
                movable = {
                    name: column
                    for name in wrong & fields.keys() - {"session_id"}
                    if (column := self.understood.fields.get("user_id" if name == "participant" else name))
                }
                if not movable:
                    yield Refused(read.place, told(error), spelled(dict(read.row)))
                    return
                for name, column in movable.items():
                    del fields[name]
                    self._note(read, column, read.row[column.name], told(error))
            else:
                yield from read.entries
                yield Stated(read.place, record)
                return

    def session(self, row: Row) -> Named:
        """Return a row's session as a name; if it has none, one that derives from the row."""
        column = self.understood.fields["session_id"]
        was = row[column.name]
        name, reason = names.usable(was)
        if name is None:
            return Named(self.derived(row), was, reason)
        who = identity.session("", name)
        return Named(who.key or who.id)

    def own_name(self, row: Row) -> str:
        """Return a row's own id as a name; if it has none, one that derives from the row."""
        column = self.understood.fields.get("interaction_id")
        name, _ = names.usable(row[column.name]) if column else (None, None)
        return name or self.derived(row)

    def derived(self, row: Row) -> str:
        """Return a name by the table and the primary key, or else by the content and how often it was met."""
        if self._derived is None or self._derived[0] is not row:
            self._derived = row, self._derive(row)
        return self._derived[1]

    def _derive(self, row: Row) -> str:
        table = self.understood.table
        key = [row[name] for name in table.key]
        if key and None not in key:
            name, _ = names.usable("-".join([table.name.name, *(str(part) for part in key)]))
            return name or name_from_content({"key": key})
        content = name_from_content(dict(row))
        times = self.seen.count_nameless(f"{table.name} {content}")
        return content if times == 1 else f"{content}-{times}"

    def _note(self, read: Read, column: Column, value: Any, reason: str) -> None:
        self._keep_aside(read, column, value)
        read.entries.append(KeptAside(read.place, reason, column.name))

    def _keep_aside(self, read: Read, column: Column, value: Any) -> None:
        value = column_values.plain(value)
        name = column.name
        if read.metadata.get(name, value) != value:  # their metadata has something of this name as well
            name = f"{self.understood.table.name.name}.{name}"
        read.metadata[name] = value
