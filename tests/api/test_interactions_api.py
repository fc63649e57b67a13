"""Interactions over HTTP: logged once, completed in either order, one by one or in batches."""

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from flask.testing import FlaskClient

from tests.http_calls import create, in_path, log, paths, problem, transcript

FACTS: dict[str, Any] = {
    "prompt": "Hello",
    "response": [{"role": "assistant", "content": "Hi"}],
    "model": "m",
    "provider": "p",
    "status": "completed",
    "error": "",
    "finish_reason": "stop",
    "started_at": "2026-11-21T06:30:00+00:00",
    "completed_at": "2026-11-21T06:30:01.5+00:00",
    "latency_ms": 1500.5,
    "time_to_first_token_ms": 0.1,
    "input_tokens": 2**53,
    "output_tokens": 0,
    "cached_input_tokens": 7,
    "cache_write_tokens": 8,
    "reasoning_tokens": 9,
    "cost_usd": 0.000123,
    "participant": "ada",
    "turn": 7,
    "trace_id": "0af7651916cd43dd8448eb211c80319c",
    "span_id": "b7ad6b7169203331",
    "tags": ["b", "a"],
    "metadata": {"a": {"b": None}},
}


def test_a_bare_prompt_makes_its_session_and_its_id(client: FlaskClient) -> None:
    answers = [log(client, prompt="Hello"), log(client, prompt="Hello")]
    kept = [answer.get_json() for answer in answers]
    assert [answer.status_code for answer in answers] == [201, 201]
    assert len({each[name] for each in kept for name in ("session_id", "interaction_id")}) == 4
    for each in kept:
        assert uuid.UUID(each["interaction_id"]).version == 7
        assert each == each | {"session_key": None, "interaction_key": None, "receipt": "created", "fields": []}
        session = client.get(in_path(each["session_id"])).get_json()
        assert (session["implicit"], session["interaction_count"]) == (True, 1)


def test_every_field_comes_back(client: FlaskClient) -> None:
    kept = log(client, session_id="s", interaction_id="i", reply_to="before", alternative_to="i0", **FACTS).get_json()
    (read,) = transcript(client, "s")
    before = log(client, session_id="s", interaction_id="before", prompt="Hey").get_json()
    other = log(client, session_id="s", interaction_id="i0", prompt="Hey").get_json()
    assert (kept["session_key"], kept["interaction_key"]) == ("s", "i")
    assert read == FACTS | {
        "interaction_id": kept["interaction_id"],
        "key": "i",
        "session_id": kept["session_id"],
        "reply_to": before["interaction_id"],
        "alternative_to": other["interaction_id"],
        "chosen_at": None,
        "alternatives": [],
        "context": None,
        "question": None,
        "erased_at": None,
        "text_expired_at": None,
        "created_at": read["created_at"],
        "spooled": False,
    }


def test_a_uuid_names_an_interaction_in_any_spelling(client: FlaskClient) -> None:
    one = "01890A5D-AC96-774B-BCCE-B302099A8057"
    first = log(client, session_id="s", interaction_id=one, prompt="Hello")
    again = log(client, session_id="s", interaction_id=one.lower(), prompt="Hello")
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.get_json()["interaction_id"] == again.get_json()["interaction_id"] == one.lower()
    assert log(client, session_id="elsewhere", interaction_id=one, prompt="Other").status_code == 201


def test_again_it_is_a_duplicate_then_filled_then_a_conflict(client: FlaskClient) -> None:
    name = {"session_id": "s", "interaction_id": "i"}
    log(client, **name, prompt="Hello", metadata={"a": 1})
    again = log(client, **name, prompt="Hello", metadata={"a": 1})
    fuller = log(client, **name, response="Hi", model="m", metadata={"b": 2})
    other = log(client, **name, response="Ho", model="m", provider="p", metadata={"a.b": 3, "b": 3})
    assert [answer.status_code for answer in (again, fuller, other)] == [200, 200, 409]
    assert (again.get_json()["receipt"], again.get_json()["fields"]) == ("duplicate", [])
    assert (fuller.get_json()["receipt"], fuller.get_json()["fields"]) == ("filled", ["metadata", "model", "response"])
    assert paths(other) == ["$.metadata.b", "$.response"]
    assert problem(other)["interaction_key"] == "i"
    (read,) = transcript(client, "s")
    assert (read["response"], read["provider"], read["metadata"]) == ("Hi", None, {"a": 1, "b": 2})


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_response_completes_its_prompt_in_either_order(client: FlaskClient, order: tuple[int, int]) -> None:
    halves: list[dict[str, Any]] = [{"prompt": "Hello", "status": "pending"}, {"response": "Hi"}]
    receipts = [log(client, session_id="s", interaction_id="i", **halves[n]).get_json()["receipt"] for n in order]
    (read,) = transcript(client, "s")
    assert receipts == ["created", "filled"]
    assert (read["prompt"], read["response"], read["status"]) == ("Hello", "Hi", "completed")


