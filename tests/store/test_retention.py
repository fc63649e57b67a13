"""Idle sessions are erased in short steps; sessions that are in use, spooled or planned stay."""

import json
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from conversation.settings import Settings
from logging_store import errors
from logging_store.records.models import Folder, Interaction, Participant, Plan, Session
from logging_store.repository import ConversationRepository
from logging_store.store import Store
from logging_store.upkeep import retention
from tests.conftest import PROJECT, Backend
from tests.doctor.operator import Operator

LONG_AGO = datetime.now(UTC) - timedelta(days=100)
Keep = Callable[..., None]


@pytest.fixture
def past(store: Store) -> ConversationRepository:
    """Return the log as it was a hundred days ago."""
    return ConversationRepository(store, PROJECT, lambda: LONG_AGO)


def sessions(repository: ConversationRepository) -> list[str]:
    return sorted(str(row["key"]) for row in repository.sessions({"limit": 100})["sessions"])


def said(session: str, prompt: str = "Hello", **more: Any) -> Interaction:
    return Interaction(session_id=session, prompt=prompt, **more)


def run(operator: Operator, *arguments: str, **environment: str) -> tuple[int, str]:
    result = Operator(operator.environment | environment, operator.database).run(*arguments)
    return result.exit_code, result.stdout if result.exit_code == 0 else result.output


def expire(operator: Operator, *arguments: str, days: int | None = 90) -> str:
    status, output = run(operator, "expire", *arguments, **({"TURNLOG_KEEP_DAYS": str(days)} if days else {}))
    assert status == 0, output
    return output


def test_idle_sessions_are_erased_and_others_stay(
    past: ConversationRepository, repository: ConversationRepository, operator: Operator
) -> None:
    past.write([said("old"), said("old", "more"), Session(session_id="old and empty"), said("in use"), said("joined")])
    planned = {"session_id": "planned", "scheduled_on": datetime.now(UTC).date().isoformat()}
    past.write([Session.model_validate(planned)])
    repository.write([said("in use"), Participant(session_id="joined", participant="ada"), said("new")])

    output = expire(operator, "--dry-run")
    assert "2 sessions with 2 interactions, 0 folders would go" in output
    assert len(sessions(repository)) == 6, "a dry run changes nothing"
    assert "erased 2 sessions with 2 interactions" in expire(operator)
    assert sessions(repository) == ["in use", "joined", "new", "planned"]
    with pytest.raises(errors.SessionErased):
        repository.session("old")
    (late,) = repository.log([said("old", "late")])
    assert (late.receipt.receipt, late.receipt.reason) == ("rejected", "erased")
    assert "0 sessions" in expire(operator)


def test_after_a_jump_of_the_clock_nothing_is_erased(
    past: ConversationRepository, repository: ConversationRepository, operator: Operator
) -> None:
    """The clock of both machines is ten years ahead: the database knows only when the last run was."""
    repository.write([said("new")])
    expire(operator)  # as each night
    past.write([said("old")])
    operator.execute("update turnlog.ai_projects set expired_at = now() - interval '3652 days'")
    status, output = run(operator, "expire", TURNLOG_KEEP_DAYS="90")
    assert status == 1
    assert "default: by the clock the last run was 3,652 days ago, on " in output
    assert "--trust-clock" in output
    assert sessions(repository) == ["new", "old"]
    assert "1 sessions" in expire(operator, "--dry-run"), "which says what a run would do"
    assert run(operator, "expire", TURNLOG_KEEP_DAYS="90")[0] == 1, "a refused run is no run"
    assert "erased 1 sessions" in expire(operator, "--trust-clock")
    past.write([said("older")])
    assert "erased 1 sessions" in expire(operator)
    assert sessions(repository) == ["new"]


@pytest.mark.parametrize(
    ("ours", "last", "doubted"),
    [
        (0, None, False),
        (0.9, None, False),
        (1.1, None, True),
        (-3652, None, True),
        (0, 44, False),
        (0, 46, True),
        (0, -400, False),  # it was ahead at the last run: now less is erased, not more
    ],
)
def test_a_clock_is_doubted_that_another_contradicts(ours: float, last: float | None, doubted: bool) -> None:
    now = datetime(2036, 11, 29, tzinfo=UTC)
    project = retention.Project(PROJECT, 90, None, None if last is None else now - timedelta(days=last), now)
    assert (project.doubt(now + timedelta(days=ours)) is not None) is doubted


