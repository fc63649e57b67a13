"""Files of an earlier build are delivered; files that this version doesn't know are reported, never passed over."""

import time
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest

from logging_store.batches import Receipt
from logging_store.spool import DeadLetters, Limits, Spool, SpoolDirectory
from tests.spool.conftest import eventually
from tests.spool.flaky_store import PROJECT, FlakyStore, batch_of

LIMITS = Limits(min_free_bytes=0)
SESSION = "00000000-0000-4000-8000-000000000001"


def change(path: Path, *statements: str) -> None:
    connection = apsw.Connection(str(path))
    for statement in statements:
        connection.execute(statement)
    connection.close()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return a spool file of a process that ended, with one record."""
    dead = SpoolDirectory(tmp_path / "spool", LIMITS)
    dead.append(batch_of("Hi", session_id=SESSION))
    dead.close()
    (path,) = dead.files()
    return path


def test_records_under_earlier_names_are_counted_read_and_delivered(
    tmp_path: Path, file: Path, inner: FlakyStore, prompts: Callable[[], list[str]]
) -> None:
    change(file, "alter table entries rename column spooled_at to kept_at")
    reader = SpoolDirectory(tmp_path / "spool", LIMITS)
    assert (reader.depth().records, reader.find_unreadable()) == (1, [])
    assert len(reader.batches_for(PROJECT, SESSION)) == 1
    spool = Spool(inner, tmp_path / "spool", LIMITS)
    spool.start()
    eventually(lambda: prompts() == ["Hi"], "the record is delivered")
    spool.close()
    assert reader.files() == []


def test_dead_letters_under_earlier_names_are_listed(tmp_path: Path) -> None:
    letters = DeadLetters(tmp_path)
    letters.add(batch_of("Hi"), Receipt(receipt="rejected"), time.time())
    change(
        tmp_path / "dead-letters.sqlite3",
        "alter table dead_letters rename column spooled_at to kept_at",
        "alter table dead_letters rename column rejected_at to refused_at",
    )
    assert (letters.count(), len(letters.list())) == (1, 1)


@pytest.mark.parametrize(
    "statement",
    ["alter table entries rename column batch to parcel", "alter table entries rename to parcels"],
)
def test_a_file_of_unknown_columns_is_reported_and_left_as_it_is(
    tmp_path: Path, file: Path, inner: FlakyStore, caplog: pytest.LogCaptureFixture, statement: str
) -> None:
    change(file, statement)
    spool = Spool(inner, tmp_path / "spool", LIMITS)
    assert spool.backlog().unreadable_files == 1
    spool.directory.adopt_orphans()
    spool.directory.adopt_orphans()
    assert [record.levelname for record in caplog.records if "inspect it by hand" in record.message] == ["ERROR"]
    assert b'"prompt":"Hi"' in file.read_bytes()
    assert list(spool.directory.drainable_files()) == []


def test_dead_letters_of_unknown_columns_are_not_counted_as_readable(tmp_path: Path) -> None:
    letters = DeadLetters(tmp_path)
    letters.add(batch_of("Hi"), Receipt(receipt="rejected"), time.time())
    change(tmp_path / "dead-letters.sqlite3", "alter table dead_letters rename column batch to parcel")
    assert letters.count() is None


def test_a_file_without_tables_is_being_created_and_well(tmp_path: Path) -> None:
    (tmp_path / "spool-new.sqlite3").touch()
    directory = SpoolDirectory(tmp_path, LIMITS)
    assert (directory.depth().records, directory.find_unreadable()) == (0, [])
    assert directory.parent_ids(PROJECT) == set()
