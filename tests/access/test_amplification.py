"""No refusal and no receipt to a restricted caller is more than ten times as long as its request, whatever it sends.

Lengths are those on the wire: heads count, and a compressed body counts as it was sent. Reads of what is stored are
left out: there a short request is meant to have a long response, a page of bounded length. Their refusals are not.
"""

import gzip
import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from conversation import access
from conversation.api.requests import MOST_TIMES
from conversation.keys.key_registry import NewKey
from conversation.server.logger import MAX_RECORD, LineFormatter
from tests.access.conftest import ORIGIN, Calls

SMALL_HEAD = "{} {} HTTP/1.1\r\nHost: x\r\n"


@dataclass
class Caller:
    """A page with a publishable key, and with the token of its own session `s` or without."""

    app: Flask
    headers: Mapping[str, str]

    def call(self, method: str, path: str, body: bytes = b"", encoding: str = "") -> tuple[TestResponse, float]:
        """Return the response to a request, and how many times as long it is."""
        headers = {**self.headers, "Content-Type": "application/json"} if body else dict(self.headers)
        if encoding:
            headers["Content-Encoding"] = encoding
        answer = self.app.test_client().open(path, method=method, data=body, headers=headers)
        sent = SMALL_HEAD.format(method, path) + "".join(f"{n}: {v}\r\n" for n, v in headers.items())
        sent += f"Content-Length: {len(body)}\r\n\r\n" if body else "\r\n"
        received = f"HTTP/1.1 {answer.status}\r\n" + "".join(f"{n}: {v}\r\n" for n, v in answer.headers)
        return answer, (len(received) + 2 + len(answer.data)) / (len(sent) + len(body))


@pytest.fixture
def callers(guarded: Flask, publishable_key: NewKey) -> list[Caller]:
    page = Calls(guarded.test_client(), publishable_key.text, {"Origin": ORIGIN})
    opened = page.open_session(session_id="s", metadata={"a": 1}).get_json()
    token = {"Turnlog-Session-Token": opened["session_token"]}
    stored = {"session_id": "s", "interaction_id": "i", "prompt": "p", "metadata": {f"{n}": 1 for n in range(1000)}}
    assert page.log(opened["session_token"], **stored).status_code == 201
    own = {"Authorization": f"Bearer {publishable_key.text}"}
    claim = {"Turnlog-Session-Claim": "a claim made at random"}
    return [Caller(guarded, own | token), Caller(guarded, own | claim), Caller(guarded, own)]


def routes(app: Flask) -> Iterator[tuple[str, str]]:
    """Yield method and path of each route of the API that a restricted caller may call."""
    for rule in sorted(app.url_map.iter_rules(), key=lambda rule: rule.rule):
        access_rule = access.rule_of(app.view_functions[rule.endpoint])
        if access_rule and access_rule.restricted and not access_rule.page:
            path = rule.rule.replace("<name:session>", "s").replace("<name:interaction>", "i")
            yield from ((method, path) for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}))


ITEMS = 100
LONG = "k" * 200
LISTS = {"interactions": ("/batch",), "messages": ("/messages", "/start")}
TURN = {"session_id": "s", "error": "e"}
MESSAGE = {"role": "user", "content": "c"}


