"""Whatever is spooled, everything else is delivered: what fails waits, is tried alone, and is told of in the end.

A store in memory says which records are slow, and a clock of the test's own goes on while it works, so nothing here
depends on the machine.
"""

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from logging_store.batches import Batch, BatchReceipts, Receipt
from logging_store.errors import Misconfigured, StoreBusy, StoreError, StoreLocked, StoreUnavailable
from logging_store.spool import CircuitBreaker, DeadLetters, Limits, SpoolDirectory
from logging_store.spool.blocked_sessions import BlockedSessions
from logging_store.spool.drain import MAX_FAILURES, Drain
from tests.databases import server_folder
from tests.spool.flaky_store import PROJECT, batch_of

AT = "2026-11-21T10:00:00+00:00"
TIME_S, PATIENT_S = 5.0, 30.0  # of a statement
ENDLESS = 10**6  # seconds that a record takes which no statement's time is enough for


@dataclass
class SlowStore:
    """A store in memory that takes `cost` seconds for each record, and as long as its statement may for too many."""

    now: float = 1000.0
    stored: set[str] = field(default_factory=set)
    locked: set[str] = field(default_factory=set)
    away: bool = False
    refuses: StoreError | None = None  # whatever is written, though it answers pings
    pings: int = 0

    def write(self, batch: Batch) -> BatchReceipts:
        if self.away:
            raise StoreUnavailable("nobody answers")
        if self.refuses:
            raise self.refuses
        if self.locked & batch.parent_ids():
            self.now += 3
            raise StoreLocked("canceling statement due to lock timeout (55P03)")
        cost = sum(row.get("latency_ms", 0) for row in batch.interactions)
        limit = PATIENT_S if batch.patient else TIME_S
        self.now += min(cost, limit)
        if cost > limit:
            raise StoreBusy("canceling statement due to statement timeout (57014)")
        self.stored |= {row["id"] for row in batch.interactions}
        return BatchReceipts.all(Receipt(receipt="created"), batch)

    def ping(self) -> Any:
        self.pings += 1
        if self.away:
            raise StoreUnavailable("nobody answers")

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"{name} is not of this test")


@dataclass
class Spooled:
    """A spool's folder over a `SlowStore`, whose drain takes one step at a time."""

    store: SlowStore
    path: Path
    rows: list[dict[str, Any]] = field(default_factory=list)
    steps: int = 0
    arrival: dict[str, int] = field(default_factory=dict)  # record -> the step after which it was stored

    def __post_init__(self) -> None:
        self.open()

    def open(self) -> None:
        """Open the folder, as a process does that starts."""
        self.directory = SpoolDirectory(self.path, Limits(min_free_bytes=0))
        self.letters = DeadLetters(self.path)
        self.drain = Drain(
            self.store,
            self.directory,
            self.letters,
            CircuitBreaker(clock=lambda: self.store.now),
            BlockedSessions(clock=lambda: self.store.now),
            clock=lambda: self.store.now,
        )

    def restart(self) -> None:
        self.directory.close()
        self.open()
        self.directory.adopt_orphans()

    def append(
        self, *costs: float, claim: str | None = None, session: str | None = None, prompt: str = "Hi"
    ) -> list[str]:
        """Spool a batch with a record for each cost; return the records' ids."""
        session = session or str(uuid.uuid4())
        rows = [
            {"session_id": session, "id": str(uuid.uuid4()), "prompt": prompt, "latency_ms": cost, "created_at": AT}
            for cost in costs
        ]
        parent = {"id": session, "implicit": True, "created_at": AT}
        for row in (parent, *rows) if claim else ():
            row["claim"] = claim
        self.directory.append(Batch(PROJECT, [parent], rows))
        self.rows += rows
        return [str(row["id"]) for row in rows]

    def run(self, steps: int, until: Callable[[], bool] = lambda: False, least_s: float = 0) -> None:
        """Take up to so many steps, each followed by a pause of at least `least_s`."""
        for _ in range(steps):
            before = set(self.store.stored)
            self.store.now += max(self.drain.step(), least_s)
            self.steps += 1
            self.arrival |= dict.fromkeys(self.store.stored - before, self.steps)
            if until():
                return

    def waiting(self) -> int:
        return self.directory.depth().records

    def dead(self) -> set[str]:
        return {letter.record_id for letter in self.letters.list(limit=10_000)}

    def check_nothing_is_lost(self) -> None:
        on_disk = {
            row["id"]
            for session in {row["session_id"] for row in self.rows}
            for batch in self.directory.batches_for(PROJECT, session)
            for row in batch.interactions
        }
        assert {row["id"] for row in self.rows} <= on_disk | self.store.stored | self.dead()


@contextmanager
def spooling() -> Iterator[Spooled]:
    with server_folder() as folder:
        spooled = Spooled(SlowStore(), folder)
        yield spooled
        spooled.directory.close()


ENTRIES = st.lists(
    st.tuples(
        st.lists(st.sampled_from([0, 0.001, 1, 4, 20, ENDLESS]), min_size=1, max_size=4),
        st.sampled_from([None, "token:1"]),
    ),
    min_size=1,
    max_size=6,
)


