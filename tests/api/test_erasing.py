"""Erasing a session, or everything about a user: what is erased, what stays, and what the report proves."""

import json
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

import psycopg
import pytest
from flask.testing import FlaskClient

from logging_store import erasure_reports
from logging_store import operations as ops
from logging_store.records.models import Folder, Interaction, Session
from logging_store.repository import ConversationRepository
from logging_store.store import Store
from tests.conftest import PROJECT, Backend
from tests.http_calls import create, in_path, log, paths, problem, transcript
from tests.spool.conftest import eventually
from tests.store_calls import ask


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
    assert erasure_reports.verify(report, ask(store, ops.REPORT_KEY, PROJECT)["key"])
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
    assert erasure_reports.verify(report, ask(store, ops.REPORT_KEY, PROJECT)["key"])
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


def test_an_erased_turn_is_not_filled(client: FlaskClient) -> None:
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


def test_an_invalid_user_is_rejected(client: FlaskClient) -> None:
    assert paths(client.delete(f"/v1/users/{'x' * 201}")) == ["$.user"]
    assert paths(client.delete("/v1/users/ada?dry_run=maybe")) == ["?dry_run"]


def test_records_after_the_erasure_are_stored(client: FlaskClient) -> None:
    create(client, session_id="s", user_id="ada")
    erased(client, "/v1/users/ada")
    assert create(client, session_id="s", user_id="ada").status_code == 410
    assert create(client, session_id="new", user_id="ada").status_code == 201
    assert [row["key"] for row in client.get("/v1/sessions?user_id=ada").get_json()["sessions"]] == ["new"]


def test_a_user_of_many_sessions_is_counted_and_erased_in_steps(
    client: FlaskClient, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ops.ERASE_USER.bounds, "limit", 3)
    monkeypatch.setitem(ops.ERASE_USER.bounds, "most", 4)
    for n in range(7):
        create(client, session_id=f"own {n}", user_id="ada", participants=[{"participant": "ada"}])
        create(client, session_id=f"other {n}", user_id="bob", participants=[{"participant": "ada"}])
        client.post("/v1/folders", json={"folder_id": f"f {n}", "user_id": "ada"})
    spoken = [
        {"session_id": f"{whose} {n % 3}", "prompt": "Hello", "participant": "ada"}
        for whose in ("own", "other")
        for n in range(20)
    ]
    client.post("/v1/interactions/batch", json={"interactions": spoken})
    counts = {"sessions": 7, "interactions": 20, "participants": 7, "participations": 7, "turns": 20, "folders": 7}
    would, report = erased(client, "/v1/users/ada?dry_run=true"), erased(client, "/v1/users/ada")
    for each in (would, report):
        assert {name: each[name] for name in counts} == counts
    assert remaining(backend, report) == 0
    for n in range(7):
        assert client.get(in_path(f"other {n}")).get_json()["user_id"] == "bob"


def test_an_interrupted_erasure_is_resumed_and_reported_in_full(
    client: FlaskClient, store: Store, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ops.ERASE_USER.bounds, "most", 4)
    create(client, session_id="s", user_id="ada")
    client.post("/v1/interactions/batch", json={"interactions": [{"session_id": "s", "prompt": "Hello"}] * 10})
    first = ask(store, ops.ERASE_USER, PROJECT, {"user_id": "ada", "begin": True})
    assert (first["left"], first["interactions"], first["sessions"]) == (True, 4, 0)
    report = erased(client, "/v1/users/ada")
    assert (report["interactions"], report["sessions"]) == (10, 1)
    assert remaining(backend, report) == 0


def test_concurrent_erasures_of_one_user_agree(backend: Backend, repository: ConversationRepository) -> None:
    for n in range(30):
        repository.write(
            [Session(session_id=f"s {n}", user_id="ada"), Interaction(session_id=f"s {n}", prompt="Hello")]
        )
    logs = [ConversationRepository(backend.open(), PROJECT) for _ in range(4)]
    with ThreadPoolExecutor(len(logs)) as threads:
        reports = list(threads.map(lambda log: log.erase_user("ada"), logs))
    assert max(report["sessions"] for report in reports) == 30
    assert [remaining(backend, report) for report in reports] == [0] * 4


def test_a_concurrent_write_is_stored_or_rejected(backend: Backend, repository: ConversationRepository) -> None:
    sessions = [f"s {n}" for n in range(40)]
    for name in sessions:
        repository.write([Session(session_id=name, user_id="ada"), Interaction(session_id=name, prompt="Hello")])
    writer = ConversationRepository(backend.open(), PROJECT)
    with ThreadPoolExecutor(1) as threads:
        erasing = threads.submit(repository.erase_user, "ada")
        kept = [writer.log([Interaction(session_id=name, prompt="more")])[0] for name in sessions]
        report = erasing.result()
    outcomes = Counter((one.receipt.receipt, one.receipt.reason) for one in kept)
    assert set(outcomes) <= {("created", None), ("rejected", "erased")}
    assert report["interactions"] == len(sessions) + outcomes["created", None], "what was stored was erased with it"
    assert remaining(backend, report) == 0


