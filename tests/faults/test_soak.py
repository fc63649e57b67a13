"""Half of the load for minutes, with a fault every so often: memory, descriptors and threads of the workers stay flat.

Collected only by `make soak`. FAULT_MINUTES says how long, without the warm-up.
"""

import os
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

import psutil
import psycopg
import pytest

from tests.faults.clients import CLIENTS, PAUSE_S
from tests.faults.conftest import OpenScene, Postgres
from tests.faults.growth import Growth, growth
from tests.faults.scene import Scene
from tests.faults.test_meddlers import END_THE_OTHERS

MINUTES = float(os.environ.get("FAULT_MINUTES", "8"))
WARM_UP_S = 180
SAMPLE_S = 1.0
FAULT_EVERY_S = 20
# the collector is asked rarely (gunicorn.conf.py): what faults leave for it grows for some 15 faults, then is flat
WARM_UP_FAULT_EVERY_S = 5
FAULT_S = 3
LEAK_MB = 5  # an hour
LEAK_OTHERS = 5  # descriptors or threads, an hour: one per fault would be 180


@dataclass
class Samples:
    """What one worker used, from one look to the next."""

    seconds: list[float] = field(default_factory=list)
    megabytes: list[float] = field(default_factory=list)
    descriptors: list[float] = field(default_factory=list)
    threads: list[float] = field(default_factory=list)

    def take(self, now: float, worker: psutil.Process) -> None:
        self.seconds.append(now)
        self.megabytes.append(worker.memory_info().rss / 2**20)
        self.descriptors.append(worker.num_fds())
        self.threads.append(worker.num_threads())

    def growths(self) -> dict[str, Growth]:
        return {name: growth(self.seconds, getattr(self, name)) for name in ("megabytes", "descriptors", "threads")}


@pytest.mark.timeout(MINUTES * 60 + WARM_UP_S + 300)
def test_faults_leave_nothing_behind_in_the_workers(
    on_own_server: OpenScene, postgres: Postgres, capsys: pytest.CaptureFixture[str]
) -> None:
    with on_own_server(TURNLOG_DEADLINE_S="2") as scene:
        before = {worker.pid for worker in scene.service.workers()}
        with scene.load(pause_s=PAUSE_S / 2):  # more than later, so that everything has grown to its size
            live_through(scene, postgres, WARM_UP_S, WARM_UP_FAULT_EVERY_S)
        with scene.load(clients=CLIENTS // 2):
            sampled = live_through(scene, postgres, MINUTES * 60, FAULT_EVERY_S)
            assert {worker.pid for worker in scene.service.workers()} == before
        scene.assert_healed()
    grown = {pid: samples.growths() for pid, samples in sampled.items()}
    with capsys.disabled():
        for pid, samples in sampled.items():
            print(f"\nworker {pid}: {samples.megabytes[0]:.1f} MB then, {samples.megabytes[-1]:.1f} MB now;")  # noqa: T201
            print("; ".join(f"{name} {one}" for name, one in grown[pid].items()))  # noqa: T201
    leaks = [
        f"worker {pid}: {name} grow by {one}"
        for pid, growths in grown.items()
        for name, one in growths.items()
        if one.an_hour - one.margin > (LEAK_MB if name == "megabytes" else LEAK_OTHERS)
    ]
    assert not leaks


def live_through(scene: Scene, postgres: Postgres, seconds: float, every_s: float) -> dict[int, Samples]:
    """Let one fault after another happen, and look at the workers all the while."""
    faults: list[Callable[[], None]] = [
        lambda: stop_for_a_while(postgres),
        lambda: hang_for_a_while(postgres),
        lambda: end_connections(scene),
    ]
    sampled: dict[int, Samples] = defaultdict(Samples)
    workers = scene.service.workers()
    end = time.monotonic() + seconds
    next_fault = time.monotonic() + every_s
    while (now := time.monotonic()) < end:
        if now >= next_fault and end - now > every_s:
            scene.dice.choice(faults)()
            next_fault = now + every_s
        for worker in workers:
            sampled[worker.pid].take(now, worker)
        time.sleep(SAMPLE_S)
    return sampled


def stop_for_a_while(postgres: Postgres) -> None:
    postgres.faults.stop()
    time.sleep(FAULT_S)
    postgres.faults.start()


def hang_for_a_while(postgres: Postgres) -> None:
    with postgres.faults.hanging():
        time.sleep(FAULT_S)


def end_connections(scene: Scene) -> None:
    with psycopg.connect(scene.database, autocommit=True) as outsider:
        outsider.execute(END_THE_OTHERS)
