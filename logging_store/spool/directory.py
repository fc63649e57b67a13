"""All the files of a spool: this process' own, those of its siblings, and those that dead ones left.

Beside the files lie marks: `.lock` (who holds it owns the file) and `.broken` (the disk failed under the file; its
entries are copied out of it, and it is never written again).
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

from logging_store.batches import Batch
from logging_store.errors import SpoolFull, StoreUnavailable
from logging_store.spool import orphans
from logging_store.spool.files import Depth, SpoolFile, read_batch, reading
from logging_store.spool.locks import BROKEN, PREFIX, SUFFIX

_log = logging.getLogger(__name__)

_Answer = TypeVar("_Answer")
_CLAIMED_SHARE = 0.75  # of the spool's size: past it, only what nobody claims is kept

# just made, and empty; or such that nobody can read it, ever
_SAYS_NOTHING = (apsw.SQLError, apsw.CorruptError, apsw.NotADBError)


@dataclass(frozen=True, slots=True)
class Limits:
    """What the spool may take of its disk, in bytes: of its own, and what it leaves to others."""

    max_bytes: int = 1 << 30
    min_free_bytes: int = 256 << 20


class SpoolDirectory:
    """The spool's folder, as one process uses it. It is made when it is first needed."""

    def __init__(self, path: Path, limits: Limits) -> None:
        self.path = path
        self.limits = limits
        self._lock = threading.Lock()
        self._own: tuple[int, SpoolFile] | None = None
        self._adopted: list[SpoolFile] = []
        self._unreadable: set[Path] = set()

    def keep(self, batch: Batch) -> None:
        """Put a batch on the disk. Raises `SpoolFull` past the limits, `StoreUnavailable` if the disk fails."""
        with self._lock:
            self.require_room(claimed=batch.is_claimed)
            for last in (False, True):
                try:
                    self._own_file().keep([batch])
                except apsw.FullError as error:
                    raise SpoolFull("the disk of the spool is full") from error
                except apsw.BusyError as error:
                    raise StoreUnavailable("somebody reads the spool's file for too long") from error
                except (apsw.Error, OSError) as error:
                    # what this file holds is in doubt now; a new one may do
                    self._abandon_own(error)
                    if last:
                        raise StoreUnavailable(f"the spool's disk fails: {error}") from error
                else:
                    return

    def require_room(self, *, claimed: bool = False) -> None:
        """Raise `SpoolFull` if nothing more may be kept; or nothing `claimed`, so that pages leave others room."""
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            free = shutil.disk_usage(self.path).free
        except OSError as error:
            raise StoreUnavailable(f"the spool's folder can't be used: {error}") from error
        if free < self.limits.min_free_bytes:
            raise SpoolFull(f"only {free >> 20} MB are free on the disk of the spool")
        if (used := self.used_bytes()) >= self.limits.max_bytes:
            raise SpoolFull(f"the spool holds {used >> 20} MB and may not hold more")
        if claimed and used >= self.limits.max_bytes * _CLAIMED_SHARE:
            raise SpoolFull(f"the spool holds {used >> 20} MB, and what it may hold more is not for pages and users")

    def used_bytes(self) -> int:
        used = 0
        with suppress(FileNotFoundError), os.scandir(self.path) as files:
            for file in files:
                with suppress(FileNotFoundError):  # drained and removed just now
                    used += file.stat().st_size
        return used

    def to_drain(self) -> Iterator[SpoolFile]:
        """Yield the files that are this process' to drain, its own first."""
        with self._lock:
            files = [self._own[1]] if self._own and self._own[0] == os.getpid() else []
            files += self._adopted
        yield from files

    def adopt_orphans(self) -> None:
        """Take over the files whose owners have ended."""
        for path in self.files():
            if path in self._unreadable or any(path == file.path for file in self.to_drain()):
                continue
            try:
                broken = path.with_suffix(BROKEN).exists()
                file = orphans.rescue(path) if broken else SpoolFile.adopt(path)
            except (apsw.CorruptError, apsw.NotADBError) as error:
                self._mark_unreadable(path, error)
            except (apsw.Error, OSError) as error:
                _log.warning("spool: %s can't be adopted now: %s", path, error)
            else:
                if file is not None:
                    with self._lock:
                        self._adopted.append(file)
        orphans.remove_remains(self.path)

    def retire(self, file: SpoolFile) -> bool:
        """Remove a file if it is empty; tell whether it was."""
        with self._lock:
            if not file.is_empty():
                return False
            self._let_go(file)
            file.retire()
        return True

    def abandon(self, file: SpoolFile) -> None:
        """Give up a file under which the disk failed; the next look for orphans works on a copy."""
        with self._lock:
            self._let_go(file)
            file.abandon()

    def give_up(self, file: SpoolFile, error: Exception) -> None:
        """Leave a file that can't be read for a person to look at, and harm no other."""
        with self._lock:
            self._let_go(file)
            file.close()
            self._mark_unreadable(file.path, error)

    def depth(self) -> Depth:
        """Return how much waits on this machine, in the files of all processes."""
        depth = Depth()
        now = time.time()

        def measure(connection: apsw.Connection) -> Depth:
            entries, records, size, oldest = connection.execute(
                "select count(*), coalesce(sum(records), 0), coalesce(sum(length(batch)), 0), min(kept_at) from entries"
            ).get
            return Depth(entries, records, size, max(0, now - oldest) if entries else 0)

        for one in self._ask_each(measure):
            depth += one
        return depth

    def batches_of(self, project: str, session_id: str, *, surely: bool = False) -> list[Batch]:
        """Return the batches that wait with something of a session in them, in the order of their arrival.

        `surely`: raise `StoreUnavailable` if a file can't be read now.
        """

        def find(connection: apsw.Connection) -> list[tuple[float, Batch]]:
            rows = connection.execute(
                "select kept_at, batch from entries"
                " where project = ? and seq in (select seq from entry_sessions where session_id = ?) order by seq",
                (project, session_id),
            )
            return [(kept_at, read_batch(batch)) for kept_at, batch in rows]

        found = [each for one in self._ask_each(find, surely=surely) for each in one]
        return [batch for _, batch in sorted(found, key=lambda each: each[0])]

    def sessions(self, project: str) -> set[str]:
        """Return the ids of all sessions and folders of which something waits.

        Raises `StoreUnavailable` if a file can't be read now; one that nobody can read is left out.
        """

        def find(connection: apsw.Connection) -> list[str]:
            rows = connection.execute(
                "select distinct session_id from entry_sessions join entries using (seq) where project = ?", (project,)
            )
            return [session_id for (session_id,) in rows]

        return {session_id for found in self._ask_each(find, surely=True) for session_id in found}

    def batches(self, project: str, holding: bytes) -> Iterator[Batch]:
        """Yield the batches of a project that wait, and that hold some bytes."""

        def find(connection: apsw.Connection) -> list[bytes]:
            rows = connection.execute(
                "select batch from entries where project = ? and instr(batch, ?)", (project, holding)
            )
            return [batch for (batch,) in rows]

        for found in self._ask_each(find):
            yield from map(read_batch, found)

    def files(self) -> list[Path]:
        """Return the files of all processes."""
        return sorted(self.path.glob(f"{PREFIX}*{SUFFIX}"))

    def find_unreadable(self) -> list[Path]:
        """Return the files that nobody can read: they are left for a person to look at."""
        found: list[Path] = []
        for path in self.files():
            try:
                with reading(path) as connection:
                    connection.execute("select count(*) from entries").fetchall()
            except (apsw.CorruptError, apsw.NotADBError):
                found.append(path)
            except apsw.Error:
                continue  # in use, or about to be recovered
        return found

    def close(self) -> None:
        with self._lock:
            for file in [*([self._own[1]] if self._own and self._own[0] == os.getpid() else []), *self._adopted]:
                if file.is_empty():
                    file.retire()
                else:
                    file.close()
            self._own, self._adopted = None, []

    def _own_file(self) -> SpoolFile:
        if self._own is not None and self._own[0] != os.getpid():
            self._own, self._adopted = None, []  # what was open before a fork is the parent's
        if self._own is None:
            self._own = (os.getpid(), SpoolFile.create(self.path))
        return self._own[1]

    def _abandon_own(self, error: Exception) -> None:
        _log.error("spool: the disk failed, a new file is begun: %s", error)
        if self._own:
            file = self._own[1]
            self._own = None
            file.abandon()

    def _mark_unreadable(self, path: Path, error: Exception) -> None:
        self._unreadable.add(path)
        _log.error("spool: %s can't be read and is left for a person to look at: %s", path, error)

    def _let_go(self, file: SpoolFile) -> None:
        if self._own and self._own[1] is file:
            self._own = None
        self._adopted = [adopted for adopted in self._adopted if adopted is not file]

    def _ask_each(self, question: Callable[[apsw.Connection], _Answer], *, surely: bool = False) -> Iterator[_Answer]:
        """Yield the answers of all files that can be read; `surely`: raise where one may hold what isn't told of."""
        for path in self.files():
            try:
                with reading(path) as connection:
                    answer = question(connection)
            except apsw.Error as error:
                if surely and path.exists() and not isinstance(error, _SAYS_NOTHING):
                    raise StoreUnavailable(f"what waits in {path} can't be read now, try again: {error}") from error
                if isinstance(error, apsw.CantOpenError | apsw.ReadOnlyError | apsw.SQLError):
                    continue  # just made, just removed, or about to be recovered by who adopts it
                _log.warning("spool: %s can't be read now: %s", path, error)
            else:
                yield answer
