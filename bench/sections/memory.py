"""What a worker's memory comes to: resident memory as a million interactions are logged."""

import psutil

from bench import bodies, measure, servers
from bench.findings import Figure, Section, Setup
from bench.load import Posting
from bench.measure import Round
from bench.servers import TURNLOG, Contender

_STEPS = 10
_SINGLES_SHARE = 0.03  # of the writes: they are a request each, and take far longer than batches
_LOOK_S = 0.6  # a step in which nobody looked at the connections by then tells no split


def run(setup: Setup) -> Section:
    options, machine, file = setup.options, setup.machine, setup.file
    turnlog = machine.turnlog()
    shared = bodies.sessions(options.shared_sessions)
    singles = int(options.writes * _SINGLES_SHARE) // _STEPS
    batches = max(1, (options.writes // _STEPS - singles) // options.batch)
    by_batch = Posting(file, options.batch_clients, _LOOK_S, options.batch, "/batch", once=True)
    by_one = Posting(file, options.clients, _LOOK_S, once=True)
    rounds: list[Round] = []
    steps = [_resident_mb(turnlog)]
    written = [0] * servers.WORKERS
    for step in range(_STEPS):
        setup.say(f"{step * options.writes // _STEPS:,} of {options.writes:,} written")
        bodies.write_singles(file, count=singles, shared=shared)
        rounds.append(measure.through_http(machine, turnlog, by_one))
        bodies.write_batches(file, count=batches, size=options.batch)
        rounds.append(measure.through_http(machine, turnlog, by_batch))
        for done, size in zip(rounds[-2:], (1, options.batch), strict=True):
            written = [sum_ + of * size for sum_, of in zip(written, done.by_worker, strict=True)]
        steps.append(_resident_mb(turnlog))
    ends, total = steps[-1], _STEPS * (singles + batches * options.batch)
    own = [psutil.Process(worker.pid).memory_full_info().uss / 1e6 for worker in turnlog.workers()]
    return Section(
        "memory",
        f"Memory: {_STEPS} steps, in each {batches} batches of {options.batch} by {options.batch_clients} clients and "
        f"{singles} single writes by {options.clients}. Resident memory, which counts what the workers share.",
        {TURNLOG + ", batches": rounds[1::2], TURNLOG + ", singles": rounds[::2]},
        [
            Figure(
                f"memory of the larger worker after {total:,} writes", "",
                [max(ends)], 120, 90, at_most=True, unit=" MB",
            ),
        ],
        [
            f"Worker {n + 1}: {written[n]:,} writes; MB "
            + ", ".join(f"{step[n]:.0f}" for step in steps)
            + f"; {own[n]:.0f} not shared at the end."
            for n in range(servers.WORKERS)
        ],
    )  # fmt: skip


def _resident_mb(contender: Contender) -> list[float]:
    return [worker.memory_info().rss / 1e6 for worker in contender.workers()]
