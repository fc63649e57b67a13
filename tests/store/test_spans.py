"""Spans of traces: a call goes to the session that its trace names, whatever comes first, and is stored once."""

from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from logging_store import operations as ops
from logging_store import span_rows
from logging_store.batches import Batch
from logging_store.errors import InteractionNotFound, NotOwner
from logging_store.records.models import FeedbackInput, Interaction
from logging_store.records.spans import Call, Span
from logging_store.redaction import Redaction
from logging_store.redaction.finder_factory import create_finders
from logging_store.repository import ConversationRepository
from logging_store.store import Store
from tests.conftest import PROJECT

pytestmark = pytest.mark.every_store

TRACE, OTHER = "0af7651916cd43dd8448eb211c80319c", "4bf92f3577b34da6a3ce929d0e0e4736"
BEGIN = datetime(2026, 11, 21, 6, 30, tzinfo=UTC)


def number(n: int) -> str:
    return f"{n:016x}"


def span(n: int, parent: int | None = None, *, trace: str = TRACE, at: float = 0, **more: Any) -> Span:
    """Return a span that begins `at` seconds, and takes two."""
    defaults = {
        "kind": "call" if "call" in more else "agent",
        "name": f"span {n}",
        "scope": "one",
        "started_at": BEGIN + timedelta(seconds=at),
        "completed_at": BEGIN + timedelta(seconds=at + 2),
    }
    return Span(trace, number(n), None if parent is None else number(parent), **(defaults | more))


def events(n: int, *, trace: str = TRACE, **more: Any) -> Span:
    return Span(trace, number(n), kind="call", source="events", **more)


ALL: ops.TranscriptOptions = {"limit": 10, "context": True}


class Log:
    """What is stored, as the database has it."""

    def __init__(self, database: str) -> None:
        self._database = database

    def rows(self, query: str) -> list[Any]:
        with psycopg.connect(self._database) as connection:
            return connection.execute(query).fetchall()

    @property
    def sessions(self) -> dict[str, str | None]:
        """Return session key -> user."""
        return dict(self.rows("select key, user_id from turnlog.ai_sessions"))

    @property
    def calls(self) -> list[tuple[Any, ...]]:
        return self.rows(
            "select s.key, i.span_id, i.prompt, i.response, i.participant from turnlog.ai_interactions as i"
            " join turnlog.ai_sessions as s on s.id = i.session_id order by i.trace_id, i.span_id"
        )


@pytest.fixture
def log(backend: Any) -> Log:
    return Log(backend.database)


CALL = span(3, 2, call=Call(prompt="Hi", response="Hello!", model="small-1"), response_id="r1")
ROOT = span(1, session="chat-42", user="ada", kind="other")
AGENT = span(2, 1)


def outcomes(repository: ConversationRepository, *spans: Span) -> list[str]:
    receipts = repository.write_spans(spans)
    assert all(each.receipt != "rejected" or each.reason == "erased" for each in receipts), receipts
    return [receipt.receipt for receipt in receipts]


def test_a_trace_whole(repository: ConversationRepository, log: Log) -> None:
    assert outcomes(repository, CALL, AGENT, ROOT) == ["created"] * 3
    assert log.sessions == {"chat-42": "ada"}
    assert log.calls == [("chat-42", number(3), "Hi", "Hello!", "ada")]


def test_the_root_comes_last(repository: ConversationRepository, log: Log) -> None:
    assert outcomes(repository, CALL) == ["created"]
    assert log.sessions == {f"trace:{TRACE}": None}
    assert outcomes(repository, AGENT) == ["created"]
    assert outcomes(repository, ROOT) == ["created"]
    assert log.sessions == {"chat-42": "ada"}
    assert log.calls == [("chat-42", number(3), "Hi", "Hello!", "ada")]
    assert outcomes(repository, CALL, AGENT, ROOT) == ["duplicate"] * 3
    assert log.calls == [("chat-42", number(3), "Hi", "Hello!", "ada")]


def test_a_trace_without_a_session_says_so(repository: ConversationRepository, log: Log) -> None:
    outcomes(repository, CALL, AGENT)
    assert log.rows("select key, metadata from turnlog.ai_sessions") == [(f"trace:{TRACE}", {"trace_id": TRACE})]


def test_a_callers_session_beats_a_librarys(repository: ConversationRepository, log: Log) -> None:
    call = span(3, 2, call=Call(prompt="Hi", response="Hello!"), session="conv-1", named_by="library")
    outcomes(repository, call)
    assert log.sessions == {"conv-1": None}
    outcomes(repository, ROOT, AGENT)
    assert log.sessions == {"chat-42": "ada"}