def test_without_a_number_of_days_everything_is_kept(past: ConversationRepository, operator: Operator) -> None:
    past.log([said("old")])
    assert expire(operator, days=None) == f"{PROJECT}: kept for ever\n"
    assert sessions(past) == ["old"]


def test_a_project_may_have_its_own_number_of_days(
    store: Store, past: ConversationRepository, operator: Operator
) -> None:
    other = ConversationRepository(store, "other", lambda: LONG_AGO)
    for repository in (past, other):
        repository.log([said("old")])
    assert run(operator, "projects", "set", "other", "--keep-days", "200") == (0, "other: kept for 200 days\n")
    assert run(operator, "projects", "list")[1].splitlines() == [
        "project  kept for                            texts kept for",
        f"{PROJECT}  ever: TURNLOG_KEEP_DAYS is not set  as long",
        "other    200 days                            as long",
    ]
    expire(operator)
    assert (sessions(past), sessions(other)) == ([], ["old"])
    assert run(operator, "projects", "set", "other", "--keep-default")[0] == 0
    expire(operator, "--project", PROJECT)
    assert sessions(other) == ["old"], "only the project that was named"
    expire(operator)
    assert sessions(other) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["expire", "--project", "nowhere"], "There is no project nowhere"),
        (["projects", "set", "nowhere", "--keep-days", "3"], "There is no project nowhere"),
        (["projects", "set", PROJECT], "Choose one"),
        (["projects", "set", PROJECT, "--keep-days", "3", "--keep-default"], "Choose one"),
        (["projects", "set", PROJECT, "--keep-days", "0"], "0 is not in the range"),
    ],
)
def test_invalid_numbers_of_days_are_reported(operator: Operator, arguments: list[str], message: str) -> None:
    status, output = run(operator, *arguments)
    assert status != 0
    assert message in output


def test_a_number_of_days_is_a_number() -> None:
    for wrong in ("0", "-1", "soon", "1.5"):
        with pytest.raises(errors.Misconfigured, match="TURNLOG_KEEP_DAYS"):
            Settings.from_mapping({"TURNLOG_KEEP_DAYS": wrong})


def test_folders_without_sessions_are_cleared(
    past: ConversationRepository, repository: ConversationRepository, operator: Operator
) -> None:
    plan = Plan(sessions_per_week=1, total_weeks=2)
    for name in ("over", "in use"):
        past.write([Folder(folder_id=name, name="Ada's", user_id="ada", plan=plan, metadata={"a": 1})])
    repository.write([said(repository.folder("in use", {"limit": 1})["sessions"][0]["session_id"])])
    repository.write([Folder(folder_id="new", name="New")])
    assert "3 sessions with 0 interactions, 1 folders would go" in expire(operator, "--dry-run")
    assert "3 sessions with 0 interactions, 1 folders" in expire(operator)
    over = repository.folder("over", {"limit": 1})["folder"]
    assert (over["name"], over["user_id"], over["key"], over["metadata"]) == (None, None, None, {})
    assert repository.folder("in use", {"limit": 1})["folder"]["name"] == "Ada's"
    assert repository.folder("new", {"limit": 1})["folder"]["name"] == "New"


def test_a_session_with_spooled_records_is_in_use(
    backend: Backend, past: ConversationRepository, repository: ConversationRepository, operator: Operator
) -> None:
    past.log([said("waits"), said("old")])
    waiting = {past.session("waits")["session_id"]}
    database: Any = backend.open()
    keeper = retention.Retention(database, lambda _: waiting)
    (project,) = keeper.projects()
    for dry_run in (True, False):
        counted = retention.Expired()
        for step in keeper.expire(project, 90, dry_run=dry_run):
            counted = counted.plus(step)
        assert counted.sessions == 1
    assert sessions(repository) == ["waits"]


