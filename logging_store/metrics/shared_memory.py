"""Counters in shared memory that several processes increment and any of them can read consistently.

The memory is allocated before the fork. Each process writes a slot of its own, so no process waits for another. A slot
is a seqlock: it begins with a version that is odd during a change, and a reader that met a change reads again. When a
process ends, its parent adds its slot to that of ended processes, so nothing is lost or counted twice.
"""

import mmap
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

_ENDED = 0  # the slot of ended processes; its version also covers the additions to it
_MAX_READS = 1000  # of a slot whose owner was killed during a change, until its parent clears it


class SharedCounters:
    """One number for each of `names`, in each of so many slots."""

    def __init__(self, names: Iterable[str], slots: int = 1) -> None:
        self._index = {name: n for n, name in enumerate(names, start=1)}
        self._width = len(self._index) + 1
        self._memory = mmap.mmap(-1, (slots + 1) * self._width * 8)
        self._numbers = memoryview(self._memory).cast("d")
        self._lock = threading.Lock()
        self._taken: set[int] = set()
        self._slots = slots
        self.join(1)

    def join(self, slot: int) -> None:
        """Use a slot for this process from now on."""
        self._lock = threading.Lock()  # another thread may have held it when this process was forked
        self._base = slot * self._width

    def take_slot(self) -> int:
        """Return a slot for a process that is about to be forked."""
        slot = min(set(range(1, self._slots + 1)) - self._taken)
        self._taken.add(slot)
        return slot

    def release_slot(self, slot: int, ended: Callable[[dict[str, float]], Mapping[str, float]]) -> None:
        """Add an ended process's counters to the slot of ended processes. `ended`: converts them first."""
        base = slot * self._width
        own = ended({name: self._numbers[base + n] for name, n in self._index.items()})
        self._numbers[_ENDED] += 1
        for name, number in own.items():
            self._numbers[self._index[name]] += number
        for n in range(self._width):
            self._numbers[base + n] = 0
        self._numbers[_ENDED] += 1
        self._taken.discard(slot)

    def add(self, *changes: tuple[str, float]) -> None:
        """Increment several counters atomically for readers."""
        numbers, base, index = self._numbers, self._base, self._index
        with self._lock:
            numbers[base] += 1
            for name, by in changes:
                numbers[base + index[name]] += by
            numbers[base] += 1

    def totals(self) -> dict[str, float]:
        """Return the counters, summed over all processes."""
        for _ in range(_MAX_READS):
            version = self._numbers[_ENDED]
            slots = [self._read(slot) for slot in range(self._slots + 1)]
            if version % 2 == 0 and self._numbers[_ENDED] == version:
                break
            time.sleep(0)
        return {name: sum(slot[n] for slot in slots) for name, n in self._index.items()}

    def _read(self, slot: int) -> Sequence[float]:
        base = slot * self._width
        for _ in range(_MAX_READS):
            numbers = self._numbers[base : base + self._width].tolist()
            if numbers[0] % 2 == 0 and self._numbers[base] == numbers[0]:
                break
            time.sleep(0)
        return numbers
