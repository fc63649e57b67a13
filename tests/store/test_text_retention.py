"""Texts expire earlier than their sessions: what was said is gone for good, what was counted stays as it is."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from logging_store.postgres.function_store import FunctionStore
from logging_store.records.models import Feedback, Interaction, Record, Session
from logging_store.repository import ConversationRepository
from logging_store.store import Store
from logging_store.upkeep import indexing, retention
from tests.conftest import PROJECT, Backend
from tests.doctor.operator import Operator
from tests.http_calls import create, in_path, log, problem, transcript
from tests.store.test_retention import LONG_AGO, run, said
from tests.store_calls import expire_texts
from tests.strategies import completions, creates, logged

WORD = "Xylophone"
FULL: dict[str, Any] = {
    "session_id": "chat", "interaction_id": "2", "prompt": [{"role": "user", "content": f"My name is {WORD}"}],
    "response": f"Hello {WORD}", "turn": 2, "model": "small-1", "provider": "acme", "input_tokens": 9,
    "output_tokens": 3, "cost_usd": 0.5, "participant": "ada", "tags": ["greeting"], "metadata": {"channel": "web"},
    "started_at": "2026-11-21T06:30:00Z", "completed_at": "2026-11-21T06:30:01Z", "latency_ms": 800.0,
    "finish_reason": "stop", "reply_to": "1",
}  # fmt: skip
#: The times of feedback as of spooled records: those of the first call, also in a retry.
GIVEN: dict[str, Any] = {"given_at": "2020-11-21T06:31:00Z"}


def everything(backend: Backend) -> str:
    """Return all rows of all tables as one text."""
    with psycopg.connect(backend.database) as connection:
        tables = connection.execute("select tablename from pg_tables where schemaname = 'turnlog'").fetchall()
        rows = [
            connection.execute(
                f"select coalesce(jsonb_agg(to_jsonb(t)), '[]') from turnlog.{name} as t".encode()  # noqa: S608 - of the catalogue
            )
            for (name,) in tables
        ]
        return json.dumps([row.fetchone() for row in rows])


@pytest.fixture
def conversed(client: FlaskClient) -> FlaskClient:
    create(client, session_id="chat", title=f"About {WORD}", user_id="ada", tags=["vip"], metadata={"release": 3})
    log(client, session_id="chat", interaction_id="1", prompt="Hi", response="Ho", turn=1)
    log(client, **FULL | {"response": f"Half of {WORD}", "status": "failed", "error": f"Broken after {WORD[:4]}"})
    log(client, **FULL)
    failed = {
        "prompt": WORD,
        "error": f"Timeout after 123456 ms\n at {'x' * 300} {WORD}",
        "turn": 3,
    }
    log(client, session_id="chat", interaction_id="3", input_tokens=4, **failed)
    log(client, session_id="chat", interaction_id="4", prompt=f"{WORD}?", turn=4)
    log(client, session_id="chat", interaction_id="5", response=f"{WORD}!", alternative_to="2", turn=2)
    for path in (in_path("chat"), f"{in_path('chat')}/interactions/2"):
        answer = client.post(f"{path}/feedback", json={"value": True, "comment": f"{WORD} liked it", **GIVEN})
        assert answer.status_code == 201
    return client


def test_texts_go_and_numbers_stay(conversed: FlaskClient, store: Store, backend: Backend) -> None:
    indexing.index(store, 60_000)

    def counted() -> list[Any]:
        return [
            conversed.get(path).get_json()
            for path in ("/v1/overview", "/v1/usage", f"{in_path('chat')}/participants", f"{in_path('chat')}/gaps")
        ]

    before, figures = transcript(conversed, "chat"), counted()
    session = conversed.get(in_path("chat")).get_json()
    branch = [
        row["interaction_id"] for row in conversed.get(f"{in_path('chat')}/interactions").get_json()["interactions"]
    ]
    assert WORD in everything(backend)
    assert expire_texts(store)[:2] == (1, 5)

    assert WORD not in everything(backend)
    after = transcript(conversed, "chat")
    for row, was in zip(after, before, strict=True):
        assert datetime.fromisoformat(row["text_expired_at"]) <= datetime.now(UTC)
        gone = {name: was[name] and "[expired]" for name in ("prompt", "response")}
        assert row == was | gone | {"error": row["error"], "text_expired_at": row["text_expired_at"]}
    errors = [row["error"] for row in after if row["status"] == "failed"]
    assert len(errors) == 1
    assert errors[0].startswith("Timeout after … ms at xxx")
    assert {row["status"] for row in after} == {"completed", "failed", "pending"}
    assert counted() == figures, "also the kinds of errors"
    shown = conversed.get(f"{in_path('chat')}/interactions").get_json()["interactions"]
    assert [row["interaction_id"] for row in shown] == branch
    left = conversed.get(in_path("chat")).get_json()
    assert left == session | {"title": None, "text_expired_at": left["text_expired_at"]}
    assert left["text_expired_at"] is not None
    feedback = conversed.get(f"{in_path('chat')}/feedback").get_json()["feedback"]
    assert [(row["value"], row["comment"]) for row in feedback] == [(True, None)] * 2
    kind = conversed.get("/v1/overview").get_json()["errors"][0]["error"]
    assert [row["error"] for row in store_recent(conversed, kind)] == errors
    assert expire_texts(store) == (0, 0, 0, 0)


def store_recent(client: FlaskClient, kind: str) -> list[dict[str, Any]]:
    log_: ConversationRepository = client.application.extensions["conversation_repository"]
    return [dict(row) for row in log_.recent({"limit": 10, "error": kind})["interactions"]]


def test_the_search_forgets_texts_and_says_so(conversed: FlaskClient, store: Store, backend: Backend) -> None:
    log(conversed, session_id="other", prompt=f"{WORD} again")
    indexing.index(store, 60_000)
    assert isinstance(store, FunctionStore)
    keeper = retention.Retention(store, lambda _: {conversed.get(in_path("other")).get_json()["session_id"]})
    keeper.set_project(PROJECT, {"keep_text_days": 30})
    (project,) = keeper.projects()
    later = project._replace(now=project.now + timedelta(days=2))
    assert sum(step.sessions for step in keeper.expire_texts(later, 1, erased_after=None, dry_run=False)) == 1

    found = conversed.get("/v1/interactions", query_string={"q": WORD}).get_json()
    assert [hit["session_key"] for hit in found["interactions"]] == ["other"]
    assert found["keep_text_days"] == 30
    for word in ("expired", "[expired]"):
        assert conversed.get("/v1/interactions", query_string={"q": word}).get_json()["interactions"] == []
    everything_ = conversed.get("/v1/interactions").get_json()["interactions"]
    assert sorted(hit["snippet"] for hit in everything_) == [""] * 5 + [f"{WORD} again"]
    assert {hit["field"] for hit in everything_ if not hit["snippet"]} == {None}
    with psycopg.connect(backend.database) as connection:
        waiting = connection.execute("select count(*) from turnlog.ai_search_queue").fetchone()
        rows = connection.execute("select count(distinct session_id) from turnlog.ai_search").fetchone()
    assert (waiting, rows) == ((0,), (1,)), "the expired session has left the index and isn't queued for it"


def test_a_late_text_is_refused_and_numbers_still_fill(conversed: FlaskClient, store: Store, backend: Backend) -> None:
    expire_texts(store)
    before = transcript(conversed, "chat")
    texts: list[dict[str, Any]] = [
        FULL,
        FULL | {"response": f"Hello {WORD}, again"},
        {"session_id": "chat", "interaction_id": "4", "response": f"{WORD}, late"},
        {"session_id": "chat", "interaction_id": "4", "error": WORD},
        {"session_id": "chat", "interaction_id": "2", "prompt": WORD, "cost_usd": 7},
    ]
    for late in texts:
        refused = problem(log(conversed, **late), 410)
        assert (refused["code"], refused["receipt"], refused["reason"]) == (
            "interaction-expired", "rejected", "expired",
        )  # fmt: skip
    batch = conversed.post("/v1/interactions/batch", json={"interactions": texts})
    assert {each["reason"] for each in batch.get_json()["receipts"]} == {"expired"}
    assert transcript(conversed, "chat") == before

    filled = log(conversed, session_id="chat", interaction_id="4", cost_usd=0.25, status="abandoned")
    assert filled.get_json()["receipt"] == "filled"
    contradicted = problem(log(conversed, session_id="chat", interaction_id="2", cost_usd=7), 409)
    assert [each["path"] for each in contradicted["fields"]] == ["$.cost_usd"]
    (fourth,) = (row for row in transcript(conversed, "chat") if row["key"] == "4")
    assert (fourth["cost_usd"], fourth["status"], fourth["prompt"]) == (0.25, "abandoned", "[expired]")
    assert WORD not in everything(backend)


def test_titles_and_comments_stay_gone_and_new_ones_are_kept(
    conversed: FlaskClient, store: Store, backend: Backend
) -> None:
    expire_texts(store)
    again = create(conversed, session_id="chat", title=f"About {WORD}", user_id="ada")
    assert again.get_json()["receipt"] == "duplicate"
    comment = {"value": True, "comment": f"{WORD} liked it", **GIVEN}
    assert conversed.post(f"{in_path('chat')}/feedback", json=comment).status_code == 200
    assert conversed.post(f"{in_path('chat')}/feedback", json=comment | {"author": "eve"}).status_code == 201
    assert WORD not in everything(backend)

    conversed.patch(in_path("chat"), json={"title": "Archived"})
    assert conversed.post(f"{in_path('chat')}/feedback", json={"value": False, "comment": "New"}).status_code == 200
    assert log(conversed, session_id="chat", interaction_id="6", prompt="And now?", turn=6).status_code == 201
    session = conversed.get(in_path("chat")).get_json()
    assert (session["title"], session["interaction_count"]) == ("Archived", 6)
    assert [row["prompt"] for row in transcript(conversed, "chat")][-1] == "And now?"
    assert expire_texts(store)[:2] == (1, 1), "what came later expires in its turn"
    assert "And now?" not in everything(backend)
    conversed.patch(in_path("chat"), json={"title": "Archived again"})
    assert expire_texts(store) == (0, 0, 0, 0)
    assert conversed.get(in_path("chat")).get_json()["title"] == "Archived again"


def test_an_erased_interaction_stays_erased(conversed: FlaskClient, store: Store) -> None:
    conversed.delete(f"{in_path('chat')}/interactions/3")
    expire_texts(store)
    conversed.delete(f"{in_path('chat')}/interactions/4")
    shown = {row["key"] or "erased": row["prompt"] for row in transcript(conversed, "chat")}
    assert shown == {"1": "[expired]", "2": "[expired]", "5": None, "erased": "[erased]"}
    assert conversed.delete(in_path("chat")).get_json()["interactions"] == 5


def shown(repository: ConversationRepository, sessions: Sequence[str]) -> Any:
    """Return what the log has, without the times of arrival and the lists that follow from the rest."""
    without = {"created_at", "text_expired_at", "last_activity_at", "alternatives"}
    return [
        [
            {name: value for name, value in row.items() if name not in without}
            for row in (
                repository.session(session),
                *repository.transcript(session, {"limit": 100, "by": "id"})["interactions"],
                *repository.feedback(session, {"limit": 100})["feedback"],
            )
        ]
        for session in sessions
    ]


_EMPTY = b"""
delete from turnlog.ai_messages;
delete from turnlog.ai_revisions; delete from turnlog.ai_search_queue; delete from turnlog.ai_feedback;
delete from turnlog.ai_session_participants; delete from turnlog.ai_interactions; delete from turnlog.ai_sessions;
"""
comments = st.fixed_dictionaries(
    {
        "session_id": st.just("chat"),
        "value": st.sampled_from([True, False]),
        "given_at": st.sampled_from(["2020-11-21T06:30:00Z", "2020-11-21T06:31:00Z"]),
    },
    optional={"comment": st.sampled_from(["Good", "Bad"]), "interaction_id": st.sampled_from(["one", "two"])},
).map(Feedback.model_validate)


@pytest.mark.own_database
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], database=None)
@given(
    before=st.lists(creates | logged | completions | comments, min_size=1, max_size=6),
    new=st.lists(logged, max_size=2),
    choices=st.data(),
)
def test_what_comes_again_after_the_expiry_changes_nothing(
    backend: Backend, store: Store, before: list[Record], new: list[Record], choices: st.DataObject
) -> None:
    # what is new gets a session of its own or another id: it is stored as ever
    fresh: list[Record] = [
        each.model_copy(update={"interaction_id": f"new {n}", "reply_to": None, "alternative_to": None})
        for n, each in enumerate(new)
        if isinstance(each, Interaction)
    ]
    again = choices.draw(st.permutations([*before, *fresh]), label="again")
    now = datetime.now(UTC)
    seen = []
    for later in (fresh, again):
        with psycopg.connect(backend.database, autocommit=True) as connection:
            connection.execute(_EMPTY)
        repository = ConversationRepository(store, PROJECT, lambda: now)
        repository.write(before)
        expire_texts(store)
        for each in later:
            repository.write([each])
        names = sorted({row["session_id"] for row in repository.sessions({"limit": 100})["sessions"]})
        seen.append(shown(repository, names))
        with psycopg.connect(backend.database) as connection:
            revisions = connection.execute("select count(*) from turnlog.ai_revisions").fetchone()
        seen[-1].append(revisions)
    assert seen[0] == seen[1]


def test_steps_are_bounded_and_an_interrupted_run_is_resumed(
    backend: Backend, repository: ConversationRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "_ERASE_BATCH", 4)
    repository.log([said("long", f"Said {n}") for n in range(10)])
    repository.ensure_session(Session(session_id="long", title="Long"))
    store: Any = backend.open()
    keeper = retention.Retention(store, lambda _: set())
    (project,) = keeper.projects()
    later = project._replace(now=project.now + timedelta(days=2))
    first = next(keeper.expire_texts(later, 1, erased_after=None, dry_run=False))
    assert (first.sessions, first.interactions) == (0, 4)
    assert repository.session("long")["title"] == "Long", "it goes with the last of the texts"
    steps = list(keeper.expire_texts(later, 1, erased_after=None, dry_run=False))
    assert [(step.sessions, step.interactions) for step in steps] == [(0, 4), (1, 2)]
    assert repository.session("long")["title"] is None


def test_the_command_counts_and_removes_texts(
    repository: ConversationRepository, store: Store, operator: Operator, backend: Backend
) -> None:
    def at(days: int) -> ConversationRepository:
        return ConversationRepository(store, PROJECT, lambda: datetime.now(UTC) - timedelta(days=days))

    at(100).log([said("oldest"), said("oldest", "more")])
    at(50).log([said("old"), said("in use"), said("locked")])
    repository.log([said("in use"), said("new")])
    days = {"TURNLOG_KEEP_DAYS": "90", "TURNLOG_KEEP_TEXT_DAYS": "30"}
    status, output = run(operator, "expire", "--dry-run", **days)
    assert status == 0
    assert "1 sessions with 2 interactions, 0 folders would go" in output
    assert "texts kept for 30 days" in output
    assert "texts of 2 sessions with 2 interactions would go" in output, "without those of sessions that go themselves"
    assert "[expired]" not in everything(backend)
    with psycopg.connect(backend.database) as holder:
        holder.execute("select from turnlog.ai_sessions where key = 'locked' for update")
        status, output = run(operator, "expire", **days)
    assert (status, "1 sessions are locked" in output) == (1, True)
    status, output = run(operator, "expire", **days)
    assert (status, "removed the texts of 1 sessions with 1 interactions" in output) == (0, True)
    prompts = {
        row["key"]: [each["prompt"] for each in repository.transcript(str(row["key"]), {"limit": 10})["interactions"]]
        for row in repository.sessions({"limit": 10})["sessions"]
    }
    assert prompts == {"old": ["[expired]"], "locked": ["[expired]"], "in use": ["Hello", "Hello"], "new": ["Hello"]}
    status, output = run(operator, "expire", **days)
    assert (status, "texts of 0 sessions" in output) == (0, True)


def test_texts_that_are_kept_as_long_as_their_sessions_go_with_them(
    store: Store, operator: Operator, backend: Backend
) -> None:
    ConversationRepository(store, PROJECT, lambda: LONG_AGO).log([said("old")])
    for text_days in ("200", "300"):
        status, output = run(operator, "expire", TURNLOG_KEEP_DAYS="200", TURNLOG_KEEP_TEXT_DAYS=text_days)
        assert (status, "texts go with their sessions" in output) == (0, True)
    assert "[expired]" not in everything(backend)


def test_a_project_may_keep_texts_for_days_of_its_own(store: Store, operator: Operator) -> None:
    for name in (PROJECT, "other"):
        ConversationRepository(store, name, lambda: LONG_AGO).log([said("old")])
    assert run(operator, "projects", "set", "other", "--keep-text-days", "200") == (
        0, "other: texts kept for 200 days\n",
    )  # fmt: skip
    listed = run(operator, "projects", "list", TURNLOG_KEEP_TEXT_DAYS="30")[1]
    assert "30 days, the default of TURNLOG_KEEP_TEXT_DAYS" in listed
    assert "200 days" in listed
    assert run(operator, "expire", TURNLOG_KEEP_TEXT_DAYS="30")[0] == 0

    def prompt(project: str) -> Any:
        page = ConversationRepository(store, project).transcript("old", {"limit": 1})
        return page["interactions"][0]["prompt"]

    assert (prompt(PROJECT), prompt("other")) == ("[expired]", "Hello")
    arguments = ["--keep-days", "300", "--keep-text-default"]
    assert run(operator, "projects", "set", "other", *arguments) == (
        0, "other: kept for 300 days, texts kept as TURNLOG_KEEP_TEXT_DAYS says\n",
    )  # fmt: skip
    assert run(operator, "projects", "set", "other", "--keep-default")[0] == 0
    assert run(operator, "expire", TURNLOG_KEEP_TEXT_DAYS="30")[0] == 0
    assert prompt("other") == "[expired]"


def test_a_session_with_spooled_records_keeps_its_texts(
    store: FunctionStore, repository: ConversationRepository
) -> None:
    repository.log([said("waits"), said("old")])
    waiting = {repository.session("waits")["session_id"]}
    keeper = retention.Retention(store, lambda _: waiting)
    (project,) = keeper.projects()
    later = project._replace(now=project.now + timedelta(days=2))
    for dry_run in (True, False):
        assert sum(step.sessions for step in keeper.expire_texts(later, 1, erased_after=None, dry_run=dry_run)) == 1


def test_a_record_written_meanwhile_keeps_all_texts_of_its_session(
    store: FunctionStore, repository: ConversationRepository
) -> None:
    repository.log([said("old")])
    looks: list[str] = []

    def waiting(project: str) -> set[str]:
        looks.append(project)
        if len(looks) == 2:  # the first is before it is found, the second before its texts go
            ConversationRepository(store, PROJECT, lambda: datetime.now(UTC) + timedelta(days=2)).log([said("old")])
        return set()

    keeper = retention.Retention(store, waiting)
    (project,) = keeper.projects()
    later = project._replace(now=project.now + timedelta(days=2))
    assert sum(step.sessions for step in keeper.expire_texts(later, 1, erased_after=None, dry_run=False)) == 0
    assert [row["prompt"] for row in repository.transcript("old", {"limit": 10})["interactions"]] == ["Hello"] * 2
