"""What the search's index takes from the rate of writes: Turnlog as it is, against a database that has none of it."""

from functools import partial

import psycopg

from bench import bodies, measure
from bench.findings import Figure, Section, Setup, cpu, interleaved, rate, ratios
from bench.load import Posting
from bench.measure import Round
from bench.servers import COUNTING, Contender, Database

_WITH, _WITHOUT = "with its index", "without"
# a trigger that swallows what is queued: then there is nothing to index either
_NO_INDEX = """
create function public.swallow() returns trigger language plpgsql as 'begin return null; end';
create trigger swallow before insert on turnlog.ai_search_queue for each row execute function public.swallow();
drop index turnlog.ai_interactions_newest_idx;
"""


def run(setup: Setup) -> Section:
    options, machine = setup.options, setup.machine
    shared = bodies.sessions(options.shared_sessions)
    indexed, plain = machine.database(), machine.database(COUNTING, _NO_INDEX)
    contenders = {_WITH: machine.turnlog(indexed, _WITH), _WITHOUT: machine.turnlog(plain, _WITHOUT)}
    setup.say("warming up")
    measure.warm_up(machine, list(contenders.values()), setup.file, options.clients, shared)
    batched = setup.file.with_name("batches.jsonl")
    single = Posting(setup.file, options.clients, options.seconds)
    batch = Posting(batched, options.batch_clients, options.seconds, options.batch, "/batch")

    def prepare() -> None:
        bodies.write_singles(setup.file, count=int(measure.SINGLES_A_SECOND * options.seconds), shared=shared)
        bodies.write_batches(batched, count=int(measure.BATCHES_A_SECOND * options.seconds), size=options.batch)

    def post(contender: Contender, posting: Posting) -> Round:
        _settle(indexed)  # else what waits of one round would be indexed during another's
        return measure.through_http(machine, contender, posting)

    rounds = interleaved(
        setup,
        prepare,
        {
            f"{kind}, {name}": partial(post, contender, posting)
            for kind, posting in (("single", single), ("batches", batch))
            for name, contender in contenders.items()
        },
    )
    figures = []
    for kind, work in (("single", "single writes"), ("batches", f"batches of {options.batch}")):
        ours, theirs = (rounds[f"{kind}, {name}"] for name in contenders)
        figures += [
            Figure(f"{work} while indexing, rate", "no index", ratios(ours, theirs, rate), 0.8, 0.95),
            Figure(f"{work} while indexing, CPU", "no index", ratios(ours, theirs, cpu)),
        ]
    return Section(
        "search",
        "Search: what is written is queued and indexed by the workers meanwhile; in the other database there is "
        "neither a queue nor the index by time. Nothing waits when a round begins.",
        rounds,
        figures,
    )


def _settle(database: Database) -> None:
    """Index all that waits."""
    with psycopg.connect(database.conninfo, autocommit=True) as connection:
        left = True
        while left:
            row = connection.execute("select turnlog.index_pending('{\"ms\": 5000}') ->> 'left' = 'true'").fetchone()
            left = bool(row and row[0])
