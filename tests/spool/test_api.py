"""What callers and operators see while the store is away: 202, spooled records marked as such, degraded, full."""

from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from app import create_app
from conversation.settings import Settings
from logging_store.errors import Invalid, StoreUnavailable
from logging_store.metrics.ledger import Ledger
from logging_store.records import identity
from logging_store.repository import ConversationRepository
from logging_store.spool import Limits, Spool
from tests.http_calls import KEYLESS, log, problem, transcript
from tests.spool.conftest import delivered, eventually, is_on_disk
from tests.spool.flaky_store import FlakyStore

AWAY = StoreUnavailable("nobody answers")


def test_every_way_to_write_answers_202_and_says_spooled(client: FlaskClient, spool: Spool, inner: FlakyStore) -> None:
    inner.away = AWAY
    one = log(client, session_id="s", interaction_id="i", prompt="Hello")
    assert (one.status_code, one.get_json()["receipt"], one.get_json()["interaction_key"]) == (202, "spooled", "i")
    session = client.post("/v1/sessions", json={"session_id": "s", "title": "T"})
    assert (session.status_code, session.get_json()["receipt"]) == (202, "spooled")
    older = client.post("/interaction/log", json={"session_id": "s", "prompt": "older"})
    assert (older.status_code, older.get_json()["receipt"]) == (202, "spooled")
    batch = client.post("/v1/interactions/batch", json={"interactions": [{"session_id": "s", "prompt": "in a batch"}]})
    assert (batch.status_code, batch.get_json()["counts"]) == (202, {"spooled": 1})
    mixed = client.post("/v1/interactions/batch", json={"interactions": [{"prompt": "good"}, {"promt": "bad"}]})
    assert (mixed.status_code, mixed.get_json()["counts"]) == (207, {"spooled": 1, "rejected": 1})

    inner.away = None
    delivered(spool)
    assert [row["prompt"] for row in transcript(client, "s")] == ["Hello", "older", "in a batch"]
    assert client.get("/v1/sessions/s").get_json()["title"] == "T"


def test_spooled_records_are_shown_in_their_session_and_marked(
    client: FlaskClient, spool: Spool, inner: FlakyStore
) -> None:
    log(client, session_id="s", interaction_id="1", prompt="stored", turn=1)
    log(client, session_id="s", interaction_id="3", prompt="half", turn=3)
    inner.away = AWAY
    log(client, session_id="s", interaction_id="3", response="the other half", tags=["late"], metadata={"a": 1})
    log(client, session_id="s", interaction_id="2", prompt="new", response="and complete", turn=2)
    log(client, session_id="other", prompt="not of this session")

    page = client.get("/v1/sessions/s/interactions").get_json()
    assert page["complete"] is False
    assert [(row["prompt"], row["response"], row["spooled"]) for row in page["interactions"]] == [
        ("new", "and complete", True),
        (None, "the other half", True),
    ]
    assert client.get("/v1/sessions/unknown/interactions").status_code == 503

    # the store is back, and nothing has been delivered yet
    inner.away, inner.refuses = None, lambda _: StoreUnavailable("not yet")
    eventually(lambda: spool.breaker.is_closed and transcript_is_complete(client), "the probe succeeds")
    page = client.get("/v1/sessions/s/interactions").get_json()
    assert [(row["prompt"], row["response"], row["status"], row["spooled"]) for row in page["interactions"]] == [
        ("stored", None, "pending", False),
        ("new", "and complete", "completed", True),
        ("half", "the other half", "completed", True),
    ]
    assert (page["interactions"][2]["tags"], page["interactions"][2]["metadata"]) == (["late"], {"a": 1})
    assert [row["spooled"] for row in client.get("/v1/sessions/other/interactions").get_json()["interactions"]] == [
        True
    ]
    assert client.get("/v1/sessions/other").get_json()["interaction_count"] == 1

    inner.refuses = lambda _: None
    delivered(spool)
    assert [(row["prompt"], row["spooled"]) for row in transcript(client, "s")] == [
        ("stored", False),
        ("new", False),
        ("half", False),
    ]


def transcript_is_complete(client: FlaskClient) -> bool:
    answer = client.get("/v1/sessions/s/interactions")
    return answer.status_code == 200 and answer.get_json()["complete"]


