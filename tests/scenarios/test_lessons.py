"""The lesson generator: batches of lessons, each named by provider, school, date and time slot.

Its error named four columns; nothing said which items of a batch carried the same key, nor what was tried.
"""

import random
import threading
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from app import create_app
from conversation.settings import Settings
from logging_store.group_commit import GroupCommit
from logging_store.records.values import canonical_key
from logging_store.repository import ConversationRepository
from tests.conftest import Backend
from tests.http_calls import KEYLESS, log, paths, problem, transcript

PARTS = ["provider", "school", "date", "time_slot"]
KEY = {"provider": "tutors", "school": "Elm Street", "date": "2026-11-23", "time_slot": 5}


def lesson(response: str = "Fractions", **changes: Any) -> dict[str, Any]:
    """Return a generated lesson; `changes` are of its key."""
    return {"key": KEY | changes, "prompt": "A lesson, please", "response": response}


def send(client: FlaskClient, *items: Any, dry_run: bool = False, **batch: Any) -> TestResponse:
    url = "/v1/interactions/batch" + ("?dry_run=true" if dry_run else "")
    return client.post(url, json={"interactions": items, **batch})


def told(answer: TestResponse, *names: str) -> list[list[Any]]:
    """Return of each receipt what is named."""
    return [[item.get(name) for name in names] for item in answer.get_json()["receipts"]]


def stored(client: FlaskClient, **changes: Any) -> dict[str, Any]:
    """Return the lesson with a key, as it is in the log."""
    named = log(client, key=KEY | changes, status="pending").get_json()
    (row,) = transcript(client, named["session_id"])
    return row


def test_a_batch_is_stored_once_however_its_keys_are_spelled(client: FlaskClient) -> None:
    first = send(client, *(lesson(time_slot=n) for n in range(20)), key_fields=PARTS)
    assert (first.status_code, first.get_json()["counts"]) == (200, {"created": 20})
    again = send(
        client,
        *({**lesson(), "key": dict(reversed((KEY | {"time_slot": float(n)}).items()))} for n in range(20)),
        key_fields=sorted(PARTS),
    )
    assert (again.status_code, again.get_json()["counts"]) == (200, {"duplicate": 20})
    assert told(again, "interaction_id", "session_id") == told(first, "interaction_id", "session_id")
    assert [item["key"] for item in first.get_json()["receipts"]] == [KEY | {"time_slot": n} for n in range(20)]
    assert {item["interaction_key"] for item in again.get_json()["receipts"]} == {
        canonical_key(KEY | {"time_slot": n}) for n in range(20)
    }


def test_items_with_one_key_are_told_of_each_other_before_the_store_is_asked(client: FlaskClient) -> None:
    answer = send(
        client,
        lesson(time_slot="5"),  # another key than 5
        {"key": KEY},  # says nothing, and so is no twin
        lesson("Fractions"),
        lesson("Decimals", time_slot=5.0),
        lesson("Fractions", time_slot=5.0),
        {**lesson("Fractions"), "tags": ["a"]},
    )
    assert answer.status_code == 207
    assert told(answer, "receipt", "reason", "indexes") == [
        ["created", None, None],
        ["rejected", "invalid", None],
        ["created", None, [2, 3, 4, 5]],
        ["rejected", "duplicate_in_batch", [2, 3]],
        ["duplicate", "duplicate_in_batch", [2, 4]],
        ["rejected", "duplicate_in_batch", [2, 5]],
    ]
    same = "Item 2 has the same key and other values"
    receipts = answer.get_json()["receipts"]
    assert receipts[3]["fields"] == [{"path": "$.interactions[3].response", "detail": same}]
    assert receipts[5]["fields"] == [{"path": "$.interactions[5].tags", "detail": same}]
    assert {tuple(each) for each in told(answer, "interaction_id")[2:]} == {(receipts[2]["interaction_id"],)}
    assert stored(client)["response"] == "Fractions"


