"""Spans of traces give the same sessions and interactions in any order, split over calls, doubled and spooled.

What is expected is computed here, from all spans at once: which call goes to which session, which spans are of one
call, and which of them each of its fields comes from. Only where a span may be of several calls, order matters: that is
left out here.
"""

import os
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import combinations
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, assume, given, seed, settings
from hypothesis import strategies as st

from logging_store.batches import Batch, BatchReceipts, Receipt
from logging_store.postgres.postgres_store import PostgresStore
from logging_store.records import identity
from logging_store.records.models import FeedbackInput
from logging_store.records.spans import Call, Span, SpanKind
from logging_store.repository import ConversationRepository
from logging_store.spool import CircuitBreaker, DeadLetters, Limits, SpoolDirectory
from logging_store.spool.blocked_sessions import BlockedSessions
from logging_store.spool.drain import Drain
from tests.conftest import PROJECT

pytestmark = pytest.mark.slow

EXAMPLES = int(os.environ.get("TURNLOG_TEST_EXAMPLES", "100"))
BEGIN = datetime(2026, 11, 21, 6, 30, tzinfo=UTC)
TRACES = [letter * 32 for letter in "abc"]
TABLES = (
    "ai_search_queue", "ai_search", "ai_feedback", "ai_revisions", "ai_messages", "ai_session_participants",
    "ai_interactions", "ai_sessions", "ai_spans", "ai_traces",
)  # fmt: skip

Ref = tuple[str, str]


def at(second: int) -> datetime:
    return BEGIN + timedelta(seconds=second)


messages = st.sampled_from(["Hi", "Bye", [{"role": "user", "content": "Hi"}]])
facts: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {},
    optional={
        "prompt": messages,
        "response": st.sampled_from(["Hello", "Hello!", [{"role": "assistant", "content": "Hello!"}]]),
        "context": st.just([{"role": "system", "content": "Be brief"}]),
        "input_tokens": st.sampled_from([1, 2]),
        "metadata": st.dictionaries(st.sampled_from(["a", "b"]), st.sampled_from([1, 2]), max_size=2),
        "tags": st.lists(st.sampled_from(["x", "y"]), min_size=1, max_size=2, unique=True),
    },
)


@st.composite
def parts_of_a_span(draw: st.DrawFn, trace: str, number: int, others: int) -> list[Span]:
    """Draw a span, and what log events say of it."""
    ids = st.integers(1, others + 1)  # one more than there are: a parent that never comes
    parent = draw(st.none() | ids)
    start = draw(st.integers(0, 3))
    kind: SpanKind = draw(st.sampled_from(["call", "call", "call", "agent", "tool", "other"]))
    session = draw(st.sampled_from([None, None, None, "s1", "s2"]))
    span = Span(
        trace,
        f"{number:016x}",
        None if parent in {None, number} else f"{parent:016x}",
        name=f"span {number}",
        kind=kind,
        scope=draw(st.sampled_from(["one", "two"])),
        started_at=at(start),
        completed_at=at(start + draw(st.integers(0, 2))),
        rank=draw(st.integers(0, 1)),
        session=session,
        named_by=draw(st.sampled_from(["caller", "caller", "library"])),
        user=draw(st.sampled_from([None, None, "ada"])),
    )
    if kind != "call":
        return [span]
    said = draw(facts)
    if draw(st.integers(0, 3)) == 0:
        said = {name: value for name, value in said.items() if name != "response"} | {
            "error": draw(st.sampled_from(["E", "F"]))
        }
    model = draw(st.sampled_from([{}, {"model": "m"}, {"model": "x/m-2"}, {"model": "n"}]))
    rating = draw(st.none() | st.booleans())
    feedback = (
        []
        if rating is None
        else [FeedbackInput.model_validate({"value": rating, "given_at": at(number + 100 * ord(trace[0])).isoformat()})]
    )
    response_id = None if "error" in said else draw(st.sampled_from([None, "r1", "r1", "r2"]))
    if draw(st.integers(0, 9)) == 0:
        return [Span(trace, span.span_id, kind="call", call=Call(prompt="Only events"), source="events")]
    if draw(st.integers(0, 7)) == 0:
        span = replace(span, same_call_as=(draw(st.sampled_from(TRACES)), f"{draw(ids):016x}"))
    parts = [replace(span, call=Call.model_validate(said | model), feedback=feedback, response_id=response_id)]
    if draw(st.integers(0, 2)) == 0:
        parts.append(Span(trace, span.span_id, kind="call", call=Call.model_validate(draw(facts)), source="events"))
    return parts


@st.composite
def arrivals(draw: st.DrawFn) -> tuple[list[Span], list[list[list[Span]]]]:
    """Draw spans, and several ways for all of them to arrive: each at least once, in calls of some."""
    said: list[Span] = []
    for trace in TRACES[: draw(st.integers(1, 3))]:
        count = draw(st.integers(1, 5))
        for number in range(1, count + 1):
            said += draw(parts_of_a_span(trace, number, count))
    ways = []
    for _ in range(3):
        again = draw(st.lists(st.sampled_from(said), max_size=3))
        arriving = draw(st.permutations([*said, *again]))
        calls = []
        while arriving:
            size = draw(st.integers(1, 4))
            calls.append(arriving[:size])
            arriving = arriving[size:]
        ways.append(calls)
    return said, ways


