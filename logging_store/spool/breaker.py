"""A circuit breaker: while the store is away only a probe waits for it, now and then."""

import random
import threading
import time
from collections.abc import Callable

from logging_store.errors import StoreReadOnly, StoreReconnecting


class CircuitBreaker:
    """Closed while the store answers. A failure opens it; after a pause it allows one probe (half-open).

    Pauses have full jitter: each lasts between 0 and a limit that doubles with each failure, up to `longest_s`.
    """

    def __init__(
        self,
        shortest_s: float = 0.25,
        longest_s: float = 4,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
        on_change: Callable[[int], None] = lambda _opened: None,
    ) -> None:
        self._shortest_s, self._longest_s = shortest_s, longest_s
        self._clock, self._chance = clock, chance
        self._on_change = on_change  # called with 1 when it opens, -1 when it closes
        self._lock = threading.Lock()
        self._failures = 0  # in a row
        self._probe_at = 0.0
        self._probing = False
        self._error: Exception | None = None

    @property
    def reason(self) -> str:
        return "" if self._error is None else str(self._error)

    @property
    def is_reconnecting(self) -> bool:
        """Whether it is open since the store's API reconnects to its database."""
        return isinstance(self._error, StoreReconnecting)

    @property
    def is_read_only(self) -> bool:
        """Whether it is open since the store only answers reads."""
        return isinstance(self._error, StoreReadOnly)

    @property
    def is_closed(self) -> bool:
        return self._failures == 0

    def record_failure(self, error: Exception) -> bool:
        """Open the breaker, or prolong its pause. Return whether it was closed."""
        with self._lock:
            was_closed = self.is_closed
            if was_closed or self._probing:  # calls that began before it opened show nothing new
                self._failures += 1
                limit = min(self._longest_s, self._shortest_s * 2.0 ** min(self._failures, 30))
                self._probe_at = self._clock() + limit * self._chance()
            self._probing = False
            self._error = error
            if was_closed:
                self._on_change(1)
            return was_closed

    def record_success(self) -> None:
        with self._lock:
            if not self.is_closed:
                self._on_change(-1)
            self._failures = 0
            self._probing = False
            self._error = None

    def seconds_to_probe(self) -> float:
        return max(0.0, self._probe_at - self._clock())

    def try_probe(self) -> bool:
        """Return True to one caller once a pause is over; it must then record success or failure."""
        with self._lock:
            if self.is_closed or self._probing or self._probe_at > self._clock():
                return False
            self._probing = True
            return True
