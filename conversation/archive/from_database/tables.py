"""A source's tables: columns, keys, and counts of rows and values."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

from conversation.archive.sources import SourceError

#: The schema of Turnlog's own tables, which are never a source.
DESTINATION_SCHEMA = "turnlog"

Kind = Literal["uuid", "text", "integer", "number", "boolean", "json", "array", "zoned", "unzoned", "date", "other"]
#: A row: the columns' values as in JSON; times, dates, UUIDs and exact decimals are text.
Row = Mapping[str, Any]

_KINDS: dict[str, Kind] = {
    "uuid": "uuid",
    **dict.fromkeys(("text", "character varying", "character", "name", "citext", '"char"'), "text"),
    **dict.fromkeys(("smallint", "integer", "bigint", "oid"), "integer"),
    **dict.fromkeys(("numeric", "real", "double precision"), "number"),
    "boolean": "boolean",
    **dict.fromkeys(("json", "jsonb"), "json"),
    "timestamp with time zone": "zoned",
    "timestamp without time zone": "unzoned",
    "date": "date",
}
_NAME = re.compile(r'(?:(?P<schema>"(?:[^"]|"")+"|[^".]+)\.)?(?P<name>"(?:[^"]|"")+"|[^".]+)')


class TableName(NamedTuple):
    schema: str
    name: str

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}"

    @classmethod
    def parse(cls, text: str) -> "TableName":
        """Parse `schema.name`, with SQL's quoting; the schema defaults to `public`."""
        match = _NAME.fullmatch(text.strip())
        if match is None:
            raise SourceError(f"{text!r} is not a table name: write schema.table, as in public.ai_sessions")
        schema, name = (_unquoted(match[part] or "public") for part in ("schema", "name"))
        return cls(schema, name)


@dataclass(frozen=True, slots=True)
class Reference:
    """The target of a foreign key of one column."""

    table: TableName
    column: str


@dataclass(frozen=True, slots=True)
class Column:
    """A column. `type`: the database's name of it. `kind`: its category for the mapping."""

    name: str
    type: str
    kind: Kind
    refers_to: Reference | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """A table. `key`: the columns of its primary key. `filtered`: row level security may hide rows from us."""

    name: TableName
    columns: tuple[Column, ...]
    key: tuple[str, ...] = ()
    filtered: bool = False

    def column(self, name: str) -> Column | None:
        return next((each for each in self.columns if each.name == name), None)


@dataclass(frozen=True, slots=True)
class Counts:
    """The number of a table's rows, and of the non-null values of each column."""

    rows: int
    values: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Orphans:
    """The number of rows whose parent is missing, and of missing parents."""

    rows: int
    parents: int


class Tables(Protocol):
    """A source of tables. All its methods raise `SourceError`. `source_name`: where it is, without a password."""

    source_name: str

    def table(self, name: TableName) -> Table: ...

    def counts(self, table: Table) -> Counts: ...

    def orphans(self, child: Table, column: Column, parent: Table, referred: Column) -> Orphans | None:
        """Count the rows whose parent is missing; None if the source can't."""

    def rows(self, table: Table) -> Iterator[Row]:
        """Yield all rows, ordered by an integer primary key, else as they are stored."""


def kind_of(type_: str) -> Kind:
    """Return the kind of a PostgreSQL type, with or without a length."""
    if type_.endswith("[]"):
        return "array"
    return _KINDS.get(re.sub(r"\(.*?\)", "", type_).strip(), "other")


def reject_own_tables(table: Table) -> None:
    """Raise `SourceError` for one of Turnlog's own tables."""
    if table.name.schema == DESTINATION_SCHEMA:
        raise SourceError(
            f"{table.name} is a table of Turnlog's own. To move a log, export it and import the file: --format turnlog"
        )


def _unquoted(part: str) -> str:
    return part[1:-1].replace('""', '"') if part.startswith('"') else part
