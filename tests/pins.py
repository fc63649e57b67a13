"""What can be told of the dependencies without a network; `make check` runs it.

Each is pinned to one version and to hashes, from no place of its own, the same for the service as for its tests, and
what is installed is that version. Whether a version has a known hole is only known elsewhere: `make audit` asks.
"""

import re
import sys
import tomllib
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from packaging.markers import Marker

ROOT = Path(__file__).parents[1]

_PIN = re.compile(
    r"([A-Za-z0-9][A-Za-z0-9._-]*)(?:\[[\w,-]+\])?==([^\s;]+)(?:\s*;\s*(.*?))?((?:\s+--hash=sha256:[0-9a-f]{64})+)"
)
_NAMED = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class Pin(NamedTuple):
    """`conditional`: not on every machine."""

    version: str
    conditional: bool


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def read(lock: str) -> tuple[dict[str, Pin], list[str]]:
    """Return a lock's pins that hold on a machine like this one, and what else stands in it."""
    joined = re.sub(r"\\\n", " ", lock)
    lines = [line.strip() for line in joined.splitlines() if line.strip() and not line.strip().startswith("#")]
    pins, others = {}, []
    for line in lines:
        if match := _PIN.fullmatch(line):
            if match[3] is None or Marker(match[3]).evaluate():
                pins[normal(match[1])] = Pin(match[2], conditional=match[3] is not None)
        else:
            others.append(line.partition(" ")[0])
    return pins, others


def named(requirements: str) -> set[str]:
    """Return the names that a list of requirements asks for."""
    lines = (line.partition("#")[0].strip() for line in requirements.splitlines())
    return {normal(match[0]) for line in lines if line[:1] != "-" and (match := _NAMED.match(line))}


def wrong(locks: Mapping[str, tuple[str, str]], installed: Mapping[str, str]) -> Iterator[str]:
    """Yield what is wrong. `locks`: what each file is made from, and the file; `installed`: versions by name."""
    known: dict[str, Pin] = {}
    for file, (stated, lock) in locks.items():
        pins, others = read(lock)
        for other in others:
            yield f"{file}: {other} is not pinned to one version with hashes"
        for name in sorted(named(stated) - pins.keys()):
            yield f"{file}: {name} is asked for and not pinned; run make lock"
        for name, pin in pins.items():
            if known.setdefault(name, pin).version != pin.version:
                yield f"{file}: {name} is {pin.version} here and {known[name].version} elsewhere; run make lock"
            if name in installed and installed[name] != pin.version:
                yield f"{file}: {name} {installed[name]} is installed and {pin.version} is pinned; run make check again"
            if name not in installed and not pin.conditional:
                yield f"{file}: {name} is pinned and not installed"


def of_this_checkout() -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = {"requirements": "\n".join(project["dependencies"])}
    asked |= {file: (ROOT / f"{file}.in").read_text() for file in ("requirements-build", "requirements-dev")}
    locks = {f"{file}.txt": (names, (ROOT / f"{file}.txt").read_text()) for file, names in asked.items()}
    installed = {normal(each.name): each.version for each in metadata.distributions()}
    return list(wrong(locks, installed))


if __name__ == "__main__":
    found = of_this_checkout()
    sys.stderr.write("".join(f"{sentence}\n" for sentence in found))
    sys.exit(1 if found else 0)
