"""A call that moves to another session leaves alone what others said of the one that it leaves."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from logging_store.records.models import Feedback, FeedbackInput, Participant, Record, Session
from logging_store.records.spans import Call, Span
from logging_store.repository import ConversationRepository
from logging_store.store import Store
from tests.conftest import PROJECT
from tests.store.test_spans import AGENT, CALL, ROOT, TRACE, Log, number, outcomes, span

pytestmark = pytest.mark.every_store

#: A call whose session only a library named, until the root comes.
NAMED = span(
    3, 2, call=Call(prompt="Hi", response="Hello!"), session="conv-1", named_by="library", user="ada", response_id="r1"
)
OWN = f"trace:{TRACE}"
RATED = (
    "select s.key, f.name from turnlog.ai_feedback as f join turnlog.ai_sessions as s on s.id = f.session_id order by 2"
)


@pytest.fixture
def log(backend: Any) -> Log:
    return Log(backend.database)


class Token:
    """What a page with a token may reach."""

    user_id: str | None = None
    author = ""

    def owner_of(self, session_id: str) -> str:
        return f"token:{len(session_id)}"


class SignedIn(Token):
    user_id: str | None = "ada"
    author = "ada"

    def owner_of(self, session_id: str) -> str:
        return f"user:{session_id and self.user_id}"


def test_a_session_without_anything_goes(repository: ConversationRepository, log: Log) -> None:
    outcomes(repository, NAMED)
    outcomes(repository, AGENT, ROOT)
    assert log.sessions == {"chat-42": "ada"}


@pytest.mark.parametrize("name", ["conv-1", OWN])
def test_the_session_of_a_page_stays_its_own(
    repository: ConversationRepository, store: Store, log: Log, name: str
) -> None:
    page = ConversationRepository(store, PROJECT, ownership=Token())
    page.write([Feedback(session_id=name, name="rating", value=True)])
    outcomes(repository, NAMED if name == "conv-1" else CALL)
    outcomes(repository, AGENT, ROOT)
    assert log.rows("select key, claim is not null, implicit from turnlog.ai_sessions order by 1") == sorted(
        [("chat-42", False, True), (name, True, True)]
    )
    assert log.rows(RATED) == [(name, "rating")]
    (result,) = page.write([Feedback(session_id=name, name="rating", value=False)])
    assert result.receipt.receipt == "filled"


def test_the_session_of_a_signed_in_user_stays_theirs(
    repository: ConversationRepository, store: Store, log: Log
) -> None:
    page = ConversationRepository(store, PROJECT, ownership=SignedIn())
    page.write([Feedback(session_id="conv-1", name="rating", value=True, author="ada")])
    outcomes(repository, NAMED)
    outcomes(repository, AGENT, ROOT)
    assert log.sessions == {"chat-42": "ada", "conv-1": "ada"}
    assert log.rows(RATED) == [("conv-1", "rating")]


@pytest.mark.parametrize("spans_first", [False, True])
@pytest.mark.parametrize(
    "record",
    [
        Session(session_id="conv-1"),
        Session(session_id="conv-1", tags=["kept"]),
        Session(session_id="conv-1", title="Kept"),
        Session(session_id="conv-1", metadata={"lang": "sw"}),
        Participant(session_id="conv-1", participant="ada", role="tutor"),
        Participant(session_id="conv-1", participant="bob"),
        Feedback(session_id="conv-1", name="rating", value=True),
        Feedback(session_id="conv-1", interaction_id="not here yet", name="rating", value=True),
    ],
    ids=["ensured", "tags", "title", "metadata", "role", "participant", "feedback", "early feedback"],
)
def test_what_somebody_said_of_a_session_stays(
    repository: ConversationRepository, log: Log, record: Record, spans_first: bool
) -> None:
    if spans_first:
        outcomes(repository, NAMED)
    repository.write([record])
    outcomes(repository, NAMED)
    everything = (
        "select s.key, s.tags, s.title, s.metadata, f.name, p.participant, p.role from turnlog.ai_sessions as s"
        " left join turnlog.ai_feedback as f on f.session_id = s.id"
        " left join turnlog.ai_session_participants as p on p.session_id = s.id"
        " and (p.participant = 'bob' or p.role > '')"
        " where s.key = 'conv-1'"
    )
    before = log.rows(everything)
    outcomes(repository, AGENT, ROOT)
    assert log.rows(everything) == before
    assert log.calls == [("chat-42", number(3), "Hi", "Hello!", "ada")]


def test_feedback_of_an_agent_goes_with_its_trace(repository: ConversationRepository, log: Log) -> None:
    outcomes(repository, CALL)
    outcomes(repository, span(2, 1, session_feedback=[FeedbackInput(name="whole", value=1)]))
    outcomes(repository, ROOT)
    assert log.sessions == {"chat-42": "ada"}
    assert log.rows(RATED) == [("chat-42", "whole")]


LATER = datetime(2100, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    "root",
    [
        replace(ROOT, kind="call", call=Call.model_validate({"prompt": "Hi", "started_at": LATER.isoformat()})),
        replace(ROOT, started_at=LATER),
        replace(ROOT, completed_at=LATER),
    ],
    ids=["call", "start", "end"],
)
def test_a_rejected_span_places_none(repository: ConversationRepository, log: Log, root: Span) -> None:
    child = replace(CALL, parent_id=ROOT.span_id)
    rejected, created = repository.write_spans([root, child])
    assert (rejected.receipt, created.receipt) == ("rejected", "created")
    assert rejected.fields in {("started_at",), ("completed_at",)}
    assert log.calls == [(OWN, number(3), "Hi", "Hello!", None)]
    assert outcomes(repository, child) == ["duplicate"]
    assert log.calls == [(OWN, number(3), "Hi", "Hello!", None)]
    assert outcomes(repository, ROOT) == ["created"]
    assert log.calls == [("chat-42", number(3), "Hi", "Hello!", "ada")]


def test_a_span_that_the_store_rejects_places_none(repository: ConversationRepository, log: Log) -> None:
    child = replace(CALL, parent_id=ROOT.span_id)
    root = replace(ROOT, rank=2**40)
    receipts = repository.write_spans([root, child])
    assert [each.receipt for each in receipts] == ["rejected", "created"]
    assert log.calls == [(OWN, number(3), "Hi", "Hello!", None)]
    assert outcomes(repository, child) == ["duplicate"]
    assert log.calls == [(OWN, number(3), "Hi", "Hello!", None)]
