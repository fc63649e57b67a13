"""Batches over HTTP: one transaction, a receipt for each item, and no item harms another."""

import json
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from tests.http_calls import create, in_path, log, paths, transcript

GOOD = {"session_id": "good", "prompt": "Unharmed"}

#: What is wrong with an item, and the path of the culprit below the item.
BAD_ITEMS: dict[str, tuple[Any, str]] = {
    "null": (None, ""),
    "a list": ([], ""),
    "a text": ("Hello", ""),
    "a number": (1, ""),
    "nothing said": ({}, ""),
    "only a session": ({"session_id": "s"}, ""),
    "an unknown field": (GOOD | {"promt": "Hello"}, ".promt"),
    "a field of no one": (GOOD | {"a b": 1}, "['a b']"),
    "NUL in an id": (GOOD | {"interaction_id": "a\0b"}, ".interaction_id"),
    "half a pair in an id": (GOOD | {"interaction_id": "a\ud83d"}, ".interaction_id"),
    "half a pair in a tag": (GOOD | {"tags": ["a\ud83d"]}, ".tags[0]"),
    "a message without a role": ({"prompt": [{"content": "Hello"}]}, ".prompt[0].role"),
    "a message that is a text": ({"response": ["Hello"]}, ".response[0]"),
    "no messages": ({"prompt": []}, ".prompt"),
    "a prompt that is an object": ({"prompt": {"role": "user"}}, ".prompt"),
    "a count past 2^53": (GOOD | {"input_tokens": 2**53 + 1}, ".input_tokens"),
    "a negative count": (GOOD | {"output_tokens": -1}, ".output_tokens"),
    "a broken count": (GOOD | {"turn": 1.5}, ".turn"),
    "a count that is a truth": (GOOD | {"turn": True}, ".turn"),
    "a count that is a text": (GOOD | {"turn": "one"}, ".turn"),
    "a negative amount": (GOOD | {"cost_usd": -0.01}, ".cost_usd"),
    "a blank id": (GOOD | {"session_id": " "}, ".session_id"),
    "an empty id": (GOOD | {"interaction_id": ""}, ".interaction_id"),
    "an id too long": (GOOD | {"interaction_id": "x" * 201}, ".interaction_id"),
    "an id that was missing": (GOOD | {"session_id": "undefined"}, ".session_id"),
    "an id that is no whole number": (GOOD | {"session_id": 1.5}, ".session_id"),
    "a time without a zone": (GOOD | {"started_at": "2026-11-21T06:30:00"}, ".started_at"),
    "an unknown status": (GOOD | {"status": "done"}, ".status"),
    "a blank tag": (GOOD | {"tags": ["a", ""]}, ".tags[1]"),
    "a tag twice": (GOOD | {"tags": ["a", "a"]}, ".tags[1]"),
    "too many tags": (GOOD | {"tags": [str(n) for n in range(101)]}, ".tags"),
}


def send(client: FlaskClient, *items: Any) -> TestResponse:
    body = json.dumps({"interactions": items})  # half pairs as escapes, which Flask's own writer refuses
    return client.post("/v1/interactions/batch", data=body, content_type="application/json")


def receipts(answer: TestResponse) -> list[str]:
    return [item["receipt"] for item in answer.get_json()["receipts"]]


def test_a_batch_is_answered_item_by_item(client: FlaskClient) -> None:
    create(client, session_id="a")
    items = [
        {"session_id": "a", "interaction_id": "1", "prompt": "Hello"},
        {"session_id": "b", "interaction_id": "1", "prompt": "Hello"},
        {"prompt": "Alone"},
    ]
    first, again = send(client, *items), send(client, *items[:2])
    assert (first.status_code, again.status_code) == (200, 200)
    assert first.get_json()["counts"] == {"created": 3}
    assert again.get_json()["counts"] == {"duplicate": 2}
    for index, item in enumerate(first.get_json()["receipts"]):
        named = {"session_key": items[index].get("session_id"), "interaction_key": items[index].get("interaction_id")}
        assert item == item | named | {"index": index, "receipt": "created", "fields": []}
        assert transcript(client, item["session_id"])[0]["interaction_id"] == item["interaction_id"]


def test_one_bad_item_of_any_sort_harms_no_other(client: FlaskClient) -> None:
    for names in in_parts(list(BAD_ITEMS), 10):  # a response lists 20 wrong fields
        items: list[Any] = []
        for name in names:
            items += [BAD_ITEMS[name][0], GOOD | {"interaction_id": f"good beside {name}"}]
        answer = send(client, *items)
        assert answer.status_code == 207
        assert answer.get_json()["counts"] == {"rejected": len(names), "created": len(names)}
        found = {
            name: [field["path"] for field in answer.get_json()["receipts"][2 * n].get("fields", [])]
            for n, name in enumerate(names)
        }
        expected = {name: [f"$.interactions[{2 * n}]{BAD_ITEMS[name][1]}"] for n, name in enumerate(names)}
        assert found == expected
        assert {item["reason"] for item in answer.get_json()["receipts"][::2]} == {"invalid"}


def in_parts(names: list[str], size: int) -> list[list[str]]:
    return [names[at : at + size] for at in range(0, len(names), size)]