def bodies() -> dict[str, Any]:
    """Return hostile bodies: JSON values, or bytes that aren't JSON."""
    unknown = {f"{n}": 1 for n in range(2000)}
    long_names = {f"{n}{LONG * 20}": 1 for n in range(100)}
    contradicting = {f"{n}": 2 for n in range(1000)}
    wrong: list[Any] = [[]]
    fields = (
        "session_id interaction_id prompt response model status turn tags metadata title user_id value name messages "
        "started_at latency_ms input_tokens cost_usd context participants conversation_id key interactions key_fields "
        "on_conflict comment author"
    )
    everything = dict.fromkeys(fields.split(), wrong)
    found: dict[str, Any] = {
        "nothing": {},
        "a list": [[]],
        "no JSON": b"{" * 1000,
        "a name twice": b'{"%s": 1, "%s": 1}' % (b"n" * 100_000, b"n" * 100_000),
        "unknown names": unknown,
        "long unknown names": long_names,
        "every field wrong": everything,
        "unknown within": {"participants": [unknown] * 3, "session_id": "s"},
        "participants": {"participants": [{"participant": f"{LONG[:190]}{n}"} for n in range(100)], "session_id": "s"},
        "wrong tags": {"tags": [""] * 100, "session_id": "s", "prompt": "p"},
        "metadata": {"metadata": {f"{n}{LONG}": 1 for n in range(500)}, "session_id": "s", "prompt": "p"},
        "metadata of NULs": {"metadata": {f"{n}{LONG}": "\0" for n in range(500)}, "session_id": "s", "prompt": "p"},
        "one conversation's metadata": {"conversation_id": "new", "metadata": {"a": "a" * 200_000}},
        "a conflict": {
            "session_id": "s",
            "interaction_id": "i",
            "prompt": "q",
            "metadata": {f"{n}": 2 for n in range(1000)},
        },
    }
    items: dict[str, Any] = {
        "objects": [{}] * ITEMS,
        "numbers": [1] * ITEMS,
        "texts": [""] * ITEMS,
        "no JSON": b"[" + b"NaN," * (ITEMS - 1) + b"NaN]",
        "names": [{f"{n}": 1 for n in range(100)}] * ITEMS,
        "wrong": [everything] * 100,
        "turns": [TURN] * ITEMS,
        "turns of others": [TURN | {"session_id": "t"}] * ITEMS,
        "long keys": [TURN | {"interaction_id": f"{LONG[:190]}{n % 10}"} for n in range(ITEMS)],
        "wide keys": [TURN | {"interaction_id": f"{chr(0x1f388) * 190}{n % 10}"} for n in range(ITEMS)],
        "keys of parts": [TURN | {"key": {f"{p}{LONG[:45]}": "v" * 100 for p in range(8)}}] * ITEMS,
        "conflicts": [{"session_id": "s", "interaction_id": "i", "prompt": f"{n % 2}"} for n in range(ITEMS)],
        "wide conflicts": [
            {"session_id": "s", "interaction_id": "i", "metadata": contradicting, "prompt": "p"}
        ] * 10,
        "NULs": [TURN | {"tags": ["t"], "metadata": {f"{LONG}{n}": "\0" for n in range(20)}}] * ITEMS,
        "messages": [MESSAGE] * ITEMS,
        "messages in turns": [MESSAGE, {"role": "assistant", "content": "c"}] * (ITEMS // 2),
        "long ids": [MESSAGE | {"id": f"{n % 10}{LONG[:190]}"} for n in range(ITEMS)],
        "bad messages": [{"role": "user", "content": 3, "id": f"{n}"} for n in range(ITEMS)],
        "messages of NULs": [{"role": "user", "content": [{"type": "text", "text": "\0", LONG: "\0"}] * 20}] * 100,
    }  # fmt: skip
    for name, value in items.items():
        for field in ("interactions", "messages"):
            text = value if isinstance(value, bytes) else json.dumps(value).encode()
            found[f"{field}: {name}"] = b'{"%s": %s}' % (field.encode(), text)
    found["key fields"] = {"key_fields": ["a"], "interactions": [{"key": {f"{p}": 1 for p in range(100)}}] * ITEMS}
    return found


def test_the_longest_response_to_a_restricted_caller_is_ten_times_its_request(
    callers: list[Caller], guarded: Flask, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    worst: dict[str, float] = {}
    for name, value in bodies().items():
        plain = value if isinstance(value, bytes) else json.dumps(value).encode()
        is_list = name.partition(":")[0] in LISTS
        ends = LISTS.get(name.partition(":")[0], ("",))
        for method, path in routes(guarded):
            if method == "GET" or not path.endswith(ends):
                continue
            for query in ("", "?dry_run=true") if path.startswith("/v1/interactions") else ("",):
                for who, encoding in ((0, "gzip"), (0, "")) if is_list else ((0, "gzip"), (1, "gzip"), (2, "gzip")):
                    body = gzip.compress(plain) if encoding else plain
                    answer, times = callers[who].call(method, path + query, body, encoding)
                    assert answer.status_code != 500, (method, path, name, answer.get_data()[:500])
                    worst[f"{method} {path}{query} {name} {encoding} {who}: {answer.status_code}"] = times
    over = {call: round(times, 1) for call, times in worst.items() if times > MOST_TIMES}
    assert over == {}, sorted(worst.items(), key=lambda each: -each[1])[:5]
    formatter = LineFormatter("%(message)s")
    assert max(len(formatter.format(record)) for record in caplog.records) <= MAX_RECORD + 1
    for record in caplog.records:
        if record.name == "turnlog.batch":
            assert len(record.getMessage()) <= MAX_RECORD
            json.loads(record.getMessage())


QUERIES = {
    "unknown names": "&".join(f"{chr(97 + n % 26)}{n}" for n in range(900)),
    "names twice": "a&" * 1900,
    "a long name": "n" * 3800,
    "a long value": "cursor=" + "v" * 3700,
    "few names": "a&b&c&d&e&f",
    "metadata": "&".join(f"metadata.{n}=" for n in range(300)),
}


def test_a_refused_query_is_answered_shortly(callers: list[Caller], guarded: Flask) -> None:
    over = {}
    for method, path in routes(guarded):
        for name, query in QUERIES.items():
            answer, times = callers[0].call(method, f"{path}?{query}")
            if answer.status_code >= 400 and times > MOST_TIMES:
                over[f"{method} {path} {name}"] = round(times, 1)
    assert over == {}


def test_what_is_plainly_a_batch_is_taken_compressed_or_not(callers: list[Caller]) -> None:
    words = Random(1).sample([*map(str, range(10_000))], 6000)
    texts = [" ".join(words[at : at + 30]) for at in range(0, 6000, 30)]
    turns = [
        {"session_id": "s", "interaction_id": f"turn {n}", "prompt": texts[n], "response": texts[n + 100]}
        for n in range(100)
    ]
    plain = json.dumps({"interactions": turns}).encode()
    for body, encoding in ((plain, ""), (gzip.compress(plain), "gzip")):
        answer, _ = callers[0].call("POST", "/v1/interactions/batch", body, encoding)
        assert answer.status_code == 200, answer.get_data()
    many = gzip.compress(json.dumps({"interactions": [TURN] * ITEMS}).encode())
    answer, _ = callers[0].call("POST", "/v1/interactions/batch", many, "gzip")
    assert (answer.status_code, answer.get_json()["code"]) == (413, "too-large")


def test_a_body_of_very_many_values_is_refused_before_it_is_parsed(callers: list[Caller]) -> None:
    many = b'{"interactions": [' + b"{}," * 500_000 + b"{}]}"
    answer, _ = callers[0].call("POST", "/v1/interactions/batch", gzip.compress(many), "gzip")
    assert answer.get_json()["detail"].startswith("The body holds more than 500,000 objects")
    code = json.dumps({"session_id": "s", "interaction_id": "code", "prompt": "{[" * 200_000}).encode()
    assert callers[0].call("POST", "/v1/interactions", code)[0].status_code == 201
