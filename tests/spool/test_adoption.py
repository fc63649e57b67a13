"""What a process adopted is its to deliver until it is delivered."""

import os
from pathlib import Path

import pytest

from logging_store.spool import Limits, SpoolDirectory
from logging_store.spool.files import lock_of, take_lock
from tests.spool.away import said

LIMITS = Limits(min_free_bytes=0)


def test_an_adopted_file_is_not_forgotten_when_the_process_begins_one_of_its_own(tmp_path: Path) -> None:
    dead = SpoolDirectory(tmp_path, LIMITS)
    dead.keep(said("from the dead"))
    dead.close()
    heir = SpoolDirectory(tmp_path, LIMITS)
    heir.adopt_orphans()
    heir.keep(said("of its own"))
    assert len(list(heir.to_drain())) == 2
    heir.close()


def test_a_lock_that_lost_its_file_is_removed_unless_somebody_holds_it(tmp_path: Path) -> None:
    left, held = tmp_path / "spool-left.sqlite3", tmp_path / "spool-held.sqlite3"
    lock_of(left).touch()
    owned = take_lock(held)
    assert owned is not None
    SpoolDirectory(tmp_path, LIMITS).adopt_orphans()
    assert [path for path in (left, held) if lock_of(path).exists()] == [held]
    os.close(owned)


def test_a_file_that_cannot_be_read_is_left_for_a_person_and_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    unreadable = tmp_path / "spool-unreadable.sqlite3"
    unreadable.write_bytes(b"not a database, " * 100)
    directory = SpoolDirectory(tmp_path, LIMITS)
    for _ in range(2):
        directory.adopt_orphans()
    assert unreadable.read_bytes() == b"not a database, " * 100
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert (directory.depth().entries, directory.depth().bytes, directory.depth().oldest_s) == (0, 0, 0)
