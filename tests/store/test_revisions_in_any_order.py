"""Records that say when they were said, sent to be revised, give the same interaction in any order, split and spooled.

What is expected is computed here, from all records at once: field by field the greatest value. Nothing said is lost:
each prompt, response, error and model is shown or in a revision, unless it is the beginning of a response that is.
"""

import json
import os
import uuid
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from logging_store import operations as ops
from logging_store.postgres.postgres_store import PostgresStore
from logging_store.records.models import LoggedInteraction
from logging_store.spool import CircuitBreaker, DeadLetters, Limits, SpoolDirectory
from logging_store.spool.blocked_sessions import BlockedSessions
from logging_store.spool.drain import Drain
from tests.conftest import PROJECT
from tests.store_calls import ask
from tests.traffic import as_batch

pytestmark = pytest.mark.slow

EXAMPLES = int(os.environ.get("TURNLOG_TEST_EXAMPLES", "100"))
NAME = {"session_id": "s", "interaction_id": "i", "on_conflict": "revise"}
OF_ANSWER = ("response", "error", "finish_reason", "completed_at", "latency_ms", "output_tokens")
OF_CALL = ("model", "input_tokens")
STATUSES = ("pending", "abandoned", "failed", "completed")

Facts = dict[str, Any]


def at(minute: int) -> str:
    return (datetime(2026, 11, 21, 6, tzinfo=UTC) + timedelta(minutes=minute)).isoformat()


times = st.integers(0, 5).map(at)
records = st.fixed_dictionaries(
    {"started_at": times},
    optional={
        "completed_at": st.integers(6, 12).map(at),
        "prompt": st.sampled_from(["Hello", "Bye", [{"role": "user", "content": "Hello"}]]),
        "response": st.sampled_from(["H", "Hi", "Hi there", "Ho", [{"role": "assistant", "content": "Hi!"}]]),
        "error": st.sampled_from(["E", "F"]),
        "status": st.sampled_from(["completed", "completed", "pending", "failed", "abandoned"]),
        "finish_reason": st.sampled_from(["stop", "length"]),
        "latency_ms": st.sampled_from([1, 2]),
        "output_tokens": st.sampled_from([1, 2]),
        "model": st.sampled_from(["m", "n"]),
        "input_tokens": st.sampled_from([1, 2]),
        "metadata": st.dictionaries(st.sampled_from(["a", "b"]), st.sampled_from([1, None]), max_size=2),
    },
)


@st.composite
def arrivals(draw: st.DrawFn) -> tuple[list[Facts], list[list[list[Facts]]]]:
    """Draw records, and several ways for all of them to arrive: each at least once, in calls of some."""
    said = draw(st.lists(records, min_size=2, max_size=6))
    ways = []
    for _ in range(2):
        again = draw(st.lists(st.sampled_from(said), max_size=3))
        arriving = draw(st.permutations([*said, *again]))
        calls = []
        while arriving:
            size = draw(st.integers(1, 3))
            calls.append(arriving[:size])
            arriving = arriving[size:]
        ways.append(calls)
    return said, ways


def status_of(record: Facts) -> int:
    if "status" in record:
        return STATUSES.index(record["status"])
    if not record.keys() & {"prompt", "response", "error"}:
        return 3
    return 2 if record.get("error") else 3 if "response" in record else 0


def content(record: Facts) -> Facts:
    """Return what a record says, with a field for each key of its metadata."""
    fields = {name: value for name, value in record.items() if name not in {"started_at", "status", "metadata"}}
    return fields | {f"metadata.{key}": value for key, value in record.get("metadata", {}).items()}


def rank(record: Facts, name: str) -> tuple[Any, ...]:
    """Return what decides between the values that records have for a field; the greatest is shown."""
    value = content(record)[name]
    said = record.get("completed_at", record["started_at"])
    status, length = status_of(record), -1
    if name not in OF_ANSWER:
        status = status if name in OF_CALL and status in {1, 2} else 3
    elif "response" in record:
        response = record["response"]
        as_list = [{"role": "assistant", "content": response}] if isinstance(response, str) else response
        length = len(json.dumps(as_list))
    return status, said, length, json.dumps(value)