@dataclass
class Whole:
    """All spans, by trace and span id; a span of which only log events came has no more than its ids."""

    said: Sequence[Span]

    def __post_init__(self) -> None:
        self.spans: dict[Ref, Span] = {}
        for span in sorted(self.said, key=lambda each: each.source, reverse=True):
            self.spans.setdefault((span.trace_id, span.span_id), span)

    @property
    def calls(self) -> list[Ref]:
        return sorted(ref for ref, span in self.spans.items() if span.kind == "call")

    def above(self, ref: Ref) -> Iterator[Span]:
        """Yield a span and those above it."""
        seen: set[Ref] = set()
        while ref in self.spans and ref not in seen:
            seen.add(ref)
            yield self.spans[ref]
            ref = (ref[0], self.spans[ref].parent_id or "")

    def place(self, ref: Ref) -> tuple[int, str]:
        of_trace = sorted((span for span in self.spans.values() if span.trace_id == ref[0]), key=lambda s: s.span_id)
        above = list(self.above(ref))

        def first(spans: Sequence[Span], by: str) -> str | None:
            return next((span.session for span in spans if span.session and span.named_by == by), None)

        several = len({span.session for span in of_trace if span.session and span.named_by == "caller"}) > 1
        anywhere = first(of_trace, "caller")
        found = (
            first(above, "caller"),
            None if several else anywhere,
            first(above, "library"),
            anywhere,
            first(of_trace, "library"),
            f"trace:{ref[0]}",
        )
        return next((level, key) for level, key in enumerate(found) if key is not None)

    def user(self, ref: Ref) -> str | None:
        of_trace = [span for span in self.spans.values() if span.trace_id == ref[0]]
        return next((span.user for span in [*self.above(ref), *of_trace] if span.user), None)

    def is_one_call(self, ref: Ref, other: Ref) -> bool:
        one, two = self.spans[ref], self.spans[other]
        if one.source == two.source == "span" and (one.same_call_as == other or two.same_call_as == ref):
            return True
        if one.scope is None or two.scope in {None, one.scope} or not one.call or not two.call:
            return False
        starts, ends = (one.started_at or BEGIN, two.started_at or BEGIN), (one.completed_at, two.completed_at)
        if max(starts) > min(end or BEGIN for end in ends):
            return False
        names = [(each.call.model or "").rpartition("/")[2] for each in (one, two) if each.call]
        if not (names[0].startswith(names[1]) or names[1].startswith(names[0])):
            return False
        if one.response_id and one.response_id == two.response_id:
            return True
        return bool(
            one.call.error
            and two.call.error
            and ref[0] == other[0]
            and (
                one.parent_id == two.span_id
                or two.parent_id == one.span_id
                or (one.parent_id and one.parent_id == two.parent_id)
            )
        )

    def groups(self) -> list[list[Ref]]:
        group = {ref: {ref} for ref in self.calls}
        for one, two in combinations(self.calls, 2):
            if self.is_one_call(one, two):
                joined = group[one] | group[two]
                for ref in joined:
                    group[ref] = joined
        return [sorted(each, key=self.order) for each in {frozenset(each) for each in group.values()}]

    def is_contested(self) -> bool:
        """Return whether a span may be of several calls: then it is joined with the closest of those that are there."""
        return any(self.is_apart(one, two) for group in self.groups() for one, two in combinations(group, 2))

    def is_apart(self, ref: Ref, other: Ref) -> bool:
        one, two = self.spans[ref], self.spans[other]
        stated = [
            next((span.session for span in self.above(each) if span.session and span.named_by == "caller"), None)
            for each in (ref, other)
        ]
        if None not in stated and stated[0] != stated[1]:
            return True
        named = [span.same_call_as or each for span, each in ((one, ref), (two, other))]
        is_named = named[0] in {named[1], other} or named[1] == ref
        return one.scope is not None and one.scope == two.scope and not is_named

    def order(self, ref: Ref) -> tuple[Any, ...]:
        span = self.spans[ref]
        return span.rank, span.started_at or BEGIN, ref

    def interactions(self) -> dict[str, dict[str, Any]]:
        """Return id -> interaction, with its session's key and its feedback."""
        found = {}
        for group in self.groups():
            sources = sorted(
                (span for span in self.said if (span.trace_id, span.span_id) in group),
                key=lambda span: (self.order((span.trace_id, span.span_id)), span.source == "events"),
            )
            merged: dict[str, Any] = {}
            metadata: dict[str, Any] = {}
            for span in sources:
                fields = span.call.python_fields() if span.call else {}
                if span.source == "span":
                    fields = {"started_at": span.started_at, "completed_at": span.completed_at} | fields
                metadata = fields.pop("metadata", {}) | metadata
                merged = fields | merged
            tags = {tag for span in sources for tag in (span.call and span.call.tags) or ()}
            ratings = [each for span in sources for each in span.feedback]
            first = group[0]
            found[identity.span_interaction(PROJECT, *first)] = merged | {
                "session": min((self.place(ref)[0], nth, self.place(ref)[1]) for nth, ref in enumerate(group))[2],
                "participant": next((user for ref in group if (user := self.user(ref))), None),
                "span": first,
                "metadata": metadata,
                "tags": tags,
                "rating": max(ratings, key=lambda each: each.given_at or BEGIN).value if ratings else None,
            }
        return found