@pytest.mark.parametrize(
    ("one", "other", "differing"),
    [
        ({"tags": ["a", "b"]}, {"tags": ["b", "a"]}, []),
        ({"metadata": {"a": 5}}, {"metadata": {"a": 5.0}}, []),
        ({"metadata": {}, "tags": []}, {}, []),
        ({"started_at": "2026-11-21T07:00:00+01:00"}, {"started_at": "2026-11-21T06:00:00Z"}, []),
        ({"status": "pending"}, {}, ["status"]),  # one grows, one is complete
        ({"metadata": {"a": [1]}}, {"metadata": {"a": [True]}}, ["metadata.a"]),
        ({"metadata": {"a": None}}, {}, ["metadata.a"]),
        ({"metadata": {"a": {"b": 1}}}, {"metadata": {"a": {"b": 1, "c": 1}}}, ["metadata.a"]),
        ({"turn": 1}, {"model": "m"}, ["model", "turn"]),
    ],
)
def test_twins_are_the_same_if_they_state_the_same_facts(
    client: FlaskClient, one: dict[str, Any], other: dict[str, Any], differing: list[str]
) -> None:
    receipt = send(client, lesson() | one, lesson() | other).get_json()["receipts"][1]
    assert receipt["receipt"] == ("rejected" if differing else "duplicate")
    named = [each["path"].removeprefix("$.interactions[1].") for each in receipt["fields"]]
    assert named == differing


def test_a_twin_of_what_could_not_be_stored_is_not_said_to_be_there(client: FlaskClient) -> None:
    send(client, lesson("Fractions"))
    kept = send(client, lesson("Decimals"), lesson("Decimals"))
    assert told(kept, "receipt", "indexes") == [["conflict", [0, 1]], ["conflict", [0, 1]]]
    partly = {**lesson("Decimals"), "model": "m"}
    filled = send(client, partly, partly, on_conflict="fill")
    assert told(filled, "receipt", "reason") == [["filled", None], ["conflict", "duplicate_in_batch"]]
    assert [each["path"] for each in filled.get_json()["receipts"][1]["fields"]] == ["$.interactions[1].response"]


def test_without_keys_of_several_parts_a_batch_may_name_one_interaction_twice(client: FlaskClient) -> None:
    one = {"session_id": "s", "interaction_id": "i"}
    answer = send(client, one | {"prompt": "Hello"}, one | {"response": "Hi"})
    assert told(answer, "receipt", "indexes") == [["created", None], ["filled", None]]


def test_what_a_key_lacks_of_the_declared_parts_is_named(client: FlaskClient) -> None:
    without = {name: part for name, part in KEY.items() if name != "school"}
    answer = send(
        client,
        lesson(),
        lesson(room="12 b", time_slot=6),
        {**lesson(), "key": without},
        {**lesson(), "key": {"time slot": 1} | without},
        {"prompt": "No key at all"},
        {**lesson(), "key": None, "promt": "Several at once"},
        lesson(school=None),
        "no object",
        key_fields=PARTS,
    )
    assert (answer.status_code, answer.get_json()["counts"]) == (207, {"created": 1, "rejected": 7})
    assert {item.get("reason") for item in answer.get_json()["receipts"][1:]} == {"invalid"}
    found = [[each["path"] for each in item["fields"]] for item in answer.get_json()["receipts"]]
    assert found == [
        [],
        ["$.interactions[1].key.room"],
        ["$.interactions[2].key.school"],
        ["$.interactions[3].key.school", "$.interactions[3].key['time slot']"],
        ["$.interactions[4].key"],
        ["$.interactions[5].promt", "$.interactions[5].key"],
        ["$.interactions[6].key.school"],
        ["$.interactions[7]"],
    ]
    missing, more = (answer.get_json()["receipts"][n]["fields"][0]["detail"] for n in (2, 1))
    assert missing == "A part of the key that this batch declares is missing"
    assert more == "Not a part of the key that this batch declares"


def test_a_clash_with_what_is_stored_names_the_key_the_record_and_the_fields(client: FlaskClient) -> None:
    (held_by,) = (item["interaction_id"] for item in send(client, lesson()).get_json()["receipts"])
    other = {**lesson("Decimals"), "prompt": "Another, please", "model": "m"}
    (item,) = send(client, other).get_json()["receipts"]
    assert (item["receipt"], item["key"], item["held_by"]) == ("conflict", KEY, held_by)
    assert [each["path"] for each in item["fields"]] == ["$.interactions[0].prompt", "$.interactions[0].response"]

    alone = log(client, **other)
    assert (alone.status_code, paths(alone)) == (409, ["$.prompt", "$.response"])
    assert (problem(alone)["key"], problem(alone)["held_by"]) == (KEY, held_by)
    assert stored(client)["model"] is None, "nothing was changed"


