"""An import that was killed, interrupted or lost its store continues when it is run again, losing nothing."""

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import psycopg
import pytest

from conversation.archive import importing
from conversation.archive.entries import Entry, Location, ParsedRecord
from conversation.archive.importing import Importer, Row
from logging_store.batches import Receipt
from logging_store.errors import Misconfigured, StoreUnavailable
from logging_store.records.identity import Identity
from logging_store.records.models import Record, Session
from logging_store.repository import WriteResult
from tests.archive import dialogues
from tests.archive.conftest import Flask, counted, flask_of, stored_rows
from tests.conftest import Backend
from tests.service import inherited

pytestmark = [pytest.mark.own_database, pytest.mark.slow]

_ROOT = Path(__file__).parents[2]
_COPIES = 24  # of the dialogues: the head of the file fills two reads of 256 KB, and so several batches
_HEAD = 2 / 3  # of the file: some batches, not all


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return dialogues.write_copies(tmp_path_factory.mktemp("dialogues") / "dialogues", _COPIES)


def parts_of(file: Path) -> tuple[bytes, bytes]:
    """Return the head of a file, which ends within a line, and what comes after it."""
    whole = file.read_bytes()
    end = int(len(whole) * _HEAD)
    return whole[:end], whole[end:]


def write_and_close(pipe: IO[bytes], data: bytes) -> None:
    with pipe:
        pipe.write(data)


@contextmanager
def importing_from_a_pipe(backend: Backend, file: Path, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """Yield an import that has stored some of the dialogues and waits for the rest."""
    process = subprocess.Popen(
        [sys.executable, "-m", "flask", "--app", "app", "import", "-", "--format", "sharegpt", *options],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=_ROOT,
        env=inherited() | backend.environment,
    )
    try:
        assert process.stdin
        process.stdin.write(parts_of(file)[0])
        process.stdin.flush()
        give_up = time.monotonic() + 60
        while stored_rows(backend)[1] < 1000:
            assert time.monotonic() < give_up, "nothing is stored"
            assert process.poll() is None, process.communicate()
            time.sleep(0.02)
        yield process
    finally:
        process.kill()
        process.communicate()


def exported_rows(flask: Flask) -> list[Row]:
    """Return all that is stored, without the times at which it came."""
    lines = [json.loads(line) for line in flask("export").stdout_bytes.splitlines()]
    return [{name: value for name, value in line.items() if name != "created_at"} for line in lines]


def test_a_killed_import_goes_on_and_ends_as_an_undisturbed_one(
    backend: Backend, other: Backend, flask: Flask, file: Path, tmp_path: Path
) -> None:
    every = dialogues.counted(dialogues.read(file))
    with importing_from_a_pipe(backend, file, "--rejects", str(tmp_path / "rejects")) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
    before = stored_rows(backend)
    assert before < every
    again = flask("import", file, "--format", "sharegpt")
    assert again.exit_code == 0, again.output
    for kind, stored, all_ in zip(("sessions", "interactions"), before, every, strict=True):
        created, filled, duplicate, conflict, rejected = counted(again)[kind]
        # what the dead process had sent may have been stored after we counted
        assert duplicate >= stored
        assert (created + duplicate, filled, conflict, rejected) == (all_, 0, 0, 0)
    undisturbed = flask_of(other.environment)
    assert undisturbed("import", file, "--format", "sharegpt").exit_code == 0
    assert exported_rows(flask) == exported_rows(undisturbed)


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_import_says_how_far_it_came(
    backend: Backend, file: Path, tmp_path: Path, ending: signal.Signals
) -> None:
    with importing_from_a_pipe(backend, file, "--rejects", str(tmp_path / "rejects")) as process:
        process.send_signal(ending)
        stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 1
    sessions, interactions = stored_rows(backend)
    assert f"{sessions + interactions:,} records in" in stdout.decode()
    assert "Error: Interrupted. Stored is up to line " in stderr.decode()
    reached = int(stderr.decode().split("up to line ")[1].split()[0])
    assert sessions in {reached, reached - 1}  # the last line may be stored in part


def test_a_store_that_goes_away_is_waited_for(backend: Backend, file: Path, tmp_path: Path) -> None:
    name = psycopg.conninfo.conninfo_to_dict(backend.database)["dbname"]
    elsewhere = psycopg.conninfo.make_conninfo(backend.database, dbname="postgres")
    with (
        psycopg.connect(elsewhere, autocommit=True) as connection,
        importing_from_a_pipe(backend, file, "--rejects", str(tmp_path / "rejects")) as process,
    ):
        connection.execute(f"alter database {name} with allow_connections false".encode())
        connection.execute("select pg_terminate_backend(pid) from pg_stat_activity where datname = %s", [name])
        assert process.stdin
        assert process.stderr
        # beside our reading: an import that waits for its store soon reads nothing more
        rest = threading.Thread(target=write_and_close, args=[process.stdin, parts_of(file)[1]])
        rest.start()
        # the driver has its own words to say first
        message = next(line for line in process.stderr if line.startswith(b"The store"))
        connection.execute(f"alter database {name} with allow_connections true".encode())
        rest.join()
        process.stdin = None
        stdout, _ = process.communicate(timeout=100)
    assert message.startswith(b"The store is unavailable (")
    assert process.returncode == 0, stdout
    assert stored_rows(backend) == dialogues.counted(dialogues.read(file))


class Fickle:
    """Keeps records, but is away for some of the calls."""

    def __init__(self, *away: int) -> None:
        self.kept: list[str | None] = []
        self._calls = 0
        self._away = away

    def __call__(self, records: Sequence[Record]) -> list[WriteResult]:
        self._calls += 1
        if self._calls in self._away:
            raise StoreUnavailable
        self.kept += [each.session_id for each in records if isinstance(each, Session)]
        return [WriteResult(Receipt(receipt="created"), Identity("", None)) for _ in records]


def entries(count: int) -> Iterator[Entry]:
    for n in range(count):
        yield ParsedRecord(Location("line", n + 1), Session(session_id=f"s{n}"))


def run_of(keep: importing.Write, patience_s: float, waited: list[float]) -> Importer:
    def reject(row: Row) -> None:
        pytest.fail(f"rejected: {row}")

    return Importer(
        keep, reject=reject, report=reject, on_outage=lambda _, pause: waited.append(pause), patience_s=patience_s
    )


def test_a_batch_is_tried_until_the_store_is_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importing, "_PAUSES_S", (0.001, 0.002))
    store, waited = Fickle(2, 3, 4), list[float]()
    run = run_of(store, 60, waited)
    assert [tally.records for tally in run.run(entries(1200))] == [500, 1000, 1200]
    assert waited == [0.001, 0.002, 0.002]
    assert store.kept == [f"s{n}" for n in range(1200)]
    assert run.tally.location == Location("line", 1200)


