"""What `--map theirs=ours` says about a column, checked against the tables that there are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from conversation.archive.from_database.synonyms import INTERACTION_FIELDS, MESSAGE_FIELDS, SESSION_FIELDS
from conversation.archive.from_database.tables import Table, TableName
from conversation.archive.sources import SourceError

LEFT_OUT = "-"

_FIELDS = {
    "sessions": [field.name for field in SESSION_FIELDS],
    "interactions": list(dict.fromkeys(field.name for field in (*INTERACTION_FIELDS, *MESSAGE_FIELDS))),
}


@dataclass(frozen=True, slots=True)
class Override:
    """`ours`: a field, or `-` for a column that is left out."""

    table: TableName
    theirs: str
    ours: str


def parse(texts: Sequence[str], tables: Mapping[str, Table]) -> list[Override]:
    """Return what is meant. `tables`: by `sessions` and `interactions`, as far as they are named."""
    parsed = [_parse(text, tables) for text in texts]
    for n, each in enumerate(parsed):
        for earlier in parsed[:n]:
            if each.table == earlier.table and each.theirs == earlier.theirs:
                raise SourceError(f"--map says of {each.table}.{each.theirs} twice what it is")
            if each.table == earlier.table and each.ours == earlier.ours != LEFT_OUT:
                raise SourceError(f"--map says that both {earlier.theirs} and {each.theirs} are {each.ours}: keep one")
    return parsed


def _parse(text: str, tables: Mapping[str, Table]) -> Override:
    theirs, equals, ours = text.rpartition("=")
    if not (equals and theirs and ours):
        raise SourceError(f"--map {text}: write --map theirs=ours, or --map theirs=- to leave a column out")
    which, _, rest = theirs.partition(".")
    named = {which: tables[which]} if rest and which in tables else tables
    column = rest if named is not tables else theirs
    having = {option: table for option, table in named.items() if table.column(column)}
    if not having:
        columns = "; ".join(
            f"{table.name} has {', '.join(each.name for each in table.columns)}" for table in named.values()
        )
        raise SourceError(f"--map {text}: there is no column {column}: {columns}")
    fitting = {option: table for option, table in having.items() if ours == LEFT_OUT or ours in _FIELDS[option]}
    if not fitting:
        fields = ", ".join(_FIELDS[next(iter(having))])
        raise SourceError(f"--map {text}: {ours} is no field of {next(iter(having))}. There are: {fields}")
    if len(fitting) > 1:
        raise SourceError(
            f"--map {text}: both tables have a column {column}. Write"
            f" --map sessions.{column}={ours} or --map interactions.{column}={ours}"
        )
    ((_, table),) = fitting.items()
    return Override(table.name, column, ours)
