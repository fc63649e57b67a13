"""Single writes through Supabase's API, against a logger of three calls there.

The hand-written logger only makes all three calls if the session is new, so both are measured: sessions that are there
already, as in the other sections, and a new session for each write.
"""

from functools import partial

from bench import bodies, measure
from bench.findings import Figure, Section, Setup, interleaved, rate, ratios
from bench.load import Posting
from bench.measure import Round
from bench.servers import HANDWRITTEN, TURNLOG

_NEW = ", new sessions"


def run(setup: Setup) -> Section:
    options, machine, file = setup.options, setup.machine, setup.file
    shared = bodies.sessions(options.shared_sessions)
    contenders = machine.turnlog_on_supabase(options.latency_ms), machine.handwritten_on_supabase(options.latency_ms)
    setup.say("warming up")
    measure.warm_up(machine, contenders, file, options.clients, shared)
    opening = file.with_name("opening.jsonl")
    count = int(measure.SINGLES_A_SECOND * options.seconds)

    def prepare() -> None:
        bodies.write_singles(file, count=count, shared=shared)
        bodies.write_singles(opening, count=count)

    rounds: dict[str, list[Round]] = interleaved(
        setup,
        prepare,
        {
            each.name + suffix: partial(
                measure.through_http, machine, each, Posting(posted, options.clients, options.seconds)
            )
            for suffix, posted in (("", file), (_NEW, opening))
            for each in contenders
        },
    )
    known = ratios(rounds[TURNLOG], rounds[HANDWRITTEN], rate)
    new = ratios(rounds[TURNLOG + _NEW], rounds[HANDWRITTEN + _NEW], rate)
    return Section(
        "supabase",
        f"Through Supabase's API: a stand-in for it in a process of its own for each logger, {options.latency_ms:g} ms "
        f"added to each call, {options.clients} connections. Hand-written: supabase-py, a call to select the "
        "session, one to insert it if it is missing, one to insert the interaction.",
        rounds,
        [
            Figure("Supabase, new sessions, rate", "hand-written, 3 calls", new, 5.0, 10.0),
            Figure("Supabase, known sessions, rate", "hand-written, 2 calls", known, 5.0, 10.0),
        ],
        ["The stand-in is Python and takes CPU that Supabase's own servers would have: see its column."],
    )
