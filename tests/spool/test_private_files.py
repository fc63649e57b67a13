"""What people said is nobody else's to read, wherever it is kept on a disk, and whatever the umask is."""

import os
import stat
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from logging_store import private_files
from logging_store.batches import Batch, Receipt
from logging_store.records.models import Interaction
from logging_store.row_builder import RowBuilder
from logging_store.spool import DeadLetters, Limits, SpoolDirectory


@pytest.fixture(autouse=True)
def _open_to_all() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def batch() -> Batch:
    builder = RowBuilder("default", datetime(2026, 11, 20, tzinfo=UTC))
    record = Interaction.model_validate({"session_id": "s", "interaction_id": "i", "prompt": "p"})
    return builder.batch(builder.build([record]))


def readable_by_others(folder: Path) -> list[str]:
    return [
        f"{path.relative_to(folder)} {stat.filemode(path.stat().st_mode)}"
        for path in folder.rglob("*")
        if path.stat().st_mode & 0o077
    ]


def test_the_spool_is_its_owners_even_where_the_data_directory_is_everybodys(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    folder = tmp_path / "spool" / "embedded"
    directory = SpoolDirectory(folder, Limits(min_free_bytes=0))
    directory.append(batch())
    DeadLetters(folder).add(batch(), Receipt(receipt="conflict"), time.time())
    assert len(list(tmp_path.rglob("*"))) >= 5, "two folders, the spool, its lock, the dead letters"
    assert readable_by_others(tmp_path) == []
    for file in directory.drainable_files():
        file.close()


def test_a_link_in_the_place_of_a_new_file_isnt_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("theirs")
    (tmp_path / "link").symlink_to(victim)
    with pytest.raises(FileExistsError):
        private_files.create(tmp_path / "link")
    assert victim.read_text() == "theirs"
    os.close(private_files.create(tmp_path / "new"))
    assert readable_by_others(tmp_path / "new") == []
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o600
