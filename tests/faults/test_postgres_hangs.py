"""PostgreSQL hangs: its processes are stopped, their sockets stay open. No caller waits longer than the deadline."""

import time

from tests.faults.conftest import OpenScene, Postgres
from tests.faults.expectations import assert_all_threads_free, assert_answered_in_time, assert_none_refused
from tests.faults.lag import Lag
from tests.faults.sizes import rounds

HANGS = 3
DEADLINE_S = 2


@rounds(soak=17)
def test_a_server_that_hangs_keeps_nobody_waiting(
    on_own_server: OpenScene, postgres: Postgres, round_number: int
) -> None:
    with on_own_server(TURNLOG_DEADLINE_S=str(DEADLINE_S)) as scene:
        with Lag() as lag, scene.load():
            for _ in range(HANGS):
                scene.wait_for(acknowledged=100)
                with postgres.faults.hanging():
                    time.sleep(2 * DEADLINE_S)  # long enough for a write that queued behind one that hangs
        scene.assert_healed()
        assert_all_threads_free(scene)
    assert_answered_in_time(scene, DEADLINE_S, lag)
    assert_none_refused(scene)
