"""A guest turns out to be a user: what the guest has becomes the user's, and what arrives later follows."""

from typing import Any

import psycopg
import pytest
from flask.testing import FlaskClient

from logging_store.repository import ConversationRepository
from logging_store.store import Store
from tests.conftest import PROJECT, Backend
from tests.http_calls import create, in_path, log, paths, problem, transcript


def merge(client: FlaskClient, guest: str = "anon-7f", into: str = "ada", query: str = "") -> dict[str, Any]:
    answer = client.post(f"/v1/users/{guest}/merge{query}", json={"into": into})
    assert answer.status_code == 200, answer.text
    report: dict[str, Any] = answer.get_json()
    return report


def counts(report: dict[str, Any]) -> dict[str, int]:
    return {name: report[name] for name in ("sessions", "participations", "turns", "feedback", "folders")}


def user_of(client: FlaskClient, session: str) -> Any:
    return client.get(in_path(session)).get_json()["user_id"]


def names_left(backend: Backend, name: str) -> int:
    """Count the places of the log that name a user."""
    with psycopg.connect(backend.database) as connection:
        (row,) = connection.execute(
            "select (select count(*) from turnlog.ai_sessions where user_id = %(name)s)"
            " + (select count(*) from turnlog.ai_session_folders where user_id = %(name)s)"
            " + (select count(*) from turnlog.ai_session_participants where participant = %(name)s)"
            " + (select count(*) from turnlog.ai_interactions where participant = %(name)s)"
            " + (select count(*) from turnlog.ai_feedback where author = %(name)s)",
            {"name": name},
        ).fetchall()
    return int(row[0])


def fill(client: FlaskClient, user: str) -> None:
    """Log something of each kind that names a user: sessions, a folder, participations, turns, feedback."""
    for n in range(3):
        create(client, session_id=f"{user} {n}", user_id=user)
        log(client, session_id=f"{user} {n}", interaction_id="1", prompt="Hi", participant=user)
    client.post("/v1/folders", json={"folder_id": f"{user} folder", "user_id": user})
    create(client, session_id="bob's", user_id="bob", participants=[{"participant": user, "role": "guest"}])
    log(client, session_id="bob's", interaction_id=user, prompt="Hi", participant=user)
    for interaction in ("1", None):
        told = {"session_id": "bob's", "interaction_id": interaction, "author": user, "value": True}
        assert client.post("/v1/feedback", json=told).status_code == 201


def test_everything_of_a_guest_becomes_the_users(client: FlaskClient, backend: Backend) -> None:
    fill(client, "anon-7f")
    expected = {"sessions": 3, "participations": 4, "turns": 4, "feedback": 2, "folders": 1}
    would = merge(client, query="?dry_run=true")
    assert counts(would) == expected
    assert (would["dry_run"], would["merged_at"], names_left(backend, "ada")) == (True, None, 0)
    report = merge(client)
    assert counts(report) == expected
    assert (report["user_id"], report["into"], report["project"]) == ("anon-7f", "ada", PROJECT)
    assert (names_left(backend, "anon-7f"), names_left(backend, "ada")) == (0, 14)
    again = merge(client)
    assert counts(again) == dict.fromkeys(expected, 0)
    assert again["merged_at"] == report["merged_at"]
    assert len(client.get("/v1/sessions?user_id=ada").get_json()["sessions"]) == 3


def test_what_arrives_late_for_the_guest_follows(client: FlaskClient, backend: Backend) -> None:
    merge(client)
    fill(client, "anon-7f")
    assert (names_left(backend, "anon-7f"), names_left(backend, "ada")) == (0, 14)
    again = create(client, session_id="anon-7f 0", user_id="anon-7f")
    assert again.get_json()["receipt"] == "duplicate"
    assert again.get_json()["session"]["user_id"] == "ada"
    assert create(client, session_id="anon-7f 0", user_id="ada").get_json()["receipt"] == "duplicate"