def test_many_steps_do_what_one_does(
    past: ConversationRepository,
    repository: ConversationRepository,
    operator: Operator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(retention, "_PAGE", 3)
    monkeypatch.setattr(retention, "_ERASE_BATCH", 4)
    past.log([said(f"old {n % 8}") for n in range(40)])
    past.log([said("long") for _ in range(20)])
    repository.log([said("new")])
    assert "erased 9 sessions with 60 interactions" in expire(operator)
    assert sessions(repository) == ["new"]


def test_an_interrupted_run_is_resumed_by_the_next(
    backend: Backend, past: ConversationRepository, repository: ConversationRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "_ERASE_BATCH", 4)
    past.log([said("long", f"Said {n}") for n in range(20)])
    database: Any = backend.open()
    keeper = retention.Retention(database, lambda _: set())
    (project,) = keeper.projects()
    first = next(keeper.expire(project, 90, dry_run=False))
    assert (first.sessions, first.interactions) == (0, 4)
    assert repository.session("long")["interaction_count"] == 16, "it is there until all of it goes"
    steps = list(keeper.expire(project, 90, dry_run=False))
    assert sum(step.interactions for step in steps) == 16
    assert sessions(repository) == []


def test_what_an_interrupted_run_left_keeps_its_histories(
    backend: Backend, past: ConversationRepository, repository: ConversationRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "_ERASE_BATCH", 2)
    asked: list[dict[str, str]] = []
    for n in range(4):
        asked.append({"role": "user", "content": str(n)})
        past.log([Interaction(session_id="chat", prompt=list(asked), response=f"answer {n}")])
        asked.append({"role": "assistant", "content": f"answer {n}"})
    database: Any = backend.open()
    keeper = retention.Retention(database, lambda _: set())
    (project,) = keeper.projects()
    next(keeper.expire(project, 90, dry_run=False))
    repository.log([said("chat", "Still here")])
    *left, _ = repository.transcript("chat", {"limit": 10})["interactions"]
    assert len(left) == 2
    for row in left:
        assert row["prompt"] == asked[: len(row["prompt"] or [])] != []
        assert row["response"] == asked[len(row["prompt"] or [])]["content"]


def test_a_record_written_meanwhile_keeps_its_session(
    backend: Backend, past: ConversationRepository, repository: ConversationRepository
) -> None:
    # found to be idle, and then in use before it is erased
    past.log([said("old")])
    database: Any = backend.open()
    looks: list[str] = []

    def waiting(project: str) -> set[str]:
        looks.append(project)
        if len(looks) == 2:  # the first is before it is found, the second before it is erased
            repository.log([said("old", "new")])
        return set()

    keeper = retention.Retention(database, waiting)
    (project,) = keeper.projects()
    assert sum(step.sessions for step in keeper.expire(project, 90, dry_run=False)) == 0
    assert repository.session("old")["interaction_count"] == 2


def test_a_locked_session_is_skipped_and_others_are_erased(
    backend: Backend, past: ConversationRepository, repository: ConversationRepository, operator: Operator
) -> None:
    past.log([said(f"old {n}") for n in range(4)])
    with psycopg.connect(backend.database) as holder:
        holder.execute("select from turnlog.ai_sessions where key = 'old 2' for update")
        status, output = run(operator, "expire", TURNLOG_KEEP_DAYS="90")
    assert status == 1
    assert "1 sessions are locked by another transaction: run it again" in output
    assert sessions(repository) == ["old 2"]
    expire(operator)
    assert sessions(repository) == []


def test_concurrent_writers_lose_nothing(
    past: ConversationRepository, repository: ConversationRepository, operator: Operator
) -> None:
    past.log([said(f"s {n}") for n in range(60)])
    kept: list[Any] = []

    def write() -> None:
        for n in range(60):
            kept.extend(repository.log([said(f"s {n}", "new")]))

    writer = threading.Thread(target=write)
    writer.start()
    try:
        expire(operator)
    finally:
        writer.join()
    # each is stored and its session kept, or refused since that was gone
    outcomes = {(one.receipt.receipt, one.receipt.reason) for one in kept}
    assert outcomes <= {("created", None), ("rejected", "erased")}
    stored = {one.session.id for one in kept if one.receipt.acknowledged}
    assert {row["session_id"] for row in repository.sessions({"limit": 100})["sessions"]} == stored


@pytest.mark.parametrize("format_", ["indented", "as it came"])
def test_a_report_is_verified(
    repository: ConversationRepository, operator: Operator, tmp_path: Path, format_: str
) -> None:
    repository.log([said("s")])
    report = repository.erase("s")
    file = tmp_path / "report.json"
    file.write_text(json.dumps(report, indent=2 if format_ == "indented" else None, sort_keys=format_ == "indented"))
    status, output = run(operator, "verify-report", str(file))
    assert (status, report["proof"] in output) == (0, True)
    for changed in ({"interactions": 2}, {"project": "other"}, {"signature": "hmac-sha256:00"}, {"more": 1}):
        file.write_text(json.dumps(report | changed))
        status, output = run(operator, "verify-report", str(file))
        assert (status, "was changed" in output) == (1, True), changed
    for wrong in ("", "[]", "{}", "not JSON", '{"project": 1}'):
        file.write_text(wrong)
        assert run(operator, "verify-report", str(file))[0] == 1
