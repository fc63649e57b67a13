"""Figures to read as tables, and everything measured as a file to compare with."""

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table

from bench import load
from bench.findings import Figure, Options, Section
from bench.measure import Round
from bench.servers import WORKERS
from conversation.settings import Settings

_RESULTS = Path(__file__).resolve().parent / "results"
_HEADINGS = (
    "", "writes/s", "p50 ms", "p99 ms", "service\nCPU µs", "Postgres\nCPU µs", "both\nCPU µs", "API\nCPU µs",
    "load\nCPU µs", "worker 1\nrequests", "spooled", "late\nms",
)  # fmt: skip


def conditions(options: Options, postgres: str) -> str:
    settings = Settings.from_mapping({})
    return (
        f"{postgres}, Python {platform.python_version()}, {os.cpu_count()} CPUs for all of it, load by "
        f"{load.generator()}; medians of {options.rounds} interleaved rounds of {options.seconds:g} s; CPU is per "
        f"interaction. Each service: gunicorn, {WORKERS} workers of {settings.turnlog_threads} threads and "
        f"{settings.turnlog_pool_size} connections, Turnlog with its spool."
    )


def rounds_table(section: Section, load_averages: Sequence[float]) -> Table:
    """Return what each contender came to, with the range of its share of the first worker."""
    averages = " to ".join(f"{average:.1f}" for average in load_averages)
    caption = "\n".join((section.title, *section.notes, f"Load average from {averages}."))
    drawn = Table(box=box.SIMPLE_HEAD, caption=caption, caption_justify="left")
    for heading in _HEADINGS:
        drawn.add_column(heading, justify="right" if heading else "left", no_wrap=bool(heading))
    for name, rounds in section.rounds.items():
        drawn.add_row(name, *_figures(rounds))
    return drawn


def aims_table(figures: Sequence[Figure]) -> Table:
    drawn = Table(box=box.SIMPLE_HEAD)
    for heading in ("", "against", "aim", "stretch", "measured", "from", "to", "reached"):
        drawn.add_column(heading, justify="left" if heading in {"", "against", "reached"} else "right")
    for each in figures:
        sign = "≤" if each.at_most else "≥"
        goals = ["" if goal is None else f"{sign} {goal:g}{each.unit}" for goal in (each.aim, each.stretch)]
        digits = 2 if each.unit == "x" else 0
        found = [f"{value:.{digits}f}{each.unit}" for value in (each.measured, min(each.values), max(each.values))]
        drawn.add_row(each.work, each.against, *goals, *found, each.verdict, style="red" * (each.verdict == "missed"))
    return drawn


def save(options: Options, conditions_text: str, sections: Mapping[str, tuple[Section, Sequence[float]]]) -> Path:
    """Write everything measured into bench/results; return the file, relative to where we are if below."""
    _RESULTS.mkdir(exist_ok=True)
    path = _RESULTS / time.strftime("%Y%m%d-%H%M%S.json")
    measured: dict[str, Any] = {
        "conditions": conditions_text,
        "options": asdict(options),
        "sections": {
            name: {
                "load_averages": averages,
                "notes": section.notes,
                "figures": [asdict(each) | {"measured": each.measured} for each in section.figures],
                "rounds": {of: [asdict(each) for each in rounds] for of, rounds in section.rounds.items()},
            }
            for name, (section, averages) in sections.items()
        },
    }
    path.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _figures(rounds: Sequence[Round]) -> list[str]:
    def median(of: Callable[[Round], float | None], digits: int = 0) -> str:
        values = [value for each in rounds if (value := of(each)) is not None]
        return f"{statistics.median(values):,.{digits}f}" if values and any(values) else ""

    shares = [100 * each.by_worker[0] / sum(each.by_worker) for each in rounds if sum(each.by_worker)]
    split = f"{min(shares):.0f}-{max(shares):.0f} %" if shares else ""
    return [
        median(lambda r: r.rate), median(lambda r: r.p50_ms, 1), median(lambda r: r.p99_ms, 1),
        median(lambda r: r.service_us), median(lambda r: r.postgres_us), median(lambda r: r.cpu_us),
        median(lambda r: r.api_us), median(lambda r: r.generator_us), split, median(lambda r: r.spooled),
        median(lambda r: r.late_ms, 1),
    ]  # fmt: skip