def test_patience_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importing, "_PAUSES_S", (0.001,))
    run = run_of(Fickle(*range(2, 100_000)), 0.05, waited := list[float]())
    with pytest.raises(StoreUnavailable):
        list(run.run(entries(1200)))
    assert 1 <= len(waited) < 1000
    assert (run.tally.records, run.tally.location) == (500, Location("line", 500))


def test_misconfiguration_is_not_retried() -> None:
    def keep(_: Sequence[Record]) -> Any:
        raise Misconfigured("the schema is missing")

    run = run_of(keep, 60, waited := list[float]())
    with pytest.raises(Misconfigured, match="the schema is missing"):
        list(run.run(entries(1200)))
    assert not waited


def test_a_batch_in_flight_is_counted_after_an_interrupt() -> None:
    writing, finish = threading.Event(), threading.Event()

    def keep(records: Sequence[Record]) -> list[WriteResult]:
        writing.set()
        assert finish.wait(60)
        return [WriteResult(Receipt(receipt="created"), Identity("", None)) for _ in records]

    def interrupted() -> Iterator[Entry]:
        yield from entries(500)
        assert writing.wait(60)
        threading.Timer(0.05, finish.set).start()
        raise KeyboardInterrupt

    run = run_of(keep, 60, [])
    with pytest.raises(KeyboardInterrupt):
        list(run.run(interrupted()))
    assert (run.tally.records, run.tally.location) == (500, Location("line", 500))
