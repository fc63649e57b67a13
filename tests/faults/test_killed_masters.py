"""The gunicorn master is killed with SIGKILL, alone or with its workers, and started again on the same DATA_DIR."""

import os
import signal

import pytest

from tests.faults.conftest import OpenScene
from tests.faults.scene import Scene
from tests.faults.server import wait_for_death
from tests.faults.sizes import rounds

KILLS = {"with workers": 15, "alone": 5}
ORPHANS_END_S = 20  # they notice within a second; idle connections are kept for ten


@rounds(soak=25, limit_s=300)
@pytest.mark.parametrize("how", ["with workers", "alone"])
def test_a_killed_master_is_replaced(on_embedded: OpenScene, round_number: int, how: str) -> None:
    with on_embedded() as scene:
        with scene.load():
            for _ in range(KILLS[how]):
                scene.wait_for(acknowledged=50)
                kill_the_master(scene, with_workers=how == "with workers")
                scene.service.start_again()
                scene.service.wait_until_ready()
        assert scene.history.outcomes["unknown"] or scene.history.outcomes["failed"], "no client noticed"
        scene.assert_healed()


def kill_the_master(scene: Scene, *, with_workers: bool) -> None:
    workers = scene.service.workers()
    (os.killpg if with_workers else os.kill)(scene.service.pid, signal.SIGKILL)
    scene.service.process.wait()
    wait_for_death(workers, ORPHANS_END_S)
