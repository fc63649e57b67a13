"""A cache in front of a look-up in the store, which also serves while the store is away.

Entries are refreshed after some seconds, so that a revoked key soon stops working. While the store is away the last
value is served, so that writes of a known caller are spooled; a name that was never looked up fails with a 503.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from logging_store.errors import Misconfigured, StoreUnavailable

FRESH_S = 10.0  # a revoked key stops working after this and the time of one look-up
STALE_OK_S = 25.0  # a value no older than this is served while another thread refreshes it
OUTAGE_S = 24 * 3600.0  # how long a value is served while the store is away
_MAX_ENTRIES = 10_000

_Value = TypeVar("_Value")


class PersistentCache(Protocol[_Value]):
    """Keeps values beyond the life of this process."""

    def load(self, name: str) -> tuple[_Value, float] | None:
        """Return the value of a name and its age in seconds; None if there is none."""

    def save(self, name: str, value: _Value) -> None: ...


@dataclass(frozen=True, slots=True)
class _Entry(Generic[_Value]):
    value: _Value
    fetched_at: float  # of the monotonic clock

    @property
    def age(self) -> float:
        return time.monotonic() - self.fetched_at


class CachedLookup(Generic[_Value]):
    """Caches what `fetch` returns for each name. Safe to use from any thread."""

    def __init__(self, fetch: Callable[[str], _Value], persistent: PersistentCache[_Value] | None = None) -> None:
        self._fetch = fetch
        self._persistent = persistent
        self._lock = threading.Lock()
        self._entries: OrderedDict[str, _Entry[_Value]] = OrderedDict()
        self._refreshing: dict[str, threading.Lock] = {}

    def get(self, name: str) -> _Value:
        """Return the value of a name. Raises `StoreUnavailable` if the store is away and the name was never fetched."""
        entry = self._entries.get(name)
        age = entry.age if entry else OUTAGE_S
        if entry and age < FRESH_S:
            return entry.value
        with self._lock:
            refreshing = self._refreshing.setdefault(name, threading.Lock())
        if entry and age < STALE_OK_S:
            if not refreshing.acquire(blocking=False):
                return entry.value
        else:
            refreshing.acquire()
        try:
            newer = self._entries.get(name)
            if newer and newer.age < FRESH_S:
                return newer.value
            return self._refresh(name, newer)
        finally:
            with self._lock:
                self._refreshing.pop(name, None)
            refreshing.release()

    def _refresh(self, name: str, cached: _Entry[_Value] | None) -> _Value:
        try:
            value = self._fetch(name)
        except (StoreUnavailable, Misconfigured):
            cached = cached or self._load(name)
            if cached is None or cached.age > OUTAGE_S:
                raise
            self._store(name, cached)
            return cached.value
        self._store(name, _Entry(value, time.monotonic()))
        if self._persistent:
            self._persistent.save(name, value)
        return value

    def _load(self, name: str) -> _Entry[_Value] | None:
        loaded = self._persistent.load(name) if self._persistent else None
        return _Entry(loaded[0], time.monotonic() - loaded[1]) if loaded else None

    def _store(self, name: str, entry: _Entry[_Value]) -> None:
        with self._lock:
            self._entries[name] = entry
            self._entries.move_to_end(name)
            while len(self._entries) > _MAX_ENTRIES:
                with suppress(KeyError):
                    self._entries.popitem(last=False)
