"""POST /v1/sessions/{session}/messages: lists of messages as SDKs have them, and what is known of the newest answer."""

from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from logging_store.store import Store
from tests.http_calls import in_path, log, paths, problem, transcript
from tests.store_calls import expire_texts

CHAT = [
    {"role": "system", "content": "Be short"},
    {"role": "user", "content": "one?"},
    {"role": "assistant", "content": "1"},
    {"role": "user", "content": "two?"},
    {"role": "assistant", "content": "2"},
]


def send(client: FlaskClient, messages: Any, session: str = "c", **beside: Any) -> TestResponse:
    return client.post(f"{in_path(session)}/messages", json={"messages": messages, **beside})


def receipts(answer: TestResponse) -> list[tuple[str, list[int]]]:
    return [(each["receipt"], each["messages"]) for each in answer.get_json()["receipts"]]


def exchanges(client: FlaskClient, session: str = "c") -> list[tuple[Any, Any]]:
    return [(row["prompt"], row["response"]) for row in transcript(client, session)]


def test_a_list_may_be_sent_at_any_time_and_only_what_is_new_is_stored(client: FlaskClient) -> None:
    sent = [send(client, CHAT[:3]), send(client, CHAT[:4]), send(client, CHAT), send(client, CHAT)]
    assert [(each.status_code, receipts(each)) for each in sent] == [
        (201, [("created", [0, 1, 2])]),
        (201, [("duplicate", [0, 1, 2]), ("created", [3])]),
        (200, [("duplicate", [0, 1, 2]), ("filled", [3, 4])]),
        (200, [("duplicate", [0, 1, 2]), ("duplicate", [3, 4])]),
    ]
    assert sent[2].get_json()["counts"] == {"duplicate": 1, "filled": 1}
    assert exchanges(client) == [(CHAT[:2], "1"), ("two?", "2")]
    rows = transcript(client, "c")
    assert [each["interaction_id"] for each in sent[3].get_json()["receipts"]] == [
        row["interaction_id"] for row in rows
    ]


def test_what_is_known_of_the_newest_answer_is_beside_the_list(client: FlaskClient) -> None:
    known: dict[str, Any] = {
        "model": "m", "provider": "p", "latency_ms": 12.5, "finish_reason": "stop", "tags": ["a"],
        "metadata": {"k": 1}, "usage": {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12},
    }  # fmt: skip
    answer = send(client, CHAT, user_id="ada", title="T", **known)
    assert answer.get_json()["session"]["receipt"] == "created"
    first, second = transcript(client, "c")
    assert (first["model"], first["input_tokens"]) == (None, None)
    assert {name: second[name] for name in known if name != "usage"} == {n: v for n, v in known.items() if n != "usage"}
    assert (second["input_tokens"], second["output_tokens"]) == (5, 7)
    assert client.get(in_path("c")).get_json()["user_id"] == "ada"
    later = send(client, CHAT[-2:], cost_usd=0.5)
    assert (later.status_code, receipts(later)) == (200, [("filled", [0, 1])])
    assert transcript(client, "c")[1]["cost_usd"] == 0.5


def test_an_answer_says_of_its_call_what_the_sdk_returns(client: FlaskClient) -> None:
    message = {
        "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-x", "stop_reason": "end_turn",
        "stop_sequence": None, "content": [{"type": "text", "text": "Hi"}],
        "usage": {"input_tokens": 3, "output_tokens": 5, "cache_read_input_tokens": 10, "service_tier": "standard"},
    }  # fmt: skip
    send(client, [{"role": "user", "content": "Hello"}, message], system="Be kind")
    (row,) = transcript(client, "c")
    assert row["prompt"] == [{"role": "system", "content": "Be kind"}, {"role": "user", "content": "Hello"}]
    assert (row["response"], row["model"], row["finish_reason"]) == ("Hi", "claude-x", "end_turn")
    assert (row["input_tokens"], row["cached_input_tokens"], row["output_tokens"]) == (13, 10, 5)
    assert row["metadata"]["usage"] == {"service_tier": "standard"}


def test_a_history_with_other_times_contradicts_nothing(client: FlaskClient) -> None:
    asked = {"role": "user", "content": "Hi", "id": "u", "createdAt": "2026-11-21T06:30:00Z"}
    send(client, [asked])
    answered = {"role": "assistant", "content": "Hello", "id": "a"}
    again = send(client, [asked | {"createdAt": "2026-11-21T06:30:01Z"}, answered])
    assert (again.status_code, receipts(again)) == (200, [("filled", [0, 1])])
    assert exchanges(client) == [("Hi", "Hello")]


