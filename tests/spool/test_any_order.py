"""Whatever is written at once, spooled, delivered late, in another order or twice: the same rows result.

What doesn't depend on the order, as long as the statements about a record agree with each other: every fact of it, its
tags as a set, its metadata, whether a session was created by name, and that there is one row. Statements about an
interaction agree if none is a conflict: an answer that grows, a status that moves on and attempts that fail do. What is
decided by who arrives first: `created_at` (so the place of interactions of the same `turn` and `started_at`, or without
either), the order in which tags are shown, and of statements that contradict each other which is kept. A statement
counts as a whole: one that contradicts adds nothing, so for those records the rows are the model's, told the statements
as they arrived. Each statement that is turned away is told so, or is a dead letter.
"""

import json
import os
import uuid
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from pydantic_core import to_json

from logging_store import operations as ops
from logging_store.batches import Batch, BatchReceipts
from logging_store.postgres.postgres_store import PostgresStore
from logging_store.records.models import Interaction, Session
from logging_store.spool import CircuitBreaker, DeadLetters, Limits, SpoolDirectory
from logging_store.spool.blocked_sessions import BlockedSessions
from logging_store.spool.drain import Drain
from logging_store.store import Store
from tests.conftest import PROJECT
from tests.model import Model
from tests.store_calls import ask
from tests.strategies import completions, creates, logged
from tests.traffic import RECEIVED, Row, Statement, as_batch

pytestmark = pytest.mark.slow

EXAMPLES = int(os.environ.get("TURNLOG_TEST_EXAMPLES", "100"))
SPOOLS = 2
# how many failed is derived from the interactions, which are compared themselves, where they agree
DECIDED_BY_ARRIVAL = {"created_at", "last_activity_at", "erased_at", "text_expired_at", "failed_count", "spooled"}
TIMES = {"started_at", "earliest_turn_at", "ended_at", "completed_at"}


class Act(NamedTuple):
    """Write statements at once (`spool` is None) or into a spool; then, maybe, let a spool deliver."""

    stated: list[Statement]
    spool: int | None
    delivers: int | None


@st.composite
def acts(draw: st.DrawFn) -> list[Act]:
    """Draw what is stated, and a way for each of it to arrive: at least once, in any order, split anyhow."""
    stated = draw(st.lists(creates | logged | completions, min_size=2, max_size=9))
    again = draw(st.lists(st.sampled_from(stated), max_size=6))
    arriving = draw(st.permutations([*stated, *again]))
    plan = []
    while arriving:
        size = draw(st.integers(1, 4))
        spool, delivers = (draw(st.none() | st.integers(0, SPOOLS - 1)) for _ in range(2))
        plan.append(Act(arriving[:size], spool, delivers))
        arriving = arriving[size:]
    return plan


class Arrivals:
    """A store around a store that takes down what arrives, in its order."""

    def __init__(self, inner: Store) -> None:
        self._inner = inner
        self.written: list[tuple[Batch, BatchReceipts]] = []

    def write(self, batch: Batch) -> BatchReceipts:
        receipts = self._inner.write(batch)
        self.written.append((batch, receipts))
        return receipts

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class Waiting:
    """A spool without a thread: it delivers when told."""

    def __init__(self, store: Store, path: Path) -> None:
        self.directory = SpoolDirectory(path, Limits(min_free_bytes=0))
        self.dead_letters = DeadLetters(path)
        self._drain = Drain(store, self.directory, self.dead_letters, CircuitBreaker(), BlockedSessions())

    def deliver(self) -> None:
        while self.directory.depth().entries:
            self._drain.step()


def fact(row: Row) -> str:
    """Return what a row says, for comparing."""
    kept = json.loads(to_json(row))  # as it is on the disk, where times are texts
    return json.dumps({name: value for name, value in kept.items() if name != "created_at"}, sort_keys=True)


