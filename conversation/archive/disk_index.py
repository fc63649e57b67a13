"""What has to be remembered of a whole file, kept on the disk, so that memory doesn't grow with the file."""

import json
import sqlite3
from collections.abc import Iterator
from itertools import groupby
from typing import Any

from pydantic_core import to_json

from conversation.archive.entries import Place

_TABLES = """
pragma journal_mode = off;
pragma synchronous = off;
pragma temp_store = file;
create table claimed (name text primary key, owner text not null) without rowid;
create table messages (name text not null, said_at text not null, kind text, number integer, value blob);
"""


class OnDisk:
    """A database of its own, in the folder for temporary files; it is gone when it is closed."""

    def __init__(self) -> None:
        self._database = sqlite3.connect("", isolation_level=None)  # no name: a temporary file without one
        self._database.executescript(_TABLES)

    def close(self) -> None:
        self._database.close()

    def claim(self, name: str, owner: str) -> bool:
        """Tell whether a name is the owner's: nobody had it before, or the owner itself."""
        self._database.execute("insert into claimed values (?, ?) on conflict do nothing", (name, owner))
        ((held_by,),) = self._database.execute("select owner from claimed where name = ?", (name,))
        return bool(held_by == owner)

    def put(self, name: str, said_at: str, place: Place, value: dict[str, Any]) -> None:
        """Put a message by until all of its conversation have been read."""
        self._database.execute("insert into messages values (?, ?, ?, ?, ?)", (name, said_at, *place, to_json(value)))

    def groups(self) -> Iterator[tuple[str, Iterator[tuple[Place, dict[str, Any]]]]]:
        """Yield each conversation's messages, by time and then by place. To be read before the next one is taken."""
        rows = self._database.execute("select name, kind, number, value from messages order by name, said_at, number")
        for name, group in groupby(rows, key=lambda row: str(row[0])):
            yield name, ((Place(kind, number), json.loads(value)) for _, kind, number, value in group)
