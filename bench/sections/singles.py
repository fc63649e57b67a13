"""Single writes: against the hand-written logger on the same Postgres, and against the server without a database."""

from functools import partial

from bench import bodies, measure
from bench.findings import Figure, Section, Setup, cpu, interleaved, rate, ratios
from bench.load import Posting
from bench.servers import CEILING, HANDWRITTEN, TURNLOG


def run(setup: Setup) -> Section:
    options, machine = setup.options, setup.machine
    shared = bodies.sessions(options.shared_sessions)
    contenders = machine.turnlog(), machine.handwritten(), machine.ceiling()
    setup.say("warming up")
    measure.warm_up(machine, contenders, setup.file, options.clients, shared)
    posting = Posting(setup.file, options.clients, options.seconds)
    count = int(measure.SINGLES_A_SECOND * options.seconds)
    rounds = interleaved(
        setup,
        lambda: bodies.write_singles(setup.file, count=count, shared=shared),
        {each.name: partial(measure.through_http, machine, each, posting) for each in contenders},
    )
    ours, theirs, ceiling = rounds[TURNLOG], rounds[HANDWRITTEN], rounds[CEILING]
    return Section(
        "singles",
        f"Single writes: {options.clients} persistent connections, {options.shared_sessions} shared sessions, new ids, "
        "prompts and responses of 200 bytes. No database: a view that reads nothing and answers a constant.",
        rounds,
        [
            Figure("single writes, rate", HANDWRITTEN, ratios(ours, theirs, rate), 1.5, 2.0),
            Figure("single writes, CPU", HANDWRITTEN, ratios(ours, theirs, cpu), 0.65, 0.5, at_most=True),
            Figure("single writes, rate", CEILING, ratios(ours, ceiling, rate), 0.45, 0.6),
            Figure("hand-written, rate", CEILING, ratios(theirs, ceiling, rate)),
        ],
    )