def test_log_events_fill_their_span_in_either_order(repository: ConversationRepository, log: Log) -> None:
    bare = span(3, 1, call=Call(model="small-1", input_tokens=3), session="s")
    said = events(3, call=Call(prompt="Hi", response="Hello!"))
    assert outcomes(repository, said) == ["created"]
    assert log.sessions == {f"trace:{TRACE}": None}
    assert outcomes(repository, bare) == ["filled"]
    assert log.calls == [("s", number(3), "Hi", "Hello!", None)]
    assert log.sessions == {"s": None}
    other = span(4, 1, call=Call(model="small-1"), session="s")
    assert outcomes(repository, other, events(4, call=Call(prompt="Hi", response="Hello!"))) == ["created"] * 2
    assert [row[1:4] for row in log.calls] == [(number(n), "Hi", "Hello!") for n in (3, 4)]


@pytest.mark.parametrize("is_reversed", [False, True])
def test_two_instrumentations_in_two_traces(repository: ConversationRepository, log: Log, is_reversed: bool) -> None:
    inner = span(
        9, trace=OTHER, at=0.5, scope="two", response_id="r1", call=Call(model="small-1-2026", output_tokens=7)
    )
    parts = [[ROOT, AGENT, CALL], [inner]]
    for part in reversed(parts) if is_reversed else parts:
        outcomes(repository, *part)
    assert log.sessions == {"chat-42": "ada"}
    assert log.calls == [("chat-42", number(3), "Hi", "Hello!", "ada")]
    assert log.rows("select output_tokens, model from turnlog.ai_interactions") == [(7, "small-1")]
    assert outcomes(repository, inner, CALL) == ["duplicate"] * 2


def test_repeated_response_ids_of_other_calls_join_nothing(repository: ConversationRepository, log: Log) -> None:
    spans = [
        span(n, at=n * 10, scope=scope, response_id="same", session="s", call=Call(prompt=str(n), model="m"))
        for n, scope in enumerate(["one", "two", "one", "two"], start=1)
    ]
    for one in spans:
        outcomes(repository, one)
    assert len(log.calls) == 4


@pytest.mark.parametrize("is_reversed", [False, True])
def test_failures_join_by_scope_parent_and_time(
    repository: ConversationRepository, log: Log, is_reversed: bool
) -> None:
    one = span(3, 1, call=Call(prompt="Hi", error="429"), session="s")
    two = span(4, 3, at=0.5, scope="two", call=Call(error="Too many requests", model="m"))
    later = span(5, 1, at=30, scope="two", call=Call(prompt="Hi", error="429"))
    spans = [one, two, later]
    for part in reversed(spans) if is_reversed else spans:
        outcomes(repository, part)
    assert [row[1] for row in log.calls] == [number(3), number(5)]
    assert log.rows("select error, model from turnlog.ai_interactions order by span_id")[0] == ("429", "m")


def test_what_belongs_to_a_call_moves_with_it(repository: ConversationRepository, log: Log) -> None:
    question = [{"role": "user", "content": "Hi"}]
    messages = [{"role": "system", "content": "Be brief"}, *question, {"role": "assistant", "content": "Hello!"}]
    call = span(
        3,
        2,
        call=Call(context=messages, prompt=question, response=[{"role": "assistant", "content": "Yes?"}]),
        feedback=[FeedbackInput(name="rating", value=True)],
    )
    outcomes(repository, call)
    before = repository.transcript(f"trace:{TRACE}", ALL)["interactions"]
    outcomes(repository, ROOT, AGENT)
    after = repository.transcript("chat-42", ALL)["interactions"]
    moved = {"session_id", "participant"}
    assert [{k: v for k, v in row.items() if k not in moved} for row in after] == [
        {k: v for k, v in row.items() if k not in moved} for row in before
    ]
    assert after[0]["context"] == messages
    assert log.rows(
        "select count(*), min(i.span_id) from turnlog.ai_feedback join turnlog.ai_interactions as i"
        " on i.id = interaction_id and i.session_id = ai_feedback.session_id"
    ) == [(1, number(3))]
    assert log.rows(
        "select count(*) from turnlog.ai_messages join turnlog.ai_sessions as s on s.id = session_id"
        " where s.key like 'trace:%'"
    ) == [(0,)]


