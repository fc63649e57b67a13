"""Tables as they are found: their columns, their keys, how many rows and values they hold."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

from conversation.archive.sources import SourceError

#: Where Turnlog's own tables are: never a source.
DESTINATION_SCHEMA = "turnlog"

Kind = Literal["uuid", "text", "integer", "number", "boolean", "json", "array", "zoned", "unzoned", "date", "other"]
#: A row: each column's value as JSON has it; times, dates, uuids and exact decimals are text.
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
        """Read `schema.name`, each of them perhaps quoted as in SQL; without a schema it is `public`."""
        match = _NAME.fullmatch(text.strip())
        if match is None:
            raise SourceError(f"{text!r} is no name of a table: write schema.table, as in public.ai_sessions")
        schema, name = (_unquoted(match[part] or "public") for part in ("schema", "name"))
        return cls(schema, name)


@dataclass(frozen=True, slots=True)
class Reference:
    """What a foreign key of one column refers to."""

    table: TableName
    column: str


@dataclass(frozen=True, slots=True)
class Column:
    """`type`: as the database spells it. `kind`: what of it matters here."""

    name: str
    type: str
    kind: Kind
    refers_to: Reference | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """`key`: its primary key's columns. `filtered`: row level security may hide rows from whoever reads."""

    name: TableName
    columns: tuple[Column, ...]
    key: tuple[str, ...] = ()
    filtered: bool = False

    def column(self, name: str) -> Column | None:
        return next((each for each in self.columns if each.name == name), None)


@dataclass(frozen=True, slots=True)
class Counts:
    """How many rows a table has, and how many values each of its columns."""

    rows: int
    values: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Orphans:
    """How many rows name a parent that isn't there, and how many parents those are."""

    rows: int
    parents: int


class Tables(Protocol):
    """A source of tables. All its methods raise `SourceError`. `place`: where it is, without a password."""

    place: str

    def table(self, name: TableName) -> Table: ...

    def counts(self, table: Table) -> Counts: ...

    def orphans(self, child: Table, column: Column, parent: Table, referred: Column) -> Orphans | None:
        """Count the rows that name a parent which isn't there; None where that would be too much to ask."""

    def rows(self, table: Table) -> Iterator[Row]:
        """Yield all rows, in the order of a whole number that is the key, else as they are stored."""


def kind_of(type_: str) -> Kind:
    """Return the kind of a type, spelled as Postgres does, with or without a length."""
    if type_.endswith("[]"):
        return "array"
    return _KINDS.get(re.sub(r"\(.*?\)", "", type_).strip(), "other")


def require_theirs(table: Table) -> None:
    """Raise for a table of Turnlog's own."""
    if table.name.schema == DESTINATION_SCHEMA:
        raise SourceError(
            f"{table.name} is a table of Turnlog's own. To move a log, export it and import the file: --format turnlog"
        )


def _unquoted(part: str) -> str:
    return part[1:-1].replace('""', '"') if part.startswith('"') else part