def test_a_session_of_a_guest_who_signed_in(client: FlaskClient) -> None:
    create(client, session_id="an-1", user_id="anon-7f")
    log(client, session_id="an-1", interaction_id="1", prompt="hi", response="ho")
    refused = problem(create(client, session_id="an-1", user_id="ada"), 409)
    assert [field["path"] for field in refused["fields"]] == ["$.user_id"]
    for way in ("PATCH /v1/sessions/{session}", "POST /v1/users/{user}/merge"):
        assert way in refused["detail"]
    edited = client.patch(in_path("an-1"), json={"user_id": "ada"})
    assert (edited.status_code, edited.get_json()["user_id"]) == (200, "ada")
    assert create(client, session_id="an-1", user_id="anon-7f").get_json()["receipt"] == "duplicate", "a late copy"
    assert user_of(client, "an-1") == "ada"
    exported = [client.get(f"/v1/users/{user}/export").text.splitlines() for user in ("ada", "anon-7f")]
    assert [len(lines) for lines in exported] == [2, 0]
    report = client.delete("/v1/users/ada").get_json()
    assert (report["sessions"], report["interactions"]) == (1, 1)


def test_a_session_is_handed_to_whom_the_guest_was_merged_into(client: FlaskClient) -> None:
    create(client, session_id="s", user_id="bob")
    merge(client)
    assert client.patch(in_path("s"), json={"user_id": "anon-7f"}).get_json()["user_id"] == "ada"
    assert client.patch(in_path("s"), json={"user_id": None}).get_json()["user_id"] is None
    assert paths(client.patch(in_path("s"), json={"user_id": " "})) == ["$.user_id"]


@pytest.mark.parametrize("order", [("a", "b", "c"), ("b", "a", "c")], ids=["first to last", "last to first"])
def test_guests_of_guests_follow_to_the_end(client: FlaskClient, order: tuple[str, ...], backend: Backend) -> None:
    into = {"a": "b", "b": "c", "c": "d"}
    for guest in into:
        create(client, session_id=guest, user_id=guest)
    for guest in order:
        merge(client, guest, into[guest])
    for guest in into:
        create(client, session_id=f"late {guest}", user_id=guest)
    assert {user_of(client, f"{late}{guest}") for guest in into for late in ("", "late ")} == {"d"}
    with psycopg.connect(backend.database) as connection:
        found = connection.execute("select guest, into_user from turnlog.ai_user_merges order by 1").fetchall()
    assert found == [("a", "d"), ("b", "d"), ("c", "d")]
    merge(client, "e", "a")
    create(client, session_id="e", user_id="e")
    assert user_of(client, "e") == "d"


def test_nobody_is_merged_in_a_circle_or_into_two(client: FlaskClient) -> None:
    create(client, session_id="s", user_id="a")
    assert paths(client.post("/v1/users/a/merge", json={"into": "a"})) == ["$.into"]
    merge(client, "a", "b")
    merge(client, "b", "c")
    for guest, into, merged_into in (("c", "a", "c"), ("a", "d", "c"), ("c", "b", "c")):
        for query in ("", "?dry_run=true"):
            refused = problem(client.post(f"/v1/users/{guest}/merge{query}", json={"into": into}), 409)
            assert (refused["code"], refused["merged_into"]) == ("conflict", merged_into)
    merge(client, "a", "c")
    merge(client, "a", "b")
    assert user_of(client, "s") == "c"


def test_of_feedback_of_both_the_latest_counts(client: FlaskClient) -> None:
    given = [
        ("1", "anon-7f", True, 10), ("1", "ada", False, 11), ("2", "anon-7f", True, 11), ("2", "ada", False, 10),
        ("3", "anon-7f", None, 11), ("3", "ada", True, 10), ("4", "ada", True, 10),
    ]  # fmt: skip
    for interaction, author, value, hour in given:
        told = {"value": value, "author": author, "given_at": f"2025-11-21T{hour}:00:00Z"}
        client.post(f"{in_path('s')}/interactions/{interaction}/feedback", json=told)
    assert merge(client)["feedback"] == 3
    rows = client.get(f"{in_path('s')}/feedback").get_json()["feedback"]
    for n in range(1, 5):
        log(client, session_id="s", interaction_id=str(n), prompt="Hi")
    rows = client.get(f"{in_path('s')}/feedback").get_json()["feedback"]
    assert {row["interaction_key"]: row["value"] for row in rows} == {"1": False, "2": True, "3": None, "4": True}
    assert {row["author"] for row in rows} == {"ada"}


