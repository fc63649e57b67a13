"""An answer is saved as it grows, fails and is tried again, and its usage arrives by itself."""

from itertools import permutations
from typing import Any

import pytest
from flask.testing import FlaskClient

from tests.http_calls import log, transcript

NAME = {"session_id": "s", "interaction_id": "t"}


def tell(client: FlaskClient, *records: dict[str, Any]) -> list[tuple[int, str, list[str]]]:
    """Log records of one interaction; return status, receipt and fields of each."""
    answers = [log(client, **NAME, **record) for record in records]
    return [(each.status_code, each.get_json().get("receipt", "conflict"), fields(each.get_json())) for each in answers]


def fields(answer: dict[str, Any]) -> list[str]:
    return [each if isinstance(each, str) else each["path"] for each in answer["fields"]]


def stored(client: FlaskClient) -> dict[str, Any]:
    (row,) = transcript(client, "s")
    return row


def test_a_longer_answer_replaces_its_beginning(client: FlaskClient) -> None:
    assert tell(client, {"prompt": "Tell", "response": "Once"}, {"response": "Once upon a time"}) == [
        (201, "created", []),
        (200, "filled", ["response"]),
    ]
    assert tell(client, {"response": "Once upon"}) == [(200, "duplicate", [])]
    assert (stored(client)["response"], stored(client)["status"]) == ("Once upon a time", "completed")


def test_another_answer_is_a_conflict(client: FlaskClient) -> None:
    assert tell(client, {"prompt": "Tell", "response": "Once"}, {"response": "Twice", "model": "m"})[1] == (
        409,
        "conflict",
        ["$.response"],
    )
    assert (stored(client)["response"], stored(client)["model"]) == ("Once", None)


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        ([{"role": "assistant", "content": "On"}], [{"role": "assistant", "content": "Once"}]),
        ("On", [{"role": "assistant", "content": "Once"}, {"role": "assistant", "content": "Then"}]),
        (
            [{"role": "assistant", "content": [{"type": "text", "text": "On"}]}],
            [{"role": "assistant", "content": [{"type": "text", "text": "Once"}, {"type": "tool_use", "id": "c"}]}],
        ),
        (
            [{"role": "assistant", "content": None, "tool_calls": [{"id": "c", "function": {"arguments": "{"}}]}],
            [{"role": "assistant", "content": "Hm", "tool_calls": [{"id": "c", "function": {"arguments": "{}"}}]}],
        ),
    ],
)
def test_messages_grow_by_messages_and_by_the_last_ones_text(client: FlaskClient, earlier: Any, later: Any) -> None:
    assert tell(client, {"response": earlier}, {"response": later}) == [
        (201, "created", []),
        (200, "filled", ["response"]),
    ]
    assert tell(client, {"response": earlier}) == [(200, "duplicate", [])]
    assert stored(client)["response"] == later


def test_a_role_or_an_id_does_not_grow(client: FlaskClient) -> None:
    one = [{"role": "assistant", "content": "Hi", "tool_calls": [{"id": "call", "function": {"arguments": ""}}]}]
    other = [{"role": "assistant", "content": "Hi", "tool_calls": [{"id": "call-2", "function": {"arguments": ""}}]}]
    assert [each[0] for each in tell(client, {"response": one}, {"response": other})] == [201, 409]


@pytest.mark.parametrize("order", list(permutations(range(4))))
def test_a_streamed_answer_is_the_last_one_in_any_order(client: FlaskClient, order: tuple[int, ...]) -> None:
    saved: list[dict[str, Any]] = [
        {"prompt": "Tell", "status": "pending"},
        {"response": "Once ", "status": "pending", "latency_ms": 10},
        {"response": "Once upon ", "status": "pending", "latency_ms": 20},
        {"response": "Once upon", "status": "completed", "latency_ms": 30},
    ]
    assert all(each[0] in {200, 201} for each in tell(client, *(saved[n] for n in order)))
    row = stored(client)
    assert (row["response"], row["status"], row["latency_ms"]) == ("Once upon", "completed", 30)


def test_an_answer_stays_pending_until_it_is_said_to_be_complete(client: FlaskClient) -> None:
    tell(client, {"prompt": "Tell", "response": "Once", "status": "pending"})
    assert stored(client)["status"] == "pending"
    assert tell(client, {"response": "Once"}) == [(200, "filled", ["status"])]
    assert stored(client)["status"] == "completed"


@pytest.mark.parametrize("status", [{"status": "completed"}, {}])
def test_a_job_that_failed_is_run_again(client: FlaskClient, status: dict[str, str]) -> None:
    failed = {"prompt": "Tell", "status": "failed", "error": "rate limit", "model": "big", "started_at": 1_772_359_200}
    again = {"response": "Fine.", "model": "small", "started_at": 1_772_359_260} | status
    assert tell(client, failed, again) == [
        (201, "created", []),
        (200, "filled", ["model", "response", "status"]),
    ]
    row = stored(client)
    assert (row["response"], row["status"], row["error"], row["model"]) == ("Fine.", "completed", "rate limit", "small")
    assert row["started_at"] == "2026-03-01T10:00:00+00:00"
    assert tell(client, failed) == [(200, "duplicate", [])]


def test_it_may_fail_several_times_in_several_ways(client: FlaskClient) -> None:
    first, second = ({"status": "failed", "error": error} for error in ("rate limit", "time-out"))
    assert [each[0] for each in tell(client, {"prompt": "Tell"} | first, second, {"response": "Fine."})] == [
        201,
        200,
        200,
    ]
    assert (stored(client)["status"], stored(client)["error"]) == ("completed", "time-out")
    assert client.get("/v1/sessions/s").get_json()["failed_count"] == 0


def test_a_late_attempt_with_an_answer_of_its_own_is_kept_and_not_shown(client: FlaskClient) -> None:
    late = {"response": "Twice", "status": "abandoned"}
    assert tell(client, {"prompt": "Tell", "response": "Once"}, late, late)[1:] == [
        (200, "revised", []),
        (200, "duplicate", []),
    ]
    assert (stored(client)["response"], stored(client)["status"]) == ("Once", "completed")


def test_report_keeps_nothing(client: FlaskClient) -> None:
    tell(client, {"prompt": "Tell", "response": "Once"})
    late = NAME | {"response": "Twice", "status": "abandoned"}
    for mode, receipt in (("report", "duplicate"), ("report", "duplicate"), ("keep", "revised")):
        answer = client.post("/v1/interactions/batch", json={"interactions": [late], "on_conflict": mode}).get_json()
        assert answer["receipts"][0]["receipt"] == receipt


def test_an_id_alone_fills_tokens_and_cost(client: FlaskClient) -> None:
    assert tell(client, {"prompt": "hi", "response": "ho"}, {"input_tokens": 3, "cost_usd": 0.1}) == [
        (201, "created", []),
        (200, "filled", ["cost_usd", "input_tokens"]),
    ]
    assert tell(client, {"input_tokens": 3}, {"input_tokens": 4}) == [
        (200, "duplicate", []),
        (409, "conflict", ["$.input_tokens"]),
    ]
    row = stored(client)
    assert (row["prompt"], row["response"], row["status"]) == ("hi", "ho", "completed")
    assert (row["input_tokens"], row["cost_usd"]) == (3, 0.1)


def test_ids_alone_say_nothing(client: FlaskClient) -> None:
    assert log(client, **NAME).status_code == 422
    assert log(client, session_id="s", input_tokens=3).status_code == 422
