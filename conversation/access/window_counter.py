"""Counts calls in fixed windows, in a file or in Redis; while that storage fails, calls pass uncounted."""

import logging
import threading
import time
from collections.abc import Callable
from math import ceil
from typing import TypeVar

import redis
from limits import RateLimitItem
from limits.errors import ConfigurationError, StorageError
from limits.storage import RedisStorage, Storage
from redis.backoff import NoBackoff
from redis.retry import Retry

from logging_store.metrics.ledger import Ledger

PAUSE_S = 5.0  # until a storage that failed is tried again
_REDIS_S = 0.25  # for each answer; a limit isn't worth more latency

_log = logging.getLogger(__name__)

_Answer = TypeVar("_Answer")


class WindowCounter:
    """Counts in a storage that it opens at first use. `place`: its name in the log. Safe to use from any thread."""

    def __init__(
        self, place: str, open_storage: Callable[[], Storage], ledger: Ledger, clock: Callable[[], float] = time.time
    ) -> None:
        self._place, self._open, self._ledger, self._clock = place, open_storage, ledger, clock
        self._lock = threading.Lock()
        self._storage: Storage | None = None
        self._away_until: float | None = None
        self._uncounted = 0

    def hit(self, rate: RateLimitItem, *who: str, cost: int = 1) -> int | None:
        """Count, and return None; or, above the rate, the seconds until the window ends."""

        def ask(storage: Storage) -> int | None:
            key = rate.key_for(*who)
            # a call too large for the rest isn't counted, so that smaller ones still fit
            if cost > 1 and storage.get(key) + cost > rate.amount:
                return self._wait(storage, key)
            return None if storage.incr(key, rate.get_expiry(), cost) <= rate.amount else self._wait(storage, key)

        return self._ask(ask)

    def peek(self, rate: RateLimitItem, *who: str) -> int | None:
        """Return what `hit` would return, without counting."""

        def ask(storage: Storage) -> int | None:
            key = rate.key_for(*who)
            return None if storage.get(key) < rate.amount else self._wait(storage, key)

        return self._ask(ask)

    def _wait(self, storage: Storage, key: str) -> int:
        return max(1, ceil(storage.get_expiry(key) - self._clock()))

    def _ask(self, ask: Callable[[Storage], _Answer]) -> _Answer | None:
        if self._away_until is not None and not self._may_probe():
            self._count_skipped()
            return None
        try:
            answer = ask(self._connected())
        except (StorageError, ConfigurationError, redis.RedisError, OSError, ValueError) as error:
            self._mark_away(error)
            self._count_skipped()
            return None
        if self._away_until is not None:
            self._mark_back()
        return answer

    def _connected(self) -> Storage:
        if self._storage is None:
            with self._lock:
                self._storage = self._storage or self._open()
        return self._storage

    def _may_probe(self) -> bool:
        """Return whether this call may try if the storage is back: one call at a time."""
        with self._lock:
            now = time.monotonic()
            if self._away_until is not None and now < self._away_until:
                return False
            self._away_until = now + PAUSE_S
            return True

    def _mark_away(self, error: Exception) -> None:
        with self._lock:
            first, self._away_until = self._away_until is None, time.monotonic() + PAUSE_S
        if first:
            _log.warning("can't count in %s; calls pass uncounted until it works again: %s", self._place, error)

    def _mark_back(self) -> None:
        with self._lock:
            self._away_until, uncounted, self._uncounted = None, self._uncounted, 0
        if uncounted:
            _log.warning("counting in %s again; %d calls passed uncounted", self._place, uncounted)

    def _count_skipped(self) -> None:
        with self._lock:
            self._uncounted += 1
        self._ledger.call("uncounted")


def open_redis(url: str) -> Storage:
    """Return a storage in Redis, without connecting yet."""
    pool = redis.ConnectionPool.from_url(
        url,
        socket_timeout=_REDIS_S,
        socket_connect_timeout=_REDIS_S,
        retry=Retry(NoBackoff(), 1),  # once more, for a connection that the server has closed
    )
    return RedisStorage(url, connection_pool=pool, key_prefix="turnlog")
