"""Load from many persistent connections at once, by a process of its own.

Mostly each posts again as soon as it is answered. For that `wrk` is used where it is installed, as it takes hardly any
of the machine; otherwise `bench/loader.py`, which takes more, so that figures of the two don't compare.
"""

import json
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

_SCRIPT = Path(__file__).with_suffix(".lua")
_LOOK_AGAIN_S = 0.2
_TIMEOUT_S = 10  # an answer that takes longer counts as an error


@dataclass(frozen=True, slots=True)
class Posting:
    """What is to be posted: the lines of a file, each of `size` interactions, to `path` behind the contender's own.

    `rate` makes it so many requests a second instead of as many as possible; `once` each line once instead of for so
    long.
    """

    file: Path
    clients: int
    seconds: float
    size: int = 1
    path: str = ""
    rate: float | None = None
    once: bool = False


@dataclass(frozen=True, slots=True)
class Load:
    """What came back: `answers` below 400, in `seconds`; `errors` of any other kind. `cpu_s` is the generator's own.

    `spooled` of the answers promised to write later (None: not counted), `by_port` counts those of each connection,
    and `late_ms` is the 99th percentile of how late a request was sent.
    """

    answers: int
    seconds: float
    p50_ms: float
    p99_ms: float
    errors: int
    cpu_s: float
    spooled: int | None = None
    by_port: Mapping[str, int] = field(default_factory=dict)
    late_ms: float = 0.0


def generator() -> str:
    return "wrk" if shutil.which("wrk") else "bench/loader.py"


def post(url: str, posting: Posting, halfway: Callable[[], None]) -> Load:
    """Post to `url`, and call `halfway` while that goes on."""
    before = _children_cpu_s()
    with subprocess.Popen(_command(url, posting), stdout=subprocess.PIPE, text=True) as process:
        time.sleep(posting.seconds / 2)
        halfway()
        while posting.once and process.poll() is None:  # nobody knows when half of it is done
            time.sleep(_LOOK_AGAIN_S)
            halfway()
        output, _ = process.communicate()
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, process.args)
    return Load(**json.loads(output.splitlines()[-1]), cpu_s=_children_cpu_s() - before)


def _command(url: str, posting: Posting) -> list[str]:
    ours = [url, str(posting.file), "--clients", str(posting.clients), "--seconds", str(posting.seconds)]
    if posting.rate is not None:
        return [sys.executable, "-m", "bench.paced", *ours, "--rate", str(posting.rate)]
    if posting.once:
        return [sys.executable, "-m", "bench.loader", *ours, "--once"]
    if not (wrk := shutil.which("wrk")):
        return [sys.executable, "-m", "bench.loader", *ours]
    where = urlsplit(url)
    return [
        wrk, "--threads", "1", "--connections", str(posting.clients),
        "--duration", f"{max(1, round(posting.seconds))}s", "--timeout", f"{_TIMEOUT_S}s",
        "--script", str(_SCRIPT), f"{where.scheme}://{where.netloc}", "--", where.path, str(posting.file),
    ]  # fmt: skip


def _children_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
