"""What clients attempted and what they were told: the half of the truth that the oracle holds against the other."""

import threading
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

Outcome = Literal["acknowledged", "failed", "unknown"]
Name = tuple[str, str | None]


@dataclass(frozen=True, slots=True)
class Record:
    """A session (`name` is None) with its title, or an interaction with its prompt and response."""

    session: str
    name: str | None
    facts: tuple[str | None, ...]

    @property
    def id(self) -> Name:
        return self.session, self.name


@dataclass(slots=True)
class Fate:
    """What a record said in every attempt, and what its client was told so far."""

    facts: tuple[str | None, ...]
    acknowledged: bool = False
    created: int = 0  # answers that claimed to have made the row


@dataclass(frozen=True, slots=True)
class Call:
    """One request. `status` is 0 if no answer came; times are of the monotonic clock, in seconds."""

    method: str
    began: float
    seconds: float
    status: int


@dataclass
class History:
    """Everything that was attempted, by any thread. A record that was only begun counts as attempted."""

    fates: dict[Name, Fate] = field(default_factory=dict)
    outcomes: Counter[Outcome] = field(default_factory=Counter)
    calls: list[Call] = field(default_factory=list)
    odd: list[str] = field(default_factory=list)  # answers that no fault excuses
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def invoke(self, records: Iterable[Record]) -> None:
        """Take note before anything is sent."""
        with self._lock:
            for record in records:
                self.fates.setdefault(record.id, Fate(record.facts))

    def settle(self, record: Record, outcome: Outcome, receipt: str = "") -> None:
        """Take note of what an attempt came to. An acknowledgement is never taken back."""
        with self._lock:
            fate = self.fates[record.id]
            fate.acknowledged |= outcome == "acknowledged"
            fate.created += receipt == "created"
            self.outcomes[outcome] += 1

    def answered(self, call: Call) -> None:
        with self._lock:
            self.calls.append(call)

    def complain(self, sentence: str) -> None:
        with self._lock:
            self.odd.append(sentence)

    def statuses(self, method: str = "POST") -> Counter[int]:
        """Count the answers to a method by their status; 0 are those that never came."""
        with self._lock:
            return Counter(call.status for call in self.calls if call.method == method)
