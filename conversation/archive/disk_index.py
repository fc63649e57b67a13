"""A temporary database for state about a whole file, so that memory doesn't grow with the file."""

import json
import sqlite3
from collections.abc import Iterator
from itertools import groupby
from typing import Any

from pydantic_core import to_json

from conversation.archive.entries import Location

_TABLES = """
pragma journal_mode = off;
pragma synchronous = off;
pragma temp_store = file;
create table claimed (name text primary key, owner text not null) without rowid;
create table messages (name text not null, said_at text not null, kind text, number integer, value blob);
"""


class DiskIndex:
    """A database in the folder for temporary files, which SQLite deletes when it is closed."""

    def __init__(self) -> None:
        self._database = sqlite3.connect("", isolation_level=None)  # no name: a temporary file without one
        self._database.executescript(_TABLES)

    def close(self) -> None:
        self._database.close()

    def claim(self, name: str, owner: str) -> bool:
        """Claim a name for an owner; return False if another owner has it already."""
        self._database.execute("insert into claimed values (?, ?) on conflict do nothing", (name, owner))
        ((held_by,),) = self._database.execute("select owner from claimed where name = ?", (name,))
        return bool(held_by == owner)

    def has(self, name: str) -> bool:
        """Return whether somebody has claimed a name."""
        return self._database.execute("select 1 from claimed where name = ?", (name,)).fetchone() is not None

    def put(self, name: str, said_at: str, location: Location, value: dict[str, Any]) -> None:
        """Store a message until the whole file has been read."""
        self._database.execute(
            "insert into messages values (?, ?, ?, ?, ?)", (name, said_at, *location, to_json(value))
        )

    def groups(self) -> Iterator[tuple[str, Iterator[tuple[Location, dict[str, Any]]]]]:
        """Yield the messages of each conversation, by time, then by location. Consume one before taking the next."""
        rows = self._database.execute("select name, kind, number, value from messages order by name, said_at, number")
        for name, group in groupby(rows, key=lambda row: str(row[0])):
            yield name, ((Location(kind, number), json.loads(value)) for _, kind, number, value in group)
