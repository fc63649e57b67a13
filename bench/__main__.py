"""Measures Turnlog against a hand-written logger, a service without a database, COPY, its aims and itself.

    python -m bench [--only singles,tail] [--rounds 5] [--seconds 6] [--rows 5000000] [--writes 1000000] …

In a section all services run under the same gunicorn.conf.py, on one PostgreSQL started for the purpose, and take
turns, so that whatever else the machine does meets all of them. A run in which an answer was an error, or a row isn't
there that was acknowledged, gives no figures.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from rich.console import Console

from bench import measure, report, servers
from bench.findings import Options, Section, Setup
from bench.sections import SECTIONS

_WIDTH = 150  # where the output is no terminal

_HELP = {
    "rounds": "of each contender; figures are medians of them",
    "seconds": "of load in each round",
    "clients": "persistent connections that log single writes",
    "batch_clients": "persistent connections that log batches",
    "batch": "interactions in a batch",
    "shared_sessions": "sessions that single writes are logged under",
    "latency_ms": "that the stand-in for Supabase's API adds to each call",
    "rows": "stored before the rate of a full database is measured",
    "writes": "logged before the memory of the workers is measured",
}


def main() -> int:
    arguments = _arguments()
    options = Options(**{field.name: getattr(arguments, field.name) for field in fields(Options)})
    console = Console()
    if not console.is_terminal:
        console = Console(width=_WIDTH)
    found: dict[str, tuple[Section, Sequence[float]]] = {}
    conditions_text = ""
    try:
        for name in arguments.only:
            began_at = os.getloadavg()[0]
            with (
                console.status(name) as status,
                tempfile.TemporaryDirectory(prefix="turnlog-bench-") as folder,
                servers.running() as machine,
            ):
                setup = Setup(machine, options, Path(folder) / "bodies.jsonl", status.update)
                found[name] = SECTIONS[name](setup), (began_at, os.getloadavg()[0])
                conditions_text = report.conditions(options, machine.version)
            console.print(report.rounds_table(*found[name]))
    except measure.InvalidRound as error:
        console.print(f"No figures: {error}", style="red", markup=False)
        return 1
    console.print(report.aims_table([figure for section, _ in found.values() for figure in section.figures]))
    console.print(conditions_text, highlight=False)
    console.print(f"The rounds are in {report.save(options, conditions_text, found)}", highlight=False)
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure Turnlog against what people write.")
    parser.add_argument(
        "--only", type=_sections, default=list(SECTIONS), metavar="A,B", help=f"of the sections {', '.join(SECTIONS)}"
    )
    for field in fields(Options):
        option = f"--{field.name.replace('_', '-')}"
        parser.add_argument(option, type=type(field.default), default=field.default, help=_HELP[field.name])
    return parser.parse_args()


def _sections(names: str) -> list[str]:
    chosen = names.split(",")
    if unknown := sorted(set(chosen) - SECTIONS.keys()):
        raise argparse.ArgumentTypeError(f"{unknown[0]} is not a section")
    return chosen


if __name__ == "__main__":
    sys.exit(main())
