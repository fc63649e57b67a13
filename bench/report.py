"""Figures from rounds: a table to read and a file to compare with.

A figure is the median of the rounds. A ratio is the median of each round's ratio, since what disturbs a round disturbs
all who take part in it.
"""

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table

from bench.measure import Round
from bench.servers import CEILING, HANDWRITTEN, TURNLOG

BATCHES, COPY = "Turnlog, batches", "COPY"

_RESULTS = Path(__file__).resolve().parent / "results"


@dataclass(frozen=True, slots=True)
class Conditions:
    """What was measured under which conditions; `seconds` are a round's."""

    postgres: str
    load: str
    rounds: int
    seconds: float
    workers: int
    threads: int
    pool_size: int
    clients: int
    shared_sessions: int
    batch_clients: int
    batch: int

    def __str__(self) -> str:
        return (
            f"{self.postgres}, {os.cpu_count()} CPUs, load by {self.load}; "
            f"medians of {self.rounds} interleaved rounds of {self.seconds:g} s; CPU is per interaction.\n"
            f"Each service: gunicorn, {self.workers} gthread workers of {self.threads} threads and "
            f"{self.pool_size} connections.\n"
            f"Single writes: {self.clients} kept connections, {self.shared_sessions} shared sessions, new ids, "
            "prompts and responses of 200 bytes.\n"
            "No database: the same server and Flask, a view that reads nothing and answers a constant.\n"
            f"Batches: {self.batch} interactions a request, {self.batch_clients} kept connections, new sessions of ten "
            f"interactions.\nCOPY: one connection, a transaction for {self.batch} rows spelled out beforehand, same "
            "tables, sessions there already."
        )


def table(conditions: Conditions, rounds: Mapping[str, Sequence[Round]]) -> Table:
    drawn = Table(box=box.SIMPLE_HEAD, caption=str(conditions), caption_justify="left")
    for heading in ("", "writes/s", "p50\nms", "p99\nms", "service\nCPU µs", "Postgres\nCPU µs", "both\nCPU µs"):
        drawn.add_column(heading, justify="right" if heading else "left", no_wrap=True)
    for name in (TURNLOG, HANDWRITTEN, CEILING):
        drawn.add_row(*_figures(name, rounds[name]))
    drawn.add_row(*_ratios(f"{TURNLOG} / {HANDWRITTEN}", rounds[TURNLOG], rounds[HANDWRITTEN]))
    drawn.add_row(*_ratios(f"{TURNLOG} / {CEILING}", rounds[TURNLOG], rounds[CEILING]))
    drawn.add_row(*_ratios(f"{HANDWRITTEN} / {CEILING}", rounds[HANDWRITTEN], rounds[CEILING]), end_section=True)
    for name in (BATCHES, COPY):
        drawn.add_row(*_figures(name, rounds[name]))
    drawn.add_row(*_ratios("batches / COPY", rounds[BATCHES], rounds[COPY]))
    return drawn


def save(conditions: Conditions, rounds: Mapping[str, Sequence[Round]]) -> Path:
    """Write everything measured into bench/results; return the file, relative to where we are if below."""
    _RESULTS.mkdir(exist_ok=True)
    path = _RESULTS / time.strftime("%Y%m%d-%H%M%S.json")
    measured: dict[str, Any] = {
        "conditions": asdict(conditions) | {"python": platform.python_version(), "cpus": os.cpu_count()},
        "ratios": {
            "turnlog / hand-written": asdict(_ratio(rounds[TURNLOG], rounds[HANDWRITTEN])),
            "turnlog / no database": asdict(_ratio(rounds[TURNLOG], rounds[CEILING])),
            "batches / copy": asdict(_ratio(rounds[BATCHES], rounds[COPY])),
        },
        "rounds": {name: [asdict(each) for each in of_one] for name, of_one in rounds.items()},
    }
    path.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


@dataclass(frozen=True, slots=True)
class Ratio:
    """One contender by another, None where the other used nothing."""

    rate: float | None
    p50: float | None
    p99: float | None
    service_cpu: float | None
    postgres_cpu: float | None
    cpu: float | None


def _ratio(ours: Sequence[Round], theirs: Sequence[Round]) -> Ratio:
    def median(of: Callable[[Round], float]) -> float | None:
        pairs = [(of(our), of(their)) for our, their in zip(ours, theirs, strict=True)]
        return statistics.median(a / b for a, b in pairs) if all(b > 1e-9 for _, b in pairs) else None

    return Ratio(
        median(lambda r: r.rate), median(lambda r: r.p50_ms), median(lambda r: r.p99_ms),
        median(lambda r: r.service_us), median(lambda r: r.postgres_us), median(lambda r: r.cpu_us),
    )  # fmt: skip


def _figures(name: str, rounds: Sequence[Round]) -> list[str]:
    def median(of: Callable[[Round], float], digits: int = 0) -> str:
        return f"{statistics.median(of(each) for each in rounds):,.{digits}f}"

    return [
        name, median(lambda r: r.rate), median(lambda r: r.p50_ms, 1), median(lambda r: r.p99_ms, 1),
        median(lambda r: r.service_us), median(lambda r: r.postgres_us), median(lambda r: r.cpu_us),
    ]  # fmt: skip


def _ratios(name: str, ours: Sequence[Round], theirs: Sequence[Round]) -> list[str]:
    return [name, *("" if value is None else f"{value:.2f}x" for value in asdict(_ratio(ours, theirs)).values())]
