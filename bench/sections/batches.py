"""Batches, against COPY over one connection: the quickest way into the same tables that PostgreSQL has."""

from bench import bodies, measure
from bench.findings import Figure, Section, Setup, cpu, interleaved, rate, ratios
from bench.load import Posting
from bench.measure import Round

BATCHES, COPY = "Turnlog, batches", "COPY"
_COPIES_A_SECOND = 30  # of a round: COPY needs fewer to give a steady figure


def run(setup: Setup) -> Section:
    options, machine, size = setup.options, setup.machine, setup.options.batch
    shared = bodies.sessions(options.shared_sessions)
    turnlog, copied = machine.turnlog(), machine.database()
    setup.say("warming up")
    measure.warm_up(machine, [turnlog], setup.file, options.clients, shared)
    measure.insert_sessions(copied, shared)
    posting = Posting(setup.file, options.batch_clients, options.seconds, size, "/batch")

    def copy() -> Round:
        count = int(_COPIES_A_SECOND * options.seconds)
        batches = bodies.copy_batches(count=count, size=size, shared=shared, project=measure.PROJECT)
        return measure.through_copy(machine, copied, batches, size=size)

    count = int(measure.BATCHES_A_SECOND * options.seconds)
    rounds = interleaved(
        setup,
        lambda: bodies.write_batches(setup.file, count=count, size=size),
        {BATCHES: lambda: measure.through_http(machine, turnlog, posting), COPY: copy},
    )
    return Section(
        "batches",
        f"Batches: {size} interactions a request, {options.batch_clients} persistent connections, new sessions of "
        f"{bodies.PER_SESSION} interactions. COPY: one connection, a transaction for {size} rows spelled out "
        "beforehand, same tables, sessions there already.",
        rounds,
        [
            Figure(f"batches of {size}, rate", COPY, ratios(rounds[BATCHES], rounds[COPY], rate), 0.75, 1.0),
            Figure(f"batches of {size}, CPU", COPY, ratios(rounds[BATCHES], rounds[COPY], cpu)),
        ],
    )
