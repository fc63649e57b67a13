"""Any disk operation may fail: every acknowledged record is delivered, and no other."""

import json
import random
import subprocess
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tests import guardian
from tests.spool.crash_points import WRITES

pytestmark = pytest.mark.faults

DONE, STUCK, NOT_REACHED, KILLED = 0, 3, 4, -9
RECOVERIES = 2  # crashes tried in the recovery after each crash


class Runner:
    """Runs scenarios, each in a process forked from one that has everything imported already."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def run(self, folder: Path, name: str, **scenario: Any) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        usual = {"at": 10**9, "wrong": "kill", "writes": 0, "filler": 0, "largest_file": 0}
        line = json.dumps(usual | {"folder": str(folder), "name": name} | scenario)
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        status: int = json.loads(self._process.stdout.readline())["status"]
        assert status in {DONE, STUCK, NOT_REACHED, KILLED}, f"{scenario} ended with {status}"
        return status


@pytest.fixture(scope="module")
def runner() -> Iterator[Runner]:
    with subprocess.Popen(
        [sys.executable, "-m", "tests.spool.crash_points"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield Runner(process)
        assert process.stdin is not None
        process.stdin.close()


def lines(path: Path) -> list[str]:
    return path.read_text().split() if path.exists() else []


def assert_kept(folder: Path, where: str) -> None:
    """Compare what was acknowledged with what is stored after a recovery."""
    acknowledged, stored = lines(folder / "acknowledged"), lines(folder / "stored")
    assert set(acknowledged) <= set(stored), f"{where}: lost what was acknowledged"
    assert len(stored) == len(set(stored)), f"{where}: doubled"
    assert set(stored) <= {f"{name}-{n}" for name in ("first", "again") for n in range(WRITES)}, f"{where}: invented"
    assert not list((folder / "spool").rglob("spool-*")), f"{where}: something was left behind"


@pytest.fixture
def folders(tmp_path: Path) -> Iterator[Path]:
    """Yield a place for scenarios, in memory where there is such: what is synced is decided by the scenario itself."""
    memory = Path("/dev/shm")  # noqa: S108
    with guardian.folder(memory if memory.is_dir() else tmp_path) as folder:
        yield folder


@pytest.mark.parametrize("wrong", ["kill", "power", "error", "full", "dead"])
def test_every_disk_operation_may_fail(runner: Runner, folders: Path, wrong: str) -> None:
    reached = 0
    for at in count(1):
        folder = folders / str(at)
        folder.mkdir()
        status = runner.run(folder, "first", at=at, wrong=wrong, writes=WRITES)
        where = f"{wrong} at operation {at}"
        assert status != STUCK, f"{where}: never delivered"
        if status != NOT_REACHED:
            assert status == (KILLED if wrong in {"kill", "power"} else DONE), where
            reached += 1
        # the next process finds what the first one left
        assert runner.run(folder, "recovery") == NOT_REACHED, f"{where}: not recovered"
        assert_kept(folder, where)
        if status == NOT_REACHED:
            assert lines(folder / "acknowledged") == [f"first-{n}" for n in range(WRITES)]
            break
    assert reached > 50, "the scenario has that many operations at least"


@pytest.mark.parametrize("wrong", ["kill", "power"])
def test_a_recovery_may_be_interrupted_too(runner: Runner, folders: Path, wrong: str) -> None:
    seed = random.randrange(2**32)
    print(f"seed: {seed}")  # noqa: T201 - pytest shows it when the test fails
    dice = random.Random(seed)
    for at in range(1, 200, 3):
        folder = folders / str(at)
        folder.mkdir()
        runner.run(folder, "first", at=at, wrong=wrong, writes=WRITES)
        for crash in range(RECOVERIES):
            runner.run(folder, "again", at=dice.randrange(1, 60), wrong=wrong, writes=WRITES if crash else 0)
        assert runner.run(folder, "recovery") == NOT_REACHED
        assert_kept(folder, f"{wrong} at {at} and in recovery")


def test_no_file_can_grow_on_a_full_disk(runner: Runner, folders: Path) -> None:
    acknowledged = set()
    for pages in range(1, 24):
        folder = folders / str(pages)
        folder.mkdir()
        scenario = {"writes": WRITES, "filler": 5000, "largest_file": pages * 4096}
        assert runner.run(folder, "first", **scenario) == NOT_REACHED, f"{pages} pages: never delivered"
        assert runner.run(folder, "recovery") == NOT_REACHED
        assert_kept(folder, f"{pages} pages")
        acknowledged.add(len(lines(folder / "acknowledged")))
    assert {0, WRITES} <= acknowledged, "from far too little to enough for all"
