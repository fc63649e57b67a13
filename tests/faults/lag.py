"""How late this machine itself is: bounds on a service's answers are widened by it, and by nothing else."""

import threading
import time
from types import TracebackType
from typing import Self

_NAP_S = 0.02


class Lag:
    """Measures, from `__enter__` to `__exit__`, how much longer than asked for a thread of ours sleeps at worst."""

    def __init__(self) -> None:
        self.worst_s = 0.0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._measure, name="lag")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        self._thread.join()

    def _measure(self) -> None:
        before = time.monotonic()
        while not self._end.wait(_NAP_S):
            now = time.monotonic()
            self.worst_s = max(self.worst_s, now - before - _NAP_S)
            before = now