def test_a_regenerated_answer_and_an_edited_question_are_kept(client: FlaskClient) -> None:
    send(client, CHAT)
    for _ in range(2):
        send(client, [*CHAT[:4], {"role": "assistant", "content": "two"}])
        send(client, [*CHAT[:3], {"role": "user", "content": "zwei?"}, {"role": "assistant", "content": "zwei"}])
    rows = {row["response"]: row for row in transcript(client, "c")}
    assert set(rows) == {"1", "2", "two", "zwei"}
    assert rows["two"]["alternative_to"] == rows["2"]["interaction_id"]
    assert rows["zwei"]["reply_to"] == rows["1"]["interaction_id"]


def test_an_answer_that_another_call_gave_meanwhile_becomes_another_answer(client: FlaskClient) -> None:
    send(client, [{"role": "user", "content": "Name a tree", "id": "u"}])
    for n in range(120):  # the question is further back than what is read
        send(client, [{"role": "user", "content": f"{n}", "id": f"u{n}"}])
    for text in ("Oak.", "Lime.", "Lime."):
        last = send(client, [{"role": "assistant", "content": text, "reply_to": "u"}])
    assert receipts(last) == [("duplicate", [0])]
    rows = client.get(f"{in_path('c')}/interactions?branches=all&limit=1000").get_json()["interactions"]
    first, second = [row for row in rows if row["response"]]
    assert (first["response"], second["response"]) == ("Oak.", "Lime.")
    assert second["alternative_to"] == first["interaction_id"]


@pytest.mark.parametrize("name", ["messages", "contents", "input"])
def test_the_list_has_the_name_that_the_sdk_has_for_it(client: FlaskClient, name: str) -> None:
    answer = client.post(f"{in_path('c')}/messages", json={name: "Hello"})
    assert answer.status_code == 201
    assert exchanges(client) == [("Hello", None)]


def test_a_bad_message_is_rejected_by_itself(client: FlaskClient) -> None:
    answer = send(client, [CHAT[1], {"role": "assistant", "content": "1\0"}, {"content": "?"}, CHAT[4]])
    assert answer.status_code == 207
    assert receipts(answer) == [("created", [0, 1]), ("created", [3]), ("rejected", [2])]
    first, _, rejected = answer.get_json()["receipts"]
    assert first["altered"] == ["$.messages[1].content"]
    assert [field["path"] for field in rejected["fields"]] == ["$.messages[2].role"]
    assert exchanges(client) == [("one?", "1\u2400"), (None, "2")]
    again = send(client, [CHAT[1], {"role": "assistant", "content": "1\0"}, {"content": "?"}, CHAT[4]])
    assert again.get_json()["counts"] == {"duplicate": 2, "rejected": 1}


def test_a_contradiction_is_told_with_its_path(client: FlaskClient) -> None:
    send(client, [CHAT[1], CHAT[2]], model="m", user_id="ada")
    answer = send(client, [CHAT[1], CHAT[2]], model="n", user_id="bob")
    assert answer.status_code == 207
    (receipt,) = answer.get_json()["receipts"]
    assert (receipt["receipt"], [field["path"] for field in receipt["fields"]]) == ("conflict", ["$.model"])
    assert answer.get_json()["session"]["fields"] == ["user_id"]


def test_wrong_bodies_are_refused(client: FlaskClient) -> None:
    for body, path in (
        ({}, "$.messages"), ({"messages": []}, "$.messages"), ({"messages": ["x"], "prompt": "x"}, "$.prompt"),
        ({"messages": ["x"], "system": 1}, "$.system.content"), ({"messages": ["x"], "turn": 1}, "$.turn"),
    ):  # fmt: skip
        refused = client.post(f"{in_path('c')}/messages", json=body)
        assert refused.status_code == 422
        assert path in paths(refused)
    assert problem(client.get(in_path("c")))["status"] == 404
    send(client, CHAT)
    client.delete(in_path("c"))
    gone = send(client, CHAT)
    assert (gone.status_code, {each["reason"] for each in gone.get_json()["receipts"]}) == (207, {"erased"})


@pytest.mark.parametrize("begins", [[], [{"role": "system", "content": "Be short"}]])
@pytest.mark.parametrize("erased", [0, 1, 2])
def test_what_was_erased_does_not_come_back_with_a_whole_list(
    client: FlaskClient, begins: list[dict[str, Any]], erased: int
) -> None:
    said = [{"role": role, "content": f"{role} {n}"} for n in range(3) for role in ("user", "assistant")]
    stored = send(client, [*begins, *said]).get_json()["receipts"]
    path = f"{in_path('c')}/interactions/{stored[erased]['interaction_id']}"
    assert client.delete(path).status_code == 200
    again = send(client, [*begins, *said, {"role": "user", "content": "and then?"}])
    assert again.status_code == 207
    found = [(each["receipt"], each.get("reason")) for each in again.get_json()["receipts"]]
    expected = [("rejected", "erased") if n == erased else ("duplicate", None) for n in range(3)]
    assert found == [*expected, ("created", None)]
    shown = [(row["prompt"], row["response"]) for row in transcript(client, "c")]
    assert len(shown) == 4
    assert shown[erased] == ("[erased]", "[erased]")