@pytest.mark.parametrize(
    ("facts", "status"),
    [
        ({"prompt": "Hello"}, "pending"),
        ({"status": "pending"}, "pending"),
        ({"response": ""}, "completed"),
        ({"prompt": "Hello", "response": "Hi"}, "completed"),
        ({"prompt": "Hello", "error": "overloaded"}, "failed"),
        ({"prompt": "Hello", "response": "Hi, I", "error": "cut off"}, "failed"),
        ({"prompt": "Hello", "response": "Hi, I", "status": "abandoned"}, "abandoned"),
        ({"prompt": "Hello", "status": "failed"}, "failed"),
    ],
)
def test_a_status_is_stated_or_follows_from_the_facts(client: FlaskClient, facts: dict[str, Any], status: str) -> None:
    log(client, session_id="s", **facts)
    assert [each["status"] for each in transcript(client, "s")] == [status]


def test_pending_is_no_fact_that_could_contradict(client: FlaskClient) -> None:
    name = {"session_id": "s", "interaction_id": "i"}
    log(client, **name, prompt="Hello", response="Hi", status="completed")
    assert log(client, **name, prompt="Hello", status="pending").get_json()["receipt"] == "duplicate"


@pytest.mark.parametrize("nothing", [{}, {"session_id": "s"}, {"prompt": None, "response": None}, {"model": "m"}])
def test_an_interaction_says_something(client: FlaskClient, nothing: dict[str, Any]) -> None:
    answer = log(client, **nothing)
    assert (answer.status_code, paths(answer)) == (422, ["$"])


def test_whole_numbers_may_be_written_with_a_point(client: FlaskClient) -> None:
    name = {"session_id": "s", "interaction_id": "i"}
    log(client, **name, prompt="Hello", input_tokens=5.0, latency_ms=3)
    assert log(client, **name, prompt="Hello", input_tokens=5, latency_ms=3.0).get_json()["receipt"] == "duplicate"
    assert transcript(client, "s")[0]["input_tokens"] == 5


def test_a_create_and_a_log_in_either_order_make_the_same_session(client: FlaskClient) -> None:
    for first, second, name in ((create, log, "a"), (log, create, "b")):
        for call in (first, second):
            call(client, session_id=name, **({"title": "T"} if call is create else {"prompt": "Hello"}))
    a, b = (client.get(in_path(name)).get_json() for name in ("a", "b"))
    own = {"session_id", "key", "created_at", "last_activity_at", "started_at"}
    assert {name: a[name] for name in a.keys() - own} == {name: b[name] for name in b.keys() - own}
    assert (a["implicit"], a["title"], a["interaction_count"]) == (False, "T", 1)


AHEAD = "a day ahead of the service's clock"


@pytest.mark.parametrize("path", ["/v1/interactions", "/interaction/log", "/v1/sessions", "/session/create"])
def test_what_starts_far_in_the_future_is_refused(client: FlaskClient, path: str) -> None:
    body = {"session_id": "s"} | ({"prompt": "Hello"} if "interaction" in path else {})
    far, near = (datetime.now(UTC) + timedelta(hours=hours) for hours in (25, 23))
    for start in (far.isoformat(), int(far.timestamp()), int(far.timestamp() * 1000), "2099-01-01T00:00:00Z"):
        told = problem(client.post(path, json=body | {"started_at": start}), 422)
        assert (told["code"], [field["path"] for field in told["fields"]]) == ("rejected", ["$.started_at"])
        assert AHEAD in told["detail"]
    assert client.get("/v1/sessions").get_json()["sessions"] == []
    assert client.post(path, json=body | {"started_at": near.isoformat()}).status_code == 201


def test_what_ends_far_in_the_future_is_refused(client: FlaskClient) -> None:
    far, near = ((datetime.now(UTC) + timedelta(hours=hours)).isoformat() for hours in (25, 23))
    told = problem(log(client, session_id="s", prompt="Hello", response="Hi", completed_at=far), 422)
    assert [field["path"] for field in told["fields"]] == ["$.completed_at"]
    assert AHEAD in told["detail"]
    assert log(client, session_id="s", prompt="Hello", response="Hi", completed_at=near).status_code == 201


def test_in_a_batch_only_what_starts_far_in_the_future_is_refused(client: FlaskClient) -> None:
    items = [{"session_id": "s", "prompt": "1"}, {"session_id": "s", "prompt": "2", "started_at": 4070908800}]
    planned = client.post("/v1/interactions/batch?dry_run=true", json={"interactions": items})
    assert [item["would"] for item in planned.get_json()["plan"]] == ["create", "reject"]
    written = client.post("/v1/interactions/batch", json={"interactions": items})
    assert written.status_code == 207
    first, second = written.get_json()["receipts"]
    assert (first["receipt"], second["receipt"]) == ("created", "rejected")
    assert second["fields"] == [{"path": "$.interactions[1].started_at", "detail": second["reason"]}]
    assert AHEAD in second["reason"]


def test_unix_time_is_stored_as_the_time_it_is(client: FlaskClient) -> None:
    times = {"started_at": 1764000000, "completed_at": 1764000001500}
    assert log(client, session_id="s", interaction_id="i", prompt="Hello", **times).status_code == 201
    again = log(client, session_id="s", interaction_id="i", started_at="2025-11-24T17:00:00+01:00", prompt="Hello")
    assert again.get_json()["receipt"] == "duplicate"
    (kept,) = transcript(client, "s")
    assert (kept["started_at"], kept["completed_at"]) == (
        "2025-11-24T16:00:00+00:00",
        "2025-11-24T16:00:01.5+00:00",
    )
