"""Workers are killed with SIGKILL, one every half second: their clients lose answers, and nothing else."""

import time

from tests.faults.conftest import OpenScene, Postgres
from tests.faults.scene import Scene
from tests.faults.sizes import rounds

KILLS = 50
EVERY_S = 0.5


@rounds(soak=40)
def test_killed_workers_lose_nothing_they_acknowledged(on_own_server: OpenScene, round_number: int) -> None:
    with on_own_server() as scene:
        with scene.load():
            scene.wait_for(acknowledged=100)
            for _ in range(KILLS):
                kill_a_worker(scene)
        assert scene.history.outcomes["unknown"], "no client noticed"
        scene.assert_healed()


@rounds(soak=40)
def test_what_killed_workers_have_spooled_is_adopted(
    on_own_server: OpenScene, postgres: Postgres, round_number: int
) -> None:
    with on_own_server(TURNLOG_DEADLINE_S="2") as scene:
        with scene.load():
            scene.wait_for(acknowledged=100)
            postgres.faults.stop()
            try:
                for _ in range(KILLS // 5):
                    kill_a_worker(scene)
            finally:
                postgres.faults.start()
        assert scene.history.statuses()[202], "nothing was spooled"
        scene.assert_healed()


def kill_a_worker(scene: Scene) -> None:
    time.sleep(EVERY_S)
    give_up = time.monotonic() + 30
    while not (workers := scene.service.workers()):
        assert time.monotonic() < give_up, "the master starts no new workers"
        time.sleep(0.01)
    scene.dice.choice(workers).kill()
