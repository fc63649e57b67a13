"""What a section is given and what it finds: rounds by contender, and figures with what was aimed at.

A figure is the median of its rounds. A ratio is the median of each round's ratio, since what disturbs a round disturbs
all who take part in it.
"""

import statistics
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.measure import Round
from bench.servers import Machine


@dataclass(frozen=True, slots=True)
class Options:
    """Sizes, as given on the command line."""

    rounds: int = 5
    seconds: float = 6.0
    clients: int = 32
    batch_clients: int = 4
    batch: int = 500
    shared_sessions: int = 50
    latency_ms: float = 5.0
    rows: int = 5_000_000
    writes: int = 1_000_000


@dataclass(frozen=True, slots=True)
class Setup:
    machine: Machine
    options: Options
    file: Path  # to write the bodies of requests into
    say: Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table of aims; without an aim it is there to be compared with."""

    work: str
    against: str
    values: Sequence[float]
    aim: float | None = None
    stretch: float | None = None
    at_most: bool = False
    unit: str = "x"

    @property
    def measured(self) -> float:
        return statistics.median(self.values)

    @property
    def verdict(self) -> str:
        for goal, word in ((self.stretch, "stretch"), (self.aim, "aim")):
            if goal is not None and (self.measured <= goal if self.at_most else self.measured >= goal):
                return word
        return "" if self.aim is None else "missed"


@dataclass(frozen=True, slots=True)
class Section:
    name: str
    title: str
    rounds: Mapping[str, Sequence[Round]]
    figures: Sequence[Figure]
    notes: Sequence[str] = ()


def interleaved(
    setup: Setup, prepare: Callable[[], object], parts: Mapping[str, Callable[[], Round]]
) -> dict[str, list[Round]]:
    """Measure in rounds of all contenders; which one begins rotates."""
    measured: dict[str, list[Round]] = defaultdict(list)
    names = list(parts)
    for number in range(setup.options.rounds):
        prepare()
        first = number % len(names)
        for name in names[first:] + names[:first]:
            setup.say(f"round {number + 1} of {setup.options.rounds}: {name}")
            measured[name].append(parts[name]())
    return {name: measured[name] for name in names}


def ratios(ours: Sequence[Round], theirs: Sequence[Round], of: Callable[[Round], float]) -> list[float]:
    return [of(our) / of(their) for our, their in zip(ours, theirs, strict=True)]


def rate(of: Round) -> float:
    return of.rate


def cpu(of: Round) -> float:
    return of.cpu_us
