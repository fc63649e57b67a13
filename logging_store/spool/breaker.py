"""A circuit breaker: while the store is away nobody waits for it but one probe, now and then."""

import random
import threading
import time
from collections.abc import Callable


class CircuitBreaker:
    """Closed while the store answers. A failure opens it; after a pause one probe may try (half-open).

    Pauses have full jitter: each lasts between nothing and twice as long as the last could, up to `longest_s`.
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
        self._on_change = on_change  # told 1 when it opens and -1 when it closes
        self._lock = threading.Lock()
        self._failures = 0  # in a row
        self._probe_at = 0.0
        self._probing = False
        self.reason = ""

    @property
    def is_closed(self) -> bool:
        return self._failures == 0

    def fail(self, error: Exception) -> bool:
        """Take note of a failure. Return whether the store was thought to be well until now."""
        with self._lock:
            was_closed = self.is_closed
            if was_closed or self._probing:  # calls that were under way when it opened say nothing new
                self._failures += 1
                limit = min(self._longest_s, self._shortest_s * 2.0 ** min(self._failures, 30))
                self._probe_at = self._clock() + limit * self._chance()
            self._probing = False
            self.reason = str(error)
            if was_closed:
                self._on_change(1)
            return was_closed

    def succeed(self) -> None:
        with self._lock:
            if not self.is_closed:
                self._on_change(-1)
            self._failures = 0
            self._probing = False
            self.reason = ""

    def seconds_to_probe(self) -> float:
        return max(0.0, self._probe_at - self._clock())

    def may_probe(self) -> bool:
        """Tell the one caller who may probe now that it may; it has to report `succeed` or `fail`."""
        with self._lock:
            if self.is_closed or self._probing or self._probe_at > self._clock():
                return False
            self._probing = True
            return True
