"""Erasing a session, or everything about a user: what goes, what stays, and how that is told and proven."""

from typing import Any

import psycopg
import pytest
from flask.testing import FlaskClient

from logging_store import reports
from logging_store.store import Store
from tests.api import create, in_path, log, paths, problem, transcript
from tests.conftest import PROJECT, Backend


def erased(client: FlaskClient, path: str) -> dict[str, Any]:
    answer = client.delete(path)
    assert answer.status_code == 200, answer.text
    report: dict[str, Any] = answer.get_json()
    return report


def remaining(backend: Backend, report: dict[str, Any]) -> Any:
    """Run the query that a report proves itself with."""
    with psycopg.connect(backend.database) as connection:
        (row,) = connection.execute(report["proof"].encode()).fetchall()
    return row[0]


def test_a_session_is_erased_with_a_report_that_proves_it(client: FlaskClient, store: Store, backend: Backend) -> None:
    create(client, session_id="it's", title="T", participants=[{"participant": "bob"}])
    log(client, session_id="it's", prompt="Hello", participant="ada")
    would = erased(client, in_path("it's") + "?dry_run=true")
    assert (would["dry_run"], would["erased_at"], would["interactions"], would["participants"]) == (True, None, 1, 2)
    assert len(transcript(client, "it's")) == 1, "a dry run changes nothing"
    assert remaining(backend, would) == 4

    report = erased(client, in_path("it's"))
    assert report | {"dry_run": True, "erased_at": None, "signature": would["signature"]} == would
    assert remaining(backend, report) == 0
    assert reports.is_signed(report, store.report_key(PROJECT))
    assert problem(client.get(in_path("it's")))["status"] == 410


def test_everything_about_a_user_is_erased(client: FlaskClient, store: Store, backend: Backend) -> None:
    for n in range(3):
        create(client, session_id=f"own {n}", user_id="ada", participants=[{"participant": "bob"}])
        log(client, session_id=f"own {n}", prompt="Mine", participant="ada")
    client.post("/v1/folders", json={"folder_id": "f", "user_id": "ada", "name": "Ada's", "metadata": {"a": 1}})
    create(client, session_id="bob's", user_id="bob")
    log(client, session_id="bob's", interaction_id="1", prompt="Ada says", response="Hi Ada", participant="ada", turn=1)
    log(client, session_id="bob's", interaction_id="2", prompt="Bob says", participant="bob", turn=2)

    would = erased(client, "/v1/users/ada?dry_run=true")
    counts = {
        "sessions": 3, "interactions": 3, "participants": 6, "participations": 1, "turns": 1, "folders": 1,
        "spooled": 0, "dead_letters": 0,
    }  # fmt: skip
    assert {name: would[name] for name in counts} == counts
    assert len(client.get("/v1/sessions?user_id=ada").get_json()["sessions"]) == 3

    report = erased(client, "/v1/users/ada")
    assert {name: report[name] for name in counts} == counts
    assert remaining(backend, report) == 0
    assert reports.is_signed(report, store.report_key(PROJECT))
    assert [problem(client.get(in_path(f"own {n}")))["status"] for n in range(3)] == [410] * 3
    assert [
        (row["prompt"], row["response"], row["participant"], row["turn"]) for row in transcript(client, "bob's")
    ] == [
        ("[erased]", "[erased]", None, 1),
        ("Bob says", None, "bob", 2),
    ]
    folder = client.get("/v1/folders/f").get_json()
    assert (folder["name"], folder["user_id"], folder["key"], folder["metadata"]) == (None, None, None, {})
    again = erased(client, "/v1/users/ada")
    assert {name: again[name] for name in counts} == dict.fromkeys(counts, 0)


def test_an_erased_turn_takes_nothing_any_more(client: FlaskClient) -> None:
    create(client, session_id="s", user_id="bob")
    log(client, session_id="s", interaction_id="1", prompt="Ada says", participant="ada")
    erased(client, "/v1/users/ada")
    for late in (
        {"response": "late"},
        {"prompt": "Ada says"},
        {"error": "late"},
        {"participant": "ada", "prompt": "x"},
    ):
        answer = log(client, session_id="s", interaction_id="1", **late)
        assert (problem(answer)["status"], answer.get_json()["reason"]) == (410, "erased")
    batch = {"interactions": [{"session_id": "s", "interaction_id": "1", "error": "late", "tags": ["a"]}]}
    for on_conflict in ("keep", "report", "fill"):
        answer = client.post("/v1/interactions/batch", json=batch | {"on_conflict": on_conflict})
        assert answer.get_json()["counts"] == {"rejected": 1}
    (turn,) = transcript(client, "s")
    assert (turn["prompt"], turn["error"], turn["tags"], turn["participant"]) == ("[erased]", None, [], None)


@pytest.mark.parametrize("user", ["o'brien", 'a "quoted" one', "back\\slash", "ünï/cöde", "%L %s"])
def test_any_name_of_a_user_can_be_erased(client: FlaskClient, backend: Backend, user: str) -> None:
    create(client, session_id="s", user_id=user)
    create(client, session_id="other", user_id="somebody", participants=[{"participant": user}])
    report = erased(client, in_path(user).replace("sessions", "users"))
    assert (report["user_id"], report["sessions"], report["participations"]) == (user, 1, 1)
    assert remaining(backend, report) == 0
    assert client.get("/v1/sessions/other").status_code == 200


def test_what_is_no_name_of_a_user_is_refused(client: FlaskClient) -> None:
    assert paths(client.delete(f"/v1/users/{'x' * 201}")) == ["$.user"]
    assert paths(client.delete("/v1/users/ada?dry_run=maybe")) == ["?dry_run"]


def test_what_a_user_does_afterwards_is_a_new_start(client: FlaskClient) -> None:
    create(client, session_id="s", user_id="ada")
    erased(client, "/v1/users/ada")
    assert create(client, session_id="s", user_id="ada").status_code == 410
    assert create(client, session_id="new", user_id="ada").status_code == 201
    assert [row["key"] for row in client.get("/v1/sessions?user_id=ada").get_json()["sessions"]] == ["new"]
