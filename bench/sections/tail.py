"""Latencies at half of the highest rate: requests are due at fixed times, whether or not others are answered."""

from collections.abc import Callable, Sequence

from bench import bodies, measure
from bench.findings import Figure, Section, Setup, interleaved
from bench.load import Posting
from bench.measure import Round
from bench.servers import CEILING, HANDWRITTEN, TURNLOG, Contender

_HIGHEST, _HALF = ", highest rate", ", half of it"


def run(setup: Setup) -> Section:
    options, machine = setup.options, setup.machine
    shared = bodies.sessions(options.shared_sessions)
    contenders = machine.turnlog(), machine.handwritten(), machine.ceiling()
    setup.say("warming up")
    measure.warm_up(machine, contenders, setup.file, options.clients, shared)
    count = int(measure.SINGLES_A_SECOND * options.seconds)
    paced = setup.file.with_name("paced.jsonl")
    reached: dict[str, float] = {}

    def prepare() -> None:
        bodies.write_singles(setup.file, count=count, shared=shared)
        bodies.write_singles(paced, count=count // 2, shared=shared)

    def highest(each: Contender) -> Round:
        done = measure.through_http(machine, each, Posting(setup.file, options.clients, options.seconds))
        reached[each.name] = done.rate
        return done

    def half(each: Contender) -> Round:
        # of what it reached just now, since the machine may have been another one a minute ago
        posting = Posting(paced, options.clients, options.seconds, rate=reached[each.name] / 2)
        return measure.through_http(machine, each, posting)

    def both(each: Contender) -> Callable[[], Round]:
        def measured() -> Round:
            highest_rounds.setdefault(each.name + _HIGHEST, []).append(highest(each))
            return half(each)

        return measured

    highest_rounds: dict[str, list[Round]] = {}
    half_rounds = interleaved(setup, prepare, {each.name + _HALF: both(each) for each in contenders})

    def tail(name: str) -> Sequence[float]:
        return [done.p99_ms / done.p50_ms for done in half_rounds[name + _HALF]]

    return Section(
        "tail",
        f"Tail: each round measures the highest rate of {options.clients} connections, then has requests due at "
        "fixed times at half of it. Latencies count from when a request was due.",
        highest_rounds | half_rounds,
        [
            Figure("p99 at half of the highest rate", "p50", tail(TURNLOG), 4.0, 2.5, at_most=True),
            Figure("the same, hand-written", "p50", tail(HANDWRITTEN)),
            Figure("the same, no database", "p50", tail(CEILING)),
        ],
    )
