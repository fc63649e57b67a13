"""An outsider meddles with the database while it is in use: ends connections, holds locks, takes them crosswise."""

import time
from collections.abc import Callable

import psycopg
import pytest

from tests.faults.conftest import OpenScene, Postgres
from tests.faults.expectations import assert_answered_in_time, assert_none_refused
from tests.faults.lag import Lag
from tests.faults.scene import DRAINED_S, Scene
from tests.faults.sizes import rounds

DEADLINE_S = 4
MEDDLED_S = 4  # longer than a write tries by itself
FEW = 5  # connections, where two workers want eight each

END_THE_OTHERS = """
    select pg_terminate_backend(pid) from pg_stat_activity
    where datname = current_database() and pid <> pg_backend_pid() and backend_type = 'client backend'
"""
# as many as are written to at a time; the service locks upwards
DOWNWARDS = "select id from (select id from turnlog.ai_sessions order by created_at desc limit 20) s order by id desc"


def end_connections(scene: Scene, outsider: psycopg.Connection) -> None:
    ended = 0
    give_up = time.monotonic() + MEDDLED_S
    while time.monotonic() < give_up:
        ended += len(outsider.execute(END_THE_OTHERS).fetchall())
        time.sleep(0.1)
    assert ended > 10


def hold_rows(scene: Scene, outsider: psycopg.Connection) -> None:
    with outsider.transaction():
        locked = outsider.execute("select 1 from turnlog.ai_sessions where key like 'shared%' for update").fetchall()
        assert locked
        time.sleep(MEDDLED_S)


def provoke_deadlocks(scene: Scene, outsider: psycopg.Connection) -> None:
    outsider.execute("set deadlock_timeout = '60s'")  # so that it is the service that loses
    give_up = time.monotonic() + MEDDLED_S
    while time.monotonic() < give_up:
        ids = outsider.execute(DOWNWARDS).fetchall()
        with outsider.transaction():
            for (one,) in ids:
                outsider.execute("select 1 from turnlog.ai_sessions where id = %s for update", [one])
        time.sleep(0.01)
    deadlocks = outsider.execute("select deadlocks from pg_stat_database where datname = current_database()").fetchone()
    assert deadlocks
    assert deadlocks[0] > 0, "nobody met a deadlock"


@rounds(soak=10)
@pytest.mark.parametrize("meddle", [end_connections, hold_rows, provoke_deadlocks])
def test_an_outsider_costs_no_write(
    on_own_server: OpenScene, round_number: int, meddle: Callable[[Scene, psycopg.Connection], None]
) -> None:
    with on_own_server(TURNLOG_DEADLINE_S=str(DEADLINE_S)) as scene:
        with psycopg.connect(scene.database, autocommit=True) as outsider, Lag() as lag, scene.load():
            scene.wait_for(acknowledged=100)
            meddle(scene, outsider)
        scene.assert_healed()
    assert_answered_in_time(scene, DEADLINE_S, lag)
    assert_none_refused(scene)


@rounds(soak=10)
def test_few_connections_are_enough(on_own_server: OpenScene, postgres: Postgres, round_number: int) -> None:
    with on_own_server(TURNLOG_DEADLINE_S=str(DEADLINE_S)) as scene:
        with postgres.limited_to(FEW):
            with Lag() as lag, scene.load():
                scene.wait_for(acknowledged=100)
                time.sleep(MEDDLED_S)
            scene.assert_drained(time.monotonic() + DRAINED_S)
        scene.assert_healed()
    assert_answered_in_time(scene, DEADLINE_S, lag)
    assert_none_refused(scene)
