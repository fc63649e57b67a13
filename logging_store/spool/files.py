"""A spool file: an SQLite database of batches, written by one process and synced before any acknowledgement.

The process that holds the lock beside a file owns it. Locks end with their process, so another worker adopts the file
of one that died. An empty file is deleted, so a file lives as long as an outage.
"""

import os
import threading
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import apsw
import jiter
from pydantic_core import to_json

from logging_store.batches import Batch
from logging_store.private_files import sync_directory
from logging_store.spool.locks import BROKEN, journal_path, lock_path, reserve_path, try_lock

_BUSY_MS = 5000  # `turnlog spool` and readers of other workers lock a file for milliseconds
_SCHEMA = """
create table if not exists entries (
    seq        integer primary key autoincrement,  -- never reused, so that a removed entry isn't mistaken for another
    project    text not null,
    spooled_at real not null,     -- seconds since the epoch
    records    integer not null,
    claimed    integer not null default 0,  -- 1: a caller with few rights sent it, see Batch.is_claimed
    failures   integer not null default 0,  -- deliveries that failed while the store answered
    batch      blob not null      -- JSON: the argument of turnlog.write; last, since reading past it takes long
);
create table if not exists entry_sessions (
    session_id text not null,   -- or the id of a folder
    seq        integer not null references entries (seq),
    primary key (session_id, seq)
) without rowid;
"""
_INDEXES = """
create index if not exists entries_turn on entries (claimed, failures);
-- answers `SpoolDirectory.depth`, which anybody may ask for, without reading the batches
create index if not exists entries_depth on entries (spooled_at, records, length(batch));
"""
_COLUMNS = "seq, project, spooled_at, records, batch"
#: What an earlier build named the columns of `entries`.
_EARLIER_NAMES = {"kept_at": "spooled_at"}
#: What it lacked.
_LATER_COLUMNS = ("claimed", "failures")

#: Of an entry: it isn't all of sessions of a JSON list.
_NOT_BLOCKED = (
    "(seq not in (select seq from entry_sessions where session_id in (select value from json_each(?2)))"
    " or seq in (select seq from entry_sessions where session_id not in (select value from json_each(?2))))"
)
#: Of an entry: it claims no session that others' entries wait for, too. Which come first, since a claim only counts
#: where nobody else has spoken.
_CLAIMS_ALONE = (
    "(claimed = 0 or seq not in ("
    "select claiming.seq from entry_sessions as others"
    " join entries as e on e.seq = others.seq and e.claimed = 0"
    " join entry_sessions as claiming on claiming.session_id = others.session_id))"
)

#: A file that raises one of these can't be read by any process of this version.
UNREADABLE = (apsw.SQLError, apsw.CorruptError, apsw.NotADBError)


@dataclass(frozen=True, slots=True)
class Entry:
    """A spooled batch. `seq`: its number within the file. `spooled_at`: seconds since the epoch.

    `failures`: how often its delivery failed while the store answered.
    """

    seq: int
    spooled_at: float
    batch: Batch
    failures: int = 0


