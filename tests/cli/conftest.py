"""The command as people run it: in a process and a folder of its own, with the settings that a test gives."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.service import inherited

ROOT = Path(__file__).resolve().parents[2]

Turnlog = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def turnlog(tmp_path: Path) -> Turnlog:
    """Return what runs `turnlog …` in an empty folder."""

    def run(*arguments: str, stdin: str | None = None, **settings: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "conversation.cli", *arguments],
            input=stdin, capture_output=True, text=True, check=False, timeout=120, cwd=tmp_path,
            env=inherited() | {"PYTHONPATH": str(ROOT)} | settings,
        )  # fmt: skip

    return run
