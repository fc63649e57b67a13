"""A part that is wrong costs only itself: its neighbours are kept, and its path is named."""

import json
from typing import Any

import pytest
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.test import TestResponse

from app import create_app
from conversation.api import body_parts, requests
from conversation.api.body_parts import Unparsed
from conversation.settings import Settings
from logging_store.store import Store
from tests.http_calls import KEYLESS, in_path, log, problem, transcript

GOOD = b'{"session_id":"s","interaction_id":"i%d","prompt":"fine %d"}'
#: An item that isn't JSON: what is named of it, beside its place in the list.
BROKEN = {
    b'{"prompt":"x","cost_usd":NaN}': ".cost_usd",
    b'{"prompt":"x","metadata":{"a":[1,-Infinity]}}': ".metadata.a[1]",
    b'{"prompt":"\xff"}': ".prompt",
    '{"prompt":[{"role":"user","content":"é"}]}'.encode("latin-1"): ".prompt[0].content",
    b'{"prompt":"\xed\xa0\xbd"}': ".prompt",
    b'{"prompt":"x","prompt":"y"}': ".prompt",
    b'{"prompt":"x","metadata":{"a":{"b":1,"b":1}}}': ".metadata.a.b",
    b'{"prompt":None}': "",
    b'{"prompt":undefined}': "",
    b'{"prompt":"x",}': "",
    b"{'prompt':'x'}": "",
    b'{prompt:"x"}': "",
    rb'{"prompt":"\x41"}': "",
    rb'{"prompt":"\u12"}': "",
    b'{"prompt":"two\nlines"}': "",
    b'{"prompt":"a\0b"}': "",
    b'{"prompt":"x","turn":01}': "",
    b'{"prompt":"x","metadata":{"a":1' + b"0" * 5000 + b"}}": "",
    b'{"prompt":"x","metadata":' + b'{"a":' * 300 + b"1" + b"}" * 300 + b"}": ".metadata" + ".a" * 64,
    b'{"prompt":"x","metadata":' + b"[" * 5000 + b"]" * 5000 + b"}": "",
    b'{"prompt":"x"]': "",
    b"NaN": "",
    b"": "",
    b'{"prompt":"x"} {"prompt":"y"}': "",
    b'"\xff"': "",
}

#: Those that no parser takes, where they can be told from nothing.
UNPARSED = [each for each in BROKEN if each and ".a.a" not in BROKEN[each]]


def post(client: FlaskClient, body: bytes, path: str = "/v1/interactions/batch") -> TestResponse:
    return client.post(path, data=body, content_type="application/json")


def strict(store: Store) -> FlaskClient:
    return create_app(Settings.from_mapping(KEYLESS | {"TURNLOG_UNSTORABLE": "reject"}), store).test_client()


def batch(*items: bytes) -> bytes:
    return b'{ "interactions" : [' + b" ,\n".join(items) + b'] , "on_conflict":"keep"}'


@pytest.mark.parametrize("broken", BROKEN, ids=[repr(each)[:40] for each in BROKEN])
def test_an_item_that_is_no_json_costs_only_itself(client: FlaskClient, broken: bytes) -> None:
    answer = post(client, batch(GOOD % (0, 0), broken, GOOD % (1, 1)))
    assert answer.status_code == 207
    before, bad, after = answer.get_json()["receipts"]
    assert (before["receipt"], bad["receipt"], after["receipt"]) == ("created", "rejected", "created")
    assert [field["path"] for field in bad["fields"]] == [f"$.interactions[1]{BROKEN[broken]}"]
    assert " at line " not in bad["fields"][0]["detail"]
    assert [each["prompt"] for each in transcript(client, "s")] == ["fine 0", "fine 1"]