def test_spans_of_an_erased_session_are_rejected(repository: ConversationRepository, log: Log) -> None:
    outcomes(repository, ROOT, AGENT, CALL)
    repository.erase("chat-42")
    assert log.rows("select count(*) from turnlog.ai_spans where coalesce(name, user_id, session_key) is not null") == [
        (0,)
    ]
    late = span(4, 2, call=Call(prompt="Again"))
    receipts = repository.write_spans([CALL, late, ROOT])
    assert [(each.receipt, each.reason) for each in receipts] == [("rejected", "erased")] * 3
    assert log.calls == []
    assert log.sessions == {None: None}


def test_calls_whose_session_was_erased_before_go_too(repository: ConversationRepository, log: Log) -> None:
    repository.log([Interaction(session_id="chat-42", prompt="Hi")])
    repository.erase("chat-42")
    outcomes(repository, CALL, AGENT)
    assert len(log.calls) == 1
    assert outcomes(repository, ROOT) == ["rejected"]
    assert log.calls == []
    assert log.sessions == {None: None}


def test_an_erased_trace_stays_erased(repository: ConversationRepository, log: Log) -> None:
    outcomes(repository, CALL)
    repository.erase(f"trace:{TRACE}")
    assert outcomes(repository, AGENT, ROOT, CALL) == ["rejected"] * 3
    assert log.calls == []


def test_erasing_a_user_removes_their_spans(repository: ConversationRepository, log: Log) -> None:
    outcomes(repository, ROOT, AGENT, CALL)
    repository.erase_user("ada")
    assert log.rows("select count(*) from turnlog.ai_spans where user_id = 'ada' or participant = 'ada'") == [(0,)]
    assert log.calls == []


def test_an_erased_call_stays_erased(repository: ConversationRepository, log: Log) -> None:
    outcomes(repository, CALL)
    (row,) = repository.transcript(f"trace:{TRACE}", ALL)["interactions"]
    repository.erase_interaction(f"trace:{TRACE}", row["interaction_id"])
    outcomes(repository, ROOT, AGENT)
    assert outcomes(repository, CALL) == ["rejected"]
    assert [row[2] for row in log.calls] == ["[erased]"]
    assert log.sessions == {"chat-42": "ada"}


def test_one_project_never_sees_another(repository: ConversationRepository, log: Log) -> None:
    other = ConversationRepository(repository.store, "other")
    outcomes(repository, CALL)
    outcomes(other, ROOT, AGENT)
    assert log.sessions == {f"trace:{TRACE}": None}
    assert other.project != PROJECT


def test_the_spans_around_a_call(repository: ConversationRepository) -> None:
    tool = span(4, 2, at=3, kind="tool", name="search")
    elsewhere = span(7, trace=OTHER, at=9, session="other")
    twin = span(9, trace=OTHER, at=0.5, scope="two", response_id="r1", call=Call(output_tokens=7))
    outcomes(repository, ROOT, AGENT, CALL, tool, elsewhere, twin)
    (row,) = repository.transcript("chat-42", ALL)["interactions"]
    found = repository.spans("chat-42", row["interaction_id"], 10)
    assert [(each["span_id"], each["kind"], each["is_own"]) for each in found["spans"]] == [
        (number(1), "other", False),
        (number(2), "agent", False),
        (number(3), "call", True),
        (number(9), "call", True),
        (number(4), "tool", False),
    ]
    assert {each["interaction_id"] for each in found["spans"]} == {None, row["interaction_id"]}
    assert found["complete"]
    closest = repository.spans("chat-42", row["interaction_id"], 3)
    assert not closest["complete"]
    assert {each["span_id"] for each in closest["spans"]} >= {number(3), number(9)}
    with pytest.raises(InteractionNotFound):
        repository.spans("chat-42", "nobody", 10)


def test_what_is_spooled_of_an_erased_user_is_rejected(repository: ConversationRepository, log: Log) -> None:
    before = datetime.now(UTC) - timedelta(minutes=1)
    first, second = (span_rows.build(PROJECT, spans, [before] * len(spans)) for spans in ([CALL, AGENT], [ROOT]))
    for rows in (first, second):
        span_rows.name_fields(rows)
    repository.store.write(Batch(PROJECT, spans=first))
    repository.erase_user("ada")
    receipts = repository.store.write(Batch(PROJECT, spans=second, late=True)).spans
    assert [(each.receipt, each.reason) for each in receipts] == [("rejected", "erased")]
    assert log.calls == []
    assert log.rows("select count(*) from turnlog.ai_spans where user_id is not null") == [(0,)]
    assert set(log.sessions) == {None}