@pytest.mark.parametrize("ids", [False, True])
def test_a_chat_goes_on_after_its_texts_expired(client: FlaskClient, store: Store, ids: bool) -> None:
    said = [
        {"role": role, "content": f"{role} {n}", **({"id": f"{role} {n}"} if ids else {})}
        for n in range(3)
        for role in ("user", "assistant")
    ]
    send(client, said[:5])
    expire_texts(store)
    late = send(client, said)
    assert late.status_code == 207
    outcomes = [(each["receipt"], each.get("reason")) for each in late.get_json()["receipts"]]
    assert outcomes == [("duplicate", None)] * 2 + [("rejected", "expired")], "the text of a late answer isn't taken"
    more = send(client, [*said, {"role": "user", "content": "and then?"}])
    assert [each["receipt"] for each in more.get_json()["receipts"]][-1] == "created"
    shown = [(row["prompt"], row["response"]) for row in transcript(client, "c")]
    assert shown == [("[expired]", "[expired]")] * 2 + [("[expired]", None), ("and then?", None)]


def test_of_two_questions_the_erased_one_does_not_come_back(client: FlaskClient) -> None:
    said = [{"role": "user", "content": text} for text in ("one?", "two?", "three?")]
    stored = send(client, said).get_json()["receipts"]
    client.delete(f"{in_path('c')}/interactions/{stored[1]['interaction_id']}")
    assert [each["receipt"] for each in send(client, said).get_json()["receipts"]] == [
        "duplicate",
        "rejected",
        "duplicate",
    ]
    assert [row["prompt"] for row in transcript(client, "c")] == ["one?", "[erased]", "three?"]


@pytest.mark.parametrize("odd", [[], {}, 5, None, [[]], {"type": []}])
def test_a_part_of_no_known_kind_costs_only_its_message(client: FlaskClient, odd: Any) -> None:
    for part in (odd, {"type": odd}, {"type": "text", "text": odd}):
        answer = send(client, [{"role": "user", "content": [part]}, {"role": "user", "content": "hi"}])
        assert answer.status_code in {200, 201, 207}
        log(client, session_id="p", prompt=[{"role": "user", "content": [part]}])
    assert client.get("/v1/sessions/p/interactions").status_code == 200
    assert client.get("/sessions/p").status_code == 200


def timed(n: int) -> dict[str, str]:
    return {"role": "system", "content": f"It is 14:0{n}"}


@pytest.mark.parametrize("varies", [False, True])
def test_an_erased_turn_stays_erased_whatever_the_instructions_say(client: FlaskClient, varies: bool) -> None:
    said = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": "My PIN is 4711"},
        {"role": "assistant", "content": "Noted."},
    ]
    send(client, [timed(1), *said[:2]])
    send(client, [timed(2 if varies else 1), *said])
    pin = transcript(client, "c")[-1]["interaction_id"]
    assert client.delete(f"{in_path('c')}/interactions/{pin}").status_code == 200
    more = [{"role": "user", "content": "Joke?"}, {"role": "assistant", "content": "Ha."}]
    answer = send(client, [timed(3 if varies else 1), *said, *more])
    assert answer.get_json()["counts"] == {"duplicate": 1, "rejected": 1, "created": 1}
    whole = client.get(f"{in_path('c')}/interactions?branches=all&context=true").get_json()["interactions"]
    assert "4711" not in str(whole)
    assert len(whole) == 3


def test_what_is_said_beside_a_list_that_ends_with_a_question_is_of_that_question(client: FlaskClient) -> None:
    said = [{"role": "user", "content": "Q1"}, {"role": "assistant", "content": "A1"}]
    send(client, said)
    send(client, [*said, {"role": "user", "content": "Q2"}], error="overloaded", model="m")
    first, second = transcript(client, "c")
    assert (first["error"], first["model"], first["status"]) == (None, None, "completed")
    assert (second["error"], second["model"], second["status"]) == ("overloaded", "m", "failed")


def test_an_empty_placeholder_grows_into_the_answer(client: FlaskClient) -> None:
    asked = {"role": "user", "content": "Tell"}
    for text, status in (("", "pending"), ("Hel", "pending"), ("Hello", None)):
        send(client, [asked, {"role": "assistant", "content": text, **({"status": status} if status else {})}])
    (row,) = transcript(client, "c")
    assert (row["response"], row["status"]) == ("Hello", "completed")
