"""Records that the store refused for good after they had been acknowledged: kept until a person decides.

One SQLite file for all processes of a machine. Each letter is a batch of one record with its parent, so that it can be
sent again as it is.
"""

import hashlib
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import apsw
import jiter
from pydantic_core import to_json

from logging_store.batches import KEPT, Batch, Receipt
from logging_store.errors import SpoolFull, StoreUnavailable
from logging_store.spool.files import read_batch

_log = logging.getLogger(__name__)

_NAME = "dead-letters.sqlite3"
_BUSY_MS = 5000
_PAGE = 100
_SCHEMA = """
create table if not exists dead_letters (
    number     integer primary key autoincrement,
    digest     blob not null unique,    -- of the batch: a letter that is written again after a crash is the same
    project    text not null,
    session_id text not null,
    record_id  text not null,
    kept_at    real not null,           -- seconds since the epoch, as refused_at
    refused_at real not null,
    receipt    text not null,           -- JSON
    batch      blob not null            -- JSON
)
"""
_COLUMNS = "number, project, session_id, record_id, kept_at, refused_at, receipt, batch"


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A refused record. `receipt`: what the store said. Times in seconds since the epoch."""

    number: int
    project: str
    session_id: str
    record_id: str
    kept_at: float
    refused_at: float
    receipt: dict[str, Any]
    batch: Batch


def left_out(receipt: Receipt) -> list[str]:
    """Name what was not taken of a record that was kept: fields, and sessions of a folder's plan."""
    refused = (each for each in receipt.planned if each["receipt"] not in KEPT and each.get("reason") != "erased")
    return [*receipt.differs, *(f"session {each['session_number']}" for each in refused)]


class Holder(Protocol):
    """What shall be forgotten: see `Forgotten`."""

    @property
    def project(self) -> str: ...

    def rest_of(self, batch: Batch) -> Batch: ...


class DeadLetters:
    """The dead letters of a spool's folder; the file is made with the first of them."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / _NAME

    def add(
        self, batch: Batch, receipt: Receipt, kept_at: float, still_waits: Callable[[], bool] = lambda: True
    ) -> None:
        """Keep a record that was refused; it is on the disk when this returns. Raises `SpoolFull` if it can't be.

        `still_waits`: whether it was not erased meanwhile; else it is not kept. An erasure cleans the files and then
        looks here, where it waits for us: what it doesn't find in its file when we ask, it finds here.
        """
        record = (batch.stated() or list(batch.rows()))[0]
        data = to_json(batch.to_json())
        try:
            with self._open() as connection:
                connection.execute("begin exclusive")
                connection.execute(
                    "insert into dead_letters"
                    " (digest, project, session_id, record_id, kept_at, refused_at, receipt, batch)"
                    " values (?, ?, ?, ?, ?, ?, ?, ?) on conflict (digest) do nothing",
                    (
                        hashlib.sha256(data).digest(),
                        batch.project,
                        record["session_id"] if "session_id" in record else record["id"],
                        record.get("id") or record.get("participant") or record["interaction_id"],
                        kept_at,
                        time.time(),
                        receipt.model_dump_json(exclude_defaults=True),
                        data,
                    ),
                )
                connection.execute("commit" if still_waits() else "rollback")
        except apsw.Error as error:
            raise SpoolFull(f"the dead letters can't be written: {error}") from error

    def count(self) -> int | None:
        """Return how many there are; None if the file can't be read."""
        if not self._path.exists():
            return 0
        try:
            with self._open() as connection:
                counted: int = connection.execute("select count(*) from dead_letters").get
        except apsw.Error:
            _log.exception("the dead letters can't be read: %s", self._path)
            return None
        return counted

    def list(self, limit: int = 100, after: int = 0) -> list[DeadLetter]:
        """Return letters in the order of their numbers."""
        if not self._path.exists():
            return []
        with self._open() as connection:
            rows = connection.execute(
                f"select {_COLUMNS} from dead_letters where number > ? order by number limit ?",  # noqa: S608
                (after, limit),
            )
            return [
                DeadLetter(
                    *(number, project, session_id, record_id, kept_at, refused_at),
                    receipt=jiter.from_json(receipt.encode()),
                    batch=read_batch(batch),
                )
                for number, project, session_id, record_id, kept_at, refused_at, receipt, batch in rows
            ]

    def get(self, number: int) -> DeadLetter | None:
        found = self.list(limit=1, after=number - 1)
        return found[0] if found and found[0].number == number else None

    def batches(self, project: str) -> Iterator[Batch]:
        """Yield the letters' batches of a project."""
        after = 0
        while page := self.list(_PAGE, after):
            yield from (letter.batch for letter in page if letter.project == project)
            after = page[-1].number

    def forget(self, what: Holder, *, dry_run: bool = False) -> int:
        """Drop the records that were erased; return how many. Raises `StoreUnavailable` if that can't be done now."""
        if not self._path.exists():
            return 0
        after = gone = 0
        try:
            while page := self.list(_PAGE, after):
                for letter in page:
                    if letter.project == what.project and _is_gone(letter.batch, what):
                        gone += 1
                        if not dry_run:
                            self.remove(letter.number)
                after = page[-1].number
        except apsw.Error as error:
            raise StoreUnavailable(f"the dead letters can't be searched or removed, erase it again: {error}") from error
        return gone

    def remove(self, number: int) -> None:
        with self._open() as connection:
            connection.execute("delete from dead_letters where number = ?", (number,))

    @contextmanager
    def _open(self) -> Iterator[apsw.Connection]:
        connection = apsw.Connection(str(self._path))
        try:
            connection.set_busy_timeout(_BUSY_MS)
            connection.execute("pragma secure_delete = on")  # what is forgotten can't be read any more
            connection.execute("pragma journal_mode = truncate")
            connection.execute("pragma synchronous = full")
            connection.execute(_SCHEMA)
            yield connection
        finally:
            connection.close()


def _is_gone(letter: Batch, what: Holder) -> bool:
    """Tell whether a letter's record is among what shall be forgotten; its parents stand or fall with it."""
    rest = what.rest_of(letter)
    return len(rest.stated()) < len(letter.stated()) or rest.count == 0