@pytest.mark.parametrize("broken", BROKEN, ids=[repr(each)[:40] for each in BROKEN])
def test_so_does_a_message_of_a_conversation(client: FlaskClient, broken: bytes) -> None:
    good = b'{"role":"user","content":"%d"}'
    body = b'{"conversation_id":"c","messages":[' + b",".join([good % 0, broken, good % 2]) + b"]}"
    answer = post(client, body, "/conversation/start")
    assert (answer.status_code, answer.get_json()["success"]) == (207, False)
    receipts = answer.get_json()["messages"]
    assert [each["receipt"] for each in receipts] == ["created", "rejected", "created"]
    assert receipts[1]["fields"][0]["path"].startswith("$.messages[1]")
    kept = client.get("/conversation/c").get_json()["messages"]
    assert [each["content"] for each in kept] == ["0", "2"]


def test_several_bad_items_and_a_bad_tail_of_the_body(client: FlaskClient) -> None:
    broken = list(BROKEN)
    items = [item for n, each in enumerate(broken) for item in (GOOD % (n, n), each)]
    answer = post(client, batch(*items))
    assert answer.get_json()["counts"] == {"created": len(broken), "rejected": len(broken)}
    half_pair = batch(b'{"prompt":NaN}', rb'{"session_id":"t","prompt":"\ud83d"}')
    _, kept = post(client, half_pair).get_json()["receipts"]
    assert (kept["receipt"], kept["altered"]) == ("created", ["$.interactions[1].prompt"])


@pytest.mark.parametrize(
    "body",
    [
        b'{"interactions":[{"prompt":"x"},{"prompt":"\xff"}',
        b'{"interactions":[{"prompt":"x"},{"prompt":"\xff',
        b'{"interactions":[{"prompt":NaN}],"interactions":[]}',
        b'{"interactions":[{"prompt":NaN}]}x',
        b'{"interactions":[{"prompt":NaN}],"on_conflict":NaN}',
        b'{"interactions":[{"prompt":NaN}],}',
        b'{"interactions":[{"prompt":NaN}}',
        b'{"interactions":{"prompt":NaN}}',
        b'{"items":[{"prompt":NaN}]}',
        b'[{"prompt":NaN}]',
        b'{"interactions":[{"prompt":"7" wide"}, NaN]}',
        b'{"interactions":[' + b"[" * 100_000,
        b'{"interactions":[' + b"NaN," * 1000 + b"NaN]}",
        b'{"a":' * 5000 + b'{"interactions":[NaN]}' + b"}" * 5000,
        "".join(f'{{"interactions":[{n}' for n in range(3000)).encode(),
    ],
    ids=lambda body: repr(body)[:60],
)
def test_a_body_that_is_no_json_around_its_items_is_refused_as_a_whole(client: FlaskClient, body: bytes) -> None:
    assert problem(post(client, body), 400)["code"] == "invalid-json"
    assert client.get("/v1/sessions").get_json()["sessions"] == []


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)


@given(st.lists(JSON, max_size=8), st.data(), st.booleans())
def test_whatever_the_neighbours_are_they_stay_as_they_are(items: list[Any], data: st.DataObject, ascii_: bool) -> None:
    at = data.draw(st.integers(0, len(items)))
    separator = data.draw(st.sampled_from([",", " ,", ",\n\t"]))
    texts = [json.dumps(item, ensure_ascii=ascii_).encode(errors="surrogatepass") for item in items]
    texts.insert(at, data.draw(st.sampled_from(UNPARSED)))
    others = json.dumps(data.draw(st.dictionaries(st.sampled_from(["a", '"interactions"', "b["]), JSON)))[1:-1]
    body = (
        b'{"interactions":[' + separator.encode().join(texts) + b"]" + (f",{others}" if others else "").encode() + b"}"
    )
    value, _ = body_parts.parse(body, "interactions", 1000)
    found = value["interactions"]
    assert isinstance(found[at], Unparsed)
    assert [*found[:at], *found[at + 1 :]] == items


