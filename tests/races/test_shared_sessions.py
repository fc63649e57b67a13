"""Concurrent batches that share sessions in any order never deadlock, and every row is stored."""

from collections import Counter
from typing import Any

from logging_store.batches import Batch
from logging_store.records import identity
from logging_store.store import Store
from tests.conftest import PROJECT
from tests.races.conftest import Arena
from tests.races.crew import Turn

PROCESSES, BATCHES, BATCH = 8, 60, 12
AT = "2026-11-21T06:30:00+00:00"


def session_row(key: str, *, implicit: bool) -> dict[str, Any]:
    facts = {} if implicit else {"title": f"About {key}"}
    return {"id": identity.session(PROJECT, key).id, "key": key, "implicit": implicit, "created_at": AT, **facts}


def interaction_row(session_key: str, key: str) -> dict[str, Any]:
    session = identity.session(PROJECT, session_key).id
    own = identity.interaction(PROJECT, session, key).id
    return {"session_id": session, "id": own, "key": key, "prompt": f"{session_key}: {key}", "created_at": AT}


def write(store: Store, turn: Turn, keys: list[str]) -> list[str]:
    """Write to each session something of one's own, but to the first one what everybody writes in this round."""
    shared, *own = keys
    said = [interaction_row(shared, f"everybody {turn.round}")]
    said += [interaction_row(key, f"{turn.lane}-{turn.round}") for key in own]
    parents = [session_row(key, implicit=(turn.lane + turn.round) % 3 != 0) for key in keys]
    turn.dice.shuffle(said)
    turn.dice.shuffle(parents)
    receipts = store.write(Batch(PROJECT, sessions=parents, interactions=said))
    assert all(receipt.acknowledged for receipt in receipts)
    return [receipt.receipt for receipt in receipts.interactions]


def batch_over_40_sessions(store: Store, turn: Turn) -> list[str]:
    """Twelve of forty sessions, anew each time."""
    first = turn.round % 40
    others = [number for number in range(40) if number != first]
    return write(store, turn, [f"chat {n}" for n in [first, *turn.dice.sample(others, BATCH - 1)]])


def batch_over_new_sessions(store: Store, turn: Turn) -> list[str]:
    """Twelve sessions that nobody has seen before, and everybody creates now."""
    return write(store, turn, [f"chat {turn.round}-{number}" for number in range(BATCH)])


def assert_every_row_is_there(arena: Arena, rounds: list[list[list[str]]], titles: set[str]) -> None:
    counts = Counter(receipt for outcomes in rounds for batch in outcomes for receipt in batch)
    own, shared = PROCESSES * BATCHES * (BATCH - 1), BATCHES
    assert counts == Counter(created=own + shared, duplicate=shared * (PROCESSES - 1))
    stored = arena.rows(
        "select s.key, i.key, i.prompt from turnlog.ai_interactions i join turnlog.ai_sessions s on s.id = i.session_id"
    )
    assert all(prompt == f"{session}: {key}" for session, key, prompt in stored)
    assert Counter(key for _, key, _ in stored) == Counter(
        {f"{lane}-{round_}": BATCH - 1 for lane in range(PROCESSES) for round_ in range(BATCHES)}
        | {f"everybody {round_}": 1 for round_ in range(BATCHES)}
    )
    assert {title for (title,) in arena.rows("select title from turnlog.ai_sessions where not implicit")} == titles


def test_8_processes_write_60_batches_of_12_over_40_sessions_in_shuffled_order(arena: Arena) -> None:
    rounds = arena.race(batch_over_40_sessions, rounds=BATCHES, processes=PROCESSES, threads=1)
    assert_every_row_is_there(arena, rounds, {f"About chat {number}" for number in range(40)})


def test_8_processes_write_60_batches_whose_12_sessions_all_create_at_once(arena: Arena) -> None:
    rounds = arena.race(batch_over_new_sessions, rounds=BATCHES, processes=PROCESSES, threads=1)
    assert_every_row_is_there(
        arena, rounds, {f"About chat {round_}-{number}" for round_ in range(BATCHES) for number in range(BATCH)}
    )