def test_participations_of_both_become_one(client: FlaskClient) -> None:
    create(client, session_id="s", participants=[{"participant": "anon-7f", "state": "joined"}, {"participant": "ada"}])
    log(client, session_id="s", interaction_id="1", prompt="Hi", participant="anon-7f")
    merge(client)
    (row,) = client.get(f"{in_path('s')}/participants").get_json()["participants"]
    assert (row["participant"], row["state"]) == ("ada", "joined")
    assert transcript(client, "s")[0]["participant"] == "ada"


def test_erasing_the_user_finds_all_that_was_the_guests(client: FlaskClient, backend: Backend) -> None:
    fill(client, "anon-7f")
    merge(client)
    create(client, session_id="late", user_id="anon-7f")
    would, report = (client.delete(f"/v1/users/ada{query}").get_json() for query in ("?dry_run=true", ""))
    for name in ("sessions", "interactions", "participations", "turns", "feedback", "folders"):
        assert would[name] == report[name], name
    assert (report["sessions"], report["turns"], report["feedback"], report["merged_into"]) == (4, 1, 2, None)
    assert names_left(backend, "ada") + names_left(backend, "anon-7f") == 0
    with psycopg.connect(backend.database) as connection:
        assert connection.execute(report["proof"].encode()).fetchall() == [(0,)]
        assert connection.execute("select count(*) from turnlog.ai_user_merges").fetchall() == [(0,)]
        assert connection.execute("select count(*) from turnlog.ai_erased_users").fetchall() == [(2,)]
    create(client, session_id="new", user_id="anon-7f")
    assert user_of(client, "new") == "anon-7f", "a new start"


def test_erasing_the_guest_leaves_what_became_the_users(client: FlaskClient) -> None:
    fill(client, "anon-7f")
    merge(client)
    report = client.delete("/v1/users/anon-7f").get_json()
    assert (report["sessions"], report["feedback"], report["merged_into"]) == (0, 0, "ada")
    assert user_of(client, "anon-7f 0") == "ada"
    create(client, session_id="new", user_id="anon-7f")
    assert user_of(client, "new") == "ada"


def test_a_merge_goes_on_in_bounded_steps(client: FlaskClient, store: Store, backend: Backend) -> None:
    for n in range(5):
        create(client, session_id=str(n), user_id="anon-7f")
        log(client, session_id="bob's", interaction_id=str(n), prompt="Hi", participant="anon-7f")
    fill(client, "anon-7f")

    class Bounded:
        """A store whose merges move at most two of a kind per call, and are interrupted once."""

        calls = 0

        def ask(self, operation: Any, project: str | None, query: dict[str, Any]) -> Any:
            if operation.name == "merge_user":
                self.calls += 1
                query = {**query, "most": 2, "limit": 2}
                if self.calls == 4:
                    raise InterruptedError
            return store.ask(operation, project, query)

    bounded: Any = Bounded()
    log_ = ConversationRepository(bounded, PROJECT)
    would = log_.merge_user("anon-7f", "ada", dry_run=True)
    expected = {"sessions": 8, "participations": 4, "turns": 9, "feedback": 2, "folders": 1}
    bounded.calls = 0
    assert counts(would) == expected
    with pytest.raises(InterruptedError):
        log_.merge_user("anon-7f", "ada")
    assert names_left(backend, "anon-7f") > 0
    create(client, session_id="meanwhile", user_id="anon-7f")
    rest = log_.merge_user("anon-7f", "ada")
    assert rest["sessions"] == expected["sessions"] - 4
    assert names_left(backend, "anon-7f") == 0
    assert user_of(client, "meanwhile") == "ada"


@pytest.mark.parametrize("body", [{}, {"into": ""}, {"into": "a", "from": "b"}, {"into": None}])
def test_a_merge_names_a_user(client: FlaskClient, body: dict[str, Any]) -> None:
    assert client.post("/v1/users/anon-7f/merge", json=body).status_code == 422
    assert paths(client.post("/v1/users/anon-7f/merge?dryrun=true", json={"into": "ada"})) == ["?dryrun"]
    assert paths(client.post(f"/v1/users/{'a' * 201}/merge", json={"into": "ada"})) == ["$.user"]