def agree(rows: Sequence[Row]) -> bool:
    """Tell whether no two statements about a record contradict each other."""
    known: Row = {}
    for row in rows:
        facts = row | {f"metadata.{key}": (value,) for key, value in row.get("metadata", {}).items()}
        for name in facts.keys() - {"created_at", "implicit", "tags", "metadata"}:
            if known.setdefault(name, facts[name]) != facts[name]:
                return False
    return True


def told_in_order(
    model: Model, written: Sequence[tuple[Batch, BatchReceipts]], statements: dict[str, Statement]
) -> set[str]:
    """Let the model hear what arrived as it arrived; each receipt has to be the model's.

    Returns the interactions with a conflict.
    """
    contradicted = set()
    for batch, receipts in written:
        creates_told = [each for each in zip(batch.sessions, receipts.sessions, strict=True) if not each[0]["implicit"]]
        # what is in one batch arrives at once; then a create that states the key is weighed first
        for row, receipt in sorted(creates_told, key=lambda each: "key" not in each[0]):
            stated = statements[fact(row)]
            assert isinstance(stated, Session)
            assert (receipt.receipt, frozenset(receipt.fields)) == model.create(stated)
        for row in batch.sessions:
            if row["implicit"]:
                model.ensure_session(row.get("key", row["id"]))
        for row, receipt in zip(batch.interactions, receipts.interactions, strict=True):
            stated = statements[fact(row)]
            assert isinstance(stated, Interaction)
            (expected,) = model.log([stated.model_copy(update={"session_id": row["session_id"]})])
            assert (receipt.receipt, frozenset(receipt.fields)) == expected
            if receipt.receipt == "conflict":
                contradicted.add(row["id"] + row["session_id"])
    return contradicted


def seen(row: Row, *, tags_ordered: bool) -> Row:
    facts = {name: value for name, value in row.items() if name not in DECIDED_BY_ARRIVAL}
    for name in TIMES & facts.keys():
        if isinstance(facts[name], str):
            facts[name] = datetime.fromisoformat(facts[name])
    if facts.get("earliest_turn_at"):  # records of one call arrive a microsecond apart
        facts["earliest_turn_at"] = facts["earliest_turn_at"].replace(microsecond=0)
    return facts | {"tags": facts["tags"] if tags_ordered else sorted(facts["tags"])}


def without(row: Row, names: set[str]) -> Row:
    return {name: value for name, value in row.items() if name not in names}


def of_store(store: Store, model: Model, *, tags_ordered: bool) -> dict[str, Row]:
    rows = {}
    for session_id in model.sessions:
        page = ask(store, ops.TRANSCRIPT, PROJECT, {"session_id": session_id, "limit": 1000, "context": True})
        session = ask(store, ops.SESSION, PROJECT, {"session_id": session_id})
        assert session is not None
        for row in (session, *page["interactions"]):
            rows[row.get("interaction_id", row["session_id"]) + row["session_id"]] = seen(
                row, tags_ordered=tags_ordered
            )
    return rows


def of_model(model: Model, *, tags_ordered: bool) -> dict[str, Row]:
    rows = {}
    for session in model.sessions.values():
        for row in (model.view(session), *model.transcript(session)):
            rows[row.get("interaction_id", row["session_id"]) + row["session_id"]] = seen(
                row, tags_ordered=tags_ordered
            )
    return rows


def carry_out(plan: Sequence[Act], store: Store, folder: Path) -> set[str]:
    """Let everything arrive as planned; return what became a dead letter."""
    spools = [Waiting(store, folder / str(n)) for n in range(SPOOLS)]
    for act in plan:
        batch = as_batch(act.stated)
        if act.spool is None:
            store.write(batch)
        else:
            spools[act.spool].directory.append(batch)
        if act.delivers is not None:
            spools[act.delivers].deliver()
    for spool in spools:
        spool.deliver()
        spool.directory.close()
    return {
        fact((letter.batch.interactions or letter.batch.sessions)[0])
        for spool in spools
        for letter in spool.dead_letters.list(1000)
    }