def test_a_single_call_refuses_what_a_batch_rejects(client: FlaskClient) -> None:
    for name, (item, path) in BAD_ITEMS.items():
        answer = client.post("/v1/interactions", data=json.dumps(item), content_type="application/json")
        assert (answer.status_code, paths(answer)) == (422, [f"${path}"]), name
    assert client.get("/v1/sessions").get_json()["sessions"] == []


def test_one_interaction_may_be_stated_any_number_of_times_in_a_batch(client: FlaskClient) -> None:
    hot, other = {"session_id": "s", "interaction_id": "hot"}, {"session_id": "t", "interaction_id": "hot"}
    answer = send(client, *({**hot, "prompt": "Hello", "metadata": {f"k{n}": n}} for n in range(300)),
                  *({**other, "prompt": "Hello"} for _ in range(300)))  # fmt: skip
    assert answer.status_code == 200
    assert answer.get_json()["counts"] == {"created": 2, "filled": 299, "duplicate": 299}
    (stored,) = transcript(client, "s")
    assert stored["metadata"] == {f"k{n}": n for n in range(300)}


def test_the_same_id_twice_is_weighed_in_order(client: FlaskClient) -> None:
    one = {"session_id": "s", "interaction_id": "i"}
    answer = send(
        client,
        one | {"prompt": "Hello"},
        one | {"response": "Hi"},
        one | {"prompt": "Hello", "response": "Hi"},
        one | {"prompt": "Bye", "model": "m", "metadata": {"a.b": 1}},
        one | {"metadata": {"a.b": 1}, "status": "completed"},
        one | {"metadata": {"a.b": 2}, "status": "completed"},
    )
    assert answer.status_code == 207
    assert receipts(answer) == ["created", "filled", "duplicate", "conflict", "filled", "conflict"]
    fields = [item["fields"] for item in answer.get_json()["receipts"]]
    assert fields[1] == ["response"]
    assert [field["path"] for field in fields[3]] == ["$.interactions[3].prompt"]
    assert [field["path"] for field in fields[5]] == ["$.interactions[5].metadata['a.b']"]
    (read,) = transcript(client, "s")
    assert (read["prompt"], read["response"], read["model"], read["metadata"]) == ("Hello", "Hi", None, {"a.b": 1})


def test_a_session_may_be_named_by_key_and_by_id_in_one_batch(client: FlaskClient) -> None:
    session_id = create(client, session_id="s").get_json()["session_id"]
    answer = send(client, {"session_id": "s", "prompt": "1"}, {"session_id": session_id.upper(), "prompt": "2"})
    assert [item["session_id"] for item in answer.get_json()["receipts"]] == [session_id, session_id]
    assert [each["prompt"] for each in transcript(client, "s")] == ["1", "2"]


def test_late_items_of_an_erased_session_are_rejected_one_by_one(client: FlaskClient) -> None:
    log(client, session_id="gone", prompt="Hello")
    client.delete(in_path("gone"))
    answer = send(client, {"session_id": "gone", "prompt": "Late"}, GOOD)
    assert (answer.status_code, receipts(answer)) == (207, ["rejected", "created"])
    assert answer.get_json()["receipts"][0]["reason"] == "erased"
    assert answer.get_json()["counts"] == {"rejected": 1, "created": 1}


def test_a_batch_of_a_thousand_is_kept_in_its_order(client: FlaskClient) -> None:
    answer = send(client, *({"session_id": "s", "prompt": str(n)} for n in range(1000)))
    assert (answer.status_code, answer.get_json()["counts"]) == (200, {"created": 1000})
    read = client.get(f"{in_path('s')}/interactions?limit=1000").get_json()
    assert [each["prompt"] for each in read["interactions"]] == [str(n) for n in range(1000)]
    assert read["next"] is None


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({"interactions": []}, "$.interactions"),
        ({"interactions": [GOOD] * 1001}, "$.interactions"),
        ({"interactions": None}, "$.interactions"),
        ({"interactions": GOOD}, "$.interactions"),
        ({}, "$.interactions"),
        ([GOOD], "$"),
        ({"interactions": [GOOD], "session_id": "s"}, "$.session_id"),
        ({"interactions": [GOOD], "on_conflict": "overwrite"}, "$.on_conflict"),
        ({"interactions": [GOOD], "on_conflict": None}, "$.on_conflict"),
        ({"interactions": [GOOD], "key_fields": []}, "$.key_fields"),
        ({"interactions": [GOOD], "key_fields": "school"}, "$.key_fields"),
        ({"interactions": [GOOD], "key_fields": [str(n) for n in range(9)]}, "$.key_fields"),
        ({"interactions": [GOOD], "key_fields": ["school", "date", "school"]}, "$.key_fields[2]"),
        ({"interactions": [GOOD], "key_fields": ["school", " "]}, "$.key_fields[1]"),
        ({"interactions": [GOOD], "key_fields": ["x" * 51]}, "$.key_fields[0]"),
    ],
)
def test_a_batch_that_is_none_is_refused_as_a_whole(client: FlaskClient, body: Any, path: str) -> None:
    answer = client.post("/v1/interactions/batch", json=body)
    assert (answer.status_code, paths(answer)) == (422, [path])
    assert client.get("/v1/sessions").get_json()["sessions"] == []
