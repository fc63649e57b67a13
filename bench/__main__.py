"""Measures Turnlog against a hand-written logger, a service without a database, and COPY, in one run.

    python -m bench [--rounds 7] [--seconds 6]

All services run under the same gunicorn.conf.py, on one PostgreSQL started for the purpose, and take turns, so that
whatever else the machine does meets all of them. A run in which an answer was an error, or a row isn't there that was
acknowledged, gives no figures.
"""

import argparse
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from bench import bodies, load, measure, report, servers
from bench.measure import Round
from bench.report import Conditions
from bench.servers import Machine
from conversation.settings import Settings

_CLIENTS = 32
_SHARED_SESSIONS = 50
_BATCH_CLIENTS, _BATCH = 4, 500
# Bodies made for each second of a round; no service here posts that many, so each is posted once.
_SINGLES_A_SECOND, _BATCHES_A_SECOND = 6000, 200
_COPIES_A_SECOND = 30  # of a round: COPY needs fewer to give a steady figure
_WARM_UP_S = 2


def main() -> int:
    options = _options()
    console = Console()
    settings = Settings.from_mapping({})
    try:
        with servers.running() as machine, tempfile.TemporaryDirectory(prefix="turnlog-bench-") as folder:
            rounds = _rounds(machine, Path(folder), options.rounds, options.seconds, console)
            conditions = Conditions(
                machine.version, load.generator(), options.rounds, options.seconds, servers.WORKERS,
                settings.turnlog_threads, settings.turnlog_pool_size, _CLIENTS, _SHARED_SESSIONS, _BATCH_CLIENTS,
                _BATCH,
            )  # fmt: skip
    except measure.Unsound as error:
        console.print(f"No figures: {error}", style="red", markup=False)
        return 1
    console.print(report.table(conditions, rounds))
    console.print(f"The rounds are in {report.save(conditions, rounds)}", highlight=False)
    return 0


def _rounds(machine: Machine, folder: Path, count: int, seconds: float, console: Console) -> dict[str, list[Round]]:
    """Return each contender's rounds, by name."""
    shared = bodies.sessions(_SHARED_SESSIONS)
    file = folder / "bodies.jsonl"
    measured: dict[str, list[Round]] = defaultdict(list)
    contenders = machine.turnlog, machine.handwritten, machine.ceiling

    bodies.write_singles(file, count=_SINGLES_A_SECOND * _WARM_UP_S, shared=shared)
    for contender in contenders:
        # opens the sessions one by one, then every connection of the pools
        measure.through_http(machine, contender, file, clients=1, seconds=1)
        bodies.write_singles(file, count=_SINGLES_A_SECOND * _WARM_UP_S, shared=shared)
        measure.through_http(machine, contender, file, clients=_CLIENTS, seconds=_WARM_UP_S)
    measure.insert_sessions(machine.copied, shared)

    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("measuring", total=count * (len(contenders) + 2))
        for _ in range(count):
            bodies.write_singles(file, count=int(_SINGLES_A_SECOND * seconds), shared=shared)
            for contender in contenders:
                done = measure.through_http(machine, contender, file, clients=_CLIENTS, seconds=seconds)
                measured[contender.name].append(done)
                progress.advance(task)
        for _ in range(count):
            bodies.write_batches(file, count=int(_BATCHES_A_SECOND * seconds), size=_BATCH)
            measured[report.BATCHES].append(
                measure.through_http(
                    machine, machine.turnlog, file, clients=_BATCH_CLIENTS, seconds=seconds, size=_BATCH, path="/batch"
                )
            )
            progress.advance(task)
            copies = bodies.copy_batches(
                count=int(_COPIES_A_SECOND * seconds), size=_BATCH, shared=shared, project=measure.PROJECT
            )
            measured[report.COPY].append(measure.through_copy(machine, copies, size=_BATCH))
            progress.advance(task)
    return dict(measured)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure Turnlog against what people write.")
    parser.add_argument("--rounds", type=int, default=7, help="of each contender; figures are medians of them")
    parser.add_argument("--seconds", type=float, default=6, help="of load in each round")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
