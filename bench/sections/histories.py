"""Clients without a memory: each call's prompt is the whole history, against prompts that hold only what is new."""

from functools import partial

import psycopg

from bench import bodies, measure
from bench.findings import Figure, Section, Setup, cpu, interleaved, ratios
from bench.load import Posting
from bench.servers import Database

_WHOLE, _NEW = "Turnlog, histories", "Turnlog, what is new"
_CLIENTS = 4  # a client writes the turns of a conversation about in order
_TURNS = 1_000  # in one measurement, in as many sessions as it takes
_BYTES = """
select sum(pg_total_relation_size(t)) from unnest('{turnlog.ai_interactions,turnlog.ai_messages}'::regclass[]) as t
"""
_TABLES = "turnlog.ai_interactions, turnlog.ai_messages, turnlog.ai_search_queue, turnlog.ai_search"


def run(setup: Setup) -> Section:
    machine = setup.machine
    databases = {name: machine.database() for name in (_WHOLE, _NEW)}
    contenders = {name: machine.turnlog(database, name) for name, database in databases.items()}
    measure.warm_up(machine, list(contenders.values()), setup.file, _CLIENTS, bodies.sessions(1))
    rounds: dict[str, list[measure.Round]] = {}
    figures = []
    for turns in (10, 50, 100, 1_000):
        sizes: dict[str, list[float]] = {name: [] for name in databases}

        def one_round(name: str, turns: int = turns, sizes: dict[str, list[float]] = sizes) -> measure.Round:
            _empty(databases[name])
            bodies.write_histories(setup.file, turns=turns, sessions=_TURNS // turns, whole=name == _WHOLE)
            found = measure.through_http(machine, contenders[name], Posting(setup.file, _CLIENTS, 0.6, once=True))
            sizes[name].append(_bytes(databases[name]))
            return found

        measured = interleaved(setup, lambda: None, {name: partial(one_round, name) for name in databases})
        for name, found in measured.items():
            rounds.setdefault(name, []).extend(found)
        ratio = [ours / theirs for ours, theirs in zip(sizes[_WHOLE], sizes[_NEW], strict=True)]
        figures += [
            Figure(f"bytes a turn, of {turns:,}", "what is new", ratio, 1.5, 1.3, at_most=True),
            Figure(f"CPU a turn, of {turns:,}", "what is new", ratios(measured[_WHOLE], measured[_NEW], cpu)),
        ]
    return Section(
        "histories",
        f"Histories: {_TURNS:,} turns in sessions of 10 to 1,000, prompts that are the whole history, against "
        "prompts of what is new. Bytes: tables, indexes and TOAST of interactions and messages.",
        rounds,
        figures,
    )


def _empty(database: Database) -> None:
    with psycopg.connect(database.conninfo, autocommit=True) as connection:
        connection.execute(f"truncate {_TABLES}".encode())


def _bytes(database: Database) -> float:
    with psycopg.connect(database.conninfo, autocommit=True) as connection:
        connection.execute("vacuum turnlog.ai_interactions, turnlog.ai_messages")
        ((total,),) = connection.execute(_BYTES)
    return float(total)