def test_a_key_that_a_row_written_past_the_service_holds(client: FlaskClient, backend: Backend) -> None:
    stranger = "01890000-0000-4000-8000-000000000001"
    with psycopg.connect(backend.database) as connection:
        session_id = log(client, session_id="lessons", prompt="Hello").get_json()["session_id"]
        connection.execute(
            "insert into turnlog.ai_interactions (project, session_id, id, key, created_at)"
            " values (%s, %s, %s, %s, now())",
            ["default", session_id, stranger, canonical_key(KEY)],
        )
    stated = lesson() | {"session_id": "lessons"}
    (item,) = send(client, stated).get_json()["receipts"]
    for clash in (item, problem(log(client, **stated))):
        assert (clash["receipt"], clash["key"], clash["held_by"]) == ("conflict", KEY, stranger)
        assert clash["constraint"] == "ai_interactions_session_key_key"


@pytest.mark.parametrize(
    ("on_conflict", "contradicting", "filling", "model"),
    [
        ("keep", ["conflict", ["response"], None], ["filled", ["model"], None], "m"),
        ("report", ["conflict", ["model", "response"], None], ["conflict", ["model"], None], None),
        ("fill", ["filled", ["model"], ["response"]], ["filled", ["model"], None], "m"),
    ],
)
def test_what_becomes_of_a_stored_lesson_is_the_batchs_choice(
    client: FlaskClient, on_conflict: str, contradicting: list[Any], filling: list[Any], model: str | None
) -> None:
    send(client, lesson(time_slot=1), lesson(time_slot=2), lesson(time_slot=3))
    answer = send(
        client,
        {**lesson("Decimals", time_slot=1), "model": "m"},
        {**lesson(time_slot=2), "model": "m"},
        lesson(time_slot=3),
        lesson(time_slot=4),
        on_conflict=on_conflict,
    )
    receipts = answer.get_json()["receipts"]

    def names(fields: list[Any] | None) -> list[str] | None:
        return fields and sorted(each["path"].split(".")[2] if isinstance(each, dict) else each for each in fields)

    found = [[item["receipt"], names(item["fields"]), names(item.get("differs"))] for item in receipts]
    assert found == [contradicting, filling, ["duplicate", [], None], ["created", [], None]]
    assert answer.status_code == 207, "not all that was said is stored"
    assert stored(client, time_slot=2)["model"] == model
    assert stored(client, time_slot=1)["response"] == "Fractions"


def test_a_plan_says_what_writing_then_does_and_writes_nothing(client: FlaskClient, backend: Backend) -> None:
    repository: ConversationRepository = client.application.extensions["conversation_repository"]

    def rows() -> list[Any]:
        with psycopg.connect(backend.database) as connection:
            return connection.execute(
                "select i::text from turnlog.ai_interactions as i union all"
                " select s::text from turnlog.ai_sessions as s order by 1"
            ).fetchall()

    send(client, lesson(time_slot=1), lesson(time_slot=2), lesson(time_slot=3))
    batch = [
        lesson("Decimals", time_slot=1),
        {**lesson(time_slot=2), "model": "m"},
        lesson(time_slot=3),
        lesson(time_slot=4),
        lesson("Decimals", time_slot=4),
        {"promt": "A typo"},
        {"prompt": "Without a name"},
    ]
    before, counted = rows(), repository.ledger.totals()
    planned = send(client, *batch, dry_run=True)
    assert (rows(), repository.ledger.totals()) == (before, counted)
    assert planned.status_code == 200
    assert planned.get_json()["counts"] == {"conflict": 1, "fill": 1, "nothing": 1, "create": 2, "reject": 2}
    plan = planned.get_json()["plan"]
    nameless = plan.pop()
    assert (nameless["would"], nameless["session_id"], nameless["interaction_id"]) == ("create", None, None)

    written = send(client, *batch).get_json()["receipts"][:-1]
    would = {
        "created": "create",
        "filled": "fill",
        "duplicate": "nothing",
        "conflict": "conflict",
        "rejected": "reject",
    }
    assert plan == [{"would": would[item.pop("receipt")], **item} for item in written]


