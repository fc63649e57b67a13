"""Verified keys on this machine's disk, so that a service that starts while the store is away knows its callers.

The origins of all keys are cached as well, or browsers would refuse to call. One small SQLite file serves all workers.
It holds digests, not keys, but also the secrets that sign session tokens, so only its owner may read it. A failure of
the disk is logged and does no other harm.
"""

import json
import logging
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import apsw
from pydantic import ValidationError

from conversation.keys.api_keys import Key

_log = logging.getLogger("turnlog.access")

_REWRITE_S = 60.0  # an unchanged entry is written again after this, so that its age is right
_BUSY_MS = 200
_SCHEMA = """
create table if not exists cached_keys (
    digest    text primary key,
    key       text not null,        -- JSON
    verified_at real not null         -- seconds since the epoch
) without rowid;
create table if not exists cached_origins (
    name    text primary key,
    origins text not null,          -- JSON
    fetched_at real not null           -- seconds since the epoch
) without rowid
"""


class _CacheFile:
    """The file of the cache, created with the first entry."""

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


class KeyCache(_CacheFile):
    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._saved: dict[str, tuple[Key | None, float]] = {}

    def load(self, digest: str) -> tuple[Key | None, float] | None:
        """Return a key and the seconds since it was verified; None if the cache doesn't have it."""
        if not self._path.exists():
            return None
        try:
            with self._open() as connection:
                found = connection.execute(
                    "select key, verified_at from cached_keys where digest = ?", (digest,)
                ).fetchone()
        except (apsw.Error, OSError) as error:
            _log.warning("the cache of keys can't be read: %s", error)
            return None
        try:
            return (Key.model_validate_json(found[0]), max(0.0, time.time() - found[1])) if found else None
        except ValidationError:
            return None  # another version of Turnlog wrote it

    def save(self, digest: str, key: Key | None) -> None:
        saved = self._saved.get(digest)
        if saved and _same(saved[0], key) and time.monotonic() - saved[1] < _REWRITE_S:
            return
        if key is None and not (saved and saved[0]) and not self._path.exists():
            return  # an unknown key that was never cached
        try:
            with self._open() as connection:
                if key is None:
                    connection.execute("delete from cached_keys where digest = ?", (digest,))
                else:
                    connection.execute(
                        "insert or replace into cached_keys values (?, ?, ?)",
                        (digest, key.model_dump_json(), time.time()),
                    )
        except (apsw.Error, OSError) as error:
            _log.warning("the cache of keys can't be written: %s", error)
            return
        if key is None:
            self._saved.pop(digest, None)
        else:
            self._saved[digest] = (key, time.monotonic())


class OriginCache(_CacheFile):
    """Caches the origins of all keys, as one entry."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._saved: tuple[frozenset[str], float] | None = None

    def load(self, name: str) -> tuple[frozenset[str], float] | None:
        """Return the origins and the seconds since they were fetched; None if they aren't cached."""
        if not self._path.exists():
            return None
        try:
            with self._open() as connection:
                found = connection.execute(
                    "select origins, fetched_at from cached_origins where name = ?", (name,)
                ).fetchone()
        except (apsw.Error, OSError) as error:
            _log.warning("the cache of origins can't be read: %s", error)
            return None
        return (frozenset(json.loads(found[0])), max(0.0, time.time() - found[1])) if found else None

    def save(self, name: str, origins: frozenset[str]) -> None:
        if self._saved and self._saved[0] == origins and time.monotonic() - self._saved[1] < _REWRITE_S:
            return
        if not origins and not self._path.exists():
            return  # nothing cached that this would replace
        try:
            with self._open() as connection:
                connection.execute(
                    "insert or replace into cached_origins values (?, ?, ?)",
                    (name, json.dumps(sorted(origins)), time.time()),
                )
        except (apsw.Error, OSError) as error:
            _log.warning("the cache of origins can't be written: %s", error)
            return
        self._saved = (origins, time.monotonic())


def _same(one: Key | None, other: Key | None) -> bool:
    """Return whether two states of a key differ at most in the time of the last use."""
    if one is None or other is None:
        return one is other
    return one.model_copy(update={"last_used_at": None}) == other.model_copy(update={"last_used_at": None})
