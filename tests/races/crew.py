"""Processes and threads that act at the same moment.

The processes are spawned once and take part in one race after another. In a race every thread of every process waits
at a barrier before each round, so a round's first steps happen as close together as the machine allows.
"""

import multiprocessing
import random
import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from types import TracebackType
from typing import Any, Self

import pytest

from logging_store.errors import TurnlogError
from logging_store.store import Store

ROUND_S = 30  # a round takes milliseconds; a lane that waits this long waits for one that died
RACE_S = 150  # ends a hanging race with a message before pytest's own time limit does


@dataclass(frozen=True, slots=True)
class Turn:
    """One lane's part in one round. Lanes are numbered over all processes; each turn has dice of its own."""

    round: int
    lane: int
    dice: random.Random


@dataclass(frozen=True, slots=True)
class Failure:
    """A call that raised."""

    error: str


Act = Callable[[Store, Turn], Any]


@dataclass(frozen=True, slots=True)
class Race:
    """What everybody does. `open_store` and `act` are sent to other processes, so they are functions of modules."""

    open_store: Callable[[], Store]
    act: Act
    rounds: int
    processes: int
    threads: int
    seed: int


class Crew:
    """Eight processes, of which a race may take fewer."""

    SIZES = (4, 8)  # a barrier can't be sent to a running process, so those for each size are made beforehand

    def __init__(self) -> None:
        self._enlist()

    def run(self, race: Race) -> list[list[Any]]:
        """Return what came of each round: a list with what `act` returned, or a `Failure`, in each lane."""
        self._barriers[race.processes].reset()
        members = self._members[: race.processes]
        for _, pipe in members:
            pipe.send(race)
        answers: list[list[list[Any]] | str] = []
        give_up = time.monotonic() + RACE_S
        for member, pipe in members:
            if not pipe.poll(max(0, give_up - time.monotonic())):
                self._dismiss(patience_s=0)
                self._enlist()
                pytest.fail(f"{member.name} didn't finish in {RACE_S} s")
            answers.append(pipe.recv())
        lanes: list[list[Any]] = []
        for answer in answers:
            assert not isinstance(answer, str), answer
            lanes += answer
        return [list(round_) for round_ in zip(*lanes, strict=True)]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._dismiss(patience_s=ROUND_S)

    def _enlist(self) -> None:
        spawning = multiprocessing.get_context("spawn")
        self._barriers = {size: spawning.Barrier(size) for size in self.SIZES}
        self._members: list[tuple[multiprocessing.process.BaseProcess, Connection]] = []
        for number in range(max(self.SIZES)):
            ours, theirs = spawning.Pipe()
            member = spawning.Process(target=_serve, args=[number, theirs, self._barriers], daemon=True)
            member.start()
            theirs.close()
            self._members.append((member, ours))

    def _dismiss(self, patience_s: float) -> None:
        for _, pipe in self._members:
            pipe.close()
        for member, _ in self._members:
            member.join(patience_s)
            if member.exitcode is None:
                member.kill()
                member.join()


def _serve(number: int, pipe: Connection, barriers: dict[int, Barrier]) -> None:
    while True:
        try:
            race: Race = pipe.recv()
        except EOFError:
            return
        everybody = barriers[race.processes]
        try:
            answer: list[list[Any]] | str = _take_part(race, number, everybody)
        except Exception:  # noqa: BLE001 - reported to the process that started the race
            everybody.abort()
            answer = traceback.format_exc()
        pipe.send(answer)


def _take_part(race: Race, number: int, everybody: Barrier) -> list[list[Any]]:
    store = race.open_store()

    def meet() -> None:
        everybody.wait(ROUND_S)

    start = threading.Barrier(race.threads, action=meet)

    def lane(thread: int) -> list[Any]:
        lane = number * race.threads + thread
        outcomes: list[Any] = []
        try:
            for round_ in range(race.rounds):
                turn = Turn(round_, lane, random.Random(f"{race.seed} {round_} {lane}"))
                start.wait(ROUND_S)
                try:
                    outcomes.append(race.act(store, turn))
                except TurnlogError as error:
                    outcomes.append(Failure(repr(error)))
        except BaseException:
            start.abort()
            raise
        return outcomes

    try:
        with ThreadPoolExecutor(race.threads) as threads:
            return [running.result() for running in [threads.submit(lane, n) for n in range(race.threads)]]
    finally:
        store.close()
