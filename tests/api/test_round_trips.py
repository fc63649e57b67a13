"""Nothing is changed silently: every store returns text and JSON equal to what was sent."""

# ruff: noqa: RUF001 - characters that look like others are what is tried

import gzip
import json
import math
import unicodedata
from typing import Any
from urllib.parse import quote

import pytest
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.http_calls import create, in_path, log, transcript

pytestmark = pytest.mark.every_store

#: The database is made once for all examples, so that each takes two requests and no more.
ONE_DATABASE = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], database=None
)

TEXTS = {
    "empty": "",
    "a space": " ",
    "spaces around": "  x \t ",
    "line ends": "a\r\nb\rc\nd\n\n",
    "other line ends": "a\x0bb\x0cc\x85d\u2028e\u2029f",
    "controls": "".join(map(chr, range(1, 32))) + "\x7f\x80\x9f",
    "escapes as text": r"\u0000 \n \\ %00 &amp; &#0;",
    "quotes": "\"'`´''\"\"",
    "SQL": "'; drop table turnlog.ai_sessions; --",
    "braces": '{"a": [1]} {{x}} ${y} %s %(z)s {0}',
    "NUL symbol": "␀",
    "JSON's null": "null",
    "composed": "é ñ Å",
    "decomposed": "e\u0301 n\u0303 A\u030a",
    "compatibility": "ﬁ Ⅷ ① ｈ",
    "Zalgo": "H" + "".join(map(chr, range(0x300, 0x36F))),
    "Hangul": "한국어 " + unicodedata.normalize("NFD", "한국어"),
    "families": "👩‍👩‍👧‍👦 👩🏽‍🔬 🏳️‍🌈 🇺🇳 1️⃣",
    "right to left": "\u200fשלום\u200e \u202eabc\u202c \u2067مرحبا\u2069",
    "invisible": "a\u200bb\u200cc\u200dd\u2060e\ufefff\u00ad",
    "byte order mark first": "\ufeffHello",
    "replacement": "\ufffd",
    "noncharacters": "\ufdd0\ufdef\ufffe\uffff" + "".join(chr(plane << 16 | 0xFFFF) for plane in range(1, 17)),
    "private use": "\ue000\uf8ff\U000f0000\U0010fffd",
    "edges of planes": "".join(chr(plane << 16) + chr(plane << 16 | 0xFFFD) for plane in range(1, 17)),
    "around the surrogates": "\ud7ff\ue000",
    "tags and variations": "\U000e0001\U000e0041\ufe0f\U000e0100",
    "long": "Zażółć gęślą jaźń 😀 " * 50_000,
}

VALUES: dict[str, Any] = {
    "floats": [0.1, -0.1, 1e300, -1e300, 5e-324, 1.7976931348623157e308, 1e16, 1e15, 2.0**53, 2.0**63, -0.0, 1e22],
    "awkward floats": [9007199254740993.0, 123456789012345680.0, 0.30000000000000004, 1e23, 2.2250738585072014e-308],
    "integers": [0, 1, -1, 2**31, 2**53, -(2**53), 2**53 - 1],
    "truths": [True, False, None, 0, 1, "", "true"],
    "nulls": {"a": None, "b": {"c": None, "d": [None, {"e": None}]}},
    "empties": {"a": {}, "b": [], "c": [[], {}, [[]]], "d": ""},
    "keys": {"": 1, " ": 2, "a.b": 3, "a'b": 4, 'a"b': 5, "a\\b": 6, "$": 7, "a[0]": 8, "\n": 9, "é": 10, "e\u0301": 11,
             "null": 12, "__proto__": 13, "\uffff": 14, "😀": 15, "0": 16, "A": 17, "a": 18},
    "the order of lists": [3, 1, 2, [2, 1], "b", "a"],
    "texts": TEXTS | {"long": "x" * 1000},
    "wide": {str(n): n for n in range(2000)},
}  # fmt: skip

MESSAGES: dict[str, list[dict[str, Any]]] = {
    "no content": [{"role": "assistant", "content": None}],
    "no content at all": [{"role": "tool"}],
    "empty": [{"role": "", "content": ""}],
    "parts": [
        {"role": "user", "content": [{"type": "text", "text": "Hi\n"}, {"type": "image", "image": {"url": "x"}}]}
    ],
    "tool calls": [
        {"role": "system", "content": "Be brief.", "name": None},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1, "a": 2}'}}
            ],
        },
        {"role": "tool", "tool_call_id": "call_1", "content": "1e999", "seed": 2**53, "temperature": 0.1},
    ],
}  # fmt: skip


def deep(levels: int) -> Any:
    return {"a": deep(levels - 1)} if levels > 1 else {"a": [None, 1, "x"]}


