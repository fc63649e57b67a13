"""All traffic again, shuffled, doubled and of yesterday, also through an outage: not one row changes.

`TURNLOG_REPLAY_OPS` sets how many operations there are (a soak test takes a million), `TURNLOG_REPLAY_SEED` repeats
a run.
"""

import os
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

import psycopg
import pytest

from logging_store.errors import StoreUnavailable
from logging_store.group_commit import GroupCommit
from logging_store.postgres.postgres_store import PostgresStore
from logging_store.records.models import Interaction, Session, SessionChanges
from logging_store.repository import ConversationRepository
from logging_store.spool import CircuitBreaker, Limits, Spool
from tests.conftest import PROJECT
from tests.spool.conftest import eventually
from tests.spool.flaky_store import FlakyStore
from tests.traffic import RECEIVED, Statement, as_batch

OPS = int(os.environ.get("TURNLOG_REPLAY_OPS", "10000"))
TIMES_REPLAYED = 2
BATCH = 250
TURNS = 10
AWAY_EVERY = 7  # batches
YESTERDAY = RECEIVED - timedelta(days=1)


@pytest.fixture
def dice() -> random.Random:
    seed = int(os.environ.get("TURNLOG_REPLAY_SEED") or random.randrange(2**32))
    print(f"TURNLOG_REPLAY_SEED={seed}")  # noqa: T201 - pytest shows it when the test fails
    return random.Random(seed)


class Stack:
    """What serves, over a store that can be taken away, with the rows that it made."""

    def __init__(self, database: str, folder: Path) -> None:
        self.database = database
        self.flaky = FlakyStore(PostgresStore(database, deadline_s=30))
        breaker = CircuitBreaker(shortest_s=0.01, longest_s=0.05)
        self.spool = Spool(self.flaky, folder, Limits(min_free_bytes=0), breaker=breaker)
        self.store = GroupCommit(self.spool, max_wait_s=60)
        self.told: Counter[str] = Counter()

    def write(self, stated: Sequence[Statement], received: datetime = RECEIVED) -> None:
        self.told.update(receipt.receipt for receipt in self.store.write(as_batch(stated, lambda: received)))

    def settle(self) -> None:
        self.flaky.away = None
        eventually(lambda: self.spool.breaker.is_closed, "the store is back", patience_s=60)
        eventually(lambda: self.spool.directory.depth().entries == 0, "the spool is delivered", patience_s=600)

    def rows(self, columns: str = "to_jsonb(r)") -> dict[str, str]:
        """Return a digest of each row by its table and id; a million rows fit into memory so."""
        with psycopg.connect(self.database) as connection:
            return {
                f"{table} {id_}": digest
                for table in ("ai_sessions", "ai_interactions")
                for id_, digest in connection.execute(
                    f"select coalesce(to_jsonb(r) ->> 'session_id', '') || r.id, md5(({columns})::text)"  # noqa: S608
                    f" from turnlog.{table} r"
                )
            }


@pytest.fixture
def stack(database: str, tmp_path: Path) -> Iterator[Stack]:
    stack = Stack(database, tmp_path / "spool")
    yield stack
    stack.store.close()
    stack.flaky.inner.close()


def statements(dice: random.Random, *, contradicting: bool) -> Iterator[Statement]:
    """Yield what the callers of many sessions say: sessions named late or never, prompts, responses, retries."""
    session = 0
    while True:
        session += 1
        name = {"session_id": f"session {session}"}
        if dice.random() < 0.8:
            yield Session.model_validate(
                {
                    **name,
                    "user_id": f"user {session % 97}",
                    "title": f"Größe {session}",
                    "tags": ["a", f"{session % 7}"],
                }
            )
        for turn in range(TURNS):
            who: dict[str, Any] = {**name, "interaction_id": f"turn {turn}"}
            prompt = Interaction.model_validate({**who, "prompt": f"Question {session}.{turn} 👩‍👩‍👧", "turn": turn})
            yield prompt
            if dice.random() < 0.9:
                yield Interaction.model_validate(
                    {**who, "response": f"Answer {turn}", "latency_ms": dice.random(), "metadata": {"n": [turn, None]}}
                )
            if dice.random() < 0.1:
                yield prompt
            if contradicting and dice.random() < 0.05:
                yield Interaction.model_validate({**who, "response": "Something else", "model": "m", "tags": ["late"]})
        if dice.random() < 0.2:
            yield Session.model_validate({**name, "tags": ["more", "a"], "metadata": {"late": True}})


def in_batches(stated: Sequence[Statement]) -> Iterator[Sequence[Statement]]:
    return (stated[at : at + BATCH] for at in range(0, len(stated), BATCH))


def replay(stack: Stack, stated: list[Statement], dice: random.Random, received: datetime) -> None:
    """Write everything again, shuffled and doubled, some of it while the store is away."""
    again = stated * TIMES_REPLAYED
    dice.shuffle(again)
    for nth, batch in enumerate(in_batches(again)):
        stack.flaky.away = StoreUnavailable("away") if nth % AWAY_EVERY == 0 else None
        stack.write(batch, received)
    stack.settle()


@pytest.mark.timeout(60 + OPS // 50)
def test_replays_of_all_traffic_change_no_row(stack: Stack, dice: random.Random) -> None:
    single = OPS // (1 + TIMES_REPLAYED)
    stated = list(islice(statements(dice, contradicting=True), single))
    for batch in in_batches(stated):
        stack.write(batch)
    repository = ConversationRepository(stack.store, PROJECT)
    for session in range(1, 20):
        repository.edit(f"session {session}", SessionChanges(title="Edited", tags=["edited"]))
    for session in range(20, 30):
        repository.erase(f"session {session}")
    once = stack.rows()
    assert stack.told["conflict"] > 0

    stack.told.clear()
    replay(stack, stated, dice, YESTERDAY)
    assert stack.rows() == once
    assert stack.told.keys() >= {"duplicate", "conflict", "rejected", "spooled"}
    assert not stack.told.keys() & {"created", "filled"}, "a replay was told that it changed something"


@pytest.mark.timeout(60 + OPS // 50)
def test_a_log_that_first_arrives_as_a_replay_is_the_same_log(
    stack: Stack, database: str, dice: random.Random, tmp_path: Path
) -> None:
    """Compare with a single pass in order, but for what arrival decides: times of arrival and the order of tags."""
    columns = (
        "to_jsonb(r) - 'created_at' - 'earliest_turn_at' - 'tags'"
        " || jsonb_build_object('tags', (select array_agg(t order by t) from unnest(r.tags) as t))"
    )
    stated = list(islice(statements(dice, contradicting=False), OPS // (2 + TIMES_REPLAYED)))
    for batch in in_batches(stated):
        stack.write(batch)
    once = stack.rows(columns)
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("truncate turnlog.ai_sessions cascade")

    stack.told.clear()
    logged = dice.sample(stated, len(stated) // 3)
    for batch in in_batches(logged):
        stack.write(batch)
    replay(stack, stated, dice, YESTERDAY)
    assert stack.rows(columns) == once
    assert stack.told.keys() >= {"created", "filled", "duplicate", "spooled"}
    assert not stack.told.keys() & {"conflict", "rejected"}
    assert stack.spool.dead_letters.count() == 0
