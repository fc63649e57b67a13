"""The folders of a machine's spool: one for each database that has records here.

    spool/<database id>/        acknowledged for a database; its id is what turnlog.database_id returns
    spool/<address>/            acknowledged before any database had answered at an address
    spool/<address>.database    the id of the database that answered there last
    spool/<folder>/owner        the id of the database that a folder's records are for, where its name isn't that

So a database has the same folder under every address, and no other database at its address gets its records. A module
outside the spool, so that the settings don't load SQLite.
"""

import itertools
import os
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import uuid_utils

from logging_store import private_files

_ID = re.compile(r"[0-9a-f]{16}-[0-9a-f]{8}")
_OWNER = "owner"
_POINTER = ".database"


class Own(NamedTuple):
    """A database and its folders, that for new records first. `database`: None if none has answered yet."""

    database: str | None
    paths: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class SpoolFolders:
    """The folders as a service at an address sees them. `root`: DATA_DIR/spool; `address`: a name for the address."""

    root: Path
    address: str

    @property
    def path(self) -> Path:
        """The folder for new records."""
        return self.own().paths[0]

    def own(self) -> Own:
        """Return the folders of the database that answered last at the address."""
        at_address = self.root / self.address
        database = _read(self._pointer) or owner_of(at_address)
        return Own(None, (at_address,)) if database is None else self._of(database)

    def identify(self, database: str) -> Own:
        """Remember that this database answers at the address, and return its folders.

        It gets the records acknowledged before any had answered there. If the same log was in another place before, as
        before an upgrade of the server, it gets that one's as well. A disk that fails leaves the folders undecided.
        """
        before = _read(self._pointer)
        at_address = self.root / self.address
        with suppress(OSError):
            if at_address.is_dir() and owner_of(at_address) is None:
                _write(at_address / _OWNER, database)
            if before is not None and before != database and is_same_log(before, database):
                for path in self._of(before).paths:
                    if path.is_dir():
                        _write(path / _OWNER, database)
            if before != database:
                private_files.make_folder(self.root)
                _write(self._pointer, database)
        return self._of(database)

    def others(self) -> list[Path]:
        """Return the folders that aren't this database's."""
        own = self.own().paths
        return [path for path in self._folders() if path not in own]

    def _of(self, database: str) -> Own:
        at_address = self.root / self.address
        # the folder of its name may have become that of the same log in another place
        names = itertools.chain([database], (f"{database}.{n}" for n in itertools.count(1)))
        first = next(path for path in map(self.root.joinpath, names) if owner_of(path) == database)
        more = [path for path in self._folders() if path != first and owner_of(path) == database]
        if at_address.is_dir() and owner_of(at_address) is None:
            more.append(at_address)
        return Own(database, (first, *more))

    def _folders(self) -> list[Path]:
        try:
            return sorted(path for path in self.root.iterdir() if path.is_dir())
        except (FileNotFoundError, NotADirectoryError):
            return []

    @property
    def _pointer(self) -> Path:
        return self.root / f"{self.address}{_POINTER}"


def owner_of(folder: Path) -> str | None:
    """Return the database that a folder's records are for; None if none had answered when they were acknowledged."""
    named = folder.name.partition(".")[0]
    return _read(folder / _OWNER) or (named if _ID.fullmatch(named) else None)


def is_same_log(database: str, other: str) -> bool:
    """Return whether one is the other in another place: moved, upgraded or copied."""
    return database.partition("-")[0] == other.partition("-")[0]


def _read(file: Path) -> str | None:
    try:
        text = file.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return None
    return text if _ID.fullmatch(text) else None


def _write(file: Path, database: str) -> None:
    """Write a file; it is on the disk, with all of its content, when it has its name."""
    new = file.with_name(f".{file.name}.{uuid_utils.uuid7().hex}")
    try:
        with os.fdopen(private_files.create(new), "w", encoding="ascii") as opened:
            opened.write(database + "\n")
            opened.flush()
            os.fsync(opened.fileno())
        new.replace(file)
    finally:
        new.unlink(missing_ok=True)
    private_files.sync_directory(file.parent)
