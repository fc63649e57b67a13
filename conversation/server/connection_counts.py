"""How many connections each address has to this worker, so that none takes them all."""

import logging
import threading
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

from conversation import refusals
from conversation.access import addresses

#: A quarter of a worker's connections. Browsers open six at most, and close them ten seconds after the last call.
MOST_OF_ONE_ADDRESS = 250

_log = logging.getLogger(__name__)


class ConnectionCounts:
    """Counts connections by address; an IPv6 network of 64 bits is one address, and this machine isn't bounded.

    `most`: connections of one address; None where all come from a proxy.
    """

    def __init__(self, most: int | None = MOST_OF_ONE_ADDRESS) -> None:
        self.most = most
        self._lock = threading.Lock()
        self._open: Counter[str] = Counter()
        self._throttle = refusals.MessageThrottle()

    def take(self, address: Any) -> Callable[[], None] | None:
        """Count a connection; return what to call when it is closed, or None if its address has too many.

        `address`: as a socket's `accept` returns it.
        """
        name = addresses.counted(str(address[0])) if self.most and isinstance(address, tuple) else None
        if name is None or self.most is None:
            return _nothing
        with self._lock:
            if self._open[name] < self.most:
                self._open[name] += 1
                return partial(self._release, name)
        if self._throttle.suppressed(name) is not None:
            _log.warning("%s has %d connections to this worker; further ones are closed", name, self.most)
        return None

    def _release(self, name: str) -> None:
        with self._lock:
            self._open[name] -= 1
            if not self._open[name]:
                del self._open[name]


def _nothing() -> None:
    """Count nothing."""
