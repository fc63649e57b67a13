"""The therapy app: folders of numbered sessions. Its error named an id, whatever id was tried; the number was taken."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from flask.testing import FlaskClient

from app import create_app
from conversation.settings import Settings
from logging_store.group_commit import GroupCommit
from logging_store.records.models import Folder, Plan, Session
from logging_store.repository import ConversationRepository
from tests.conftest import Backend
from tests.http_calls import KEYLESS, problem

PROJECT = "default"
PLAN = Plan.model_validate({"sessions_per_week": 2, "total_weeks": 3, "starts_on": "2026-11-23"})


def test_a_plan_makes_the_whole_period_at_once(repository: ConversationRepository) -> None:
    folder = Folder(folder_id="ann", name="Ann", user_id="therapist", plan=PLAN)
    first = repository.write([folder], return_parents=True)[0]
    again = repository.write([folder], return_parents=True)[0]
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
        (kept,) = repositories[n % 2].write([Session(folder_id="ann")], next_number=True, return_parents=True)
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
    repository.write([Folder(folder_id="ann", plan=PLAN)])
    changed = Folder(folder_id="ann", plan=PLAN.model_copy(update={"total_weeks": weeks}))
    (kept,) = repository.write([changed])
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
    (kept,) = repository.write([Folder(folder_id="ann", plan=PLAN)])
    assert kept.receipt.receipt == "filled"
    assert [each["receipt"] for each in kept.receipt.planned] == ["created", "filled", *["created"] * 4]
    assert kept.receipt.planned[1]["session_id"] == mine.session.id
    session = repository.session("mine")
    assert (session["scheduled_on"], session["status"], session["implicit"]) == ("2026-11-26", "open", False)


def test_the_folder_tells_what_was_planned_and_what_has_become_of_it(client: FlaskClient) -> None:
    body = {"folder_id": "ann", "name": "Ann", "user_id": "t", "plan": PLAN.model_dump(mode="json")}
    created = client.post("/v1/folders", json=body)
    assert created.status_code == 201
    assert [each["receipt"] for each in created.get_json()["sessions"]] == ["created"] * 6
    assert client.get(created.headers["Location"]).status_code == 200
    assert client.post("/v1/folders", json=body).status_code == 200

    opened = {"session_number": 1, "title": "First", "metadata": {"paid": True, "notes": "calm", "duration": 45}}
    assert client.post("/v1/folders/ann/sessions", json=opened).status_code == 200  # planned: there already
    second = client.post("/v1/folders/ann/sessions", json={"session_number": 2, "status": "closed"}).get_json()
    third = client.get("/v1/folders/ann").get_json()["sessions"][2]
    client.post("/v1/interactions", json={"session_id": third["session_id"], "prompt": "Hello", "response": "Hi"})
    following = client.post("/v1/folders/ann/sessions", json={})
    assert (following.status_code, following.get_json()["session"]["session_number"]) == (201, 7)

    folder = client.get("/v1/folders/ann").get_json()
    assert [row["session_number"] for row in folder["sessions"]] == [1, 2, 3, 4, 5, 6, 7]
    assert [row["status"] for row in folder["sessions"]] == [
        "open",
        "closed",
        "locked",
        "locked",
        "locked",
        "locked",
        "open",
    ]
    assert folder["sessions"][0]["metadata"] == opened["metadata"]
    statistics = folder["statistics"]
    assert statistics.pop("last_activity_at") is not None
    assert statistics == {"planned": 6, "sessions": 7, "opened": 4, "closed": 1, "interactions": 1}

    client.patch(f"/v1/sessions/{second['session_id']}", json={"status": "open", "scheduled_on": "2027-01-02"})
    client.delete(f"/v1/sessions/{third['session_id']}")
    again = client.post("/v1/folders", json=body)
    assert again.status_code == 207  # the third was erased; the second's new date is nobody's contradiction
    receipts = {each["session_number"]: (each["receipt"], each["reason"]) for each in again.get_json()["sessions"]}
    assert receipts[2] == ("duplicate", None)
    assert receipts[3] == ("rejected", "erased")
    assert client.post("/v1/folders/ann/sessions", json={}).get_json()["session"]["session_number"] == 8
    problem(client.post("/v1/folders/ann/sessions", json={"session_number": 3}), 410)


def test_a_taken_number_is_named_with_its_rule(client: FlaskClient) -> None:
    client.post("/v1/folders/ann/sessions", json={"session_id": "mine", "session_number": 3})
    told = problem(client.post("/v1/folders/ann/sessions", json={"session_id": "other", "session_number": 3}), 409)
    mine = client.get("/v1/sessions/mine").get_json()
    assert told["constraint"] == "ai_sessions_folder_number_key"
    assert told["columns"] == ["project", "folder_id", "session_number"]
    assert told["attempted"]["session_number"] == "3"
    assert told["held_by"] == mine["session_id"]
    assert told["detail"].startswith(
        f"Session number 3 of folder {mine['folder_id']} is taken by session {told['held_by']}"
    )


def test_a_session_keeps_its_number_however_often_it_is_opened(client: FlaskClient) -> None:
    calls = [client.post("/v1/folders/ann/sessions", json={"session_id": name}) for name in ("a", "b", "a", "b", "c")]
    assert [call.status_code for call in calls] == [201, 201, 200, 200, 201]
    assert [call.get_json()["session"]["session_number"] for call in calls] == [1, 2, 1, 2, 3]


def test_a_freed_place_between_numbers_is_the_next_free_one(client: FlaskClient) -> None:
    for number in (1, 2, 5):
        client.post("/v1/folders/ann/sessions", json={"session_number": number})
    numbers = [
        client.post("/v1/folders/ann/sessions", json={}).get_json()["session"]["session_number"] for _ in range(3)
    ]
    assert numbers == [3, 4, 6]


def test_folders_count_for_themselves(client: FlaskClient) -> None:
    for folder, user in (("ann", "t1"), ("bob", "t2"), ("cleo", "t2")):
        client.post("/v1/folders", json={"folder_id": folder, "user_id": user})
        numbered = client.post(f"/v1/folders/{folder}/sessions", json={}).get_json()
        assert numbered["session"]["session_number"] == 1
    of_user = client.get("/v1/folders?user_id=t2&limit=1").get_json()
    rest = client.get(f"/v1/folders?user_id=t2&cursor={of_user['next']}").get_json()
    assert sorted(row["key"] for row in of_user["folders"] + rest["folders"]) == ["bob", "cleo"]
    assert rest["next"] is None
    told = problem(client.post("/v1/folders", json={"folder_id": "ann", "user_id": "t2"}), 409)
    assert [each["path"] for each in told["fields"]] == ["$.user_id"]


def test_a_folders_sessions_are_paged_in_order(client: FlaskClient) -> None:
    client.post("/v1/folders", json={"folder_id": "ann", "plan": {"sessions_per_week": 5, "total_weeks": 5}})
    client.post("/v1/sessions", json={"session_id": "loose", "folder_id": "ann"})
    seen: list[int | None] = []
    cursor = ""
    while True:
        page = client.get(f"/v1/folders/ann?limit=7{cursor}").get_json()
        seen += [row["session_number"] for row in page["sessions"]]
        if page["next"] is None:
            break
        cursor = f"&cursor={page['next']}"
    assert seen == [*range(1, 26), None]


@pytest.mark.parametrize("grouped", [False, True])
def test_therapists_who_come_together(backend: Backend, grouped: bool) -> None:
    """Plans, numbered and next sessions of the same folders, all at once: no call fails, no number twice."""
    stores = [GroupCommit(backend.open(), 5) if grouped else backend.open() for _ in range(2)]
    apps = [create_app(Settings.from_mapping(KEYLESS), store) for store in stores]
    plan = {"sessions_per_week": 2, "total_weeks": 5, "starts_on": "2026-11-23"}

    def call(n: int) -> int:
        client, folder = apps[n % 2].test_client(), f"folder {n % 3}"
        match n % 4:
            case 0:
                return client.post("/v1/folders", json={"folder_id": folder, "plan": plan}).status_code
            case 1:
                return client.post(f"/v1/folders/{folder}/sessions", json={"session_number": n % 10 + 1}).status_code
            case _:
                return client.post(f"/v1/folders/{folder}/sessions", json={}).status_code

    with ThreadPoolExecutor(32) as threads:
        statuses = list(threads.map(call, range(96)))
    assert set(statuses) <= {200, 201}
    client = apps[0].test_client()
    for n in range(3):
        numbers = [row["session_number"] for row in client.get(f"/v1/folders/folder {n}").get_json()["sessions"]]
        assert numbers == list(range(1, len(numbers) + 1))


def test_the_largest_plan_is_one_call(client: FlaskClient) -> None:
    body = {"folder_id": "ann", "plan": {"sessions_per_week": 14, "total_weeks": 260, "starts_on": "2026-11-23"}}
    created = client.post("/v1/folders", json=body)
    assert (created.status_code, len(created.get_json()["sessions"])) == (201, 3640)
    last = created.get_json()["sessions"][-1]["session_id"]
    assert client.get(f"/v1/sessions/{last}").get_json()["scheduled_on"] == "2031-11-16"
    client.post("/v1/interactions", json={"session_id": last, "prompt": "Hello"})
    statistics = client.get("/v1/folders/ann").get_json()["statistics"]
    assert (statistics["planned"], statistics["sessions"], statistics["opened"]) == (3640, 3640, 1)
    assert client.post("/v1/folders/ann/sessions", json={}).get_json()["session"]["session_number"] == 3641
