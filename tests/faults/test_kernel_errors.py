"""The kernel itself answers an error to the nth write, sync or removal of a spool, for every n. Needs strace.

The same as tests/spool/test_crash_points.py does below SQLite, once more from the other side of the system call.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from itertools import count
from pathlib import Path

import pytest

from tests.spool.crash_points import WRITES

_NOT_REACHED = 4  # the scenario's own fault never came: here the kernel makes them


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("error", ["EIO", "ENOSPC"])
@pytest.mark.parametrize("call", ["pwrite64", "fdatasync", "fsync", "ftruncate", "unlink"])
def test_the_nth_call_fails(tmp_path: Path, call: str, error: str) -> None:
    assert shutil.which("strace"), "install strace: the soak makes system calls fail with it"
    for n in count(1):
        folder = tmp_path / str(n)
        folder.mkdir()
        injected = run_scenario(folder, "first", WRITES, call, f"{call}:error={error}:when={n}")
        run_scenario(folder, "recovery", 0, call, None)
        acknowledged, stored = ((folder / name).read_text().split() for name in ("acknowledged", "stored"))
        assert set(acknowledged) <= set(stored) <= {f"first-{each}" for each in range(WRITES)}, f"{call} {n}"
        assert len(stored) == len(set(stored)), f"{call} {n}: doubled"
        assert not list((folder / "spool").rglob("spool-*")), f"{call} {n}: something was left behind"
        if not injected:
            return


def run_scenario(folder: Path, name: str, writes: int, call: str, inject: str | None) -> bool:
    """Run one scenario of crash_points; tell whether the kernel made a call fail."""
    scenario = {"folder": str(folder), "name": name, "writes": writes, "at": 10**9, "wrong": "kill"}
    trace = folder / "trace"
    command = [sys.executable, "-m", "tests.spool.crash_points"]
    if inject:
        tracing = ["-f", "-qq", "--seccomp-bpf", "-e", f"trace={call}", "-e", f"inject={inject}", "-o", str(trace)]
        # Python's own caches would be written under the fault as well
        command = ["strace", *tracing, *command]
    done = subprocess.run(
        command,
        input=json.dumps(scenario | {"filler": 0, "largest_file": 0}) + "\n",
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert json.loads(done.stdout)["status"] == _NOT_REACHED, done.stderr
    return bool(inject) and bool(re.search("INJECTED", trace.read_text()))
