"""A file of batches that wait for the store: SQLite, written by one process, synced before anything is acknowledged.

Who holds the lock beside a file owns it. A lock goes with its process, so the file of a worker that died is adopted
by whoever takes its lock next. A file lives as long as an outage: emptied, it is removed.
"""

import os
import threading
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import apsw
import jiter
from pydantic_core import to_json

from logging_store.batches import Batch
from logging_store.spool.locks import BROKEN, journal_of, lock_of, new_name, sync_directory, take_lock

_BUSY_MS = 5000  # `turnlog spool` and readers of other workers hold a file for milliseconds
_SCHEMA = """
create table if not exists entries (
    seq      integer primary key autoincrement,  -- a number is never used again: see Drain
    project  text not null,
    kept_at  real not null,     -- seconds since the epoch
    records  integer not null,
    batch    blob not null      -- JSON, as turnlog.write takes it
);
create table if not exists entry_sessions (
    session_id text not null,   -- or the id of a folder
    seq        integer not null references entries (seq),
    primary key (session_id, seq)
) without rowid;
"""


@dataclass(frozen=True, slots=True)
class Entry:
    """A batch in the spool. `kept_at`: seconds since the epoch."""

    seq: int
    kept_at: float
    batch: Batch


@dataclass(frozen=True, slots=True)
class Depth:
    """How much waits. `oldest_s`: seconds that the oldest has waited."""

    entries: int = 0
    records: int = 0
    bytes: int = 0
    oldest_s: float = 0

    def __add__(self, other: Self) -> "Depth":
        return Depth(
            self.entries + other.entries,
            self.records + other.records,
            self.bytes + other.bytes,
            max(self.oldest_s, other.oldest_s),
        )


class SpoolFile:
    """One file, owned by this process until `close`. Safe to use from any thread.

    Raises `apsw.FullError` when the disk is full: nothing was kept then, and the file is as it was. Raises
    `apsw.IOError` when the disk fails: what the file holds is in doubt and it must not be written again.
    """

    def __init__(self, path: Path, owned: int) -> None:
        self.path = path
        self._owned: int | None = owned  # the descriptor that holds the lock
        self._lock = threading.Lock()
        self._connection = apsw.Connection(str(path))
        self._connection.set_busy_timeout(_BUSY_MS)
        self._connection.execute("pragma auto_vacuum = full")  # what was delivered takes no room
        _prepare(self._connection)
        with _transaction(self._connection):
            self._connection.execute(_SCHEMA)

    @classmethod
    def create(cls, directory: Path) -> Self:
        path, owned = new_name(directory)
        try:
            file = cls(path, owned)
            sync_directory(directory)
        except BaseException:
            for left in (path, journal_of(path), lock_of(path)):
                with suppress(OSError):  # then it is removed with the remains of others
                    left.unlink(missing_ok=True)
            os.close(owned)
            raise
        return file

    @classmethod
    def adopt(cls, path: Path) -> Self | None:
        """Return the file of a process that ended; None if its owner lives, or if it is gone."""
        owned = take_lock(path)
        if owned is None:
            return None
        try:
            if path.exists():
                return cls(path, owned)
        except BaseException:
            os.close(owned)
            raise
        os.close(owned)
        return None

    def keep(self, batches: Sequence[Batch], kept_at: float | None = None) -> None:
        """Append batches; they are on the disk when this returns."""
        with self._lock, _transaction(self._connection):
            _append(self._connection, batches, time.time() if kept_at is None else kept_at)

    def oldest(self, records: int, size: int, without: Collection[str] = ()) -> list[Entry]:
        """Return the first entries without some sessions: the first, and more up to so many records and bytes."""
        found: list[Entry] = []
        with self._lock:
            for seq, kept_at, of_entry, batch in self._connection.execute(
                "select seq, kept_at, records, batch from entries where seq not in ("
                "  select seq from entry_sessions where session_id in (select value from json_each(?))) order by seq",
                (to_json(list(without)).decode(),),
            ):
                records, size = records - of_entry, size - len(batch)
                if found and (records < 0 or size < 0):
                    break
                found.append(Entry(seq, kept_at, read_batch(batch)))
        return found

    def remove(self, entries: Sequence[Entry]) -> None:
        with self._lock, _transaction(self._connection):
            _delete(self._connection, entries)

    def split(self, entry: Entry, parts: Sequence[Batch]) -> None:
        """Put the parts of an entry in its place."""
        with self._lock:
            replace(self._connection, entry, parts)

    def holds(self, entry: Entry) -> bool:
        """Tell whether an entry is still here: somebody else may have taken it away."""
        with self._lock:
            found: int = self._connection.execute("select count(*) from entries where seq = ?", (entry.seq,)).get
        return found > 0

    def is_empty(self) -> bool:
        with self._lock:
            return not self._connection.execute("select exists (select 1 from entries)").get

    def close(self) -> None:
        """Let go of the file; whoever comes next may adopt it."""
        with self._lock:
            self._connection.close()
            self._unlock()

    def retire(self) -> None:
        """Remove the file, which is empty."""
        with self._lock:
            self._connection.close()
            try:
                for left in (self.path, journal_of(self.path), lock_of(self.path)):
                    left.unlink(missing_ok=True)
            finally:
                self._unlock()  # what could not be removed is adopted, and removed then

    def abandon(self) -> None:
        """Never write this file again, after the disk failed under it: whoever adopts it works on a copy."""
        with suppress(OSError):  # on a disk that is out of order the mark may fail, too
            self.path.with_suffix(BROKEN).touch()
        self.close()

    def _unlock(self) -> None:
        # once: by then the number may be another file's
        owned, self._owned = self._owned, None
        if owned is not None:
            os.close(owned)