def expected(said: Sequence[Facts]) -> Facts:
    shown: Facts = {"started_at": min(each["started_at"] for each in said), "metadata": {}}
    for name in {name for each in said for name in content(each)}:
        best = max((each for each in said if name in content(each)), key=lambda each: rank(each, name))
        if name.startswith("metadata."):
            shown["metadata"][name.removeprefix("metadata.")] = content(best)[name]
        else:
            shown[name] = content(best)[name]
    return shown


def texts(facts: Facts) -> set[tuple[str, str]]:
    return {(name, json.dumps(facts[name])) for name in ("prompt", "response", "error", "model") if name in facts}


def without_beginnings(said: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """Leave out responses that another one begins with."""
    responses = [json.loads(value) for name, value in said if name == "response"]
    as_texts = [each if isinstance(each, str) else each[0]["content"] for each in responses]
    return {
        (name, value)
        for name, value in said
        if name != "response"
        or not isinstance(json.loads(value), str)
        or sum(each.startswith(json.loads(value)) for each in as_texts) == 1
    }


def let_arrive(store: PostgresStore, calls: Sequence[Sequence[Facts]], folder: Path, *, spooled: bool) -> Counter[str]:
    receipts: Counter[str] = Counter()
    batches = [as_batch([LoggedInteraction.model_validate(NAME | each) for each in call]) for call in calls]
    if not spooled:
        for batch in batches:
            receipts.update(each.receipt for each in store.write(batch).interactions)
        return receipts
    directory, letters = SpoolDirectory(folder, Limits(min_free_bytes=0)), DeadLetters(folder)
    drain = Drain(store, directory, letters, CircuitBreaker(), BlockedSessions())
    for batch in batches:
        directory.append(batch)
    while directory.depth().entries:
        drain.step()
    directory.close()
    assert not letters.list(1000)
    return receipts


def read(store: PostgresStore, database: str) -> tuple[Facts, set[tuple[str, str]]]:
    """Return what is shown of the interaction, and all texts that it has."""
    session_id = as_batch([LoggedInteraction.model_validate(NAME)]).interactions[0]["session_id"]
    (row,) = ask(store, ops.TRANSCRIPT, PROJECT, {"session_id": session_id, "limit": 10})["interactions"]
    with psycopg.connect(database) as connection:
        kept = [each[0] for each in connection.execute("select facts from turnlog.ai_revisions")]
    shown = {name: row[name] for name in row.keys() - {"created_at"} if row[name] is not None}
    return shown, set.union(texts(shown), *map(texts, kept))


@pytest.mark.timeout(600)  # a failure is made smaller for up to five minutes before it is shown
def test_records_to_be_revised_give_the_same_interaction_in_any_order(
    database: str, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    store = PostgresStore(database)
    tally: Counter[str] = Counter()

    @seed(int(pytestconfig.getoption("hypothesis_seed") or 1))
    @settings(max_examples=EXAMPLES, database=None, deadline=None, suppress_health_check=list(HealthCheck))
    @given(plan=arrivals())
    def check(plan: tuple[list[Facts], list[list[list[Facts]]]]) -> None:
        said, ways = plan
        results = []
        for n, calls in enumerate(ways):
            with psycopg.connect(database, autocommit=True) as connection:
                connection.execute("delete from turnlog.ai_interactions")
                connection.execute("delete from turnlog.ai_revisions")
                connection.execute("delete from turnlog.ai_sessions")
            tally.update(let_arrive(store, calls, tmp_path / uuid.uuid4().hex, spooled=n > 0))
            results.append(read(store, database))
        (shown, kept), (other_shown, other_kept) = results
        assert shown == other_shown
        wanted = expected(said)
        assert {name: shown.get(name) for name in wanted} == wanted
        all_said = set.union(*(texts(each) for each in said))
        assert without_beginnings(all_said) <= kept <= all_said
        assert without_beginnings(all_said) <= other_kept <= all_said

    try:
        check()
    finally:
        store.close()
    assert all(tally[receipt] > EXAMPLES / 20 for receipt in ("created", "filled", "revised", "duplicate")), tally
    assert not tally["conflict"]
