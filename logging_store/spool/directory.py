"""All files of a spool: this process's own, those of its siblings, and orphans of dead processes.

Beside a file lie `.lock` (its holder owns the file) and, after the disk failed under the file, `.broken` (the file is
never written again; its entries are copied to another file).
"""

import logging
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import apsw

from logging_store import private_files
from logging_store.batches import Batch
from logging_store.errors import SpoolFull, StoreUnavailable
from logging_store.spool import orphans
from logging_store.spool.files import UNREADABLE, Depth, SpoolFile, open_for_reading, parse_batch, require_columns
from logging_store.spool.locks import BROKEN, PREFIX, SUFFIX
from logging_store.spool_folders import Own, SpoolFolders

_log = logging.getLogger(__name__)

_Answer = TypeVar("_Answer")
_CLAIMED_SHARE = 0.75  # of the spool's size; the rest is reserved for batches without claims


@dataclass(frozen=True, slots=True)
class Limits:
    """The most bytes that the spool takes of its disk, and the free bytes that it leaves to others."""

    max_bytes: int = 1 << 30
    min_free_bytes: int = 256 << 20


class SpoolDirectory:
    """The spool of one database, as one process uses it. Its folder is created at first use.

    `folders`: a folder, or those of a database that is only known once it has answered; `follow` tells.
    `database`: the id of the database whose folder that is.
    """

    def __init__(self, folders: SpoolFolders | Path, limits: Limits, *, database: str | None = None) -> None:
        self._folders = folders if isinstance(folders, SpoolFolders) else None
        self._in_use = folders.own() if isinstance(folders, SpoolFolders) else Own(database, (folders,))
        self.limits = limits
        self._left: list[SpoolFile] = []  # of a database that doesn't answer at this address any more
        self._lock = threading.Lock()
        self._own: tuple[int, SpoolFile] | None = None
        self._adopted: list[SpoolFile] = []
        self._unreadable: set[Path] = set()

    @property
    def path(self) -> Path:
        """The folder of new files."""
        return self._in_use.paths[0]

    @property
    def database(self) -> str | None:
        """The database whose records these are; None while none has answered."""
        return self._in_use.database

    def follow(self, own: Own | None = None) -> None:
        """Use the folders of the database that answered last at this address, to whichever process, or `own`."""
        if self._folders is not None:
            with self._lock:
                self._use(own or self._folders.own())

    def append(self, batch: Batch) -> None:
        """Sync a batch to the disk. Raises `SpoolFull` past the limits, `StoreUnavailable` if the disk fails."""
        self.follow()
        with self._lock:
            self.require_room(claimed=batch.is_claimed)
            for last in (False, True):
                try:
                    self._own_file().append([batch])
                except apsw.FullError as error:
                    raise SpoolFull("the disk of the spool is full") from error
                except apsw.BusyError as error:
                    raise StoreUnavailable("another process has locked the spool's file for too long") from error
                except (apsw.Error, OSError) as error:
                    # this file's content is in doubt now; a new file may work
                    self._abandon_own(error)
                    if last:
                        raise StoreUnavailable(f"the spool's disk fails: {error}") from error
                else:
                    return

    def require_room(self, *, claimed: bool = False) -> None:
        """Raise `SpoolFull` past the limits. `claimed`: a lower limit, so that pages leave room for backends."""
        try:
            private_files.make_folder(self.path)
            free = shutil.disk_usage(self.path).free
        except OSError as error:
            raise StoreUnavailable(f"the spool's folder can't be used: {error}") from error
        if free < self.limits.min_free_bytes:
            raise SpoolFull(f"only {free >> 20} MB are free on the disk of the spool")
        if (used := self.used_bytes()) >= self.limits.max_bytes:
            raise SpoolFull(f"the spool holds {used >> 20} MB and may not hold more")
        if claimed and used >= self.limits.max_bytes * _CLAIMED_SHARE:
            raise SpoolFull(f"the spool holds {used >> 20} MB; its remaining room is reserved for secret keys")

    def used_bytes(self) -> int:
        used = 0
        for path in self._in_use.paths:
            with suppress(FileNotFoundError), os.scandir(path) as files:
                for file in files:
                    with suppress(FileNotFoundError):  # drained and deleted just now
                        used += file.stat().st_size
        return used

    def drainable_files(self) -> Iterator[SpoolFile]:
        """Yield the files that this process drains, its own first; none before the database has answered."""
        with self._lock:
            while self._left:
                _release(self._left.pop())
            files = [self._own[1]] if self._own and self._own[0] == os.getpid() else []
            files += self._adopted
        if self._folders is None or self.database is not None:
            yield from files

    def adopt_orphans(self) -> None:
        """Take over the files of processes that ended."""
        self.follow()
        for path in self.files():
            if path in self._unreadable or self._holds(path):
                continue
            try:
                broken = path.with_suffix(BROKEN).exists()
                file = orphans.recover(path) if broken else SpoolFile.adopt(path)
            except UNREADABLE as error:
                self._mark_unreadable(path, error)
            except (apsw.Error, OSError) as error:
                _log.warning("spool: %s can't be adopted now: %s", path, error)
            else:
                if file is not None:
                    with self._lock:
                        self._adopt(file)
        for folder in self._in_use.paths:
            orphans.remove_leftovers(folder)

    def delete_if_empty(self, file: SpoolFile) -> bool:
        """Delete a file if it is empty; return whether it was."""
        with self._lock:
            if not file.is_empty():
                return False
            self._disown(file)
            file.delete()
        return True

    def abandon(self, file: SpoolFile) -> None:
        """Abandon a file under which the disk failed; the next scan for orphans copies it."""
        with self._lock:
            self._disown(file)
            file.abandon()

    def quarantine(self, file: SpoolFile, error: Exception) -> None:
        """Set a file aside that can't be read, for a person to inspect."""
        with self._lock:
            self._disown(file)
            file.close()
            self._mark_unreadable(file.path, error)

    def depth(self) -> Depth:
        """Return how much is spooled on this machine, in the files of all processes."""
        depth = Depth()
        now = time.time()

        def measure(connection: apsw.Connection) -> Depth:
            entries, records, size, oldest = connection.execute(
                "select count(*), coalesce(sum(records), 0), coalesce(sum(length(batch)), 0), min(spooled_at)"
                " from entries"
            ).get
            return Depth(entries, records, size, max(0, now - oldest) if entries else 0)

        for each in self._query_files(measure):
            depth += each
        return depth

    def batches_for(self, project: str, session_id: str, *, strict: bool = False) -> list[Batch]:
        """Return the spooled batches with rows of a session or folder, in order of arrival.

        `strict`: raise `StoreUnavailable` if a file can't be read now.
        """

        def find(connection: apsw.Connection) -> list[tuple[float, Batch]]:
            rows = connection.execute(
                "select spooled_at, batch from entries"
                " where project = ? and seq in (select seq from entry_sessions where session_id = ?) order by seq",
                (project, session_id),
            )
            return [(spooled_at, parse_batch(batch)) for spooled_at, batch in rows]

        found = [each for in_file in self._query_files(find, strict=strict) for each in in_file]
        return [batch for _, batch in sorted(found, key=lambda each: each[0])]

    def parent_ids(self, project: str) -> set[str]:
        """Return the ids of all sessions and folders with spooled rows.

        Raises `StoreUnavailable` if a file can't be read now; corrupt files are left out.
        """

        def find(connection: apsw.Connection) -> list[str]:
            rows = connection.execute(
                "select distinct session_id from entry_sessions join entries using (seq) where project = ?", (project,)
            )
            return [session_id for (session_id,) in rows]

        return {session_id for found in self._query_files(find, strict=True) for session_id in found}

    def batches_containing(self, project: str, data: bytes) -> Iterator[Batch]:
        """Yield the spooled batches of a project whose JSON contains some bytes."""

        def find(connection: apsw.Connection) -> list[bytes]:
            rows = connection.execute(
                "select batch from entries where project = ? and instr(batch, ?)", (project, data)
            )
            return [batch for (batch,) in rows]

        for found in self._query_files(find):
            yield from map(parse_batch, found)

    def files(self) -> list[Path]:
        """Return the files of all processes."""
        return sorted(file for folder in self._in_use.paths for file in folder.glob(f"{PREFIX}*{SUFFIX}"))

    def find_unreadable(self) -> list[Path]:
        """Return the files that are corrupt or of another version; they are left for a person to inspect."""
        found: list[Path] = []
        for path in self.files():
            try:
                with open_for_reading(path) as connection:
                    require_columns(connection)
                    connection.execute("select count(*) from entries").fetchall()
            except UNREADABLE:
                found.append(path)
            except apsw.Error:
                continue  # locked, or about to be recovered
        return found

    def close(self) -> None:
        with self._lock:
            for file in self._held():
                _release(file)
            self._own, self._adopted, self._left = None, [], []

    def _own_file(self) -> SpoolFile:
        if self._own is not None and self._own[0] != os.getpid():
            self._own, self._adopted, self._left = None, [], []  # files opened before a fork belong to the parent
        if self._own is None:
            self._own = (os.getpid(), SpoolFile.create(self.path))
            self._own[1].database = self.database
        return self._own[1]

    def _held(self) -> list[SpoolFile]:
        own = [self._own[1]] if self._own and self._own[0] == os.getpid() else []
        return [*own, *self._adopted, *self._left]

    def _holds(self, path: Path) -> bool:
        with self._lock:
            return any(path == file.path for file in self._held())

    def _use(self, own: Own) -> None:
        if own == self._in_use or (own.database is None and self.database is not None):
            return  # nothing is new; or what is known could not be written down
        self._in_use = own
        held, left = self._held(), self._left
        # a delivery may be using them, so the drain releases them before its next one
        self._left = [file for file in held if file.path.parent not in own.paths]
        for file in held:
            if file in self._left:
                self._disown(file)
                continue
            file.database = own.database
            if file in left:  # its database answers again, before it was released
                self._adopted.append(file)

    def _adopt(self, file: SpoolFile) -> None:
        if file.path.parent not in self._in_use.paths:
            file.close()  # another database has answered meanwhile
            return
        file.database = self.database
        self._adopted.append(file)

    def _abandon_own(self, error: Exception) -> None:
        _log.error("spool: the disk failed; writing to a new file: %s", error)
        if self._own:
            file = self._own[1]
            self._own = None
            file.abandon()

    def _mark_unreadable(self, path: Path, error: Exception) -> None:
        self._unreadable.add(path)
        _log.error("spool: %s can't be read; inspect it by hand: %s", path, error)

    def _disown(self, file: SpoolFile) -> None:
        if self._own and self._own[1] is file:
            self._own = None
        self._adopted = [adopted for adopted in self._adopted if adopted is not file]

    def _query_files(self, query: Callable[[apsw.Connection], _Answer], *, strict: bool = False) -> Iterator[_Answer]:
        """Yield a query's answer from each file. `strict`: raise if a file can't be read now, but may be later."""
        for path in self.files():
            try:
                with open_for_reading(path) as connection:
                    answer = query(connection)
            except apsw.Error as error:
                if strict and path.exists() and not isinstance(error, UNREADABLE):
                    raise StoreUnavailable(f"{path} can't be read now; try again: {error}") from error
                if isinstance(error, apsw.CantOpenError | apsw.ReadOnlyError):
                    continue  # just deleted, or about to be recovered by the process that adopts it
                _log.warning("spool: %s can't be read now: %s", path, error)
            else:
                yield answer


def _release(file: SpoolFile) -> None:
    try:
        if file.is_empty():
            file.delete()
        else:
            file.close()
    except (apsw.Error, OSError) as error:
        _log.warning("spool: %s can't be looked at now: %s", file.path, error)
        file.close()
