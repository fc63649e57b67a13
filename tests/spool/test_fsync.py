"""An acknowledgement means on the disk: SQLite has synced everything it wrote when a call returns."""

from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from logging_store.batches import Receipt
from logging_store.spool import DeadLetters, Limits, SpoolDirectory
from tests.spool.flaky_store import batch_of

Unsynced = dict[str, int]


class _WatchedFile(apsw.VFSFile):
    def __init__(self, name: str | apsw.URIFilename | None, flags: list[int], unsynced: Unsynced) -> None:
        super().__init__("unix", name, flags)
        self._name = name.filename() if isinstance(name, apsw.URIFilename) else str(name)
        self._unsynced = unsynced

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802 - SQLite's name
        super().xWrite(data, offset)
        self._unsynced[self._name] = self._unsynced.get(self._name, 0) + 1

    def xTruncate(self, newsize: int) -> None:  # noqa: N802
        super().xTruncate(newsize)
        self._unsynced[self._name] = self._unsynced.get(self._name, 0) + 1

    def xSync(self, flags: int) -> None:  # noqa: N802
        super().xSync(flags)
        self._unsynced[self._name] = 0


class _WatchingVfs(apsw.VFS):
    def __init__(self, unsynced: Unsynced) -> None:
        super().__init__("watching", "unix", makedefault=True)
        self._unsynced = unsynced

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:  # noqa: N802
        return _WatchedFile(name, flags, self._unsynced)


@pytest.fixture
def unsynced() -> Iterator[Unsynced]:
    """Yield the number of writes to each file since it was last synced."""
    unsynced: Unsynced = {}
    vfs = _WatchingVfs(unsynced)
    yield unsynced
    vfs.unregister()


def test_a_batch_is_synced_when_append_returns(unsynced: Unsynced, tmp_path: Path) -> None:
    directory = SpoolDirectory(tmp_path / "spool", Limits(min_free_bytes=0))
    for n in range(3):
        directory.append(batch_of(f"Said {n}"))
        assert unsynced
        assert set(unsynced.values()) == {0}
    directory.close()


def test_a_dead_letter_is_synced_when_add_returns(unsynced: Unsynced, tmp_path: Path) -> None:
    DeadLetters(tmp_path).add(batch_of("Refused"), Receipt(receipt="conflict"), spooled_at=0)
    assert unsynced
    assert set(unsynced.values()) == {0}
