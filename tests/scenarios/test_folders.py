"""The therapy app: folders of numbered sessions. Its error named an id, whatever id was tried; the number was taken."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from logging_store.records import Folder, Plan, Session
from logging_store.repository import ConversationRepository
from tests.conftest import Backend

PROJECT = "default"
PLAN = Plan.model_validate({"sessions_per_week": 2, "total_weeks": 3, "starts_on": "2026-11-23"})


def test_a_plan_makes_the_whole_period_at_once(repository: ConversationRepository) -> None:
    folder = Folder(folder_id="ann", name="Ann", user_id="therapist", plan=PLAN)
    first = repository.keep([folder], return_parents=True)[0]
    again = repository.keep([folder], return_parents=True)[0]
    assert (first.receipt.receipt, again.receipt.receipt) == ("created", "duplicate")
    assert [each["receipt"] for each in first.receipt.planned] == ["created"] * 6
    assert [each["receipt"] for each in again.receipt.planned] == ["duplicate"] * 6
    page = repository.folder("ann", {"limit": 100})
    assert page["folder"]["statistics"]["planned"] == 6
    assert [(row["session_number"], row["scheduled_on"], row["status"]) for row in page["sessions"]] == [
        (1, "2026-11-23", "locked"),
        (2, "2026-11-26", "locked"),
        (3, "2026-11-30", "locked"),
        (4, "2026-12-03", "locked"),
        (5, "2026-12-07", "locked"),
        (6, "2026-12-10", "locked"),
    ]


def test_fifty_at_once_get_fifty_numbers(backend: Backend) -> None:
    repositories = [ConversationRepository(backend.open(), PROJECT) for _ in range(2)]

    def open_next(n: int) -> int:
        (kept,) = repositories[n % 2].keep([Session(folder_id="ann")], next_number=True, return_parents=True)
        assert kept.receipt.session is not None
        return int(kept.receipt.session["session_number"])

    with ThreadPoolExecutor(50) as threads:
        numbers = list(threads.map(open_next, range(50)))
    assert sorted(numbers) == list(range(1, 51))


def test_a_number_that_another_session_has(repository: ConversationRepository) -> None:
    mine = repository.ensure_session(Session(session_id="mine", folder_id="ann", session_number=1))
    theirs = repository.ensure_session(Session(session_id="theirs", folder_id="ann", session_number=1))
    nameless = repository.ensure_session(Session(folder_id="ann", session_number=1))
    assert mine.receipt.receipt == "created"
    assert theirs.receipt.receipt == "conflict"
    assert theirs.receipt.constraint == "ai_sessions_folder_number_key"
    assert theirs.receipt.held_by == mine.session.id
    assert theirs.receipt.attempted["session_number"] == "1"
    assert (nameless.receipt.receipt, nameless.session) == ("duplicate", mine.session)
    repository.ensure_session(Session(session_id="theirs"))
    again = repository.ensure_session(Session(session_id="theirs", folder_id="ann", session_number=1))
    assert again.receipt.held_by == mine.session.id


@pytest.mark.parametrize("weeks", [2, 5])
def test_a_plan_may_get_longer_not_shorter(repository: ConversationRepository, weeks: int) -> None:
    repository.keep([Folder(folder_id="ann", plan=PLAN)])
    changed = Folder(folder_id="ann", plan=PLAN.model_copy(update={"total_weeks": weeks}))
    (kept,) = repository.keep([changed])
    page = repository.folder("ann", {"limit": 100})
    if weeks > 3:
        assert (kept.receipt.receipt, kept.receipt.fields) == ("filled", ("plan.total_weeks",))
        assert len(page["sessions"]) == 10
    else:
        assert (kept.receipt.receipt, kept.receipt.fields) == ("conflict", ("plan.total_weeks",))
        assert "longer, not shorter" in str(kept.receipt.reason)
        assert len(page["sessions"]) == 6


def test_a_plan_takes_in_what_has_its_number(repository: ConversationRepository) -> None:
    mine = repository.ensure_session(Session(session_id="mine", folder_id="ann", session_number=2))
    (kept,) = repository.keep([Folder(folder_id="ann", plan=PLAN)])
    assert kept.receipt.receipt == "filled"
    assert [each["receipt"] for each in kept.receipt.planned] == ["created", "filled", *["created"] * 4]
    assert kept.receipt.planned[1]["session_id"] == mine.session.id
    session = repository.session("mine")
    assert (session["scheduled_on"], session["status"], session["implicit"]) == ("2026-11-26", "open", False)
