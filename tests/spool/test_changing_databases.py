"""What several threads do at once while one database takes the other's place at an address."""

from pathlib import Path
from typing import Any, Self

import pytest

from logging_store.batches import Batch
from logging_store.errors import StoreUnavailable
from logging_store.spool import Limits, Spool, SpoolDirectory, directory, others
from logging_store.spool.files import SpoolFile
from logging_store.spool_folders import SpoolFolders
from tests.spool.flaky_store import FlakyStore, batch_of

ONE, ANOTHER = (f"{digit * 16}-{digit * 8}" for digit in "ab")
NO_LIMITS = Limits(min_free_bytes=0)


@pytest.fixture
def folders(tmp_path: Path) -> SpoolFolders:
    return SpoolFolders(tmp_path / "spool", "embedded")


def holding_one(folders: SpoolFolders) -> SpoolDirectory:
    """Return the spool of a process that has a record for the database `ONE`."""
    spooled = SpoolDirectory(folders, NO_LIMITS)
    spooled.follow(folders.identify(ONE))
    spooled.append(batch_of("Hi"))
    return spooled


def test_a_file_is_drained_whose_database_answers_again_before_it_was_released(folders: SpoolFolders) -> None:
    spooled = holding_one(folders)
    spooled.follow(folders.identify(ANOTHER))
    spooled.follow(folders.identify(ONE))
    assert [file.database for file in spooled.drainable_files()] == [ONE]
    spooled.close()


def test_a_file_that_is_adopted_while_another_database_answers_stays_its_own(
    folders: SpoolFolders, monkeypatch: pytest.MonkeyPatch
) -> None:
    holding_one(folders).close()
    spooled = SpoolDirectory(folders, NO_LIMITS)

    class Meanwhile(SpoolFile):
        @classmethod
        def adopt(cls, path: Path) -> Self | None:
            spooled.follow(folders.identify(ANOTHER))  # as a check of readiness in another thread does
            return super().adopt(path)

    monkeypatch.setattr(directory, "SpoolFile", Meanwhile)
    spooled.adopt_orphans()
    assert list(spooled.drainable_files()) == []
    monkeypatch.undo()
    spooled.follow(folders.identify(ONE))
    spooled.adopt_orphans()
    assert [file.database for file in spooled.drainable_files()] == [ONE]
    spooled.close()


def test_a_folder_is_discarded_with_what_pages_sent_and_what_has_failed(tmp_path: Path) -> None:
    spooled = SpoolDirectory(tmp_path, NO_LIMITS)
    spooled.append(Batch("p", [{"id": "a", "claim": "token:1"}]))
    spooled.append(batch_of("Hi"))
    spooled.append(batch_of("Ho"))
    (file,) = spooled.drainable_files()
    file.count_failure([entry for entry in [file.get(2)] if entry])
    spooled.close()
    others.discard(tmp_path)
    assert others.look(tmp_path).total == 0


def test_a_write_is_spooled_whatever_the_ping_after_it_meets(
    spool: Spool, inner: FlakyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answers_nonsense() -> Any:
        raise KeyError("rows_hidden")

    monkeypatch.setattr(inner, "ping", answers_nonsense)
    inner.away = StoreUnavailable("something else answers at this address")
    assert {receipt.receipt for receipt in spool.write(batch_of("Hi"))} == {"spooled"}
    assert not spool.breaker.is_closed
