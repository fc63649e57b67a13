"""Dead letters: acknowledged records that the store rejected on delivery, kept until a person decides.

One SQLite file for all processes of a machine. A letter is a batch of one record with its parent, so that it can be
retried as it is.
"""

import hashlib
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import apsw
import jiter
from pydantic_core import to_json

from logging_store.batches import ACKNOWLEDGED, GONE, Batch, Receipt, error_receipt
from logging_store.errors import Conflict, Invalid, SpoolFull, StoreUnavailable
from logging_store.spool.directory import SpoolDirectory
from logging_store.spool.files import parse_batch, rename_columns
from logging_store.spool.purge_target import PurgeTarget
from logging_store.store import Store

_log = logging.getLogger(__name__)

_NAME = "dead-letters.sqlite3"
_BUSY_MS = 5000
_PAGE = 100
_SCHEMA = """
create table if not exists dead_letters (
    number     integer primary key autoincrement,
    digest     blob not null unique,    -- of the batch: a letter written again after a crash is the same one
    project    text not null,
    session_id text not null,
    record_id  text not null,
    spooled_at  real not null,           -- seconds since the epoch, as rejected_at
    rejected_at real not null,
    receipt    text not null,           -- JSON
    batch      blob not null            -- JSON
)
"""
_RECORD_IDS = ("id", "participant", "interaction_id", "session_id")  # feedback on a session only names the session
_VALUES = "digest, project, session_id, record_id, spooled_at, rejected_at, receipt, batch"
_COLUMNS = "number, project, session_id, record_id, spooled_at, rejected_at, receipt, batch"
#: What an earlier build named the columns.
_EARLIER_NAMES = {"kept_at": "spooled_at", "refused_at": "rejected_at"}


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A rejected record. `receipt`: the store's, as JSON. Times are seconds since the epoch."""

    number: int
    project: str
    session_id: str
    record_id: str
    spooled_at: float
    rejected_at: float
    receipt: dict[str, Any]
    batch: Batch


def unstored_parts(receipt: Receipt) -> list[str]:
    """Return what was not stored of an acknowledged record: fields, and sessions of a folder's plan."""
    rejected = (
        each for each in receipt.planned if each["receipt"] not in ACKNOWLEDGED and each.get("reason") not in GONE
    )
    return [*receipt.differs, *(f"session {each['session_number']}" for each in rejected)]