def same(one: Any, other: Any) -> bool:
    """Compare as JSON does: True is not 1."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def kept(client: FlaskClient, **fields: Any) -> dict[str, Any]:
    """Log an interaction in a session of its own, and read it back."""
    answer = log(client, **fields)
    assert answer.status_code == 201, answer.get_data()
    (read,) = transcript(client, answer.get_json()["session_id"])
    return read


@pytest.mark.parametrize("field", ["prompt", "response", "error"])
def test_unusual_text_comes_back_equal(client: FlaskClient, field: str) -> None:
    changed = [name for name, text in TEXTS.items() if kept(client, **{"prompt": "x", field: text})[field] != text]
    assert changed == []


def test_every_character_comes_back(client: FlaskClient) -> None:
    # in pieces, since all of them together are more than a body may hold
    every = [chr(c) for c in range(1, 0x110000) if not 0xD800 <= c <= 0xDFFF]
    for start in range(0, len(every), 200_000):
        text = "".join(every[start : start + 200_000])
        body = json.dumps({"prompt": text}, ensure_ascii=False).encode()
        answer = client.post("/v1/interactions", data=body, content_type="application/json")
        assert answer.status_code == 201
        assert transcript(client, answer.get_json()["session_id"])[0]["prompt"] == text


def test_unusual_json_comes_back_equal(client: FlaskClient) -> None:
    for name, value in VALUES.items():
        for read in (
            kept(client, prompt="x", metadata={"v": value})["metadata"],
            create(client, metadata={"v": value}).get_json()["session"]["metadata"],
        ):
            assert same(read, {"v": value}), name
    assert kept(client, prompt="x", metadata=deep(63))["metadata"] == deep(63)


def test_messages_come_back_equal(client: FlaskClient) -> None:
    for name, messages in MESSAGES.items():
        read = kept(client, prompt=messages, response=messages)
        assert same(read["prompt"], messages), name
        assert same(read["response"], messages), name


def test_unusual_records_sent_again_are_duplicates(client: FlaskClient) -> None:
    body = {"session_id": "s", "interaction_id": "i", "metadata": VALUES, "prompt": MESSAGES["tool calls"]}
    assert [log(client, **body, cost_usd=0.1).get_json()["receipt"] for _ in range(2)] == ["created", "duplicate"]


def test_json_notations_of_one_body_are_one_record(client: FlaskClient) -> None:
    body = {"session_id": "s", "interaction_id": "i", "prompt": "é 😀\n"}
    escaped, plain = json.dumps(body).encode(), json.dumps(body, ensure_ascii=False, indent=2).encode()
    headers = [{}, {"Content-Encoding": "identity"}, {"Content-Encoding": "gzip"}, {"Content-Encoding": "X-GZIP"}]
    types = [
        "application/json",
        "application/json; charset=utf-8",
        "Application/JSON; Charset=UTF-8",
        "application/x+json",
    ]
    receipts = []
    for spelling in (escaped, plain, b" \r\n\t" + plain + b"\n"):
        for header in headers:
            for content_type in types:
                data = (
                    gzip.compress(spelling) if header.get("Content-Encoding", "").lower().endswith("gzip") else spelling
                )
                answer = client.post("/v1/interactions", data=data, headers=header, content_type=content_type)
                receipts.append(answer.get_json().get("receipt"))
    assert receipts == ["created"] + ["duplicate"] * 47
    assert transcript(client, "s")[0]["prompt"] == "é 😀\n"


def texts(**options: Any) -> st.SearchStrategy[str]:
    return st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), **options)


def json_values() -> st.SearchStrategy[Any]:
    leaves = (
        st.none()
        | st.booleans()
        | st.integers(-(2**53), 2**53)
        | st.floats(allow_nan=False, allow_infinity=False)
        | texts()
    )
    return st.recursive(leaves, lambda inner: st.lists(inner) | st.dictionaries(texts(), inner), max_leaves=20)


@ONE_DATABASE
@given(
    prompt=texts(),
    response=st.lists(st.fixed_dictionaries({"role": texts(), "content": json_values()}), min_size=1, max_size=3),
    metadata=st.dictionaries(texts(), json_values(), max_size=5),
    amount=st.floats(0, 1e12),
)
def test_any_interaction_comes_back_equal(
    client: FlaskClient, prompt: str, response: list[Any], metadata: dict[str, Any], amount: float
) -> None:
    read = kept(client, prompt=prompt, response=response, metadata=metadata, cost_usd=amount, latency_ms=amount)
    assert read["prompt"] == prompt
    assert same(read["response"], response)
    assert same(read["metadata"], metadata)
    assert math.isclose(read["cost_usd"], amount, rel_tol=0)
    assert math.isclose(read["latency_ms"], amount, rel_tol=0)


@ONE_DATABASE
@given(key=texts(min_size=1, max_size=200))
def test_any_valid_key_finds_its_session(client: FlaskClient, key: str) -> None:
    answer = create(client, session_id=key)
    if answer.status_code in {200, 201}:
        assert client.get(in_path(key)).get_json()["session_id"] == answer.get_json()["session_id"]
        assert client.get(f"/v1/sessions/{quote(key, safe='')}").get_json()["key"] in {key, None}
    else:
        assert (answer.status_code, client.get(in_path(key)).status_code) == (422, 404)
