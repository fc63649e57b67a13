"""The time at which records arrive.

It is this machine's, unless that is far from the database's: retention counts by the database's clock, so a record that
arrives "ten years ago" would be erased the same night. Where the two differ the database's counts.
"""

import logging
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime

from logging_store.errors import StoreError

_log = logging.getLogger(__name__)

_TOLERANCE_S = 3600.0
_PAUSE_S = 30.0  # between two questions to the database


class ArrivalClock:
    """Returns the current time. Safe to use from any thread.

    `ask`: returns the database's time, or raises `StoreError`; it is asked at the first call, and after this machine's
    clock was set, which shows against the monotonic one. Until it answers, time goes on as it did.
    """

    def __init__(
        self,
        ask: Callable[[], datetime],
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ask, self._wall, self._monotonic = ask, wall, monotonic
        self._zero: float | None = None  # the time at which the monotonic clock showed 0
        self._next_ask = float("-inf")
        self._asking = threading.Lock()

    def __call__(self) -> datetime:
        wall, passed = self._wall(), self._monotonic()
        if self._zero is None or abs(wall - passed - self._zero) > _TOLERANCE_S:
            self._compare(wall, passed)
            if self._zero is not None and abs(wall - passed - self._zero) > _TOLERANCE_S:
                wall = passed + self._zero
        return datetime.fromtimestamp(wall, UTC)

    def _compare(self, wall: float, passed: float) -> None:
        if passed < self._next_ask or not self._asking.acquire(blocking=False):
            return
        try:
            self._next_ask = passed + _PAUSE_S
            theirs = self._ask().timestamp()
        except StoreError:
            return
        finally:
            self._asking.release()
        if abs(off := wall - theirs) > _TOLERANCE_S:
            _log.error(
                "this machine's clock is %.1f hours %s the database's, whose time counts for records: set it",
                abs(off) / 3600,
                "ahead of" if off > 0 else "behind",
            )
            self._zero = theirs - passed
        else:
            self._zero = wall - passed
