"""What has to be remembered of whole tables, on the disk: memory doesn't grow with them."""

import sqlite3
from typing import NamedTuple

_TABLES = """
pragma journal_mode = off;
pragma synchronous = off;
pragma temp_store = file;
create table sessions (name text primary key, user_id text) without rowid;
create table nameless (content text primary key, times integer not null) without rowid;
"""


class Known(NamedTuple):
    """A session that was met, and whose it is, if that is known."""

    user_id: str | None


class Seen:
    """The sessions that a source has stated, and how often rows without an id were met with the same content."""

    def __init__(self) -> None:
        self._database = sqlite3.connect("", isolation_level=None)  # no name: a temporary file without one
        self._database.executescript(_TABLES)

    def close(self) -> None:
        self._database.close()

    def add_session(self, name: str, user_id: str | None) -> bool:
        """Note a session; tell whether it is a new one."""
        added = self._database.execute("insert into sessions values (?, ?) on conflict do nothing", (name, user_id))
        return added.rowcount == 1

    def session(self, name: str) -> Known | None:
        row = self._database.execute("select user_id from sessions where name = ?", (name,)).fetchone()
        return Known(row[0]) if row else None

    def give_user(self, name: str, user_id: str) -> None:
        self._database.execute("update sessions set user_id = ? where name = ?", (user_id, name))

    def count_nameless(self, content: str) -> int:
        """Return the how manieth row with this content it is, from 1 on."""
        ((times,),) = self._database.execute(
            "insert into nameless values (?, 1) on conflict (content) do update set times = times + 1 returning times",
            (content,),
        )
        return int(times)