def test_paging_shows_a_spooled_record_once(client: FlaskClient, spool: Spool, inner: FlakyStore) -> None:
    for turn in range(5):
        log(client, session_id="s", interaction_id=str(turn), prompt=f"Said {turn}", turn=turn)
    inner.refuses = lambda _: StoreUnavailable("not now")
    log(client, session_id="s", interaction_id="1", response="filled later")
    log(client, session_id="s", interaction_id="9", prompt="Said 9", turn=9)
    rows: list[dict[str, Any]] = []
    after = ""
    while True:
        eventually(lambda: spool.breaker.is_closed, "the probe succeeds")
        answer = client.get(f"/v1/sessions/s/interactions?limit=2{after}")
        if answer.status_code == 503 or all(row["spooled"] for row in answer.get_json()["interactions"]):
            continue  # the drain has just tried again
        assert answer.get_json()["complete"] is False, "what waits may be delivered between pages that were read"
        rows += answer.get_json()["interactions"]
        if answer.get_json()["next"] is None:
            break
        after = f"&cursor={answer.get_json()['next']}"
    assert [(row["prompt"], row["spooled"]) for row in rows] == [
        *((f"Said {turn}", turn == 1) for turn in range(5)),
        ("Said 9", True),
    ]


def test_readiness_distinguishes_writable_degraded_and_full(
    client: FlaskClient, spool: Spool, inner: FlakyStore
) -> None:
    assert client.get("/readyz").get_json()["status"] == "writable"
    inner.away = AWAY
    log(client, session_id="s", prompt="Hello")
    degraded = client.get("/readyz")
    assert (degraded.status_code, degraded.get_json()["status"]) == (200, "degraded")
    assert degraded.get_json()["spool"]["records"] == 1
    spool.directory.limits = Limits(min_free_bytes=1 << 60)
    full = client.get("/readyz")
    assert (full.status_code, full.get_json()["status"], "Retry-After" in full.headers) == (503, "full", True)
    refused = log(client, session_id="s", prompt="Hello")
    assert (problem(refused)["status"], int(refused.headers["Retry-After"])) == (503, 10)
    inner.away = None
    delivered(spool)
    assert client.get("/readyz").get_json()["status"] == "writable"


def test_erasing_a_session_removes_its_dead_letters(
    client: FlaskClient, spool: Spool, inner: FlakyStore, tmp_path: Path
) -> None:
    inner.away = AWAY
    log(client, session_id="s", prompt="a secret")
    log(client, session_id="other", prompt="another")
    inner.refuses = lambda batch: Invalid("no good", field="prompt") if batch.interactions else None
    inner.away = None
    delivered(spool)
    inner.refuses = lambda _: None
    log(client, session_id="s", prompt="stored")
    assert client.delete("/v1/sessions/s").status_code == 200
    (left,) = spool.dead_letters.list()
    assert left.batch.interactions[0]["prompt"] == "another"
    assert not is_on_disk(b"a secret", tmp_path)


def test_unreadable_dead_letters_are_reported(client: FlaskClient, spool: Spool) -> None:
    spool.directory.require_room()  # which makes the folder
    (spool.directory.path / "dead-letters.sqlite3").write_bytes(b"not a database, " * 100)
    ready = client.get("/readyz")
    assert (ready.status_code, ready.get_json()["dead_letters"]) == (200, None)
    assert "turnlog_dead_letters NaN" in client.get("/metrics").text


def test_every_record_is_counted_in_the_ledger(spool: Spool, inner: FlakyStore, tmp_path: Path) -> None:
    counts = Ledger()
    app = create_app(Settings.from_mapping({"DATA_DIR": str(tmp_path)} | KEYLESS), spool)
    app.extensions["conversation_repository"] = ConversationRepository(spool, "default", ledger=counts)
    client = app.test_client()
    log(client, session_id="s", interaction_id="i", prompt="Hello")  # created
    log(client, session_id="s", interaction_id="i", response="Hi")  # filled
    log(client, session_id="s", interaction_id="i", prompt="Hello")  # duplicate
    log(client, session_id="s", interaction_id="i", prompt="Other")  # conflict
    log(client, session_id="s")  # rejected
    client.post("/v1/interactions/batch", json={"interactions": [{"prompt": "created"}, {}]})
    inner.away = AWAY
    client.post("/v1/sessions", json={})  # spooled
    spool.directory.limits = Limits(min_free_bytes=1 << 60)
    log(client, prompt="kept nowhere")  # failed

    metrics = {
        line.rpartition(" ")[0]: float(line.rpartition(" ")[2])
        for line in client.get("/metrics").text.splitlines()
        if not line.startswith("#")
    }
    outcomes = {name: metrics[f'turnlog_records_total{{outcome="{name}"}}'] for name in (
        "created", "filled", "duplicate", "conflict", "rejected", "spooled", "failed")}  # fmt: skip
    assert outcomes == {
        "created": 2, "filled": 1, "duplicate": 1, "conflict": 1, "rejected": 2, "spooled": 1, "failed": 1,
    }  # fmt: skip
    assert metrics["turnlog_records_received_total"] == sum(outcomes.values())
    assert metrics["turnlog_records_in_flight"] == 0
    assert metrics["turnlog_spool_records"] == 1
    assert metrics["turnlog_write_seconds_count"] == 7
    assert metrics['turnlog_write_seconds_bucket{le="+Inf"}'] == 7


