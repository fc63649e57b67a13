"""Spans of a trace arrive at the same moment, in processes of their own: its calls are in its session in the end."""

import os
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

from logging_store.records.spans import Call, Span
from logging_store.repository import ConversationRepository
from logging_store.store import Store
from tests.conftest import PROJECT
from tests.races.conftest import Arena
from tests.races.crew import Turn

ROUNDS = int(os.environ.get("RACE_ROUNDS", "60"))
LANES = 8
BEGIN = datetime(2026, 11, 21, 6, 30, tzinfo=UTC)


def span(round_: int, trace: int, number: int, parent: int | None = None, **more: Any) -> Span:
    return Span(
        f"{trace:016x}{round_ + 1:016x}",
        f"{number:016x}",
        None if parent is None else f"{parent:016x}",
        started_at=BEGIN,
        completed_at=BEGIN + timedelta(seconds=1),
        **({"kind": "agent", "scope": "one", "name": "step"} | more),
    )


def write_a_part(store: Store, turn: Turn) -> list[str]:
    """Write one part of a trace, of which one call is seen by another instrumentation in a trace of its own."""
    n = turn.round
    call = Call(prompt="Hi", response="Hello!", model="small-1")
    parts = [
        [span(n, 1, 1, kind="other", session=f"chat {n}", user="ada")],
        [span(n, 1, 2, 1)],
        [span(n, 1, 3, 2, kind="call", call=call, response_id=f"r {n}")],
        [span(n, 2, 3, kind="call", scope="two", call=Call(output_tokens=3), response_id=f"r {n}")],
        [span(n, 1, 4, 2, kind="call", call=call), span(n, 1, 5, 4, kind="tool")],
        [span(n, 1, 4, kind="call", source="events", call=Call(response="Hello!"), scope=None)],
        [span(n, 1, 3, 2, kind="call", call=call, response_id=f"r {n}")],
        [span(n, 1, 1, kind="other", session=f"chat {n}", user="ada"), span(n, 1, 6, 1)],
    ]
    return [each.receipt for each in ConversationRepository(store, PROJECT).write_spans(parts[turn.lane % len(parts)])]


def test_parts_of_a_trace_at_the_same_moment(arena: Arena) -> None:
    rounds = arena.race(write_a_part, rounds=ROUNDS, processes=4, threads=2)
    receipts = Counter(receipt for outcomes in rounds for each in outcomes for receipt in each)
    assert receipts.keys() <= {"created", "filled", "duplicate"}
    assert arena.rows("select count(*), count(*) filter (where key like 'chat %%') from turnlog.ai_sessions") == [
        (ROUNDS, ROUNDS)
    ]
    found = arena.rows(
        "select s.key, s.user_id, array_agg(i.span_id || coalesce(i.output_tokens::text, '') order by i.span_id)"
        " from turnlog.ai_interactions as i join turnlog.ai_sessions as s on s.id = i.session_id group by 1, 2"
    )
    assert sorted(found) == sorted((f"chat {n}", "ada", [f"{3:016x}3", f"{4:016x}"]) for n in range(ROUNDS))