def test_half_an_emoji_in_a_batch_is_kept_and_listed(client: FlaskClient) -> None:
    body = (
        rb'{"interactions":[{"session_id":"bad-1","interaction_id":"i0","prompt":"fine 0"},'
        rb'{"session_id":"bad-1","interaction_id":"i1","prompt":"fine 1"},'
        rb'{"session_id":"bad-1","interaction_id":"s","prompt":"cut emoji \ud83d"}]}'
    )
    answer = post(client, body)
    assert answer.status_code == 200
    assert [each.get("altered") for each in answer.get_json()["receipts"]] == [None, None, ["$.interactions[2].prompt"]]
    assert transcript(client, "bad-1")[2]["prompt"] == "cut emoji \ufffd"
    assert post(client, body).get_json()["counts"] == {"duplicate": 3}


def test_a_strict_service_rejects_only_the_item_with_half_an_emoji(store: Store) -> None:
    client = strict(store)
    body = (
        rb'{"interactions":[{"session_id":"bad-1","interaction_id":"i0","prompt":"fine 0"},'
        rb'{"session_id":"bad-1","interaction_id":"s","prompt":"cut emoji \ud83d"},'
        rb'{"session_id":"bad-1","interaction_id":"i1","prompt":"fine 1"}]}'
    )
    answer = post(client, body)
    assert answer.status_code == 207
    receipts = answer.get_json()["receipts"]
    assert [each["receipt"] for each in receipts] == ["created", "rejected", "created"]
    assert [field["path"] for field in receipts[1]["fields"]] == ["$.interactions[1].prompt"]


NUL_IN_ONE = {
    "conversation_id": "bad-3",
    "messages": [
        {"role": "user", "content": "a", "message_id": "1"},
        {"role": "assistant", "content": "b\u0000", "message_id": "2"},
        {"role": "user", "content": "c", "message_id": "3"},
    ],
}


def test_nul_in_one_message_of_a_conversation_is_altered(client: FlaskClient) -> None:
    answer = client.post("/conversation/start", json=NUL_IN_ONE)
    assert answer.status_code == 201
    receipts = answer.get_json()["messages"]
    assert [each.get("altered") for each in receipts] == [None, ["$.messages[1].content"], None]
    kept = client.get("/conversation/bad-3").get_json()["messages"]
    assert [each["content"] for each in kept] == ["a", "b\u2400", "c"]


def test_a_strict_service_rejects_only_that_message(store: Store) -> None:
    client = strict(store)
    answer = client.post("/conversation/start", json=NUL_IN_ONE)
    assert answer.status_code == 207
    receipts = answer.get_json()["messages"]
    assert [each["receipt"] for each in receipts] == ["created", "rejected", "created"]
    assert [field["path"] for field in receipts[1]["fields"]] == ["$.messages[1].content"]
    kept = client.get("/conversation/bad-3").get_json()["messages"]
    assert [each["content"] for each in kept] == ["a", "c"]


def test_an_answer_to_a_rejected_question_does_not_go_to_the_one_before(client: FlaskClient) -> None:
    said = [("user", "one?"), ("user", 2), ("assistant", "two!")]
    messages = [{"role": role, "content": content} for role, content in said]
    client.post("/conversation/start", json={"conversation_id": "c", "messages": messages})
    assert [(each["prompt"], each["response"]) for each in transcript(client, "c")] == [("one?", None), (None, "two!")]


def test_an_invalid_message_leaves_its_conversation(client: FlaskClient) -> None:
    answer = client.post("/conversation/start", json={"conversationId": "c", "messages": [{"role": "user"}]})
    assert answer.status_code == 207
    (receipt,) = answer.get_json()["messages"]
    assert receipt == {
        "messageId": None,
        "receipt": "rejected",
        "reason": "invalid",
        "fields": [{"path": "$.messages[0].content", "detail": "A message needs content or tool calls"}],
    }
    assert client.get("/conversation/c").status_code == 200


