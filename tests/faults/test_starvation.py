"""Slow statements, records that can't be delivered, another database at the address: nobody else loses or waits."""

import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import psycopg
from psycopg import conninfo

from logging_store.postgres import migrations
from tests.databases import TestServer
from tests.faults import reading
from tests.faults.clients import Client, connection
from tests.faults.conftest import OpenScene, Postgres
from tests.faults.expectations import assert_none_refused
from tests.faults.history import Record
from tests.faults.oracle import Observation, judge
from tests.faults.scene import DRAINED_S, Scene
from tests.faults.sizes import rounds

DEADLINE_S = 2
SLOW_READERS = 6
ENDLESS_RECORDS = 4
STORED_S = 60
RECOVERED_S = 150  # what failed several times is tried again after up to a minute or two
_ENDLESS = "This never ends."


@rounds(soak=10)
def test_slow_reads_send_no_write_to_the_spool(on_own_server: OpenScene, round_number: int) -> None:
    with on_own_server(TURNLOG_DEADLINE_S=str(DEADLINE_S)) as scene:
        with sleeping(scene.database, "turnlog.search", "request::text like '%endless%'"), scene.load():
            with ThreadPoolExecutor(SLOW_READERS) as readers:
                answers = Counter(readers.map(search, [scene] * 2 * SLOW_READERS))
            scene.wait_for(acknowledged=200)
        assert answers == {503: 2 * SLOW_READERS}
        assert set(scene.history.statuses()) <= {200, 201}, "writes were spooled or refused"
        scene.assert_healed()


@rounds(soak=10, limit_s=400)
def test_records_that_cant_be_delivered_hold_up_no_other(
    on_own_server: OpenScene, postgres: Postgres, round_number: int
) -> None:
    with on_own_server(TURNLOG_DEADLINE_S=str(DEADLINE_S)) as scene:
        is_endless = f"""interactions @> '[{{"prompt": "{_ENDLESS}"}}]'"""
        with sleeping(scene.database, "turnlog.write_interactions", is_endless):
            postgres.faults.stop()
            try:
                with scene.load():
                    endless = log_endless(scene)
                    scene.wait_for(acknowledged=500)
            finally:
                postgres.faults.start()
            wait_until_stored(scene, except_for=endless)
            assert reading.waiting(scene.spool), "what can't be delivered is gone"
        scene.assert_healed(drained_s=RECOVERED_S)
    assert_none_refused(scene)


@rounds(soak=10)
def test_another_database_at_the_address_gets_nothing_that_was_spooled(
    on_own_server: OpenScene, postgres: Postgres, round_number: int
) -> None:
    with on_own_server(TURNLOG_DEADLINE_S=str(DEADLINE_S)) as scene, another_log(postgres) as other:
        own = str(conninfo.conninfo_to_dict(scene.database)["dbname"])
        with scene.load():
            scene.wait_for(acknowledged=100)
            close(postgres.databases, own)
            scene.wait_for(acknowledged=300)
        assert scene.history.statuses()[202] > 0, "nothing was spooled"
        before = set(scene.history.fates)
        with exchanged(postgres.databases, own, other):
            with scene.load():
                scene.wait_for(acknowledged=500)
            in_other = reading.by_sql(scene.database)
        scene.service.wait_until_ready()  # whoever watches the service asks; it learns whose database answers
        scene.assert_drained(time.monotonic() + DRAINED_S)
        in_own = reading.by_sql(scene.database)
        assert in_other.rows, "the service wrote nothing to the other database"
        assert not before & {row.id for row in in_other.rows if row.name}, "it got what was spooled for the first"
        own_sessions = {row.id for row in in_own.rows if not row.name}  # clients of both times share some
        rows = [*in_own.rows, *(row for row in in_other.rows if row.id not in own_sessions)]
        assert judge(scene.history, Observation("either database", rows)) == []
        assert reading.dead_letters(scene.spool) == []
    assert_none_refused(scene)


def search(scene: Scene) -> int:
    with connection(scene.service.url) as http:
        return http.get("/v1/interactions", params={"q": "endless"}).status_code


def log_endless(scene: Scene) -> set[tuple[str, str | None]]:
    """Log records that no statement's time is enough for; return their names."""
    records = [Record(f"endless-{n}", f"endless-{n}", (_ENDLESS, None)) for n in range(ENDLESS_RECORDS)]
    with connection(scene.service.url) as http:
        for record in records:
            assert Client(http, scene.history).write([record]) == "acknowledged"
    return {record.id for record in records}


def wait_until_stored(scene: Scene, except_for: set[tuple[str, str | None]]) -> None:
    acknowledged = {name for name, fate in scene.history.fates.items() if fate.acknowledged and name[1]} - except_for
    give_up = time.monotonic() + STORED_S
    while left := acknowledged - {row.id for row in reading.by_sql(scene.database).rows}:
        assert time.monotonic() < give_up, (
            f"{len(left)} of {len(acknowledged)} records are still spooled, as {sorted(left)[:3]}"
        )
        time.sleep(0.2)


@contextmanager
def sleeping(database: str, function: str, condition: str) -> Iterator[None]:
    """Make a function of the database sleep longer than any deadline where a condition holds."""
    with psycopg.connect(database, autocommit=True) as admin:
        (kept,) = admin.execute("select pg_get_functiondef(%s::regproc)", [function]).fetchone() or ("",)
        slow = kept.replace("\nbegin\n", f"\nbegin\n if {condition} then perform pg_sleep(600); end if;\n", 1)
        assert slow != kept
        admin.execute(slow.encode())
    try:
        yield
    finally:
        with psycopg.connect(database, autocommit=True) as admin:
            admin.execute(kept.encode())


@contextmanager
def another_log(postgres: Postgres) -> Iterator[str]:
    """Yield the name of a database that is no copy: in its original's place, a copy rightly gets what was spooled."""
    with postgres.databases.database(empty=True) as name:
        with postgres.databases.connect(name) as admin:
            list(migrations.apply(admin))
        yield name


def close(server: TestServer, database: str) -> None:
    """Let nobody connect to a database, and end the connections that there are."""
    with server.connect("postgres") as admin:
        admin.execute(f"alter database {database} allow_connections false".encode())
        admin.execute("select pg_terminate_backend(pid) from pg_stat_activity where datname = %s", [database])


@contextmanager
def exchanged(server: TestServer, closed: str, other: str) -> Iterator[None]:
    """Put another database into the place of one that is closed, and at the end both where they were, open."""
    rename(server, {closed: "put_aside", other: closed})
    try:
        yield
    finally:
        close(server, closed)
        rename(server, {closed: other, "put_aside": closed})
        with server.connect("postgres") as admin:
            for database in (closed, other):
                admin.execute(f"alter database {database} allow_connections true".encode())


def rename(server: TestServer, names: dict[str, str]) -> None:
    with server.connect("postgres") as admin:
        for name, new_name in names.items():
            admin.execute(f"alter database {name} rename to {new_name}".encode())
