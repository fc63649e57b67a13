"""The README's walk through, run as it stands there."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.service import inherited, launch

README = Path(__file__).resolve().parent.parent / "README.md"
ADDRESS = "http://127.0.0.1:8000"


def walk_through() -> list[tuple[str, str]]:
    """Return each command of the README's console blocks with the output shown; … stands for anything."""
    steps: list[tuple[str, str]] = []
    for block in re.findall(r"```console\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL):
        for step in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            lines = step.splitlines()
            # a command goes on over lines that are indented
            end = next(n for n, line in enumerate(lines) if n and not line.startswith("    "))
            steps.append(("\n".join(lines[:end]), "\n".join(lines[end:])))
    return steps


def test_every_command_answers_as_the_readme_shows(tmp_path: Path) -> None:
    steps = walk_through()
    assert len(steps) >= 10
    with launch({"DATA_DIR": str(tmp_path), "TURNLOG_KEYLESS": "false"}) as service:
        service.wait_until_ready()
        printed = re.search(r"export TURNLOG_KEY=(\S+)", service.log())
        assert printed, "the first start prints a key"
        environment = inherited() | {"TURNLOG_KEY": printed[1]}
        listed = [sys.executable, "-m", "flask", "--app", "app", "keys", "list"]  # in the same shell, as a reader would
        settings = environment | {"DATA_DIR": str(tmp_path)}
        done = subprocess.run(listed, env=settings, capture_output=True, text=True, check=True, cwd=README.parent)
        assert printed[1][:15] in done.stdout
        for command, shown in steps:
            done = subprocess.run(
                ["bash", "-c", command.replace(ADDRESS, service.url)],
                env=environment, capture_output=True, text=True, check=True,
            )  # fmt: skip
            pattern = ".*".join(re.escape(part) for part in shown.split("…"))
            assert re.fullmatch(pattern, done.stdout.strip(), re.DOTALL), f"$ {command}\n{done.stdout}\nis not\n{shown}"


@pytest.mark.parametrize("path", re.findall(r"\]\((?!http)([^)#]+)\)", README.read_text(encoding="utf-8")))
def test_every_link_leads_somewhere(path: str) -> None:
    assert (README.parent / path).exists()
