"""Parses `--map theirs=ours` and checks it against the tables."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from conversation.archive.from_database.synonyms import INTERACTION_FIELDS, MESSAGE_FIELDS, SESSION_FIELDS
from conversation.archive.from_database.tables import Table, TableName
from conversation.archive.sources import SourceError

IGNORED = "-"

_FIELDS = {
    "sessions": [field.name for field in SESSION_FIELDS],
    "interactions": list(dict.fromkeys(field.name for field in (*INTERACTION_FIELDS, *MESSAGE_FIELDS))),
}


@dataclass(frozen=True, slots=True)
class Override:
    """Maps a column. `ours`: a field, or `-` to ignore the column."""

    table: TableName
    theirs: str
    ours: str


def parse(texts: Sequence[str], tables: Mapping[str, Table]) -> list[Override]:
    """Parse the options. `tables`: by `sessions` and `interactions`, if they are given."""
    parsed = [_parse(text, tables) for text in texts]
    for n, each in enumerate(parsed):
        for earlier in parsed[:n]:
            if each.table == earlier.table and each.theirs == earlier.theirs:
                raise SourceError(f"--map names {each.table}.{each.theirs} twice")
            if each.table == earlier.table and each.ours == earlier.ours != IGNORED:
                raise SourceError(f"--map maps both {earlier.theirs} and {each.theirs} to {each.ours}: keep one")
    return parsed


def _parse(text: str, tables: Mapping[str, Table]) -> Override:
    theirs, equals, ours = text.rpartition("=")
    if not (equals and theirs and ours):
        raise SourceError(f"--map {text}: write --map theirs=ours, or --map theirs=- to ignore a column")
    which, _, rest = theirs.partition(".")
    named = {which: tables[which]} if rest and which in tables else tables
    column = rest if named is not tables else theirs
    having = {option: table for option, table in named.items() if table.column(column)}
    if not having:
        columns = "; ".join(
            f"{table.name} has {', '.join(each.name for each in table.columns)}" for table in named.values()
        )
        raise SourceError(f"--map {text}: there is no column {column}: {columns}")
    fitting = {option: table for option, table in having.items() if ours == IGNORED or ours in _FIELDS[option]}
    if not fitting:
        fields = ", ".join(_FIELDS[next(iter(having))])
        raise SourceError(f"--map {text}: {ours} is not a field of {next(iter(having))}. Fields: {fields}")
    if len(fitting) > 1:
        raise SourceError(
            f"--map {text}: both tables have a column {column}. Write"
            f" --map sessions.{column}={ours} or --map interactions.{column}={ours}"
        )
    ((_, table),) = fitting.items()
    return Override(table.name, column, ours)