@dataclass(frozen=True, slots=True)
class Depth:
    """How much is spooled. `oldest_s`: the age of the oldest entry, in seconds."""

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
    """A file that this process owns until `close`. Safe to use from any thread.

    Methods raise `apsw.FullError` when the disk is full: the file is unchanged then. They raise `apsw.IOError` when the
    disk fails: the file's content is in doubt then, and it must not be written again. Opening a file whose tables this
    version doesn't know raises `apsw.SQLError`.
    """

    def __init__(self, path: Path, lock_fd: int) -> None:
        self.path = path
        self.database: str | None = None  # whose records these are, if that is known
        self._lock_fd: int | None = lock_fd
        self._lock = threading.Lock()
        self._connection = apsw.Connection(str(path))
        with suppress(PermissionError):  # somebody else's
            path.chmod(0o600)  # by its name: closing any other descriptor of it would release SQLite's locks
        self._connection.set_busy_timeout(_BUSY_MS)
        _prepare(self._connection)
        require_columns(self._connection)

    @classmethod
    def create(cls, directory: Path) -> Self:
        path, lock_fd = reserve_path(directory)
        try:
            file = cls(path, lock_fd)
            sync_directory(directory)
        except BaseException:
            for leftover in (path, journal_path(path), lock_path(path)):
                with suppress(OSError):  # then `orphans.remove_leftovers` does it
                    leftover.unlink(missing_ok=True)
            os.close(lock_fd)
            raise
        return file

    @classmethod
    def adopt(cls, path: Path) -> Self | None:
        """Take over the file of a process that ended; return None if its owner lives, or if the file is gone."""
        lock_fd = try_lock(path)
        if lock_fd is None:
            return None
        try:
            if path.exists():
                return cls(path, lock_fd)
        except BaseException:
            os.close(lock_fd)
            raise
        os.close(lock_fd)
        return None

    def append(self, batches: Sequence[Batch], spooled_at: float | None = None) -> None:
        """Append batches; they are synced when this returns."""
        with self._lock, _transaction(self._connection):
            _append(self._connection, batches, time.time() if spooled_at is None else spooled_at)

    def oldest(
        self, max_records: int, max_bytes: int, *, claimed: bool = False, blocked: Collection[str] = ()
    ) -> list[Entry]:
        """Return the oldest entries that haven't failed yet, up to both limits, at least one.

        `claimed`: those of callers with few rights, else the others. `blocked`: skip entries that are all of these
        sessions.
        """
        found: list[Entry] = []
        with self._lock:
            for seq, spooled_at, records, batch in self._connection.execute(
                "select seq, spooled_at, records, batch from entries"  # noqa: S608
                f" where failures = 0 and claimed = ?1 and {_NOT_BLOCKED} and {_CLAIMS_ALONE} order by seq",
                (claimed, to_json(list(blocked)).decode()),
            ):
                max_records, max_bytes = max_records - records, max_bytes - len(batch)
                if found and (max_records < 0 or max_bytes < 0):
                    break
                found.append(Entry(seq, spooled_at, parse_batch(batch)))
        return found

    def failed(self, *, claimed: bool = False, blocked: Collection[str] = ()) -> list[tuple[int, int]]:
        """Return the number and the bytes of each entry that has failed. For the arguments see `oldest`."""
        with self._lock:
            rows = self._connection.execute(
                "select seq, length(batch) from entries"  # noqa: S608
                f" where failures > 0 and claimed = ?1 and {_NOT_BLOCKED} and {_CLAIMS_ALONE} order by seq",
                (claimed, to_json(list(blocked)).decode()),
            )
            return [(seq, size) for seq, size in rows]

    def get(self, seq: int) -> Entry | None:
        with self._lock:
            row = self._connection.execute(
                "select seq, spooled_at, batch, failures from entries where seq = ?", (seq,)
            ).fetchone()
        return Entry(row[0], row[1], parse_batch(row[2]), row[3]) if row else None

    def count_failure(self, entries: Sequence[Entry]) -> None:
        """Note that the delivery of entries failed."""
        with self._lock, _transaction(self._connection):
            self._connection.executemany(
                "update entries set failures = failures + 1 where seq = ?", ((entry.seq,) for entry in entries)
            )

    def remove(self, entries: Sequence[Entry]) -> None:
        with self._lock, _transaction(self._connection):
            _delete(self._connection, entries)

    def clear(self) -> None:
        """Remove all entries."""
        with self._lock, _transaction(self._connection):
            self._connection.execute("delete from entry_sessions")
            self._connection.execute("delete from entries")

    def split(self, entry: Entry, parts: Sequence[Batch]) -> None:
        """Replace an entry by several, unless it was removed meanwhile. If it failed, each of them failed once."""
        with self._lock:
            replace_entry(self._connection, entry, parts, failures=min(entry.failures, 1))

    def contains(self, entry: Entry) -> bool:
        """Return whether an entry is still here: an erasure may have removed it."""
        with self._lock:
            found: int = self._connection.execute("select count(*) from entries where seq = ?", (entry.seq,)).get
        return found > 0

    def is_empty(self) -> bool:
        with self._lock:
            return not self._connection.execute("select exists (select 1 from entries)").get

    def close(self) -> None:
        """Release the file for adoption by another process."""
        with self._lock:
            self._connection.close()
            self._unlock()

    def delete(self) -> None:
        """Delete the file, which must be empty."""
        with self._lock:
            self._connection.close()
            try:
                for leftover in (self.path, journal_path(self.path), lock_path(self.path)):
                    leftover.unlink(missing_ok=True)
            finally:
                self._unlock()  # a file that could not be deleted is adopted, and deleted then

    def abandon(self) -> None:
        """Mark the file as broken and release it: the process that adopts it works on a copy."""
        with suppress(OSError):  # on a failing disk the mark may fail, too
            self.path.with_suffix(BROKEN).touch()
        self.close()

    def _unlock(self) -> None:
        # only once: a closed descriptor's number may belong to another file
        lock_fd, self._lock_fd = self._lock_fd, None
        if lock_fd is not None:
            os.close(lock_fd)


