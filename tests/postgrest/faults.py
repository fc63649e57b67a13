"""Failures on order: what gateways, networks and dying servers do to a request, before or after the commit.

`standin.faults.add(Fault(Disconnect(), function="f", when="after"))` lets the next call of `f` commit and
then closes the connection without an answer.
"""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from tests.postgrest.answers import Answer

When = Literal["before", "after"]


@dataclass(frozen=True)
class Respond:
    """Answer this instead, as a gateway in between does."""

    status: int
    body: str = ""
    headers: Mapping[str, str] = field(default_factory=lambda: {"Content-Type": "text/html"})
    reason: str | None = None

    @property
    def answer(self) -> Answer:
        return Answer(self.status, self.body.encode(), self.headers, self.reason)


@dataclass(frozen=True)
class Disconnect:
    """Close the connection without an answer; with a `reset`, as a router that forgot it does."""

    reset: bool = False


@dataclass(frozen=True)
class Truncate:
    """Announce the whole answer, send half of its body (or `keep_bytes`) and close.

    Before the commit there is no answer yet, and `instead` takes its place.
    """

    instead: Answer = field(default_factory=lambda: Answer(200, b'[{"cut": "in half"}]'))
    keep_bytes: int | None = None


@dataclass(frozen=True)
class Trickle:
    """Send the whole answer, a byte at a time, so that each single read ends soon and the answer late.

    Before the commit there is no answer yet, and `instead` takes its place.
    """

    pause_s: float = 0.1
    instead: Answer = field(default_factory=lambda: Answer(200, b'{"sent": "a byte at a time"}'))


@dataclass(frozen=True)
class Stall:
    """Go on as usual after so many seconds."""

    seconds: float


Action = Respond | Disconnect | Truncate | Trickle | Stall


@dataclass(frozen=True)
class Fault:
    """What to do to the next `times` calls (None: to all) of `function` (None: of any).

    `before`: Postgres never hears of the call. `after`: it has committed, so calls that fail by themselves
    don't count.
    """

    do: Action
    function: str | None = None
    when: When = "before"
    times: int | None = 1


class Faults:
    """The faults on order, oldest first; safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: list[tuple[Fault, int | None]] = []
        self._applied = 0

    @property
    def applied(self) -> int:
        """How many calls have met a fault so far."""
        with self._lock:
            return self._applied

    def add(self, fault: Fault) -> None:
        with self._lock:
            self._waiting.append((fault, fault.times))

    def clear(self) -> None:
        with self._lock:
            self._waiting.clear()

    def take(self, function: str | None, when: When) -> Fault | None:
        """Use up one application of the oldest fault that fits."""
        if not self._waiting:  # read without the lock: almost every call passes here
            return None
        with self._lock:
            for place, (fault, left) in enumerate(self._waiting):
                if fault.when != when or fault.function not in (None, function):
                    continue
                if left == 1:
                    del self._waiting[place]
                elif left is not None:
                    self._waiting[place] = (fault, left - 1)
                self._applied += 1
                return fault
        return None
