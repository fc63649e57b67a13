"""What this machine has acknowledged for other databases than the one at the settings' address.

A service delivers only to the database that it acknowledged for; a person decides about the rest: see `deliver`.
"""

import time
from dataclasses import dataclass
from pathlib import Path

from logging_store.batches import Receipt
from logging_store.errors import StoreUnavailable
from logging_store.spool.blocked_sessions import BlockedSessions
from logging_store.spool.breaker import CircuitBreaker
from logging_store.spool.dead_letters import DeadLetters
from logging_store.spool.directory import Limits, SpoolDirectory
from logging_store.spool.drain import Drain
from logging_store.spool.files import Depth
from logging_store.spool_folders import SpoolFolders, owner_of
from logging_store.store import Store

_NO_PROGRESS_S = 10  # until `deliver` gives up


@dataclass(frozen=True, slots=True)
class Other:
    """A folder with records for another database. `dead_letters`: None if they can't be read."""

    path: Path
    depth: Depth
    dead_letters: int | None
    unreadable: int

    @property
    def total(self) -> int:
        """The number of records and dead letters; a file that can't be read counts as one."""
        letters = 1 if self.dead_letters is None else self.dead_letters
        return self.depth.records + letters + self.unreadable

    def __str__(self) -> str:
        parts = [_number(self.depth.records, "record")]
        if self.dead_letters is None:
            parts.append("unreadable dead letters")
        elif self.dead_letters:
            parts.append(_number(self.dead_letters, "dead letter"))
        if self.unreadable:
            parts.append(_number(self.unreadable, "unreadable file"))
        whose = "another database" if owner_of(self.path) else "a database that has not answered since"
        return f"{', '.join(parts)} in {self.path}, acknowledged for {whose}"


def find(folders: SpoolFolders) -> list[Other]:
    """Return the folders of other databases in which anything waits."""
    found = [look(path) for path in folders.others()]
    return [other for other in found if other.total]


def look(path: Path) -> Other:
    """Return what is in a folder."""
    directory = SpoolDirectory(path, Limits())
    return Other(path, directory.depth(), DeadLetters(path).count(), len(directory.find_unreadable()))


def deliver(store: Store, path: Path, database: str, letters: DeadLetters) -> list[Receipt]:
    """Deliver the records of a folder to the database that answers, and move its dead letters to `letters`.

    Return the receipts. What processes that run still hold stays. Raises `StoreUnavailable` if the store is away.
    """
    receipts: list[Receipt] = []
    breaker = CircuitBreaker()
    directory = SpoolDirectory(path, Limits(), database=database)
    drain = Drain(store, directory, DeadLetters(path), breaker, BlockedSessions(), on_delivered=receipts.append)
    give_up, left = time.monotonic() + _NO_PROGRESS_S, directory.depth().entries
    try:
        while left and time.monotonic() < give_up:
            pause = drain.step()
            if not breaker.is_closed:
                raise StoreUnavailable(breaker.reason)
            if (now := directory.depth().entries) != left:
                give_up, left = time.monotonic() + _NO_PROGRESS_S, now
            time.sleep(min(pause, 0.05))
    finally:
        directory.close()
        letters.take_over(path)
    return receipts


def discard(path: Path) -> None:
    """Remove all records and dead letters of a folder for good, but those that a running process holds."""
    directory = SpoolDirectory(path, Limits())
    directory.adopt_orphans()
    try:
        for file in directory.drainable_files():
            file.clear()
    finally:
        directory.close()
    letters = DeadLetters(path)
    while page := letters.list():
        for letter in page:
            letters.remove(letter.number)


def _number(count: int, thing: str) -> str:
    return f"{count:,} {thing if count == 1 else thing + 's'}"
