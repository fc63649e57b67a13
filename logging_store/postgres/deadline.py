"""A deadline that holds even if the server hangs.

A stopped server keeps its sockets open: none of its timeouts fires, and its kernel answers keepalives. So a watchdog
shuts the socket down on this side, and the thread that waits on it sees the connection end.
"""

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class Watchdog:
    """Shuts down the sockets of calls that exceed their deadline. Its thread starts at the first call."""

    #: Seconds between checks, and so the precision of a deadline.
    PRECISION = 0.25

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._watched: dict[int, tuple[float, socket.socket]] = {}
        self._end = threading.Event()
        self._thread: threading.Thread | None = None

    @contextmanager
    def limit(self, fd: int, seconds: float) -> Iterator[None]:
        """Shut the connected socket `fd` down unless the block ends within `seconds`."""
        # a duplicate, so that a descriptor that was closed and reused is never shut down
        ours = socket.socket(fileno=os.dup(fd))
        with self._lock:
            self._watched[id(ours)] = (time.monotonic() + seconds, ours)
            if self._thread is None:
                self._end = threading.Event()
                self._thread = threading.Thread(
                    target=self._watch, args=[self._end], name="deadline-watchdog", daemon=True
                )
                self._thread.start()
        try:
            yield
        finally:
            with self._lock:
                self._watched.pop(id(ours), None)
                ours.close()

    def close(self) -> None:
        with self._lock:
            thread, self._thread = self._thread, None
            self._end.set()
        if thread:
            thread.join()

    def _watch(self, end: threading.Event) -> None:
        while not end.wait(self.PRECISION):
            now = time.monotonic()
            with self._lock:
                for deadline, watched in self._watched.values():
                    if deadline <= now:
                        with suppress(OSError):  # already closed
                            watched.shutdown(socket.SHUT_RDWR)
