"""Spooled records are shown as they will be read once they are delivered, unless they contradict."""

import json
import os
import uuid
from collections import Counter
from datetime import datetime
from itertools import permutations
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic_core import to_json

from logging_store import operations as ops
from logging_store.errors import StoreUnavailable
from logging_store.postgres.postgres_store import PostgresStore
from logging_store.records.models import Interaction
from logging_store.spool import Limits, Spool, overlay
from tests.conftest import PROJECT
from tests.spool.test_any_order import Waiting, in_a_single_pass
from tests.store_calls import ask
from tests.strategies import completions, creates, logged
from tests.traffic import Row, Statement, as_batch

EXAMPLES = int(os.environ.get("TURNLOG_TEST_EXAMPLES", "60"))
BY_ARRIVAL = {"spooled", "created_at", "last_activity_at"}  # which record comes first isn't known yet
TIMES = {"started_at", "earliest_turn_at", "ended_at", "completed_at"}

statements = st.lists(creates | logged | completions, max_size=4)


def comparable(row: Row) -> Row:
    return {
        name: datetime.fromisoformat(value) if name in TIMES and value else value
        for name, value in row.items()
        if name not in BY_ARRIVAL
    } | {"tags": sorted(row["tags"])}


def refuse_to_guess(reader: Spool, session_id: str) -> None:
    """Expect no answer about a session while the store is away; let the store be back."""
    if not reader.breaker.is_closed:
        with pytest.raises(StoreUnavailable):
            ask(reader, ops.SESSION, PROJECT, {"session_id": session_id})
    reader.breaker.record_success()


@pytest.mark.timeout(600)  # a failure is made smaller for up to five minutes before it is shown
def test_spooled_records_are_shown_as_they_will_be_stored(
    database: str, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    store = PostgresStore(database)
    tally: Counter[str] = Counter()

    @settings(
        max_examples=EXAMPLES,
        derandomize=pytestconfig.getoption("hypothesis_seed") is None,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),  # a busy machine is no failure
    )
    @given(stored=statements, waits=statements.filter(bool))
    def check(stored: list[Statement], waits: list[Statement]) -> None:
        with psycopg.connect(database, autocommit=True) as connection:
            connection.execute("delete from turnlog.ai_interactions")
            connection.execute("delete from turnlog.ai_revisions")
            connection.execute("delete from turnlog.ai_messages")
            connection.execute("delete from turnlog.ai_sessions")
        waiting = Waiting(store, tmp_path / uuid.uuid4().hex)
        reader = Spool(store, waiting.directory.path, Limits(min_free_bytes=0))
        if stored:
            store.write(as_batch(stored))
        else:
            reader.breaker.record_failure(StoreUnavailable("away"))  # then all that there is to see is what waits
        for each in waits:
            waiting.directory.append(as_batch([each]))
        model, agreed = in_a_single_pass([*stored, *waits])

        before = {
            one: ask(reader, ops.TRANSCRIPT, PROJECT, {"session_id": one, "limit": 100}) for one in model.sessions
        }
        refuse_to_guess(reader, next(iter(model.sessions)))
        sessions = {one: ask(reader, ops.SESSION, PROJECT, {"session_id": one}) for one in model.sessions}
        waiting.deliver()
        waiting.directory.close()
        for session_id, shown in before.items():
            later = ask(store, ops.TRANSCRIPT, PROJECT, {"session_id": session_id, "limit": 100})
            assert shown.get("complete", True) == bool(stored)
            assert (shown["session"] or {})["session_id"] == session_id
            rows = {row["interaction_id"]: row for row in shown["interactions"]}
            assert len(rows) == len(shown["interactions"]) == len(later["interactions"])
            for row in later["interactions"]:
                if row["interaction_id"] + session_id in agreed:
                    assert comparable(rows[row["interaction_id"]]) == comparable(row)
                    tally["waiting" if rows[row["interaction_id"]].get("spooled") else "stored"] += 1
            all_agree = all(row["interaction_id"] + session_id in agreed for row in later["interactions"])
            if all_agree and all(row["turn"] or row["started_at"] for row in later["interactions"]):
                assert list(rows) == [row["interaction_id"] for row in later["interactions"]]
            if not stored and session_id + session_id in agreed:
                for session in (shown["session"], sessions[session_id]):
                    assert session is not None
                    later = ask(store, ops.SESSION, PROJECT, {"session_id": session_id})
                    apart = {} if all_agree else {"earliest_turn_at": None}
                    assert comparable(session) | apart == comparable(later or {}) | apart
                tally["sessions"] += 1

    try:
        check()
    finally:
        store.close()
    assert all(tally[what] >= EXAMPLES / 20 for what in ("waiting", "stored", "sessions")), tally


def test_spooled_turns_are_sorted_by_turn_then_time_said_then_arrival() -> None:
    # turn, seconds of started_at, seconds of created_at, id; the last clock but one is ahead of the service's
    places = [(1, 9, 9, 9), (2, 0, 3, 1), (2, 0, 4, 0), (None, 3, 6, 5), (None, 4, 7, 4), (None, 59, 5, 3)]
    rows: list[Any] = [
        {"turn": turn, "started_at": f"2026-11-21T10:00:{said:02}Z", "created_at": f"2026-11-21T10:00:0{arrived}Z",
         "interaction_id": str(id_)}
        for turn, said, arrived, id_ in places
    ]  # fmt: skip
    rows.append({"turn": None, "started_at": None, "created_at": "2026-11-21T12:00:05.5+02:00", "interaction_id": "6"})
    assert overlay.sort_transcript(reversed(rows)) == rows


@pytest.mark.parametrize("order", list(permutations(range(4))))
def test_a_growing_answer_is_shown_at_its_furthest_while_it_waits(order: tuple[int, ...]) -> None:
    said: list[Row] = [
        {"prompt": "Tell", "status": "failed", "error": "rate limit"},
        {"response": "Once", "status": "pending", "latency_ms": 10},
        {"response": "Once upon", "status": "pending", "latency_ms": 20},
        {"response": "Once upon a time", "latency_ms": 30},
    ]
    batches = [as_batch([Interaction(session_id="s", interaction_id="i", **said[n])]) for n in order]
    session_id = batches[0].interactions[0]["session_id"]
    (rows,) = overlay.spooled_interactions(session_id, batches).values()
    shown = overlay.merge_interaction(json.loads(to_json(rows)))  # as they are on the disk
    assert (shown["response"], shown["status"], shown["latency_ms"]) == ("Once upon a time", "completed", 30)
    assert (shown["prompt"], shown["error"]) == ("Tell", "rate limit")
