"""The memory of imports and exports is independent of the number of records."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

_SOME = 1500  # records of 2 KB
_SPARE = 8 * 1024 * 1024  # bytes that one run may need more than another; the larger one handles 21 MB more


def peak(what: str, count: int) -> int:
    """Return the most memory, in bytes, that a process had which handled so many records."""
    told = subprocess.run(
        [sys.executable, "-m", "tests.archive.memory_use", what, str(count)],
        cwd=Path(__file__).parents[2],
        check=True,
        capture_output=True,
        timeout=150,
    )
    return int(told.stdout)


@pytest.mark.parametrize("what", ["lines", "array", "conversations", "messages", "sessions", "one session"])
def test_eight_times_as_much_takes_no_more_memory(what: str) -> None:
    assert peak(what, 8 * _SOME) < peak(what, _SOME) + _SPARE