def test_a_guest_who_was_merged_is_the_user(repository: ConversationRepository, log: Log) -> None:
    outcomes(repository, span(1, session="chat-42", user="guest"), AGENT)
    repository.merge_user("guest", "ada")
    outcomes(repository, CALL)
    assert log.calls == [("chat-42", number(3), "Hi", "Hello!", "ada")]
    assert log.sessions == {"chat-42": "ada"}


def test_texts_of_spans_are_redacted(store: Store, log: Log) -> None:
    repository = ConversationRepository(
        store, PROJECT, redaction=Redaction(list(create_finders(["mail"], {}, phone_regions=())))
    )
    mail = "Write to ada@example.com"
    rating = FeedbackInput(name="note", value=True, comment=mail)
    outcomes(repository, span(3, call=Call(prompt=mail, metadata={mail: 1}), name=mail, feedback=[rating]))
    assert "ada@example.com" not in str(
        [
            log.rows(f"select to_jsonb(t) from turnlog.{table} as t")  # noqa: S608
            for table in ("ai_spans", "ai_interactions", "ai_feedback")
        ]
    )


def test_a_name_that_is_none_costs_only_itself(repository: ConversationRepository, log: Log) -> None:
    outcomes(repository, span(3, session="null", user=" ", call=Call(prompt="Hi")))
    assert log.calls == [(f"trace:{TRACE}", number(3), "Hi", None, None)]


def test_a_caller_who_is_limited_sends_no_spans(store: Store) -> None:
    class Limited:
        user_id: str | None = "ada"
        author = "ada"

        def owner_of(self, session_id: str) -> str:
            return f"user:{session_id and self.user_id}"

    with pytest.raises(NotOwner):
        ConversationRepository(store, PROJECT, ownership=Limited()).write_spans([CALL])


def test_feedback_goes_where_its_span_goes(repository: ConversationRepository, log: Log) -> None:
    said = FeedbackInput(name="quality", value=0.5)
    outcomes(repository, Span(TRACE, number(3), feedback=[said], source="events"))
    outcomes(repository, span(2, 1, feedback=[FeedbackInput(name="whole", value=1)]))
    outcomes(repository, CALL, ROOT)
    assert log.sessions == {"chat-42": "ada"}
    assert log.rows(
        "select f.name, i.span_id from turnlog.ai_feedback as f left join turnlog.ai_interactions as i"
        " on i.id = f.interaction_id and i.session_id = f.session_id order by 1"
    ) == [("quality", number(3)), ("whole", None)]


@pytest.mark.parametrize("is_reversed", [False, True])
def test_a_mapper_may_know_which_spans_are_of_one_call(
    repository: ConversationRepository, log: Log, is_reversed: bool
) -> None:
    later = span(5, trace=OTHER, at=60, same_call_as=(TRACE, number(3)), call=Call(output_tokens=7))
    spans = [ROOT, AGENT, CALL, later]
    for one in reversed(spans) if is_reversed else spans:
        outcomes(repository, one)
    assert log.calls == [("chat-42", number(3), "Hi", "Hello!", "ada")]
    assert log.rows("select output_tokens from turnlog.ai_interactions") == [(7,)]


@pytest.mark.parametrize("is_reversed", [False, True])
def test_calls_of_two_callers_stay_two(repository: ConversationRepository, log: Log, is_reversed: bool) -> None:
    of_alice = [
        span(1, session="alice's", user="alice", kind="other"),
        span(2, 1, response_id="same", call=Call(prompt="Alice's question", model="m")),
    ]
    of_bob = [
        span(1, trace=OTHER, session="bob's", user="bob", kind="other"),
        span(2, 1, trace=OTHER, scope="two", response_id="same", call=Call(prompt="Bob's question", model="m")),
    ]
    for part in [of_bob, of_alice] if is_reversed else [of_alice, of_bob]:
        outcomes(repository, *part)
    assert sorted(row[:3] for row in log.calls) == [
        ("alice's", number(2), "Alice's question"),
        ("bob's", number(2), "Bob's question"),
    ]
    assert log.sessions == {"alice's": "alice", "bob's": "bob"}


