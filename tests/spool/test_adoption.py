"""A process delivers the files that it adopted."""

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from logging_store.spool import Limits, Spool, SpoolDirectory
from logging_store.spool.files import SpoolFile
from logging_store.spool.locks import lock_path, try_lock
from tests.spool.conftest import eventually
from tests.spool.flaky_store import FlakyStore, batch_of

LIMITS = Limits(min_free_bytes=0)


def test_an_adopted_file_is_still_drained_when_the_process_creates_its_own(tmp_path: Path) -> None:
    dead = SpoolDirectory(tmp_path, LIMITS)
    dead.append(batch_of("from the dead"))
    dead.close()
    heir = SpoolDirectory(tmp_path, LIMITS)
    heir.adopt_orphans()
    heir.append(batch_of("of its own"))
    assert len(list(heir.drainable_files())) == 2
    heir.close()


def test_a_lock_without_a_file_is_removed_unless_a_process_holds_it(tmp_path: Path) -> None:
    left, held = tmp_path / "spool-left.sqlite3", tmp_path / "spool-held.sqlite3"
    lock_path(left).touch()
    owned = try_lock(held)
    assert owned is not None
    SpoolDirectory(tmp_path, LIMITS).adopt_orphans()
    assert [path for path in (left, held) if lock_path(path).exists()] == [held]
    os.close(owned)


def test_a_corrupt_file_is_left_alone_and_logged_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    unreadable = tmp_path / "spool-unreadable.sqlite3"
    unreadable.write_bytes(b"not a database, " * 100)
    directory = SpoolDirectory(tmp_path, LIMITS)
    for _ in range(2):
        directory.adopt_orphans()
    assert unreadable.read_bytes() == b"not a database, " * 100
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert (directory.depth().entries, directory.depth().bytes, directory.depth().oldest_s) == (0, 0, 0)


def test_an_unlinked_lock_owns_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "spool-new.sqlite3"
    lock = fcntl.flock

    def lock_after_somebody_tidied_up(descriptor: int, operation: int) -> None:
        lock_path(path).unlink()
        lock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", lock_after_somebody_tidied_up)
    assert try_lock(path) is None
    monkeypatch.undo()
    owned = try_lock(path)
    assert owned is not None
    assert try_lock(path) is None, "now it is held"
    os.close(owned)


def test_closing_a_file_twice_unlocks_no_other(tmp_path: Path) -> None:
    file = SpoolFile.create(tmp_path)
    file.abandon()
    other = SpoolFile.create(tmp_path)  # the numbers of the first file's descriptors are free again
    file.abandon()
    file.close()
    assert try_lock(other.path) is None
    other.delete()


def test_a_damaged_file_blocks_no_other(tmp_path: Path, inner: FlakyStore, prompts: Callable[[], list[str]]) -> None:
    folder = tmp_path / "spool"
    damaged, healthy = (SpoolDirectory(folder, LIMITS) for _ in range(2))
    for n in range(40):
        damaged.append(batch_of(f"damaged {n}", response="x" * 2000))
    damaged.close()
    healthy.append(batch_of("healthy"))
    healthy.close()
    first, _ = sorted(folder.glob("spool-*.sqlite3"))
    content = bytearray(first.read_bytes())
    content[3 * 4096 :] = os.urandom(len(content) - 3 * 4096)
    first.write_bytes(content)

    spool = Spool(inner, folder, LIMITS)
    spool.start()
    eventually(lambda: "healthy" in prompts(), "the healthy one is delivered")
    eventually(lambda: spool.backlog().unreadable_files == 1, "the damaged file is reported")
    assert first.exists()
    spool.close()


def test_delivered_entries_free_their_space_and_cannot_be_recovered(tmp_path: Path) -> None:
    file = SpoolFile.create(tmp_path)
    for n in range(100):
        file.append([batch_of(f"a secret {n}", response="x" * 5000)])
    full = file.path.stat().st_size
    assert b"a secret 7" in file.path.read_bytes()
    file.remove(file.oldest(99, 1 << 30))
    assert file.path.stat().st_size < full / 10
    assert b"a secret 7" not in file.path.read_bytes()
    file.close()