@given(entries=ENTRIES, late=ENTRIES, restarts=st.integers(0, 2))
@settings(max_examples=12, suppress_health_check=[HealthCheck.too_slow])
def test_whatever_is_spooled_every_other_record_is_delivered_in_bounded_rounds(
    entries: list[tuple[list[float], str | None]], late: list[tuple[list[float], str | None]], restarts: int
) -> None:
    with spooling() as spooled:
        for costs, claim in entries:
            spooled.append(*costs, claim=claim)
        for n, (costs, claim) in enumerate(late):
            spooled.run(1)
            if n < restarts:
                spooled.restart()
            spooled.append(*costs, claim=claim)
        deliverable = {row["id"] for row in spooled.rows if row["latency_ms"] < PATIENT_S}
        # each record alone twice, each entry's halves, and as many turns of the others
        rounds = 6 * 4 * (len(spooled.rows) + len(entries) + len(late))
        spooled.run(rounds, lambda: deliverable <= spooled.store.stored)
        spooled.check_nothing_is_lost()
        assert deliverable <= spooled.store.stored
        spooled.run(MAX_FAILURES * rounds, lambda: spooled.waiting() == 0, least_s=100)
        assert spooled.waiting() == 0
        assert spooled.dead() == {row["id"] for row in spooled.rows} - deliverable


def test_a_backlog_of_pages_holds_up_no_backend() -> None:
    """The backlog of a study, smaller: no batch of the pages can be written in one statement's time."""
    with spooling() as spooled:
        for _ in range(10):
            spooled.append(*[0.2] * 50, claim="token:1")
        backend = [id_ for _ in range(20) for id_ in spooled.append(0.001)]
        spooled.run(3)
        assert set(backend) <= spooled.store.stored, "although the pages' batches are older"
        spooled.run(200, lambda: spooled.waiting() == 0)
        assert len(spooled.store.stored) == 520
        assert spooled.dead() == set()


def test_what_needs_long_is_written_alone_with_more_time() -> None:
    with spooling() as spooled:
        slow = [id_ for _ in range(4) for id_ in spooled.append(20, prompt="A long story. " * 1000)]
        quick = spooled.append(0.001)
        spooled.run(60, lambda: spooled.waiting() == 0)
        assert set(slow) | set(quick) == spooled.store.stored
        assert spooled.arrival[quick[0]] < min(spooled.arrival[id_] for id_ in slow)


def test_what_no_time_is_enough_for_becomes_a_dead_letter_with_its_reason() -> None:
    with spooling() as spooled:
        (endless,) = spooled.append(ENDLESS)
        began = spooled.store.now
        spooled.run(1000, lambda: spooled.dead() == {endless})
        assert spooled.store.now - began > 10 * 60, "it waits longer each time"
        spooled.run(1)
        (letter,) = spooled.letters.list()
        assert spooled.waiting() == 0
        assert letter.receipt["receipt"] == "rejected"
        assert letter.receipt["reason"].startswith("The store took too long to write it, 8 times: canceling statement")


def test_failures_are_counted_across_restarts() -> None:
    with spooling() as spooled:
        (endless,) = spooled.append(ENDLESS)
        for _ in range(3 * MAX_FAILURES):
            spooled.run(2, least_s=500)
            spooled.restart()
        assert spooled.dead() == {endless}


def test_a_lock_makes_no_dead_letter_however_long_it_lasts() -> None:
    with spooling() as spooled:
        session, other = str(uuid.uuid4()), str(uuid.uuid4())
        mine = spooled.append(0.001, 0.001, session=session)
        batch = replace(batch_of("Hi", session_id=other), sessions=[])
        rows = [*batch.interactions, {**batch.interactions[0], "id": str(uuid.uuid4()), "session_id": session}]
        spooled.directory.append(
            Batch(PROJECT, [{"id": id_, "implicit": True, "created_at": AT} for id_ in (session, other)], rows)
        )
        spooled.store.locked = {session}
        until = spooled.store.now + 600
        spooled.run(1000, lambda: spooled.store.now > until)
        assert spooled.store.now > until
        assert spooled.store.stored == {rows[0]["id"]}, "the entry's other session isn't held up"
        assert spooled.dead() == set()
        spooled.store.locked = set()
        spooled.run(60, lambda: spooled.waiting() == 0)
        assert {*mine, rows[0]["id"], rows[1]["id"]} == spooled.store.stored


@pytest.mark.parametrize(
    "error",
    [
        StoreUnavailable("could not extend file: No space left on device (53100)"),
        StoreUnavailable("no connection to PostgreSQL became free in time"),
        Misconfigured("permission denied for table ai_interactions (42501)"),
    ],
    ids=["full disk", "no connection", "no right"],
)
def test_a_store_that_writes_nothing_though_it_answers_makes_no_dead_letter(error: StoreError) -> None:
    with spooling() as spooled:
        ids = [id_ for _ in range(5) for id_ in spooled.append(0, 0)]
        spooled.store.refuses = error
        spooled.run(700, least_s=3)
        assert spooled.store.now > 1000 + 1800, "longer than what takes too long is tried"
        assert (spooled.dead(), spooled.waiting()) == (set(), len(ids))
        spooled.store.refuses = None
        spooled.run(200, until=lambda: not spooled.waiting(), least_s=1)
        assert spooled.store.stored == set(ids)


def test_an_outage_counts_no_failure() -> None:
    with spooling() as spooled:
        spooled.append(0.001)
        spooled.store.away = True
        spooled.run(100)
        spooled.store.away = False
        spooled.run(60, lambda: spooled.waiting() == 0)
        assert len(spooled.store.stored) == 1


@pytest.mark.parametrize("claim", [None, "token:1"])
def test_each_file_has_its_turns(claim: str | None) -> None:
    with spooling() as spooled:
        left = spooled.append(0.001, claim=claim)
        spooled.restart()  # which adopts the file
        for _ in range(20):
            spooled.append(*[1] * 4, claim=claim)
        spooled.run(40, lambda: set(left) <= spooled.store.stored)
        assert set(left) <= spooled.store.stored
        assert spooled.waiting() > 0, "before all that its own file holds"
