"""The booking system: approving, auto-approving and confirming each made the live session, and raced."""

import random
from concurrent.futures import ThreadPoolExecutor

import pytest
from flask.testing import FlaskClient

from app import create_app
from conversation.settings import Settings
from logging_store.group_commit import GroupCommit
from tests.conftest import Backend
from tests.http_calls import KEYLESS, problem

BOOKING = "booking-7f3a"
CONFIRM = {
    "session_id": BOOKING,
    "participants": [
        {"participant": "teacher", "role": "host", "state": "confirmed"},
        {"participant": "pupil", "role": "guest", "state": "reserved"},
    ],
}


def members(client: FlaskClient, session: str = BOOKING) -> dict[str, tuple[str | None, str | None]]:
    listed = client.get(f"/v1/sessions/{session}/participants").get_json()["participants"]
    assert len(listed) == len({each["participant"] for each in listed})
    return {each["participant"]: (each["role"], each["state"]) for each in listed}


def test_a_booking_is_confirmed_once_however_often(client: FlaskClient) -> None:
    first, again = client.post("/v1/sessions", json=CONFIRM), client.post("/v1/sessions", json=CONFIRM)
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.get_json()["session_id"] == again.get_json()["session_id"]
    assert [each["receipt"] for each in first.get_json()["participants"]] == ["created", "created"]
    assert [each["receipt"] for each in again.get_json()["participants"]] == ["duplicate", "duplicate"]
    assert members(client) == {"teacher": ("host", "confirmed"), "pupil": ("guest", "reserved")}


@pytest.mark.parametrize("grouped", [False, True])
def test_64_confirm_at_once(backend: Backend, grouped: bool) -> None:
    stores = [GroupCommit(backend.open(), 5) if grouped else backend.open() for _ in range(2)]
    apps = [create_app(Settings.from_mapping(KEYLESS), store) for store in stores]
    approve = {"session_id": BOOKING, "participants": [{"participant": "pupil", "role": "guest"}]}

    def confirm(n: int) -> tuple[int, str]:
        body = random.Random(n).choice([CONFIRM, CONFIRM, approve])
        answer = apps[n % 2].test_client().post("/v1/sessions", json=body)
        return answer.status_code, answer.get_json()["session_id"]

    with ThreadPoolExecutor(64) as threads:
        answers = list(threads.map(confirm, range(64)))
    assert sorted(status for status, _ in answers) == [200] * 63 + [201]
    assert len({session_id for _, session_id in answers}) == 1
    client = apps[0].test_client()
    assert members(client) == {"teacher": ("host", "confirmed"), "pupil": ("guest", "reserved")}
    assert len(client.get("/v1/sessions").get_json()["sessions"]) == 1


def test_a_state_moves_only_forward(client: FlaskClient) -> None:
    client.post("/v1/sessions", json=CONFIRM)
    path = f"/v1/sessions/{BOOKING}/participants/pupil"
    for state in ("confirmed", "joined", "joined", "left"):
        assert client.put(path, json={"state": state}).status_code == 200
    back = problem(client.put(path, json={"state": "joined"}), 409)
    assert back["fields"] == [{"path": "$.state", "detail": "Another value is stored"}]
    assert "it is left, joined would be a step back" in back["detail"]
    assert members(client)["pupil"] == ("guest", "left")


def test_a_late_confirmation_tells_of_each_participant(client: FlaskClient) -> None:
    client.post("/v1/sessions", json=CONFIRM)
    client.put(f"/v1/sessions/{BOOKING}/participants/teacher", json={"state": "joined"})
    late = client.post("/v1/sessions", json=CONFIRM)
    assert late.status_code == 207
    teacher, pupil = late.get_json()["participants"]
    assert (teacher["receipt"], teacher["fields"], pupil["receipt"]) == ("conflict", ["state"], "duplicate")
    assert "step back" in teacher["reason"]


def test_who_joins_first_makes_the_session(client: FlaskClient) -> None:
    path = f"/v1/sessions/{BOOKING}/participants/pupil"
    assert client.put(path, json={"role": "guest", "state": "joined"}).status_code == 201
    assert client.put(path, json={"role": "guest", "state": "joined"}).status_code == 200
    assert client.get(f"/v1/sessions/{BOOKING}").get_json()["implicit"] is True
    assert client.post("/v1/sessions", json={"session_id": BOOKING, "title": "Lesson"}).status_code == 200
    assert members(client) == {"pupil": ("guest", "joined")}


def test_who_speaks_takes_part(client: FlaskClient) -> None:
    said = {"session_id": BOOKING, "interaction_id": "m1", "participant": "visitor", "prompt": "Hello"}
    assert client.post("/v1/interactions", json=said).status_code == 201
    assert client.post("/v1/interactions", json=said).status_code == 200
    assert members(client) == {"visitor": (None, None)}
    # who says so late only fills in what was open
    path = f"/v1/sessions/{BOOKING}/participants/visitor"
    assert client.put(path, json={"state": "confirmed", "role": "guest"}).status_code == 200
    assert members(client) == {"visitor": ("guest", "confirmed")}


def test_an_erased_booking_has_no_participants_and_takes_none(client: FlaskClient) -> None:
    client.post("/v1/sessions", json=CONFIRM)
    client.delete(f"/v1/sessions/{BOOKING}")
    path = f"/v1/sessions/{BOOKING}/participants"
    problem(client.get(path), 410)
    problem(client.put(f"{path}/pupil", json={"state": "joined"}), 410)
    problem(client.post("/v1/sessions", json=CONFIRM), 410)


def test_a_booking_in_a_folder_brings_its_participants_to_the_session_that_has_the_number(client: FlaskClient) -> None:
    mine = client.post("/v1/sessions", json={"session_id": "mine", "folder_id": "ann", "session_number": 4}).get_json()
    body = {"folder_id": "ann", "session_number": 4, "participants": [{"participant": "ann"}]}
    answer = client.post("/v1/sessions", json=body)
    assert (answer.status_code, answer.get_json()["session_id"]) == (200, mine["session_id"])
    assert members(client, "mine") == {"ann": (None, None)}


def test_participants_are_checked_by_name(client: FlaskClient) -> None:
    wrong = {"participants": [{"participant": "a"}, {"participant": " ", "state": "gone", "rank": 1}, {}]}
    fields = problem(client.post("/v1/sessions", json=wrong), 422)["fields"]
    assert sorted(each["path"] for each in fields) == [
        "$.participants[1].participant",
        "$.participants[1].rank",
        "$.participants[1].state",
        "$.participants[2].participant",
    ]
    problem(client.put("/v1/sessions/null/participants/pupil", json={}), 422)
    problem(client.get("/v1/sessions/nobody/participants"), 404)