NAMES = ("prompt", "response", "context", "model", "error", "input_tokens", "started_at", "completed_at")


def let_arrive(store: PostgresStore, calls: Sequence[Sequence[Span]], folder: Path, *, spooled: bool) -> Counter[str]:
    receipts: Counter[str] = Counter()
    if not spooled:
        repository = ConversationRepository(store, PROJECT)
        for call in calls:
            receipts.update(each.receipt for each in repository.write_spans(call))
        return receipts
    directory, letters = SpoolDirectory(folder, Limits(min_free_bytes=0)), DeadLetters(folder)
    drain = Drain(store, directory, letters, CircuitBreaker(), BlockedSessions())

    class OnlySpool:
        def write(self, batch: Batch) -> BatchReceipts:
            directory.append(batch)
            return BatchReceipts.all(Receipt(receipt="spooled"), batch)

    for call in calls:
        ConversationRepository(OnlySpool(), PROJECT).write_spans(call)  # type: ignore[arg-type]
    while directory.depth().entries:
        drain.step()
    directory.close()
    assert not letters.list(1000)
    return receipts


def read(store: PostgresStore, database: str) -> tuple[dict[str, str | None], dict[str, dict[str, Any]]]:
    """Return session key -> user, and id -> interaction."""
    repository = ConversationRepository(store, PROJECT)
    with psycopg.connect(database) as connection:
        sessions: dict[str, str | None] = dict(
            connection.execute("select key, user_id from turnlog.ai_sessions").fetchall()
        )
        ratings: dict[str, bool] = dict(
            connection.execute("select interaction_id::text, value from turnlog.ai_feedback").fetchall()
        )
        people = set(
            connection.execute(
                "select s.key, p.participant from turnlog.ai_session_participants as p"
                " join turnlog.ai_sessions as s on s.id = p.session_id"
            ).fetchall()
        )
        left = connection.execute(
            "select count(*) from turnlog.ai_messages where session_id not in (select id from turnlog.ai_sessions)"
        ).fetchall()
    assert left == [(0,)]
    found = {}
    for key in sessions:
        for row in repository.transcript(key, {"limit": 100, "context": True})["interactions"]:
            facts: dict[str, Any] = {name: row[name] for name in NAMES if row[name] is not None}  # type: ignore[literal-required]
            for name in ("started_at", "completed_at"):
                if name in facts:
                    facts[name] = datetime.fromisoformat(facts[name])
            found[row["interaction_id"]] = facts | {
                "session": key,
                "participant": row["participant"],
                "span": (row["trace_id"], row["span_id"]),
                "metadata": row["metadata"],
                "tags": set(row["tags"]),
                "rating": ratings.pop(row["interaction_id"], None),
            }
    assert not ratings
    assert people == {(each["session"], each["participant"]) for each in found.values() if each["participant"]}
    return sessions, found


@pytest.mark.timeout(600)  # a failure is made smaller for up to five minutes before it is shown
def test_spans_give_the_same_rows_in_any_order(database: str, tmp_path: Path, pytestconfig: pytest.Config) -> None:
    store = PostgresStore(database)
    tally: Counter[str] = Counter()

    @seed(int(pytestconfig.getoption("hypothesis_seed") or 1))
    @settings(max_examples=EXAMPLES, database=None, deadline=None, suppress_health_check=list(HealthCheck))
    @given(plan=arrivals())
    def check(plan: tuple[list[Span], list[list[list[Span]]]]) -> None:
        said, ways = plan
        assume(not Whole(said).is_contested())
        wanted = Whole(said).interactions()
        for n, calls in enumerate([[said], *ways]):
            with psycopg.connect(database, autocommit=True) as connection:
                for table in TABLES:
                    connection.execute(f"delete from turnlog.{table}")  # noqa: S608
            tally.update(let_arrive(store, calls, tmp_path / uuid.uuid4().hex, spooled=n == 3))
            sessions, found = read(store, database)
            assert found == wanted
            assert sessions == {
                each["session"]: "ada"
                if any(other["participant"] for other in wanted.values() if other["session"] == each["session"])
                else None
                for each in wanted.values()
            }

    try:
        check()
    finally:
        store.close()
    assert all(tally[receipt] > EXAMPLES / 20 for receipt in ("created", "filled", "duplicate")), tally
    assert not tally["conflict"]
    assert not tally["rejected"]