def replace_entry(
    connection: apsw.Connection, entry: Entry, parts: Sequence[Batch], failures: int | None = None
) -> bool:
    """Replace an entry by any number of parts, unless it was removed meanwhile; return whether it was there.

    `failures`: of each part; None: as many as the entry's.
    """
    with _transaction(connection):
        stored = connection.execute("select failures from entries where seq = ?", (entry.seq,)).fetchone()
        if stored:
            _delete(connection, [entry])
            _append(connection, parts, entry.spooled_at, stored[0] if failures is None else failures)
    return stored is not None


def parse_batch(data: bytes) -> Batch:
    return Batch(**jiter.from_json(data))


@contextmanager
def open_for_reading(path: Path) -> Iterator[apsw.Connection]:
    """Open a file of any process read-only. One that its owner is just creating reads as empty."""
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        connection.set_busy_timeout(_BUSY_MS)
        if _is_new(connection):
            connection.execute(_SCHEMA.replace("create table", "create temp table"))
        elif _has_columns(connection, "entries", _EARLIER_NAMES):
            # the process that owns or adopts the file renames them
            columns = _COLUMNS.replace("spooled_at", "kept_at as spooled_at")
            connection.execute(f"create temp view entries as select {columns} from main.entries")  # noqa: S608
        yield connection
    finally:
        connection.close()


@contextmanager
def open_for_writing(path: Path) -> Iterator[apsw.Connection]:
    """Open a file of any process to remove entries; its owner waits for each transaction."""
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        connection.set_busy_timeout(_BUSY_MS)
        _prepare(connection)
        yield connection
    finally:
        connection.close()


def require_columns(connection: apsw.Connection) -> None:
    """Raise `apsw.SQLError` if the file has other tables or columns than this version reads."""
    connection.execute(f"select {_COLUMNS} from entries limit 0").fetchall()  # noqa: S608
    connection.execute("select session_id, seq from entry_sessions limit 0").fetchall()


def rename_columns(connection: apsw.Connection, table: str, names: Mapping[str, str]) -> None:
    """Rename the columns that an earlier build named otherwise, within the caller's transaction."""
    for earlier, name in names.items():
        if _has_columns(connection, table, [earlier]):
            connection.execute(f"alter table {table} rename column {earlier} to {name}")


def _has_columns(connection: apsw.Connection, table: str, names: Iterable[str]) -> bool:
    there = {name for (name,) in connection.execute("select name from pragma_table_info(?)", (table,))}
    return there.issuperset(names)


def _is_new(connection: apsw.Connection) -> bool:
    """Return whether a file has no tables yet: one transaction creates all of them."""
    return not connection.execute("select exists (select 1 from sqlite_master)").get


def _prepare(connection: apsw.Connection) -> None:
    connection.execute("pragma auto_vacuum = full")  # delivered entries free their space
    # a rollback journal, truncated and synced at each commit: other processes may read meanwhile, and a commit is on
    # the disk when it returns
    connection.execute("pragma secure_delete = on")  # delivered and erased records can't be read any more
    connection.execute("pragma journal_mode = truncate")
    connection.execute("pragma synchronous = full")
    with _transaction(connection):
        if _is_new(connection):
            connection.execute(_SCHEMA)
        rename_columns(connection, "entries", _EARLIER_NAMES)
        for column in _LATER_COLUMNS:
            if not _has_columns(connection, "entries", [column]):
                connection.execute(f"alter table entries add column {column} integer not null default 0")
        connection.execute(_INDEXES)


def _append(connection: apsw.Connection, batches: Sequence[Batch], spooled_at: float, failures: int = 0) -> None:
    for batch in batches:
        data = to_json(batch.to_json())
        connection.execute(
            "insert into entries (project, spooled_at, records, batch, claimed, failures) values (?, ?, ?, ?, ?, ?)",
            (batch.project, spooled_at, len(batch.explicit_rows()), data, batch.is_claimed, failures),
        )
        seq = connection.last_insert_rowid()
        connection.executemany("insert into entry_sessions values (?, ?)", ((id_, seq) for id_ in batch.parent_ids()))


def _delete(connection: apsw.Connection, entries: Sequence[Entry]) -> int:
    """Delete entries; return how many existed."""
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
        with suppress(apsw.Error):  # SQLite may have rolled back already
            if connection.in_transaction:
                connection.execute("rollback")
        raise
