"""Load from many kept connections at once, each posting again as soon as it is answered, by a process of its own.

`wrk` is used where it is installed, as it takes hardly any of the machine; otherwise `bench/loader.py`, which takes
more, so that figures of the two don't compare.
"""

import json
import resource
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

_SCRIPT = Path(__file__).with_suffix(".lua")
_TIMEOUT_S = 10  # an answer that takes longer counts as an error


@dataclass(frozen=True, slots=True)
class Load:
    """What came back: `answers` below 400, in `seconds`; `errors` of any other kind. `cpu_s` is the generator's own."""

    answers: int
    seconds: float
    p50_ms: float
    p99_ms: float
    errors: int
    cpu_s: float

    @property
    def rate(self) -> float:
        return self.answers / self.seconds


def generator() -> str:
    return "wrk" if shutil.which("wrk") else "bench/loader.py"


def post(url: str, bodies: Path, *, clients: int, seconds: float) -> Load:
    """Post the lines of a file to `url` for so long."""
    where = urlsplit(url)
    if wrk := shutil.which("wrk"):
        command = [
            wrk, "--threads", "1", "--connections", str(clients), "--duration", f"{max(1, round(seconds))}s",
            "--timeout", f"{_TIMEOUT_S}s", "--script", str(_SCRIPT), f"{where.scheme}://{where.netloc}", "--",
            where.path, str(bodies),
        ]  # fmt: skip
    else:
        loader = [sys.executable, "-m", "bench.loader"]
        command = [*loader, url, str(bodies), "--clients", str(clients), "--seconds", str(seconds)]
    before = _children_cpu_s()
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return Load(**json.loads(done.stdout.splitlines()[-1]), cpu_s=_children_cpu_s() - before)


def _children_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
