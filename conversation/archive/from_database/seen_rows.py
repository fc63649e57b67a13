"""State about whole tables in a temporary database, so that memory doesn't grow with them."""

import sqlite3
from typing import NamedTuple

_TABLES = """
pragma journal_mode = off;
pragma synchronous = off;
pragma temp_store = file;
create table sessions (name text primary key, user_id text) without rowid;
create table nameless (content text primary key, times integer not null) without rowid;
"""


class SeenSession(NamedTuple):
    """A session that was imported before. `user_id`: None if unknown."""

    user_id: str | None


class SeenRows:
    """The sessions imported so far, and counts of rows without an id by their content."""

    def __init__(self) -> None:
        self._database = sqlite3.connect("", isolation_level=None)  # no name: a temporary file without one
        self._database.executescript(_TABLES)

    def close(self) -> None:
        self._database.close()

    def add_session(self, name: str, user_id: str | None) -> bool:
        """Add a session; return whether it is new."""
        added = self._database.execute("insert into sessions values (?, ?) on conflict do nothing", (name, user_id))
        return added.rowcount == 1

    def session(self, name: str) -> SeenSession | None:
        row = self._database.execute("select user_id from sessions where name = ?", (name,)).fetchone()
        return SeenSession(row[0]) if row else None

    def give_user(self, name: str, user_id: str) -> None:
        self._database.execute("update sessions set user_id = ? where name = ?", (user_id, name))

    def count_without_id(self, content: str) -> int:
        """Count a row without an id; return how many with this content there were, with this one."""
        ((times,),) = self._database.execute(
            "insert into nameless values (?, 1) on conflict (content) do update set times = times + 1 returning times",
            (content,),
        )
        return int(times)
