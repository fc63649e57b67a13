"""A tree of turns, written at once or spooled, in any order, in parts, twice: branch and alternatives are the same.

After each arrival the reader, who sees what is stored and what is spooled, gets the branches of all that arrived.
"""

import os
import uuid
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from logging_store import operations as ops
from logging_store.postgres.postgres_store import PostgresStore
from logging_store.records import identity
from logging_store.records.models import Interaction, RestoredInteraction
from logging_store.spool import Limits, Spool
from tests import branch_model
from tests.branch_model import Turn
from tests.conftest import PROJECT
from tests.spool.test_any_order import Waiting
from tests.store_calls import ask
from tests.traffic import RECEIVED, as_batch

pytestmark = pytest.mark.slow

EXAMPLES = int(os.environ.get("TURNLOG_TEST_EXAMPLES", "100"))
SESSION = "a tree"
NAMES = list("abcdefg")
BEGAN = datetime(2026, 11, 21, 6, tzinfo=UTC)


class Arrival(NamedTuple):
    """Statements that arrive together, to be spooled or not; afterwards the spool may be delivered."""

    stated: list[Interaction]
    is_spooled: bool
    delivers: bool


@st.composite
def arrivals(draw: st.DrawFn) -> list[Arrival]:
    """Draw a tree with stated times, each turn in one statement or in two, and a way for all of them to arrive."""
    names = draw(st.lists(st.sampled_from(NAMES), min_size=2, unique=True))
    minutes = draw(st.permutations(range(len(names))))
    statements: list[Interaction] = []
    for name, minute in zip(names, minutes, strict=True):
        others = st.none() | st.sampled_from(names) | st.just("unknown")
        facts: dict[str, Any] = {
            "session_id": SESSION,
            "interaction_id": name,
            "started_at": (BEGAN + timedelta(minutes=minute)).isoformat(),
            "reply_to": draw(others),
            "alternative_to": draw(st.none() | others),
        }
        asks = draw(st.booleans() | st.just(value=True))
        if asks and draw(st.integers(0, 3)) == 0:
            facts["status"] = draw(st.sampled_from(["failed", "abandoned", "pending"]))
        if draw(st.integers(0, 5)) == 0:
            chosen = {
                "created_at": RECEIVED.isoformat(),
                "chosen_at": (BEGAN + timedelta(minutes=draw(st.integers(minute, 9)))).isoformat(),
            }
            prompt = {"prompt": name} if asks else {}
            statements.append(RestoredInteraction.model_validate({**facts, **chosen, **prompt, "response": name}))
        elif asks and draw(st.booleans()):
            statements.append(Interaction.model_validate({**facts, "prompt": name}))
            said = {field: facts[field] for field in ("session_id", "interaction_id", "started_at")}
            statements.append(Interaction.model_validate({**said, "response": name.upper()}))
        else:
            prompt = {"prompt": name} if asks else {}
            statements.append(Interaction.model_validate({**facts, **prompt, "response": name}))
    arriving = draw(st.permutations([*statements, *draw(st.lists(st.sampled_from(statements), max_size=4))]))
    plan = []
    while arriving:
        size = draw(st.integers(1, 4))
        plan.append(Arrival(arriving[:size], draw(st.booleans()), draw(st.booleans())))
        arriving = arriving[size:]
    return plan


def id_of(name: str | None) -> str | None:
    return None if name is None else identity.interaction(PROJECT, identity.session(PROJECT, SESSION).id, name).id


def turns_of(stated: Sequence[Interaction]) -> list[Turn]:
    """Return what the statements say together."""
    turns: dict[str, Turn] = {}
    for each in stated:
        name = id_of(each.interaction_id)
        assert name is not None
        turn = turns.setdefault(name, Turn(name, RECEIVED, asks=False, answers=False))
        turn.started_at = turn.started_at or (each.started_at and datetime.fromisoformat(str(each.started_at)))
        turn.reply_to = turn.reply_to or id_of(each.reply_to)
        turn.alternative_to = turn.alternative_to or id_of(each.alternative_to)
        turn.asks = turn.asks or each.prompt is not None
        turn.answers = turn.answers or (each.response is not None and each.status not in {"failed", "abandoned"})
        if isinstance(each, RestoredInteraction) and each.chosen_at:
            turn.chosen_at = datetime.fromisoformat(str(each.chosen_at))
    return list(turns.values())