def replace(connection: apsw.Connection, entry: Entry, parts: Sequence[Batch]) -> bool:
    """Put parts of an entry in its place; tell whether it was there: somebody else may have taken it away."""
    with _transaction(connection):
        was_there = _delete(connection, [entry]) > 0
        if was_there:
            _append(connection, parts, entry.kept_at)
    return was_there


def read_batch(data: bytes) -> Batch:
    return Batch(**jiter.from_json(data))


@contextmanager
def reading(path: Path) -> Iterator[apsw.Connection]:
    """Yield a file of any owner, to read from."""
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        connection.set_busy_timeout(_BUSY_MS)
        yield connection
    finally:
        connection.close()


@contextmanager
def changing(path: Path) -> Iterator[apsw.Connection]:
    """Yield a file of any owner, to take something out of it: the owner waits for no longer than a transaction."""
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        connection.set_busy_timeout(_BUSY_MS)
        _prepare(connection)
        yield connection
    finally:
        connection.close()


def _prepare(connection: apsw.Connection) -> None:
    # a rollback journal, truncated and synced at each commit: other processes may read beside us, and a commit is on
    # the disk when it returns
    connection.execute("pragma secure_delete = on")  # what was delivered can't be read any more
    connection.execute("pragma journal_mode = truncate")
    connection.execute("pragma synchronous = full")


def _append(connection: apsw.Connection, batches: Sequence[Batch], kept_at: float) -> None:
    for batch in batches:
        connection.execute(
            "insert into entries (project, kept_at, records, batch) values (?, ?, ?, ?)",
            (batch.project, kept_at, len(batch.stated()), to_json(batch.to_json())),
        )
        seq = connection.last_insert_rowid()
        connection.executemany("insert into entry_sessions values (?, ?)", ((id_, seq) for id_ in batch.parent_ids()))


def _delete(connection: apsw.Connection, entries: Sequence[Entry]) -> int:
    """Delete entries; return how many were there."""
    connection.executemany("delete from entry_sessions where seq = ?", ((entry.seq,) for entry in entries))
    before = connection.total_changes()
    connection.executemany("delete from entries where seq = ?", ((entry.seq,) for entry in entries))
    return connection.total_changes() - before


@contextmanager
def _transaction(connection: apsw.Connection) -> Iterator[None]:
    connection.execute("begin immediate")
    try:
        yield
        connection.execute("commit")
    except BaseException:
        with suppress(apsw.Error):  # SQLite has rolled back by itself where it could
            if connection.in_transaction:
                connection.execute("rollback")
        raise
