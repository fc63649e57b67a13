"""Any sequence of calls: each answer is the one that the model gives, on both ways to call.

Without options the same examples run each time; `--hypothesis-seed=N` (or `random`) runs others.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, cast, get_args

import psycopg
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from logging_store.batches import Outcome
from logging_store.errors import SessionErased, SessionNotFound
from logging_store.records.models import Interaction, Session, SessionChanges
from logging_store.repository import ConversationRepository, WriteResult
from logging_store.store import Store
from tests.conftest import PROJECT, Backend
from tests.model import REJECTED, Model, ModelReceipt, StoredSession
from tests.strategies import SESSION_NAMES, completions, creates, edits, logged, queries, session_names

pytestmark = pytest.mark.slow

EXAMPLES, STEPS = 120, 40
TIMES = {"created_at", "started_at", "earliest_turn_at", "ended_at", "completed_at", "last_activity_at"}


def model_receipt(kept: WriteResult) -> ModelReceipt:
    assert (kept.receipt.reason == "erased") == (kept.receipt.receipt == "rejected")
    return kept.receipt.receipt, frozenset(kept.receipt.fields)


def seen(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a reader got, with its times as times."""
    return {
        name: datetime.fromisoformat(value) if name in TIMES and value is not None else value
        for name, value in row.items()
        if name != "spooled"
    }


class Log(RuleBasedStateMachine):
    """The log and the model, side by side."""

    def __init__(self, store: Store, tally: Counter[str]) -> None:
        super().__init__()
        self.now = datetime(2026, 11, 21, 12, tzinfo=UTC)
        self.log = ConversationRepository(store, PROJECT, clock=lambda: self.now)
        self.model = Model(PROJECT, now=lambda: self.now)
        self.erased_at: dict[str, str] = {}
        self.tally = tally

    @rule(stated=creates)
    def create(self, stated: Session) -> None:
        expected = self.model.create(stated)
        kept = self.log.ensure_session(stated)
        self.compare([model_receipt(kept)], [expected])
        assert kept.receipt.session is not None
        if expected != REJECTED:
            self.compare_session(kept.receipt.session, self.model.sessions[kept.session.id])

    @rule(stated=logged)
    def log_one(self, stated: Interaction) -> None:
        self.log_all([stated])

    @rule(stated=completions)
    def complete(self, stated: Interaction) -> None:
        self.log_all([stated])

    @rule(stated=st.lists(logged | completions, min_size=2, max_size=5), again=st.booleans())
    def log_a_batch(self, stated: list[Interaction], again: bool) -> None:
        self.log_all(stated + stated[:2])
        if again:
            self.log_all(stated)

    @rule(name=session_names)
    def read_a_session(self, name: str) -> None:
        if session := self.expected(name, lambda: self.log.session(name)):
            self.compare_session(self.log.session(name), session)

    @rule(name=session_names, limit=st.integers(1, 3))
    def page_through_a_transcript(self, name: str, limit: int) -> None:
        def read(after: Any) -> Any:
            return self.log.transcript(name, {"limit": limit, "after": after, "context": True})

        if session := self.expected(name, lambda: read(None)):
            rows = [seen(row) for row in all_pages(read, "interactions", limit)]
            assert rows == self.model.transcript(session)

    @rule(query=queries)
    def page_through_the_list(self, query: Any) -> None:
        def read(after: Any) -> Any:
            return self.log.sessions(query | {"after": after})

        rows = all_pages(read, "sessions", query["limit"])
        assert [row["session_id"] for row in rows] == self.model.listed(query)
        for row in rows:
            self.compare_session(row, self.model.sessions[row["session_id"]])
        assert self.log.count_sessions(query) == {
            "sessions": len(self.model.listed({**query, "sort": "newest"})),
            "complete": True,
        }

    @rule(name=session_names, changes=edits)
    def edit(self, name: str, changes: SessionChanges) -> None:
        if session := self.expected(name, lambda: self.log.edit(name, changes)):
            self.model.edit(session, changes)
            self.compare_session(self.log.edit(name, changes), session)

    @rule(name=session_names, times=st.sampled_from([1, 2]), sure=st.booleans())
    def erase(self, name: str, times: int, sure: bool) -> None:
        session = self.model.find(name)
        if session is None:
            with pytest.raises(SessionNotFound):
                self.log.erase(name)
        elif sure or session.erased:  # not always, so that sessions live to meet the other rules
            for _ in range(times):
                gone = self.model.erase(session)
                report = self.log.erase(name)
                erased_at = self.erased_at.setdefault(session.id, report["erased_at"])
                result = (report["session_id"], report["erased_at"], report["interactions"])
                assert result == (session.id, erased_at, gone)

    @rule(seconds=st.integers(1, 3))
    def time_passes(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)

    def teardown(self) -> None:
        for name in SESSION_NAMES:
            self.read_a_session(name)
            self.page_through_a_transcript(name, 2)
        self.page_through_the_list({"limit": 2})

    def log_all(self, stated: list[Interaction]) -> None:
        expected = self.model.log(stated)
        self.compare([model_receipt(kept) for kept in self.log.log(stated)], expected)

    def expected(self, name: str, call: Callable[[], object]) -> StoredSession | None:
        """Return the session; if the model has none, the call has to raise the reason."""
        session = self.model.find(name)
        if session is not None and not session.erased:
            return session
        with pytest.raises(SessionErased if session else SessionNotFound):
            call()
        return None

    def compare(self, answered: list[ModelReceipt], expected: list[ModelReceipt]) -> None:
        assert answered == expected
        self.tally.update(receipt for receipt, _ in expected)

    def compare_session(self, row: Mapping[str, Any], session: StoredSession) -> None:
        assert seen(row) == self.model.view(session) | {"erased_at": None, "text_expired_at": None}


def all_pages(read: Callable[[Any], dict[str, Any]], kind: str, limit: int) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    after = None
    while True:
        page = read(after)
        assert page[kind] or not rows, "an empty page after the last one"
        rows += page[kind]
        after = page["after"]
        if after is None:
            assert len(page[kind]) <= limit
            return rows
        assert len(page[kind]) == limit


@pytest.mark.timeout(600)  # a failure is made smaller for up to five minutes before it is shown
def test_every_sequence_of_calls_matches_the_model(backend: Backend, store: Store, pytestconfig: pytest.Config) -> None:
    tally: Counter[str] = Counter()
    with psycopg.connect(backend.database, autocommit=True) as connection:

        def empty_log() -> Log:
            connection.execute("delete from turnlog.ai_interactions")
            connection.execute("delete from turnlog.ai_revisions")
            connection.execute("delete from turnlog.ai_messages")
            connection.execute("delete from turnlog.ai_sessions")
            return Log(store, tally)

        run_state_machine_as_test(
            cast("type[Log]", empty_log),  # it asks for a class, and calls it
            settings=settings(
                max_examples=EXAMPLES,
                stateful_step_count=STEPS,
                derandomize=pytestconfig.getoption("hypothesis_seed") is None,
                database=None,
                deadline=None,
                suppress_health_check=[HealthCheck.too_slow],  # a busy machine is no failure
            ),
        )
    # Hypothesis also draws from constants of the modules that are imported, so that what is met by a few examples only
    # depends on what ran before: of revisions, tests/store/test_revisions_in_any_order.py has more
    assert tally.keys() >= set(get_args(Outcome)) - {"spooled", "revised"}, f"some receipt was never met: {tally}"
