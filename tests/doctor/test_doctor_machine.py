"""The doctor on this machine: an unreachable database, the spool, the disk and the clock."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from conversation.doctor.examination import Examination
from conversation.doctor.machine import check_clock
from conversation.settings import Settings
from logging_store.batches import Batch, Receipt
from logging_store.embedded.server import EmbeddedPostgres
from logging_store.postgres.postgres_store import PostgresStore
from logging_store.spool import DeadLetters, Limits, SpoolDirectory
from tests.conftest import PROJECT
from tests.databases import server_folder
from tests.doctor.operator import Operator

pytestmark = [pytest.mark.own_database, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
BATCH = Batch(PROJECT, [{"id": "5e550000-0000-4000-8000-000000000001", "key": "s", "implicit": False}])


@pytest.mark.parametrize(
    ("environment", "fix"),
    [
        ({"DATABASE_URL": "postgresql://nobody@127.0.0.1:1/nowhere"}, "pg_isready"),
        ({"SUPABASE_URL": "http://127.0.0.1:1", "SUPABASE_SECRET_KEY": "k"}, "curl"),
    ],
)
def test_a_database_that_cannot_be_reached_is_a_finding(environment: dict[str, str], fix: str, tmp_path: Path) -> None:
    operator = Operator(environment | {"DATA_DIR": str(tmp_path)}, "")
    [(check, finding)] = operator.find()
    assert (check, fix in finding["fix"][0]) == ("database", True)
    assert "spool room" in operator.run("doctor").output


def test_settings_that_contradict_each_other_are_a_sentence() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "flask", "--app", "app", "doctor"],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={"DATABASE_URL": "postgresql://a@127.0.0.1/b", "SUPABASE_URL": "http://c", "SUPABASE_SECRET_KEY": "d"},
    )
    sentence = "DATABASE_URL and SUPABASE_URL are both set: keep the one that holds the log"
    assert (done.returncode, done.stderr) == (1, f"Error: {sentence}\n")


def test_the_embedded_database_is_looked_at_whether_or_not_it_runs() -> None:
    with server_folder(on_disk=True) as folder:
        operator = Operator({"DATA_DIR": str(folder)}, "")
        [(check, finding)] = operator.find()
        assert (check, finding["fix"]) == ("schema", ["turnlog migrate"])
        assert not (folder / "postgres").exists()
        operator.fix(finding["fix"])
        assert operator.find() == []
        psql = [sys.executable, "-m", "flask", "--app", "app", "psql", "--no-psqlrc", "--command"]
        for statement in ("alter system set fsync = off", "alter system set full_page_writes = off"):
            subprocess.run([*psql, statement], check=True, capture_output=True, cwd=ROOT, env=operator.environment)
        assert [finding["found"] for _, finding in operator.find()] == [
            "fsync is off (configuration file)",
            "full_page_writes is off (configuration file)",
        ]
        for _, finding in operator.find():
            # its last command makes a running server read it; this one is started anew
            subprocess.run(
                [*psql, finding["fix"][0]], check=True, capture_output=True, cwd=ROOT, env=operator.environment
            )
        assert operator.find() == []
        server = EmbeddedPostgres(folder)
        assert not server.is_running()
        server.start()
        try:
            assert operator.find() == []
            assert server.is_running()
        finally:
            server.stop()


def test_spooled_records_are_found(operator: Operator) -> None:
    directory = SpoolDirectory(operator.settings.spool_dir, Limits())
    try:
        directory.append(BATCH)
        [(check, finding)] = operator.find()
        assert (check, finding["fix"]) == ("spool", ["turnlog serve"])
        assert finding["found"].startswith("1 record in 1 batch wait in ")
    finally:
        directory.close()


def test_dead_letters_are_found_and_can_be_resent(operator: Operator) -> None:
    folder = operator.settings.spool_dir
    folder.mkdir(parents=True)
    DeadLetters(folder).add(BATCH, Receipt(receipt="conflict", fields=["title"]), time.time())
    [(check, finding)] = operator.find()
    assert (check, finding["found"]) == ("dead letters", "1 dead letter")
    operator.fix(finding["fix"])
    assert operator.find() == []


def test_unreadable_files_are_found(operator: Operator) -> None:
    folder = operator.settings.spool_dir
    folder.mkdir(parents=True)
    (folder / "spool-1.sqlite3").write_bytes(b"not a database " * 100)
    (folder / "dead-letters.sqlite3").write_bytes(b"not a database " * 100)
    found = dict(operator.find())
    assert set(found) == {"spool files", "dead letters"}
    assert found["spool files"]["fix"][1].startswith("mv ")


@pytest.mark.parametrize(
    ("setting", "value"), [("TURNLOG_SPOOL_MIN_FREE_MB", str(1 << 40)), ("TURNLOG_SPOOL_MAX_MB", "1")]
)
def test_a_spool_without_room_is_found(operator: Operator, setting: str, value: str) -> None:
    folder = operator.settings.spool_dir
    folder.mkdir(parents=True)
    (folder / "something").write_bytes(bytes(1 << 20))
    operator.environment[setting] = value
    [(check, finding)] = operator.find()
    assert check == "spool room"
    export, assignment = finding["fix"][0].split()[:2]
    assert export == "export"
    operator.environment.update([assignment.split("=")])
    assert operator.find() == []


def test_a_clock_off_by_more_than_the_round_trip_is_found(database: str) -> None:
    store = PostgresStore(database)
    try:
        examination = Examination(Settings(), store, clock=lambda: time.time() - 60)
        [finding] = next(check for check in examination.check_database() if check.name == "clock").findings
    finally:
        store.close()
    assert finding.found.startswith("this machine's clock is 60.0 s behind the database's")


def test_a_slow_answer_is_no_wrong_clock() -> None:
    # ten seconds there and none back: the database's time is 5 s off the middle, which nobody can tell from the way
    moments = iter([0.0, 10.0, 20.0, 30.0, 40.0, 50.0])
    assert check_clock(lambda: 1010.0, lambda: 1000.0, lambda: next(moments)).is_ok