def question_of(turn: Turn, turns: dict[str, Turn]) -> str | None:
    """Return the interaction that asked what one answers, if it has no prompt itself."""
    met = [turn.id]
    while not turn.asks:
        if turn.instead_of not in turns or turn.instead_of in met:
            return None
        turn = turns[turn.instead_of]
        met.append(turn.id)
    return turn.id if len(met) > 1 else None


def read(store: Any, **query: Any) -> list[dict[str, Any]]:
    """Return the pages of a transcript, each of two interactions."""
    session_id = identity.session(PROJECT, SESSION).id
    rows: list[dict[str, Any]] = []
    after = None
    while True:
        page = ask(store, ops.TRANSCRIPT, PROJECT, {"session_id": session_id, "limit": 2, **query, "after": after})
        rows += page["interactions"]
        after = page["after"]
        if after is None:
            return rows


def compare(store: Any, stated: Sequence[Interaction], through: str, tally: Counter[str]) -> None:
    turns = turns_of(stated)
    tree = branch_model.tree(turns)
    current = tree.branch()
    shown = read(store, branches="current")
    assert [row["interaction_id"] for row in shown] == current
    target = through if through in tree.order else None
    if target is not None:
        rows = read(store, branches="current", branch=target)
        assert [row["interaction_id"] for row in rows] == tree.branch(target)
    everything = read(store, branches="all")
    assert [row["interaction_id"] for row in everything] == tree.order
    said = {one.id: one.said for one in turns}
    for row in [*shown, *everything]:
        same = sorted(tree.alternatives(row["interaction_id"]), key=said.__getitem__)
        expected = [(id_, id_ in current) for id_ in same] if len(same) > 1 else []
        assert [(each["interaction_id"], each["current"]) for each in row["alternatives"]] == expected
    by_id = {one.id: one for one in turns}
    for row in shown:
        asked = question_of(by_id[row["interaction_id"]], by_id)
        assert (row["question"] or {}).get("interaction_id") == asked
        assert row["question"] is None or row["question"]["prompt"] in NAMES
    tally["forks"] += len(current) < len(turns)
    tally["linear"] += len(current) == len(turns)


@pytest.mark.timeout(600)  # a failure is made smaller for up to five minutes before it is shown
def test_any_order_of_arrival_gives_the_same_branches(
    database: str, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    tally: Counter[str] = Counter()
    store = PostgresStore(database)

    @seed(int(pytestconfig.getoption("hypothesis_seed") or 1))
    @settings(max_examples=EXAMPLES, database=None, deadline=None, suppress_health_check=list(HealthCheck))
    @given(plan=arrivals(), through=st.sampled_from(NAMES))
    def check(plan: list[Arrival], through: str) -> None:
        with psycopg.connect(database, autocommit=True) as connection:
            connection.execute("delete from turnlog.ai_interactions")
            connection.execute("delete from turnlog.ai_sessions")
        waiting = Waiting(store, tmp_path / uuid.uuid4().hex)
        reader = Spool(store, waiting.directory.path, Limits(min_free_bytes=0))
        arrived: list[Interaction] = []
        target = id_of(through)
        assert target is not None
        for each in plan:
            if each.is_spooled:
                waiting.directory.append(as_batch(each.stated))
            else:
                store.write(as_batch(each.stated))
            arrived += each.stated
            if each.delivers:
                waiting.deliver()
            compare(reader, arrived, target, tally)
            tally["spooled"] += each.is_spooled and not each.delivers
        waiting.deliver()
        compare(store, arrived, target, tally)
        waiting.directory.close()

    try:
        check()
    finally:
        store.close()
    assert all(tally[what] > EXAMPLES / 4 for what in ("forks", "linear", "spooled")), tally