def test_a_folder_filled_meanwhile_is_erased_with_its_user(
    backend: Backend, repository: ConversationRepository
) -> None:
    repository.ensure_folder(Folder(folder_id="f", user_id="ada", name="Ada's"))
    waits_for_a_lock = (
        "select exists (select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock')"
    )
    reports_made: list[dict[str, Any]] = []
    with psycopg.connect(backend.database) as filling, psycopg.connect(backend.database, autocommit=True) as look:
        filling.execute("update turnlog.ai_session_folders set metadata = '{\"a\": 1}'")
        erasing = threading.Thread(target=lambda: reports_made.append(repository.erase_user("ada")))
        erasing.start()
        eventually(lambda: look.execute(waits_for_a_lock).fetchone() == (True,), "the erasure waits for who fills it")
        filling.commit()
        erasing.join()
        left = look.execute("select name, user_id, metadata from turnlog.ai_session_folders").fetchall()
    assert left == [(None, None, None)]
    assert [report["folders"] for report in reports_made] == [1]


def test_a_long_session_is_erased_in_invisible_steps(
    client: FlaskClient, store: Store, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ops.ERASE.bounds, "most", 4)
    turns = [{"session_id": name, "prompt": "Hello", "participant": "ada"} for name in ("s", "cut") for _ in range(10)]
    client.post("/v1/interactions/batch", json={"interactions": turns})
    report = erased(client, in_path("s"))
    assert (report["interactions"], report["participants"]) == (10, 1)
    assert remaining(backend, report) == 0

    # cut after the first step
    with psycopg.connect(backend.database) as connection:
        id_ = client.get(in_path("cut")).get_json()["session_id"]
        request = json.dumps({"project": PROJECT, "session_id": id_, "most": 4})
        connection.execute("select turnlog.erase(%s)", [request])
    assert problem(client.get(in_path("cut") + "/interactions"))["status"] == 410
    assert problem(log(client, session_id="cut", prompt="late"))["status"] == 410
    with psycopg.connect(backend.database) as connection:
        left = connection.execute("select id from turnlog.ai_interactions").fetchall()
    for (one,) in left:  # what is still there takes nothing any more
        again = log(client, session_id=id_, interaction_id=str(one), response="late", participant="bob")
        assert problem(again)["status"] == 410
    with psycopg.connect(backend.database) as connection:
        held = connection.execute("select from turnlog.ai_interactions where response is not null").fetchall()
        assert (held, connection.execute("select from turnlog.ai_session_participants").fetchall()) == ([], [])
    report = erased(client, in_path("cut"))
    assert report["interactions"] == 6
    assert remaining(backend, report) == 0


def test_a_user_of_the_same_name_in_another_project_is_not_erased(client: FlaskClient, store: Store) -> None:
    other = ConversationRepository(store, "other")
    other.write(
        [Session(session_id="s", user_id="ada"), Interaction(session_id="s", prompt="Hello", participant="ada")]
    )
    create(client, session_id="s", user_id="ada")
    report = erased(client, "/v1/users/ada")
    assert (report["sessions"], report["interactions"]) == (1, 0)
    assert other.session("s")["user_id"] == "ada"
    assert other.transcript("s", {"limit": 1})["interactions"][0]["participant"] == "ada"


def test_one_turn_is_erased_with_a_report_that_proves_it(client: FlaskClient, store: Store, backend: Backend) -> None:
    full = {
        "session_id": "chat", "interaction_id": "2", "prompt": "My PIN is 4711", "response": "Noted: 4711", "turn": 2,
        "model": "small-1", "input_tokens": 9, "cost_usd": 0.5, "participant": "ada", "tags": ["pin"],
        "metadata": {"pin": 4711}, "started_at": "2026-11-21T06:30:00Z", "finish_reason": "stop", "reply_to": "1",
    }  # fmt: skip
    log(client, session_id="chat", interaction_id="1", prompt="Hi", response="Ho", turn=1, participant="bob")
    log(client, **full)
    path = f"{in_path('chat')}/interactions/2"
    client.post(f"{path}/feedback", json={"value": True, "comment": "4711"})
    client.post(f"{in_path('chat')}/interactions/1/feedback", json={"value": True})
    client.post(f"{in_path('chat')}/feedback", json={"value": True})
    before = transcript(client, "chat")

    would = erased(client, f"{path}?dry_run=true")
    assert (would["interactions"], would["participants"], would["feedback"]) == (1, 1, 1)
    assert transcript(client, "chat") == before
    assert remaining(backend, would) == 2
    report = erased(client, path)
    assert report | {"dry_run": True, "erased_at": None, "signature": would["signature"]} == would
    assert remaining(backend, report) == 0
    assert erasure_reports.verify(report, ask(store, ops.REPORT_KEY, PROJECT)["key"])

    gone: dict[str, Any] = {
        "key": None, "prompt": "[erased]", "response": "[erased]", "participant": None, "tags": [], "metadata": {},
        "finish_reason": None,
    }  # fmt: skip
    (first, second) = transcript(client, "chat")
    assert first == before[0]
    assert datetime.fromisoformat(second["erased_at"]) == datetime.fromisoformat(report["erased_at"])
    assert second | {"erased_at": None} == before[1] | gone, "id, place, times and numbers stay"
    rows = client.get(f"{in_path('chat')}/feedback").get_json()["feedback"]
    assert [row["interaction_key"] for row in rows] == [None, "1"]
    people = client.get(f"{in_path('chat')}/participants").get_json()["participants"]
    assert [each["participant"] for each in people] == ["bob"]
    session = client.get(in_path("chat")).get_json()
    assert (session["interaction_count"], session["failed_count"]) == (2, 0)

    for late in (full, full | {"response": "More"}, {"session_id": "chat", "interaction_id": "2", "model": "x"} | full):
        refused = problem(log(client, **late), 410)
        assert (refused["code"], refused["receipt"], refused["reason"]) == ("interaction-erased", "rejected", "erased")
    assert problem(client.post(f"{path}/feedback", json={"value": 1}), 410)["reason"] == "erased"
    assert transcript(client, "chat") == [first, second]
    again = erased(client, path)
    assert (again["interactions"], again["feedback"], again["erased_at"]) == (0, 0, report["erased_at"])