def test_one_call_can_be_planned_as_well(client: FlaskClient) -> None:
    def plan_for(**fields: Any) -> dict[str, Any]:
        answer = client.post("/v1/interactions?dry_run=true", json=fields)
        assert answer.status_code == 200
        plan: dict[str, Any] = answer.get_json()
        return plan

    assert plan_for(**lesson())["would"] == "create"
    assert client.get("/v1/sessions").get_json()["sessions"] == []
    kept = client.post("/v1/interactions?dry_run=false", json=lesson()).get_json()
    plan = plan_for(**lesson("Decimals"))
    assert (plan["would"], plan["held_by"], plan["key"]) == ("conflict", kept["interaction_id"], KEY)
    assert [each["path"] for each in plan["fields"]] == ["$.response"]


@pytest.mark.parametrize("query", ["dry_run=", "dry_run=1", "dry_run=True", "dry_run", "dry_run=true&dry_run=true"])
@pytest.mark.parametrize("path", ["/v1/interactions", "/v1/interactions/batch"])
def test_a_call_that_may_be_meant_to_be_planned_writes_nothing(client: FlaskClient, path: str, query: str) -> None:
    body = lesson() if path == "/v1/interactions" else {"interactions": [lesson()]}
    for asked, named in ((query, "?dry_run"), ("dryrun=true", "?dryrun")):
        answer = client.post(f"{path}?{asked}", json=body)
        assert (answer.status_code, paths(answer)) == (422, [named])
    assert client.get("/v1/sessions").get_json()["sessions"] == []


def test_eight_generators_race_for_the_same_lessons(backend: Backend) -> None:
    """Every receipt is true, and every key has one row: one of those that were tried."""
    stores = [backend.open(), GroupCommit(backend.open(), max_wait_s=30)]
    clients = [create_app(Settings.from_mapping(KEYLESS), stores[n % 2]).test_client() for n in range(8)]
    start = threading.Barrier(len(clients))

    def generate(generator: int) -> list[tuple[list[dict[str, Any]], list[dict[str, Any]]]]:
        chance = random.Random(generator)
        sent = []
        for _ in range(6):
            batch = [
                lesson(chance.choice(["Fractions", "Decimals"]), time_slot=slot, school=school)
                for slot in range(5)
                for school in chance.sample(["Elm", "Oak", "Ash", "Fir"], k=3)
            ]
            batch.append(chance.choice(batch))  # the same again
            chance.shuffle(batch)
            start.wait(60)
            answer = send(clients[generator], *batch, key_fields=PARTS)
            assert answer.status_code in {200, 207}, answer.text
            sent.append((batch, answer.get_json()["receipts"]))
        return sent

    with ThreadPoolExecutor(len(clients)) as threads:
        batches = [each for sent in threads.map(generate, range(len(clients))) for each in sent]

    with psycopg.connect(backend.database) as connection:
        rows = connection.execute("select key, id::text, response #>> '{}' from turnlog.ai_interactions").fetchall()
    responses, ids = {row[0]: row[2] for row in rows}, {row[0]: row[1] for row in rows}
    assert len(rows) == len(responses) == 20
    winners = defaultdict(list)
    for batch, receipts in batches:
        for stated, item in zip(batch, receipts, strict=True):
            key = canonical_key(stated["key"])
            match item["receipt"]:
                case "created":
                    winners[key].append(stated["response"])
                case "duplicate":
                    assert stated["response"] == responses[key]
                case "conflict":
                    assert stated["response"] != responses[key]
                    assert item["fields"] == [
                        {"path": f"$.interactions[{item['index']}].response", "detail": "Another value is stored"}
                    ]
                    assert item["held_by"] == ids[key]
                case other:
                    pytest.fail(f"no generator can be told {other}: {item}")
    assert winners == {key: [response] for key, response in responses.items()}

    agreeing = [lesson(response) | {"key": stated["key"]} for stated in batches[0][0]
                for response in [responses[canonical_key(stated["key"])]]]  # fmt: skip
    retried = send(clients[0], *agreeing, key_fields=PARTS)
    assert (retried.status_code, retried.get_json()["counts"]) == (200, {"duplicate": len(agreeing)})
