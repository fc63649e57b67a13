"""Keys that this machine has seen proven, on its disk: a service that starts while the store is away knows its callers.

Beside them lie the origins of all keys, or browsers would refuse to call. One small SQLite file for all workers. It
holds digests, not keys, and what signs session tokens, so only its owner may read it. It is a convenience: when the
disk fails, nothing but this fails.
"""

import json
import logging
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import apsw
from pydantic import ValidationError

from conversation.access.api_keys import Key

_log = logging.getLogger("turnlog.access")

_AGAIN_S = 60.0  # a key in use is noted once in so long
_BUSY_MS = 200
_SCHEMA = """
create table if not exists known_keys (
    digest    text primary key,
    key       text not null,        -- JSON
    proven_at real not null         -- seconds since the epoch
) without rowid;
create table if not exists known_origins (
    name    text primary key,
    origins text not null,          -- JSON
    told_at real not null           -- seconds since the epoch
) without rowid
"""


class _Known:
    """What is known, in its file. It is made when something is first kept."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @contextmanager
    def _open(self) -> Iterator[apsw.Connection]:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path.touch(mode=0o600, exist_ok=True)
        with closing(apsw.Connection(str(self._path))) as connection:
            connection.set_busy_timeout(_BUSY_MS)
            connection.execute(_SCHEMA)
            yield connection


class KnownKeys(_Known):
    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._noted: dict[str, tuple[Key | None, float]] = {}

    def recall(self, digest: str) -> tuple[Key | None, float] | None:
        """Return a key and the seconds since it was proven."""
        if not self._path.exists():
            return None
        try:
            with self._open() as connection:
                found = connection.execute(
                    "select key, proven_at from known_keys where digest = ?", (digest,)
                ).fetchone()
        except (apsw.Error, OSError) as error:
            _log.warning("known keys can't be read: %s", error)
            return None
        try:
            return (Key.model_validate_json(found[0]), max(0.0, time.time() - found[1])) if found else None
        except ValidationError:
            return None  # another version of Turnlog wrote it

    def remember(self, digest: str, key: Key | None) -> None:
        noted = self._noted.get(digest)
        if noted and _same(noted[0], key) and time.monotonic() - noted[1] < _AGAIN_S:
            return
        if key is None and not (noted and noted[0]) and not self._path.exists():
            return  # a stranger's: nothing to forget
        try:
            with self._open() as connection:
                if key is None:
                    connection.execute("delete from known_keys where digest = ?", (digest,))
                else:
                    connection.execute(
                        "insert or replace into known_keys values (?, ?, ?)",
                        (digest, key.model_dump_json(), time.time()),
                    )
        except (apsw.Error, OSError) as error:
            _log.warning("known keys can't be written: %s", error)
            return
        if key is None:
            self._noted.pop(digest, None)
        else:
            self._noted[digest] = (key, time.monotonic())


class KnownOrigins(_Known):
    """The origins of all keys, as the database last told them. They have one name."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._noted: tuple[frozenset[str], float] | None = None

    def recall(self, name: str) -> tuple[frozenset[str], float] | None:
        """Return the origins and the seconds since they were told."""
        if not self._path.exists():
            return None
        try:
            with self._open() as connection:
                found = connection.execute(
                    "select origins, told_at from known_origins where name = ?", (name,)
                ).fetchone()
        except (apsw.Error, OSError) as error:
            _log.warning("known origins can't be read: %s", error)
            return None
        return (frozenset(json.loads(found[0])), max(0.0, time.time() - found[1])) if found else None

    def remember(self, name: str, origins: frozenset[str]) -> None:
        if self._noted and self._noted[0] == origins and time.monotonic() - self._noted[1] < _AGAIN_S:
            return
        if not origins and not self._path.exists():
            return  # nothing to forget
        try:
            with self._open() as connection:
                connection.execute(
                    "insert or replace into known_origins values (?, ?, ?)",
                    (name, json.dumps(sorted(origins)), time.time()),
                )
        except (apsw.Error, OSError) as error:
            _log.warning("known origins can't be written: %s", error)
            return
        self._noted = (origins, time.monotonic())


def _same(one: Key | None, other: Key | None) -> bool:
    """Tell whether nothing changed but the time of the last use."""
    if one is None or other is None:
        return one is other
    return one.model_copy(update={"last_used_at": None}) == other.model_copy(update={"last_used_at": None})
