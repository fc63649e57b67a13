"""Lets the workers of a reload serve until one of their successors does.

gunicorn ends the old workers as soon as the new ones are forked, and these take a while until they serve.
"""

import mmap
import struct

LONGEST_S = 15.0  # that an old worker waits for a new one

_FORMAT = struct.Struct("qq")


class Succession:
    """Shared by a master and its workers: the current generation of workers, and the last one that is ready."""

    def __init__(self) -> None:
        self._shared = mmap.mmap(-1, _FORMAT.size)

    @property
    def current(self) -> int:
        return int(_FORMAT.unpack(self._shared[:])[0])

    def begin(self) -> None:
        """Begin a new generation. Only the master may call this."""
        current, ready = _FORMAT.unpack(self._shared[:])
        self._shared[:] = _FORMAT.pack(current + 1, ready)

    def announce(self, generation: int) -> None:
        """Tell that a worker of this generation is ready."""
        self._shared[_FORMAT.size // 2 :] = struct.pack("q", generation)

    def is_awaited(self, generation: int) -> bool:
        """Return whether a generation is about to be replaced by one that isn't ready."""
        current, ready = _FORMAT.unpack(self._shared[:])
        return bool(generation < current and ready < current)
