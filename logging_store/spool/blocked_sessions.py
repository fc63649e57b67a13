"""Sessions whose writes another transaction's lock blocks while the store itself answers.

Their writes are spooled at once, and only the drain retries them, with pauses. Otherwise each group of writes with such
a session in it would wait for the lock anew.
"""

import threading
import time
from collections.abc import Callable

from logging_store.batches import Batch

BLOCK_S = 60.0  # if the drain doesn't report: another process may have delivered the records


class BlockedSessions:
    """The blocked sessions and folders of this process. Safe to use from any thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._blocked: dict[tuple[str, str], tuple[float, float]] = {}  # -> blocked until, drain retries at

    def block(self, batch: Batch, pause_s: float = 0) -> None:
        """Block the sessions of a batch; the drain retries them after a pause."""
        now = self._clock()
        with self._lock:
            for session_id in batch.parent_ids():
                self._blocked[batch.project, session_id] = now + pause_s + BLOCK_S, now + pause_s

    def unblock(self, batch: Batch) -> None:
        """Unblock the sessions of a batch, which was delivered or erased."""
        if self._blocked:
            with self._lock:
                for session_id in batch.parent_ids():
                    self._blocked.pop((batch.project, session_id), None)

    def blocked_in(self, batch: Batch) -> set[str]:
        """Return the ids of the blocked sessions of a batch."""
        if not self._blocked:  # read without the lock: almost every write returns here
            return set()
        now = self._clock()
        with self._lock:
            self._blocked = {key: times for key, times in self._blocked.items() if times[0] > now}
            return {id_ for id_ in batch.parent_ids() if (batch.project, id_) in self._blocked}

    def retry_delays(self) -> dict[str, float]:
        """Return session id -> seconds until the drain retries it, of those whose pause isn't over."""
        now = self._clock()
        with self._lock:
            return {
                session_id: retry_at - now for (_, session_id), (_, retry_at) in self._blocked.items() if retry_at > now
            }
