"""What a process adopted is its to deliver until it is delivered."""

from pathlib import Path

from logging_store.spool import Limits, SpoolDirectory
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