@pytest.mark.parametrize("size", [1, 2, 100])
def test_parallel_calls_with_one_response_id(repository: ConversationRepository, log: Log, size: int) -> None:
    spans = [
        span(10 * n + m, 1, at=n * 0.1 + m * 0.01, scope=scope, session="s", response_id="same", call=call)
        for n in (1, 2, 3)
        for m, (scope, call) in enumerate(
            [("one", Call(prompt=f"Question {n}", model="m")), ("two", Call(output_tokens=n))]
        )
    ]
    for first in range(0, len(spans), size):
        outcomes(repository, *spans[first : first + size])
    assert log.rows("select prompt, output_tokens from turnlog.ai_interactions order by 1") == [
        (f"Question {n}", n) for n in (1, 2, 3)
    ]


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("size", [1, 10, 100])
def test_parallel_failures_stay_apart(repository: ConversationRepository, log: Log, named: bool, size: int) -> None:
    pairs = [(n, 100 + (9 - n if named else n)) for n in range(10)]
    ones = [span(n, 200, session="s", call=Call(prompt=f"Question {n}", error="429")) for n, _ in pairs]
    twos = [
        span(
            m,
            200,
            scope="two",
            call=Call(error="429", model=f"m{n}"),
            same_call_as=(TRACE, number(n)) if named else None,
        )
        for n, m in pairs
    ]
    spans = ones + twos
    for first in range(0, len(spans), size):
        outcomes(repository, *spans[first : first + size])
    rows = log.rows("select prompt, model from turnlog.ai_interactions order by 1")
    assert [prompt for prompt, _ in rows] == [f"Question {n}" for n in range(10)]
    if named:
        assert [model for _, model in rows] == [f"m{n}" for n in range(10)]


TWIN = span(9, trace=OTHER, at=0.5, scope="two", response_id="r1", call=Call(prompt="Hi", response="Hello!"))


@pytest.mark.parametrize("around", [[], [span(8, trace=OTHER, session="elsewhere", named_by="library")]])
@pytest.mark.parametrize("is_session", [False, True])
def test_another_span_of_an_erased_call_is_rejected(
    repository: ConversationRepository, log: Log, is_session: bool, around: list[Span]
) -> None:
    call = span(3, 2, call=Call(prompt="Hi", response="Hello!"), response_id="r1", session="conv", named_by="library")
    outcomes(repository, AGENT, call)
    (row,) = repository.transcript("conv", ALL)["interactions"]
    if is_session:
        repository.erase("conv")
    else:
        repository.erase_interaction("conv", row["interaction_id"])
    for _ in range(2):
        receipts = repository.write_spans([TWIN, *around])
        assert (receipts[0].receipt, receipts[0].reason) == ("rejected", "erased")
    assert [row[2] for row in log.calls] == ([] if is_session else ["[erased]"])
    assert log.rows("select count(*) from turnlog.ai_spans where response_id is not null or scope = 'two'") == [(0,)]
    # one of a third call
    other = span(12, trace=OTHER, at=60, scope="two", response_id="r1", call=Call(prompt="Else"))
    assert outcomes(repository, other) == ["created"]


def test_log_events_of_an_erased_call_go_with_their_span(repository: ConversationRepository, log: Log) -> None:
    outcomes(repository, CALL)
    (row,) = repository.transcript(f"trace:{TRACE}", ALL)["interactions"]
    repository.erase_interaction(f"trace:{TRACE}", row["interaction_id"])
    outcomes(repository, events(9, trace=OTHER, call=Call(prompt="Hi")))
    assert outcomes(repository, TWIN) == ["rejected"]
    assert [row[2] for row in log.calls] == ["[erased]"]


@pytest.mark.parametrize("is_named", [False, True])
def test_another_span_of_an_erased_failure_is_rejected(
    repository: ConversationRepository, log: Log, is_named: bool
) -> None:
    outcomes(repository, span(3, 1, call=Call(prompt="Hi", error="429"), session="s"))
    repository.erase("s")
    named = (TRACE, number(3)) if is_named else None
    trace, parent = (OTHER, None) if is_named else (TRACE, 3)
    twin = span(4, parent, trace=trace, scope="two", call=Call(prompt="Hi", error="429"), same_call_as=named)
    assert outcomes(repository, twin) == ["rejected"]
    assert log.calls == []


def test_erasing_a_user_removes_them_from_spans_of_others(repository: ConversationRepository, log: Log) -> None:
    root = span(1, session="ada's", user="ada", kind="other")
    outcomes(repository, root, CALL, AGENT, span(5, 1, user="bob"), span(6, 5, kind="tool", name="search"))
    assert log.rows("select count(*) from turnlog.ai_spans where participant = 'bob'") == [(2,)]
    repository.erase_user("bob")
    assert log.rows("select count(*) from turnlog.ai_spans where user_id = 'bob' or participant = 'bob'") == [(0,)]
    assert log.rows("select name from turnlog.ai_spans where kind = 'tool'") == [("search",)]
    assert log.calls == [("ada's", number(3), "Hi", "Hello!", "ada")]
