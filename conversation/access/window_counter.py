"""Counts calls in windows, where the settings say; while that place is away, nothing is counted and nobody refused."""

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

PAUSE_S = 5.0  # until a place that failed is asked again
_REDIS_S = 0.25  # for each answer; a limit isn't worth more of a caller's time

_log = logging.getLogger(__name__)

_Answer = TypeVar("_Answer")


class Counting:
    """Counts in a place that is opened when it is first needed. Safe to use from any thread."""

    def __init__(
        self, place: str, open_storage: Callable[[], Storage], ledger: Ledger, clock: Callable[[], float] = time.time
    ) -> None:
        self._place, self._open, self._ledger, self._clock = place, open_storage, ledger, clock
        self._lock = threading.Lock()
        self._storage: Storage | None = None
        self._away_until: float | None = None
        self._uncounted = 0

    def hit(self, rate: RateLimitItem, *who: str, cost: int = 1) -> int | None:
        """Count, and return None; or, if that is more than the rate allows, the seconds until it allows more."""

        def ask(storage: Storage) -> int | None:
            key = rate.key_for(*who)
            # what doesn't fit isn't counted, so that it takes nothing from smaller calls
            if cost > 1 and storage.get(key) + cost > rate.amount:
                return self._wait(storage, key)
            return None if storage.incr(key, rate.get_expiry(), cost) <= rate.amount else self._wait(storage, key)

        return self._ask(ask)

    def look(self, rate: RateLimitItem, *who: str) -> int | None:
        """Return what one more `hit` would, and count nothing."""

        def ask(storage: Storage) -> int | None:
            key = rate.key_for(*who)
            return None if storage.get(key) < rate.amount else self._wait(storage, key)

        return self._ask(ask)

    def _wait(self, storage: Storage, key: str) -> int:
        return max(1, ceil(storage.get_expiry(key) - self._clock()))

    def _ask(self, ask: Callable[[Storage], _Answer]) -> _Answer | None:
        if self._away_until is not None and not self._probes():
            self._let_through()
            return None
        try:
            answer = ask(self._opened())
        except (StorageError, ConfigurationError, redis.RedisError, OSError, ValueError) as error:
            self._is_away(error)
            self._let_through()
            return None
        if self._away_until is not None:
            self._is_back()
        return answer

    def _opened(self) -> Storage:
        if self._storage is None:
            with self._lock:
                self._storage = self._storage or self._open()
        return self._storage

    def _probes(self) -> bool:
        """Whether this call shall find out if the place is back: one at a time."""
        with self._lock:
            now = time.monotonic()
            if self._away_until is not None and now < self._away_until:
                return False
            self._away_until = now + PAUSE_S
            return True

    def _is_away(self, error: Exception) -> None:
        with self._lock:
            first, self._away_until = self._away_until is None, time.monotonic() + PAUSE_S
        if first:
            _log.warning("%s can't be used; calls are let through uncounted until it can: %s", self._place, error)

    def _is_back(self) -> None:
        with self._lock:
            self._away_until, uncounted, self._uncounted = None, self._uncounted, 0
        if uncounted:
            _log.warning("%s can be used again; %d counts are missing", self._place, uncounted)

    def _let_through(self) -> None:
        with self._lock:
            self._uncounted += 1
        self._ledger.call("uncounted")


def open_redis(url: str) -> Storage:
    """Return counts in a Redis; nothing is sent to it yet."""
    pool = redis.ConnectionPool.from_url(
        url,
        socket_timeout=_REDIS_S,
        socket_connect_timeout=_REDIS_S,
        retry=Retry(NoBackoff(), 1),  # a connection that the server let go of in the meantime
    )
    return RedisStorage(url, connection_pool=pool, key_prefix="turnlog")