@pytest.mark.every_store
def test_altered_texts_come_back_as_the_receipt_says(client: FlaskClient) -> None:
    body = {
        "session_id": "s",
        "interaction_id": "i",
        "prompt": [{"role": "user", "content": [{"text": "a\0"}, "\udc00"], "k\0": {"n": 2**63, "m": -(2**53) - 1}}],
        "response": "half \ud83d, whole \ud83d\ude00",
        "error": "\0",
        "metadata": {"discord_id": 1234567890123456789, "exact": 2**53},
    }
    answer = post(client, json.dumps(body).encode(), "/v1/interactions")
    assert answer.status_code == 201
    assert answer.get_json()["altered"] == [
        "$.prompt[0].content[0].text",
        "$.prompt[0].content[1]",
        "$.prompt[0]",
        "$.prompt[0]['k\u2400'].n",
        "$.prompt[0]['k\u2400'].m",
        "$.response",
        "$.error",
        "$.metadata.discord_id",
    ]
    (read,) = transcript(client, "s")
    assert read["prompt"] == [
        {
            "role": "user",
            "content": [{"text": "a\u2400"}, "\ufffd"],
            "k\u2400": {"n": "9223372036854775808", "m": "-9007199254740993"},
        }
    ]
    assert (read["response"], read["error"]) == ("half \ufffd, whole \U0001f600", "\u2400")
    assert read["metadata"] == {"discord_id": "1234567890123456789", "exact": 2**53}
    again = post(client, json.dumps(body).encode(), "/v1/interactions").get_json()
    assert (again["receipt"], again["altered"]) == ("duplicate", answer.get_json()["altered"])


def test_many_altered_places_are_listed_by_their_field(client: FlaskClient) -> None:
    prompt = [{"role": "user", "content": ["\0"] * 5000}]
    answer = log(client, session_id="s", prompt=prompt, response="\0")
    assert answer.get_json()["altered"] == ["$.prompt", "$.response"]


def test_two_keys_never_become_one(client: FlaskClient) -> None:
    answer = log(client, prompt="x", metadata={"a\0": 1, "a\u2400": 2})
    assert problem(answer, 422)["fields"] == [
        {
            "path": "$.metadata",
            "detail": "Two keys would be the same after a character that can't be stored is replaced",
        }
    ]


def test_an_edit_has_no_receipt_so_it_alters_nothing(client: FlaskClient) -> None:
    client.post("/v1/sessions", json={"session_id": "s"})
    answer = client.patch(in_path("s"), json={"title": "a\0"})
    assert [field["path"] for field in problem(answer, 422)["fields"]] == ["$.title"]


def test_a_title_that_is_too_long_is_named_and_nothing_else(client: FlaskClient) -> None:
    fields = {"session_id": "s", "user_id": "zoe", "tags": ["beta"], "title": "t" * 1200}
    answer = client.post("/v1/sessions", json=fields)
    assert [field["path"] for field in problem(answer, 422)["fields"]] == ["$.title"]
    assert client.get(in_path("s")).status_code == 404


@pytest.mark.every_store
def test_a_whole_number_as_an_id_means_its_digits(client: FlaskClient) -> None:
    assert client.post("/v1/sessions", json={"session_id": "ss-3", "user_id": 60}).status_code == 201
    assert client.get(in_path("ss-3")).get_json()["user_id"] == "60"
    assert log(client, session_id=42, interaction_id=1234567890123456789, prompt="p", participant=7).status_code == 201
    assert log(client, session_id="42", interaction_id=2, reply_to=1234567890123456789, prompt="q").status_code == 201
    one, two = transcript(client, "42")
    assert (one["key"], one["participant"], two["reply_to"]) == ("1234567890123456789", "7", one["interaction_id"])
    rating = {"session_id": 42, "interaction_id": 2, "value": True, "author": 60}
    assert client.post("/v1/feedback", json=rating).get_json()["author"] == "60"
    metadata = {"session_id": "ss-5", "metadata": {"discord_id": 1234567890123456789}}
    answer = client.post("/v1/sessions", json=metadata)
    assert (answer.status_code, answer.get_json()["altered"]) == (201, ["$.metadata.discord_id"])
    assert answer.get_json()["session"]["metadata"] == {"discord_id": "1234567890123456789"}
    assert client.post("/v1/folders", json={"folder_id": 5}).get_json()["key"] == "5"
    started = client.post(
        "/conversation/start",
        json={"conversationId": 9, "messages": [{"role": "user", "content": "x", "messageId": 3}]},
    )
    assert started.get_json()["messages"][0]["messageId"] == "3"