def refused(written: Sequence[tuple[Batch, BatchReceipts]]) -> set[str]:
    return {
        fact(row)
        for batch, receipts in written
        for row, receipt in zip((*batch.sessions, *batch.interactions), receipts, strict=True)
        if not receipt.acknowledged
    }


def in_a_single_pass(stated: Sequence[Statement]) -> tuple[Model, set[str]]:
    """Return the model that was told everything once, in order, and the records whose statements agree."""
    model = Model(PROJECT, lambda: RECEIVED)
    statements: dict[str, list[Row]] = {}
    agreed: dict[str, bool] = {}
    for each in stated:
        batch = as_batch([each])
        for row in batch.sessions:
            statements.setdefault(row["id"] + row["id"], []).append(row)
        if isinstance(each, Session):
            model.create(each)
            continue
        (receipt,) = model.log([each])
        (row,) = batch.interactions
        name = row["id"] + row["session_id"]
        agreed[name] = agreed.get(name, True) and receipt[0] != "conflict"
    sessions = {name for name, rows in statements.items() if agree(rows)}
    return model, sessions | {name for name, is_agreed in agreed.items() if is_agreed}


@pytest.mark.timeout(600)  # a failure is made smaller for up to five minutes before it is shown
def test_records_that_agree_give_the_same_rows_in_any_order(
    database: str, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    tally: Counter[str] = Counter()
    store = PostgresStore(database)

    @seed(int(pytestconfig.getoption("hypothesis_seed") or 1))  # the same plans each time, however this text changes
    @settings(
        max_examples=EXAMPLES,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),  # a busy machine is no failure
    )
    @given(plan=acts())
    def check(plan: list[Act]) -> None:
        with psycopg.connect(database, autocommit=True) as connection:
            connection.execute("delete from turnlog.ai_interactions")
            connection.execute("delete from turnlog.ai_revisions")
            connection.execute("delete from turnlog.ai_messages")
            connection.execute("delete from turnlog.ai_sessions")
        arrivals = Arrivals(store)
        letters = carry_out(plan, arrivals, tmp_path / uuid.uuid4().hex)

        stated = [each for act in plan for each in act.stated]
        statements = {
            fact((batch.interactions or batch.sessions)[0]): each for each in stated for batch in [as_batch([each])]
        }
        as_arrived = Model(PROJECT, lambda: RECEIVED)
        contradicted = told_in_order(as_arrived, arrivals.written, statements)
        assert of_store(store, as_arrived, tags_ordered=True) == of_model(as_arrived, tags_ordered=True)

        single_pass, agreed = in_a_single_pass(sorted(stated, key=str))
        stored = of_store(store, single_pass, tags_ordered=False)
        expected = of_model(single_pass, tags_ordered=False)
        assert stored.keys() == expected.keys()
        redated = {other[-len(other) // 2 :] for other in (expected.keys() - agreed) | contradicted}
        for name in agreed - contradicted:
            apart = {"earliest_turn_at"} if name[len(name) // 2 :] in redated else set()
            assert without(stored[name], apart) == without(expected[name], apart)

        turned_away = refused(arrivals.written)
        rejected = {
            fact((batch.interactions or batch.sessions)[0])
            for act in plan
            if act.spool is None
            for each in act.stated
            for batch in [as_batch([each])]
        }
        assert turned_away - rejected <= letters <= turned_away, "told to its caller, or a dead letter"
        tally.update(
            agreed=len(agreed), contradicted=len(expected) - len(agreed), letters=len(letters),
            direct=len(rejected), spooled=sum(act.spool is not None for act in plan),
        )  # fmt: skip

    try:
        check()
    finally:
        store.close()
    met = ("agreed", "contradicted", "letters", "direct", "spooled")
    assert all(tally[what] > EXAMPLES / 10 for what in met), tally
