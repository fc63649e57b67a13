"""Sessions that somebody's lock holds up while the store itself is well.

Their writes go to the disk at once, and only the drain tries them, now and then: else each group of writes with such a
session in it would wait for the lock anew.
"""

import threading
import time
from collections.abc import Callable

from logging_store.batches import Batch

HOLD_S = 60.0  # without news from the drain, which may have been another process'


class HeldSessions:
    """Which sessions are held up. Safe to use from any thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._held: dict[tuple[str, str], tuple[float, float]] = {}  # -> held until, and when the drain tries again

    def hold(self, batch: Batch, pause_s: float = 0) -> None:
        """Keep back the sessions of a batch; the drain tries them after a pause."""
        now = self._clock()
        with self._lock:
            for session_id in batch.parent_ids():
                self._held[batch.project, session_id] = now + pause_s + HOLD_S, now + pause_s

    def release(self, batch: Batch) -> None:
        """Let the sessions of a batch go: it was delivered."""
        if self._held:
            with self._lock:
                for session_id in batch.parent_ids():
                    self._held.pop((batch.project, session_id), None)

    def of(self, batch: Batch) -> set[str]:
        """Return the sessions of a batch that are held up."""
        if not self._held:  # read without the lock: almost every write passes here
            return set()
        now = self._clock()
        with self._lock:
            self._held = {key: times for key, times in self._held.items() if times[0] > now}
            return {one for one in batch.parent_ids() if (batch.project, one) in self._held}

    def resting(self) -> dict[str, float]:
        """Return the ids of the sessions that the drain leaves alone for now, and for how many seconds."""
        now = self._clock()
        with self._lock:
            return {session_id: again - now for (_, session_id), (_, again) in self._held.items() if again > now}
