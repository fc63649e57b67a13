"""PostgreSQL is killed with SIGKILL, or stopped for a while: writes are kept by the spool and delivered later."""

import time

from logging_store.embedded.server import EmbeddedPostgres
from tests.faults import sizes
from tests.faults.conftest import OpenScene, Postgres
from tests.faults.expectations import assert_none_refused
from tests.faults.server import OwnServer
from tests.faults.sizes import rounds

KILLS = {"by its operator": 5, "by the service": 10}
STOPPED_S = 60 if sizes.SOAK else 20


@rounds(soak=30)
def test_a_killed_server_that_its_operator_starts_again(
    on_own_server: OpenScene, postgres: Postgres, round_number: int
) -> None:
    with on_own_server(TURNLOG_DEADLINE_S="2") as scene:
        with scene.load():
            for _ in range(KILLS["by its operator"]):
                scene.wait_for(acknowledged=100)
                postgres.faults.kill()
                postgres.faults.start()
        scene.assert_healed()
    assert_none_refused(scene)


@rounds(soak=30)
def test_a_killed_embedded_server_is_started_again_by_the_service(on_embedded: OpenScene, round_number: int) -> None:
    with on_embedded(TURNLOG_DEADLINE_S="2") as scene:
        server = OwnServer(EmbeddedPostgres(scene.data_dir))
        with scene.load():
            for _ in range(KILLS["by the service"]):
                scene.wait_for(acknowledged=100)
                server.kill()
                server.wait_until_started()
        scene.assert_healed()
    assert_none_refused(scene)


@rounds(soak=20, limit_s=300)
def test_a_server_that_is_stopped_for_long_refuses_no_write(
    on_own_server: OpenScene, postgres: Postgres, round_number: int
) -> None:
    with on_own_server() as scene:
        with scene.load():
            scene.wait_for(acknowledged=100)
            postgres.faults.stop()
            try:
                time.sleep(STOPPED_S)
            finally:
                postgres.faults.start()
        assert scene.history.statuses()[202] > 100, "hardly anything was spooled"
        scene.assert_healed(drained_s=STOPPED_S)
    assert_none_refused(scene)