def test_the_search_forgets_an_erased_turn(client: FlaskClient, store: Store) -> None:
    for n, text in (("1", "a grapefruit"), ("2", "a pomegranate")):
        log(client, session_id="chat", interaction_id=n, prompt=text, response=text)
    ask(store, ops.INDEX_PENDING, None, {"ms": 5000})
    erased(client, f"{in_path('chat')}/interactions/2")
    ask(store, ops.INDEX_PENDING, None, {"ms": 5000})

    def hits(text: str) -> int:
        return len(client.get("/v1/interactions", query_string={"q": text}).get_json()["interactions"])

    assert [hits(text) for text in ("grapefruit", "pomegranate")] == [1, 0]


def test_an_unknown_turn_and_a_turn_of_an_erased_session_are_told_apart(client: FlaskClient) -> None:
    log(client, session_id="chat", interaction_id="1", prompt="Hi")
    unknown = problem(client.delete(f"{in_path('chat')}/interactions/2"), 404)
    assert (unknown["code"], unknown["detail"]) == ("interaction-not-found", 'There is no interaction "2"')
    assert problem(client.delete(f"{in_path('none')}/interactions/2"), 404)["code"] == "session-not-found"
    erased(client, in_path("chat"))
    assert problem(client.delete(f"{in_path('chat')}/interactions/1"), 410)["code"] == "session-erased"
    assert client.get(in_path("none")).status_code == 404, "it left no tombstone"


def test_a_batch_tells_which_of_its_turns_was_erased(client: FlaskClient) -> None:
    log(client, session_id="chat", interaction_id="1", prompt="Hi", error="failed")
    erased(client, f"{in_path('chat')}/interactions/1")
    items = [{"session_id": "chat", "interaction_id": n, "prompt": "Hi", "participant": "ada"} for n in ("1", "2", "1")]
    for on_conflict in ("keep", "fill", "report"):
        answer = client.post("/v1/interactions/batch", json={"interactions": items, "on_conflict": on_conflict})
        receipts = answer.get_json()["receipts"]
        assert [each["receipt"] for each in receipts[::2]] == ["rejected", "rejected"]
        assert [each["reason"] for each in receipts[::2]] == ["erased", "erased"]
        assert receipts[2]["fields"] == [{"path": "$.interactions[2].interaction_id", "detail": "erased"}]
    assert [row["prompt"] for row in transcript(client, "chat")] == ["[erased]", "Hi"]


def test_a_participant_with_a_role_or_with_other_turns_stays(client: FlaskClient) -> None:
    client.put(f"{in_path('chat')}/participants/ada", json={"role": "patient"})
    for n, who in (("1", "ada"), ("2", "bob"), ("3", "bob")):
        log(client, session_id="chat", interaction_id=n, prompt="Hi", participant=who)
    for n in ("1", "2"):
        assert erased(client, f"{in_path('chat')}/interactions/{n}")["participants"] == 0
    people = client.get(f"{in_path('chat')}/participants").get_json()["participants"]
    assert {each["participant"] for each in people} == {"ada", "bob"}


def test_feedback_on_an_erased_users_turns_goes_too(client: FlaskClient, backend: Backend) -> None:
    whose = "bob's"
    create(client, session_id=whose, user_id="bob")
    for n, who in (("1", "ada"), ("2", "bob")):
        log(client, session_id=whose, interaction_id=n, prompt="Hi", participant=who)
        for author in ("ada", "bob", "cid"):
            path = f"{in_path(whose)}/interactions/{n}/feedback"
            client.post(path, json={"value": 1, "author": author})
    would, report = erased(client, "/v1/users/ada?dry_run=true"), erased(client, "/v1/users/ada")
    assert (would["feedback"], report["feedback"]) == (4, 4)
    assert remaining(backend, report) == 0
    rows = client.get(f"{in_path(whose)}/feedback").get_json()["feedback"]
    assert [(row["interaction_key"], row["author"]) for row in rows] == [("2", "bob"), ("2", "cid")]