def test_operators_list_retry_and_discard_dead_letters(
    app: Flask, client: FlaskClient, spool: Spool, inner: FlakyStore
) -> None:
    def run(*arguments: str) -> tuple[int, str]:
        result = app.test_cli_runner().invoke(args=["spool", *arguments])
        return result.exit_code, result.stdout or result.output

    inner.away = AWAY
    for n in range(3):
        log(client, session_id="s", interaction_id=f"i{n}", prompt=f"Said {n}")
    assert "waiting: 3 records in 3 batches" in run("status")[1]
    inner.refuses = lambda batch: Invalid("no good", field="prompt") if batch.interactions else None
    inner.away = None
    delivered(spool)

    assert "dead letters: 3" in run("status")[1]
    code, listed = run("list")
    assert code == 0
    assert [line.split()[0] for line in listed.splitlines()] == ["1", "2", "3"]
    assert "rejected: no good" in listed
    assert '"prompt": "Said 1"' in run("show", "2")[1]
    assert run("show", "99")[0] == 1
    code, output = run("retry", "1")
    assert (code, "rejected  no good" in output) == (1, True)
    assert run("retry")[0] == 2
    assert run("discard", "3")[0] == 2
    assert "Said 2" in run("show", "3")[1], "it is still there"
    assert run("discard", "3", "--yes") == (0, "3  discarded\n")

    inner.refuses = lambda _: None
    assert run("retry", "--all") == (0, "1  created\n2  created\n")
    assert "dead letters: 0" in run("status")[1]
    assert [row["prompt"] for row in transcript(client, "s")] == ["Said 0", "Said 1"]


REFUSED_LATER = {
    "participant": ("/v1/sessions/s/participants/p", {}, {"state": "joined"}, {"state": "reserved"}),
    "folder": ("/v1/folders", {"folder_id": "f"}, {"name": "a"}, {"name": "b"}),
    "session": ("/v1/sessions", {"session_id": "s"}, {"title": "a"}, {"title": "b"}),
}


@pytest.mark.parametrize("kind", REFUSED_LATER)
def test_a_dead_letter_of_any_kind_stays_until_its_record_is_stored(
    app: Flask, client: FlaskClient, spool: Spool, inner: FlakyStore, kind: str
) -> None:
    path, named, stored, refused = REFUSED_LATER[kind]
    client.post("/v1/sessions", json={"session_id": "s"})
    send = client.put if kind == "participant" else client.post
    assert send(path, json=named | stored).status_code in {200, 201}
    inner.away = AWAY
    assert send(path, json=named | refused).status_code == 202
    inner.away = None
    delivered(spool)
    result = app.test_cli_runner().invoke(args=["spool", "retry", "--all"])
    assert result.exit_code == 1, result.exception
    assert "1  conflict" in result.output
    assert [letter.receipt["fields"] for letter in spool.dead_letters.list()] == [list(refused)]


def test_a_rejected_parent_gets_no_dead_letter_besides_its_children(
    client: FlaskClient, spool: Spool, inner: FlakyStore
) -> None:
    client.post("/v1/sessions", json={"session_id": "first", "folder_id": "f", "session_number": 3})
    inner.away = AWAY
    client.post("/v1/sessions", json={"session_id": "second", "folder_id": "f", "session_number": 3})
    for n in range(3):
        log(client, session_id="second", interaction_id=f"i{n}", prompt="Hello")
    inner.away = None
    delivered(spool)
    letters = [[row["key"] for row in letter.batch.explicit_rows()] for letter in spool.dead_letters.list()]
    assert letters == [["second"]]
    assert [row["key"] for row in transcript(client, "second")] == ["i0", "i1", "i2"]


