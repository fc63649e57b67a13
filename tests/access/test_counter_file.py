"""All processes of a machine count in the same windows, which end in time, whatever happens to the file."""

import fcntl
import os
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from conversation.access.counter_file import CounterFile


class Clock:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def windows(tmp_path: Path, clock: Clock) -> CounterFile:
    return CounterFile(tmp_path / "data" / "limits", clock)


def test_a_window_begins_with_its_first_count_and_then_anew(windows: CounterFile, clock: Clock) -> None:
    assert [windows.incr("a", 60), windows.incr("a", 60, 5), windows.incr("b", 60)] == [1, 6, 1]
    clock.now += 59
    assert (windows.get("a"), windows.get_expiry("a")) == (6, clock.now + 1)
    assert windows.incr("a", 60) == 7
    clock.now += 1
    assert (windows.get("a"), windows.get_expiry("a")) == (0, clock.now)
    assert windows.incr("a", 60) == 1
    assert windows.get_expiry("a") == clock.now + 60


def test_nothing_is_opened_until_something_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "limits"
    windows = CounterFile(path)
    assert not path.exists()
    assert windows.get("a") == 0
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_an_unknown_window_is_empty(windows: CounterFile, clock: Clock) -> None:
    windows.incr("a", 60)
    assert (windows.get("b"), windows.get_expiry("b")) == (0, clock.now)


def test_a_cleared_window_and_a_cleared_file_hold_nothing(windows: CounterFile) -> None:
    for name in ("a", "b", "c"):
        windows.incr(name, 60)
    windows.clear("a")
    assert [windows.get(name) for name in ("a", "b", "c")] == [0, 1, 1]
    windows.reset()
    assert [windows.get(name) for name in ("a", "b", "c")] == [0, 0, 0]
    assert windows.incr("b", 60) == 1


def test_two_that_opened_the_file_count_together_and_so_does_a_later_one(tmp_path: Path, clock: Clock) -> None:
    one, two = (CounterFile(tmp_path / "limits", clock) for _ in range(2))
    assert [one.incr("a", 60), two.incr("a", 60), one.incr("a", 60)] == [1, 2, 3]
    one.close()
    two.close()
    assert CounterFile(tmp_path / "limits", clock).get("a") == 3


def test_a_clock_put_back_makes_no_window_endless(windows: CounterFile, clock: Clock) -> None:
    windows.incr("a", 60, 100)
    clock.now -= 3600
    assert (windows.get("a"), windows.get_expiry("a")) == (0, clock.now)
    assert windows.incr("a", 60) == 1
    assert windows.get_expiry("a") == clock.now + 60


def test_in_a_full_row_the_window_that_ends_first_is_replaced(windows: CounterFile, clock: Clock) -> None:
    windows.incr("for the day", 86400)
    for number in range(100_000):
        windows.incr(f"{number}", 60)
    assert windows.get("for the day") == 1
    assert windows.get("99999") == 1
    assert sum(windows.get(f"{number}") for number in range(100_000)) > 50_000


@pytest.mark.parametrize("content", [b"", b"x", b"something else " * 1000, b"turnlog1" * 100_000, b"turnlog2"])
def test_a_file_that_holds_something_else_becomes_ours(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "limits"
    path.write_bytes(content)
    windows = CounterFile(path)
    assert [windows.incr("a", 60), windows.incr("a", 60)] == [1, 2]


def test_a_file_that_is_cut_short_under_us_is_counted_in_on(windows: CounterFile, tmp_path: Path) -> None:
    windows.incr("a", 60)
    os.truncate(tmp_path / "data" / "limits", 0)
    assert [windows.get("a"), windows.incr("a", 60), windows.incr("a", 60)] == [0, 1, 2]


def test_a_disk_that_can_t_be_written_is_an_error_each_time(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    windows = CounterFile(tmp_path / "file" / "limits")
    for _ in range(2):
        with pytest.raises(FileExistsError):
            windows.incr("a", 60)


def test_a_held_lock_delays_callers_only_briefly(windows: CounterFile, tmp_path: Path) -> None:
    windows.incr("a", 60)
    with (tmp_path / "data" / "limits").open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        begun = time.monotonic()
        with pytest.raises(TimeoutError):
            windows.incr("a", 60)
        assert time.monotonic() - begun < 10
        assert windows.get("a") == 1, "looking needs no lock"
    assert windows.incr("a", 60) == 2


_WRITER = """
import sys
from pathlib import Path
from conversation.access.counter_file import CounterFile
windows = CounterFile(Path(sys.argv[1]))
print(flush=True)
sys.stdin.readline()
done = 0
while done < 500:
    try:
        windows.incr("a", 3600)
    except TimeoutError:  # nothing was counted
        continue
    done += 1
"""


def test_processes_and_threads_lose_no_count(tmp_path: Path) -> None:
    path = tmp_path / "limits"
    writers = [
        subprocess.Popen([sys.executable, "-c", _WRITER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for _ in range(3)
    ]
    windows = CounterFile(path)
    try:
        for writer in writers:
            assert writer.stdout
            writer.stdout.readline()
        for writer in writers:
            assert writer.stdin
            writer.stdin.write(b"\n")
            writer.stdin.flush()

        def count() -> None:
            done = 0
            while done < 100:
                try:
                    windows.incr("a", 3600)
                except TimeoutError:
                    continue
                done += 1

        threads = [threading.Thread(target=count) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    finally:
        for writer in writers:
            writer.kill()
            writer.communicate()
    assert windows.get("a") == 3 * 500 + 4 * 100