class DeadLetters:
    """The dead letters of a spool. The file is created with the first letter, in the spool's folder."""

    def __init__(self, directory: SpoolDirectory | Path) -> None:
        self._directory = directory

    @property
    def _path(self) -> Path:
        return (self._directory if isinstance(self._directory, Path) else self._directory.path) / _NAME

    def add(
        self, batch: Batch, receipt: Receipt, spooled_at: float, is_spooled: Callable[[], bool] = lambda: True
    ) -> None:
        """Add a rejected record; it is synced when this returns. Raises `SpoolFull` if it can't be written.

        `is_spooled`: called within the transaction; the letter is only kept if the record wasn't erased meanwhile. An
        erasure purges the spool files first and this file last, where it waits for us: so it either removed the
        record before `is_spooled` looked, or it finds the letter.
        """
        record = (batch.explicit_rows() or list(batch.rows()))[0]
        data = to_json(batch.to_json())
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with self._open() as connection:
                connection.execute("begin exclusive")
                connection.execute(
                    "insert into dead_letters"
                    " (digest, project, session_id, record_id, spooled_at, rejected_at, receipt, batch)"
                    " values (?, ?, ?, ?, ?, ?, ?, ?) on conflict (digest) do nothing",
                    (
                        hashlib.sha256(data).digest(),
                        batch.project,
                        record["session_id"] if "session_id" in record else record["id"],
                        next(record[name] for name in _RECORD_IDS if name in record),
                        spooled_at,
                        time.time(),
                        receipt.model_dump_json(exclude_defaults=True),
                        data,
                    ),
                )
                connection.execute("commit" if is_spooled() else "rollback")
        except (apsw.Error, OSError) as error:
            raise SpoolFull(f"the dead letters can't be written: {error}") from error

    def count(self) -> int | None:
        """Return the number of letters; None if the file can't be read."""
        if not self._path.exists():
            return 0
        try:
            with self._open() as connection:
                counted: int = connection.execute(f"select count(*) from (select {_COLUMNS} from dead_letters)").get  # noqa: S608
        except apsw.Error:
            _log.exception("the dead letters can't be read: %s", self._path)
            return None
        return counted

    def list(self, limit: int = 100, after: int = 0) -> list[DeadLetter]:
        """Return letters ordered by number, those after the number `after`."""
        if not self._path.exists():
            return []
        with self._open() as connection:
            rows = connection.execute(
                f"select {_COLUMNS} from dead_letters where number > ? order by number limit ?",  # noqa: S608
                (after, limit),
            )
            return [
                DeadLetter(
                    *(number, project, session_id, record_id, spooled_at, rejected_at),
                    receipt=jiter.from_json(receipt.encode()),
                    batch=parse_batch(batch),
                )
                for number, project, session_id, record_id, spooled_at, rejected_at, receipt, batch in rows
            ]

    def get(self, number: int) -> DeadLetter | None:
        found = self.list(limit=1, after=number - 1)
        return found[0] if found and found[0].number == number else None

    def batches(self, project: str) -> Iterator[Batch]:
        """Yield the batches of a project's letters."""
        after = 0
        while page := self.list(_PAGE, after):
            yield from (letter.batch for letter in page if letter.project == project)
            after = page[-1].number

    def purge(self, target: PurgeTarget, *, dry_run: bool = False) -> int:
        """Remove erased records; return how many. Raises `StoreUnavailable` if the file can't be changed now."""
        if not self._path.exists():
            return 0
        after = removed = 0
        try:
            while page := self.list(_PAGE, after):
                for letter in page:
                    if letter.project == target.project and target.includes(letter.batch):
                        removed += 1
                        if not dry_run:
                            self.remove(letter.number)
                after = page[-1].number
        except apsw.Error as error:
            raise StoreUnavailable(f"the dead letters can't be changed now; erase again: {error}") from error
        return removed

    def take_over(self, folder: Path) -> int:
        """Move the letters of another folder here; return how many. Raises `SpoolFull` if that can't be done now."""
        source = folder / _NAME
        if not source.exists():
            return 0
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            DeadLetters(folder).count()  # its columns have their present names then
            with self._open() as connection:
                connection.execute("attach ? as source", (str(source),))
                connection.execute("begin immediate")
                connection.execute(
                    f"insert into main.dead_letters ({_VALUES})"  # noqa: S608
                    f" select {_VALUES} from source.dead_letters where true on conflict (digest) do nothing"
                )
                connection.execute("delete from source.dead_letters")
                taken = connection.changes()
                connection.execute("commit")
        except (apsw.Error, OSError) as error:
            raise SpoolFull(f"the dead letters of {folder} can't be moved: {error}") from error
        return taken

    def remove(self, number: int) -> None:
        with self._open() as connection:
            connection.execute("delete from dead_letters where number = ?", (number,))

    @contextmanager
    def _open(self) -> Iterator[apsw.Connection]:
        connection = apsw.Connection(str(self._path))
        with suppress(PermissionError):  # somebody else's
            self._path.chmod(0o600)  # by its name: closing any other descriptor of it would release SQLite's locks
        try:
            connection.set_busy_timeout(_BUSY_MS)
            connection.execute("pragma secure_delete = on")  # removed letters can't be read any more
            connection.execute("pragma journal_mode = truncate")
            connection.execute("pragma synchronous = full")
            connection.execute(_SCHEMA)
            rename_columns(connection, "dead_letters", _EARLIER_NAMES)
            yield connection
        finally:
            connection.close()


def retry(store: Store, letters: DeadLetters, letter: DeadLetter) -> tuple[Receipt, bool]:
    """Send a letter again; return its record's receipt, and whether the letter was removed.

    A record of what was erased or has expired is removed, too. While the store is away the record is spooled again.
    """
    receipt = _send(store, letter)
    removed = (receipt.acknowledged and not unstored_parts(receipt)) or receipt.reason in GONE
    if removed:
        letters.remove(letter.number)
    return receipt, removed


def describe(receipt: Receipt, separator: str) -> str:
    """Return a receipt in one line, the reason behind a separator: `conflict: prompt`."""
    if missing := unstored_parts(receipt):
        return f"{receipt.receipt} in part, not: {', '.join(missing)}"
    why = receipt.reason or ", ".join(receipt.fields)
    return f"{receipt.receipt}{separator}{why}" if why else receipt.receipt


def _send(store: Store, letter: DeadLetter) -> Receipt:
    try:
        receipts = store.write(replace(letter.batch, late=True))
    except (Invalid, Conflict) as error:
        return error_receipt(error)
    pairs = list(zip(letter.batch.rows(), receipts, strict=True))
    # an implicit parent is stored even where the record itself is rejected
    return next((receipt for row, receipt in pairs if not row.get("implicit")), pairs[0][1])