def test_a_plan_that_is_stored_in_part_leaves_a_dead_letter(
    app: Flask, client: FlaskClient, spool: Spool, inner: FlakyStore
) -> None:
    # the session that derives from a number of the plan is in another folder
    second = identity.numbered_session("default", identity.folder("default", "p").id, 2).id
    client.post("/v1/sessions", json={"session_id": second, "folder_id": "elsewhere"})
    inner.away = AWAY
    plan = {"folder_id": "p", "user_id": "u", "plan": {"sessions_per_week": 1, "total_weeks": 3}}
    assert client.post("/v1/folders", json=plan).status_code == 202
    inner.away = None
    delivered(spool)
    (letter,) = spool.dead_letters.list()
    told = {each["session_number"]: each["receipt"] for each in letter.receipt["planned"]}
    assert (letter.receipt["receipt"], told) == ("created", {1: "created", 2: "conflict", 3: "created"})
    listed = app.test_cli_runner().invoke(args=["spool", "list"]).stdout
    assert listed.rstrip().endswith("created in part, not: session 2")
    again = app.test_cli_runner().invoke(args=["spool", "retry", "1"])
    assert (again.exit_code, again.stdout) == (1, "1  duplicate in part, not: session 2\n")
    assert spool.dead_letters.count() == 1


def test_a_spooled_session_shows_its_status(client: FlaskClient, spool: Spool, inner: FlakyStore) -> None:
    inner.refuses = lambda _: StoreUnavailable("not now")
    ids = [
        client.post("/v1/sessions", json={"session_id": name} | more).get_json()["session_id"]
        for name, more in (("closed", {"status": "closed"}), ("later", {"status": "open"}), ("open", {}))
    ]
    client.post("/v1/sessions", json={"session_id": "later", "status": "locked"})
    folder = client.post("/v1/folders", json={"folder_id": "f", "plan": {"sessions_per_week": 1, "total_weeks": 3}})
    closed = client.post("/v1/folders/f/sessions", json={"session_number": 2, "status": "closed"})
    opened = client.post("/v1/folders/f/sessions", json={"session_number": 3, "title": "T"})
    assert {folder.status_code, closed.status_code, opened.status_code} == {202}
    folder_id = identity.folder("default", "f").id
    ids += [identity.numbered_session("default", folder_id, number).id for number in (1, 2, 3)]

    def shown() -> list[tuple[Any, ...]]:
        rows = [client.get(f"/v1/sessions/{id_}").get_json() for id_ in ids]
        return [tuple(row.get(name) for name in ("status", "implicit", "folder_id", "session_number")) for row in rows]

    eventually(lambda: spool.breaker.is_closed, "the probe succeeds")
    waiting = shown()
    assert [row[0] for row in waiting] == ["closed", "locked", "open", "locked", "closed", "open"]
    inner.refuses = lambda _: None
    delivered(spool)
    assert shown() == waiting


def test_what_is_altered_is_in_the_receipt_of_a_spooled_record_and_delivered_so(
    client: FlaskClient, spool: Spool, inner: FlakyStore
) -> None:
    inner.away = AWAY
    body = rb'{"session_id":"s","interaction_id":"i","prompt":"half \ud83d","metadata":{"id":1234567890123456789}}'
    one = client.post("/v1/interactions", data=body, content_type="application/json")
    assert (one.status_code, one.get_json()["altered"]) == (202, ["$.prompt", "$.metadata.id"])
    session = client.post("/v1/sessions", json={"session_id": "s", "title": "a\0"})
    assert (session.status_code, session.get_json()["altered"]) == (202, ["$.title"])
    rating = client.post("/v1/feedback", json={"session_id": "s", "interaction_id": "i", "value": "a\0"})
    assert (rating.status_code, rating.get_json()["altered"]) == (202, ["$.value"])

    inner.away = None
    delivered(spool)
    (read,) = transcript(client, "s")
    assert (read["prompt"], read["metadata"]) == ("half \ufffd", {"id": "1234567890123456789"})
    assert client.get("/v1/sessions/s").get_json()["title"] == "a\u2400"


def test_a_record_of_16_mb_is_spooled_and_delivered(client: FlaskClient, spool: Spool, inner: FlakyStore) -> None:
    text = "x" * (15 * 1024 * 1024)
    inner.away = AWAY
    prompt = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": text}}]}]
    assert log(client, session_id="s", prompt=prompt).status_code == 202
    inner.away = None
    delivered(spool)
    assert transcript(client, "s")[0]["prompt"] == prompt