@pytest.mark.every_store
def test_amounts_may_be_texts(client: FlaskClient) -> None:
    fields = {"input_tokens": "12", "output_tokens": "3.0", "cost_usd": "1e-5", "latency_ms": "0.25", "turn": "007"}
    assert log(client, session_id="s", prompt="p", **fields).status_code == 201
    (read,) = transcript(client, "s")
    assert {name: read[name] for name in fields} == {
        "input_tokens": 12,
        "output_tokens": 3,
        "cost_usd": 0.00001,
        "latency_ms": 0.25,
        "turn": 7,
    }


@pytest.mark.parametrize(
    ("time", "utc"),
    [
        (1772359200, "2026-03-01T10:00:00+00:00"),
        (1772359200123, "2026-03-01T10:00:00.123+00:00"),
        ("2026-03-01T10:00:00 UTC", "2026-03-01T10:00:00+00:00"),
        ("2026-03-01 10:00:00 GMT", "2026-03-01T10:00:00+00:00"),
        ("2026-03-01 10:00:00+00", "2026-03-01T10:00:00+00:00"),
        ("2026-03-01 10:00:00.123456+00", "2026-03-01T10:00:00.123456+00:00"),
        ("2026-03-01 10:00:00-08", "2026-03-01T18:00:00+00:00"),
        ("2026-03-01 10:00:00 +0100", "2026-03-01T09:00:00+00:00"),
        ("2026-03-01 15:30:00+05:30", "2026-03-01T10:00:00+00:00"),
        ("2026-03-01T10:00:00 Z", "2026-03-01T10:00:00+00:00"),
    ],
)
def test_times_are_read_as_programs_write_them(client: FlaskClient, time: Any, utc: str) -> None:
    assert log(client, session_id="time-1", interaction_id=str(time), prompt="p", started_at=time).status_code == 201
    assert transcript(client, "time-1")[0]["started_at"] == utc


def test_a_time_without_a_zone_is_refused_and_says_what_to_do(client: FlaskClient) -> None:
    answer = log(client, prompt="p", started_at="2026-03-01T10:00:00.123456")
    assert problem(answer, 422)["fields"] == [
        {
            "path": "$.started_at",
            "detail": "Must have a zone, as in 2026-11-21T06:30:00Z; add Z if it is UTC, or leave started_at out: "
            "the service knows when the record arrived",
        }
    ]


@pytest.mark.parametrize(
    ("zone", "utc"),
    [
        ("UTC", "2026-03-01T10:00:00.5+00:00"),
        ("America/Los_Angeles", "2026-03-01T18:00:00.5+00:00"),
        ("Asia/Kathmandu", "2026-03-01T04:15:00.5+00:00"),
    ],
)
def test_it_is_read_where_a_zone_is_set(store: Store, zone: str, utc: str) -> None:
    client = create_app(Settings.from_mapping(KEYLESS | {"TURNLOG_TIME_ZONE": zone}), store).test_client()
    body = {"interactions": [{"session_id": "s", "prompt": "p", "started_at": "2026-03-01T10:00:00.5"}]}
    assert client.post("/v1/interactions/batch", json=body).status_code == 200
    assert log(client, session_id="s", prompt="q", started_at="2026-03-01T10:00:00.5+00:00").status_code == 201
    found = {each["prompt"]: each["started_at"] for each in transcript(client, "s")}
    assert found == {"p": utc, "q": "2026-03-01T10:00:00.5+00:00"}


def test_a_hidden_list_of_an_item_is_no_list_of_the_body() -> None:
    body = b'{"a":{"interactions":[NaN]},"interactions":[{"interactions":[1]},NaN]}'
    with pytest.raises(ValueError, match="expected value"):
        body_parts.parse(body, "interactions", requests.MAX_ITEMS)
