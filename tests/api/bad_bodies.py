"""Bytes that must be refused, with the status and the JSON path that each must get. Not a test itself."""

import gzip
import json
import zlib
from dataclasses import dataclass, field
from typing import Any

JSON_TYPE = "application/json"
_MB = 1024 * 1024
_FAST = 1  # the level of compression: these are made by every process that collects tests


@dataclass(frozen=True)
class Bad:
    """A request that must be refused: `paths` are the fields named, for 422."""

    name: str
    body: bytes
    status: int
    paths: tuple[str, ...] = ()
    path: str = "/v1/interactions"
    headers: dict[str, str] = field(default_factory=dict)
    content_type: str | None = JSON_TYPE
    chunked: bool = False


def nested(levels: int, innermost: bytes = b"1") -> bytes:
    return b'{"prompt":"x","metadata":' + b'{"a":' * levels + innermost + b"}" * levels + b"}"


def with_prompt(spelled: bytes) -> bytes:
    return b'{"prompt":' + spelled + b"}"


_GOOD = b'{"prompt":"Hello"}'
_HUGE = b'{"prompt":"' + b"x" * (16 * _MB) + b'"}'

NOT_JSON = [
    Bad(name, body, 400)
    for name, body in {
        "not UTF-8": with_prompt(b'"\xff"'),
        "latin-1": '{"prompt":"é"}'.encode("latin-1"),
        "overlong UTF-8": with_prompt(b'"\xc0\xaf"'),
        "UTF-8 cut short": with_prompt(b'"\xe2\x82"'),
        "past the last plane": with_prompt(b'"\xf4\x90\x80\x80"'),
        "UTF-8 of a surrogate": with_prompt(b'"\xed\xa0\xbd"'),
        "UTF-8 of a surrogate pair": with_prompt(b'"\xed\xa0\xbd\xed\xb8\x80"'),
        "UTF-16": '{"prompt":"Hello"}'.encode("utf-16"),
        "UTF-16 without a mark": '{"prompt":"Hello"}'.encode("utf-16-le"),
        "UTF-32": '{"prompt":"Hello"}'.encode("utf-32"),
        "byte order mark": b"\xef\xbb\xbf" + _GOOD,
        "NaN": b'{"prompt":"x","metadata":{"a":NaN}}',
        "Infinity": b'{"prompt":"x","cost_usd":Infinity}',
        "-Infinity": b'{"prompt":"x","metadata":{"a":[-Infinity]}}',
        "the same key twice": b'{"prompt":"x","prompt":"x"}',
        "the same key twice below": b'{"prompt":"x","metadata":{"a":[{"b":1,"c":2,"b":1}]}}',
        "the same key in two spellings": rb'{"prompt":"x","p\u0072ompt":"x"}',
        "cut short": b'{"prompt":"Hel',
        "cut short after a value": b'{"prompt":"Hello"',
        "trailing text": _GOOD + b"x",
        "two documents": _GOOD + _GOOD,
        "trailing NUL": _GOOD + b"\0",
        "NUL alone": b"\0",
        "spaces alone": b"  \n",
        "single quotes": b"{'prompt':'Hello'}",
        "bare key": b'{prompt:"Hello"}',
        "comment": b'{"prompt":"Hello"/* x */}',
        "trailing comma": b'{"prompt":"Hello",}',
        "no value": b'{"prompt":}',
        "undefined": b'{"prompt":undefined}',
        "Python's None": b'{"prompt":None}',
        "raw NUL in text": with_prompt(b'"a\0b"'),
        "raw newline in text": with_prompt(b'"a\nb"'),
        "unknown escape": with_prompt(rb'"\x41"'),
        "escape cut short": with_prompt(rb'"\u12"'),
        "leading zero": b'{"prompt":"x","turn":01}',
        "plus": b'{"prompt":"x","turn":+1}',
        "hexadecimal": b'{"prompt":"x","turn":0x1}',
        "no digits after the point": b'{"prompt":"x","turn":1.}',
        "an integer of 5,000 digits": b'{"prompt":"x","metadata":{"a":1' + b"0" * 5000 + b"}}",
        "10,000 deep": nested(10_000),
        "10,000 brackets": b"[" * 10_000,
        "a form": b"prompt=Hello",
    }.items()
]

NOT_READ = [
    Bad("over 16 MB", _HUGE, 413),
    Bad("over 16 MB without a length", _HUGE, 413, chunked=True),
    Bad("over 16 MB of spaces", b" " * (16 * _MB) + _GOOD, 413),
    Bad("gzip bomb", gzip.compress(b"[" * (64 * _MB), _FAST), 413, headers={"Content-Encoding": "gzip"}),
    Bad("gzip a little over 16 MB", gzip.compress(_HUGE, _FAST), 413, headers={"Content-Encoding": "gzip"}),
    Bad("not gzip", _GOOD, 400, headers={"Content-Encoding": "gzip"}),
    Bad("gzip cut short", gzip.compress(_GOOD)[:-4], 400, headers={"Content-Encoding": "gzip"}),
    Bad("gzip without its end", gzip.compress(_GOOD)[:-8], 400, headers={"Content-Encoding": "gzip"}),
    Bad("gzip and more", gzip.compress(_GOOD) + b"x", 400, headers={"Content-Encoding": "gzip"}),
    Bad("gzip twice over", gzip.compress(gzip.compress(_GOOD)), 400, headers={"Content-Encoding": "gzip"}),
    Bad("two gzip members", gzip.compress(_GOOD[:5]) + gzip.compress(_GOOD[5:]), 400,
        headers={"Content-Encoding": "gzip"}),
    Bad("gzip with a wrong checksum", gzip.compress(_GOOD)[:-8] + b"\0" * 8, 400, headers={"Content-Encoding": "gzip"}),
    Bad("gzip that is not announced", gzip.compress(_GOOD), 400),
    Bad("zlib for gzip", zlib.compress(_GOOD), 400, headers={"Content-Encoding": "gzip"}),
    *(
        Bad(f"Content-Encoding: {encoding}", zlib.compress(_GOOD), 415, headers={"Content-Encoding": encoding})
        for encoding in ("deflate", "br", "zstd", "gzip, gzip", "gzip2", "none")
    ),
    *(
        Bad(f"Content-Type: {content_type}", _GOOD, 415, content_type=content_type)
        for content_type in (
            None,
            "",
            "text/plain",
            "text/json",
            "application/x-www-form-urlencoded",
            "multipart/form-data; boundary=x",
            "application/xml",
            "application/jsonx",
            "application/json; charset=latin-1",
            "application/json; charset=utf-16",
        )
    ),
]  # fmt: skip


def _json(**fields: Any) -> bytes:
    return json.dumps({"prompt": "x"} | fields).encode()


_TEXTS = ("prompt", "response", "error", "model", "provider", "finish_reason", "participant",
          "session_id", "interaction_id", "reply_to")  # fmt: skip
_NUMBERED = ("session_id", "interaction_id", "reply_to", "participant")
_NAMES = ("model", "provider", "finish_reason", "participant", "session_id", "interaction_id", "reply_to")
_IDS = ("session_id", "interaction_id", "reply_to")
_TIMES = ("started_at", "completed_at")
_COUNTS = ("input_tokens", "output_tokens", "cached_input_tokens", "cache_write_tokens", "reasoning_tokens", "turn")
_AMOUNTS = ("latency_ms", "time_to_first_token_ms", "cost_usd")
_WRONG_TYPES: dict[tuple[str, ...], list[Any]] = {
    _TEXTS: [1.5, True, {}, {"a": 1}],
    tuple(name for name in _TEXTS if name not in _NUMBERED): [1],
    _NUMBERED: [1.0, 10**200],
    _NAMES: [[], ["x"]],
    _TIMES: [0, 2026, 20261121, -1795242600, 10**15, 1795242600000000, 1e300, True, [], {}],
    _COUNTS: ["one", "", "1.5", "-1", "1_000", True, False, 1.5, -1, 2**53 + 1, -(2**64), 10**40, 1e300, [], {}],
    _AMOUNTS: ["one", "", "1,5", "-1", "NaN", "1e999", True, -0.001, -1, 1e13, 10**400, [], {}],
    ("status",): ["", "done", "Completed", 1, True, [], {}],
    ("tags",): ["a", 1, True, {}, {"a": 1}],
    ("metadata",): ["a", 1, True, [], [{}]],
}
_NO_TIMES = [
    "", "now", "2026-11-21", "06:30:00Z", "2026-11-21T06:30:00", "2026-11-21 06:30:00", "2026-11-21T06:30:00 CET",
    "2026-11-21T06:30:00Z ", " 2026-11-21T06:30:00Z", "2026-02-29T00:00:00Z", "2026-04-31T00:00:00Z",
    "2026-13-01T00:00:00Z", "2026-00-01T00:00:00Z", "2026-11-21T25:00:00Z", "2026-11-21T06:60:00Z",
    "2026-11-21T06:30:60Z", "2026-11-21T06:30:00+24:00", "2026-11-21T06:30:00+1", "20261121T063000Z",
    "2026-W47-6T06:30:00Z", "26-11-21T06:30:00Z", "12026-11-21T06:30:00Z", "-2026-11-21T06:30:00Z",
    "1899-12-31T23:59:59Z", "9000-01-01T00:00:00Z", "1795242600", "1795242600000",
    "1795242600.5", "2026-11-21T06:30:00.Z", "٢٠٢٦-11-21T06:30:00Z",
    "infinity", "epoch", "2026-11-21T06:30:00Z\0", "2026-11-21T06:30:00Z\n",
]  # fmt: skip
_NO_IDS = ["null", "NULL", "None", "undefined", "Undefined", ".", "..", "00000000-0000-0000-0000-000000000000"]
_NO_NAMES = ["", " ", "\t", "\N{NO-BREAK SPACE}", "\N{IDEOGRAPHIC SPACE}", "\u2028", "x" * 201, "a\nb", "a\x7f", "\x1b"]
_NO_MESSAGES: dict[str, list[Any]] = {
    "role": ["", " ", 1, None, "x" * 201, "a\0b"],
    "content": [1, True, {}, []],
    "message_id": [1.5, {}, *filter(None, (*_NO_IDS, *_NO_NAMES))],  # an empty one says nothing, as null does
    "replyTo": [*filter(None, (*_NO_IDS, *_NO_NAMES))],
    "timestamp": [0, *_NO_TIMES[:6]],
    "createdAt": [0, *_NO_TIMES[:6]],
    "tool_calls": ["a"],
}
_NO_CONVERSATIONS: dict[str, list[Any]] = {
    "conversation_id": [1.5, True, [], {}, *_NO_IDS, *_NO_NAMES],
    "conversationId": _NO_IDS,
    "session_id": _NO_IDS,
    "sessionId": _NO_IDS,
    "userId": [1.5, "", " ", "x" * 201],
    "title": [1, "x" * 1001],
    "metadata": [[], "a"],
    "messages": ["a", {}, 1],
    "Messages": [[]],
}
_NO_SESSIONS: dict[str, list[Any]] = {
    "title": [1, True, [], {}, "x" * 1001],
    "user_id": [1.5, "", " ", "x" * 201, "a\0b"],
    "session_id": [1.5, True, [], {}, *_NO_IDS, *_NO_NAMES],
    "tags": ["a", {}, 1],
    "metadata": [[], "a", 1],
    "started_at": [0, *_NO_TIMES[:6]],
    "status": ["", "done", "Open", 1],
    "implicit": [False],
}

INVALID = [
    *(
        Bad(f"{name}: {json.dumps(value)[:40]}", _json(**{name: value}), 422, (f"$.{name}",))
        for names, values in _WRONG_TYPES.items()
        for name in names
        for value in values
    ),
    *(Bad(f"NUL in {name}", _json(**{name: "a\0b"}), 422, (f"$.{name}",)) for name in (*_NAMES, *_TIMES, "status")),
    *(Bad(f"{name}: {text!r}", _json(**{name: text}), 422, (f"$.{name}",)) for name in _TIMES for text in _NO_TIMES),
    *(Bad(f"{name}: {text!r}", _json(**{name: text}), 422, (f"$.{name}",)) for name in _IDS for text in _NO_IDS),
    *(Bad(f"{name}: {text!r}", _json(**{name: text}), 422, (f"$.{name}",)) for name in _NAMES for text in _NO_NAMES),
    *(
        Bad(f"unknown field {name!r}", _json(**{name: None}), 422, (path,))
        for name, path in {
            "promt": "$.promt", "sessionId": "$.sessionId", "": "$['']", "a b": "$['a b']", "a.b": "$['a.b']",
            "it's": r"$['it\'s']", "\\": r"$['\\']", "é": "$['é']", "created_at": "$.created_at", "id": "$.id",
        }.items()
    ),
    *(
        Bad(f"metadata {spelled.decode()[:40]}", b'{"prompt":"x","metadata":' + spelled + b"}", 422, (path,))
        for spelled, path in {
            b'{"a":1e999}': "$.metadata.a",
            b'{"a":{"b":-1e999}}': "$.metadata.a.b",
        }.items()
    ),
    *(
        Bad(f"prompt {spelled.decode()[:40]}", with_prompt(spelled), 422, (path,))
        for spelled, path in {
            b"[]": "$.prompt",
            b'["Hello"]': "$.prompt[0]",
            b"[[]]": "$.prompt[0]",
            b'[{"content":"Hello"}]': "$.prompt[0].role",
            b'[{"role":1}]': "$.prompt[0].role",
            b'[{"role":"user"},{"role":null}]': "$.prompt[1].role",
            b'[{"role":"user","content":1e999}]': "$.prompt[0].content",
        }.items()
    ),
    *(Bad(f"{name}: 1e999", b'{"prompt":"x","' + name.encode() + b'":1e999}', 422, (f"$.{name}",))
      for name in (*_COUNTS, *_AMOUNTS)),
    *(
        Bad(f"key {value!r}"[:60], _json(key=value), 422, (path,))
        for value, path in (
            (1, "$.key"), ("a", "$.key"), ([], "$.key"), ({}, "$.key"), ({"": 1}, "$.key"), ({" ": 1}, "$.key"),
            ({"a\nb": 1}, "$.key"), ({str(n): 1 for n in range(9)}, "$.key"), ({"a": "x" * 101}, "$.key.a"),
            ({"x" * 51: 1}, "$.key." + "x" * 51),
            ({"a": None}, "$.key.a"), ({"a": ""}, "$.key.a"), ({"a": "b\nc"}, "$.key.a"), ({"a": 1.5}, "$.key.a"),
            ({"a": []}, "$.key.a"), ({"b c": {}}, "$.key['b c']"), ({"a": 2**53 + 1}, "$.key.a"),
        )
    ),
    Bad("two names", _json(key={"a": 1}, interaction_id="i"), 422, ("$.key",)),
    Bad("depth 65", nested(65), 422, ("$.metadata" + ".a" * 64,)),
    Bad("depth 65, empty", nested(64, b"[]"), 422, ("$.metadata" + ".a" * 64,)),
    Bad("depth 150", nested(150), 422, ("$.metadata" + ".a" * 64,)),
    Bad("tags of other types", _json(tags=["a", 1, "", None, "x" * 101]), 422,
        ("$.tags[1]", "$.tags[2]", "$.tags[3]", "$.tags[4]")),
    Bad("101 tags", _json(tags=[str(n) for n in range(101)]), 422, ("$.tags",)),
    Bad("a tag twice", _json(tags=["a", "b", "a", "A"]), 422, ("$.tags[2]",)),
    Bad("several at once", _json(turn=-1, status="x", model="", y=1), 422,
        ("$.model", "$.status", "$.turn", "$.y")),
    *(
        Bad(f"{path} {body.decode()}", body, 422, ("$",), path)
        for path in ("/v1/sessions", "/v1/interactions", "/v1/interactions/batch", "/session/create",
                     "/conversation/start", "/conversation/c/message")
        for body in (b"null", b"true", b"1", b'"x"', b"[]", b"[{}]")
    ),
    *(
        Bad(f"session {name}: {value!r}"[:60], json.dumps({name: value}).encode(), 422, (f"$.{name}",), "/v1/sessions")
        for name, values in _NO_SESSIONS.items()
        for value in values
    ),
    *(
        Bad(f"start {name}: {value!r}"[:60], json.dumps({name: value}).encode(), 422, (f"$.{name}",),
            "/conversation/start")
        for name, values in _NO_CONVERSATIONS.items()
        for value in values
    ),
    *(
        Bad(f"message {name}: {value!r}"[:60], json.dumps({"role": "user", "content": "x"} | {name: value}).encode(),
            422, (f"$.{name}",), "/conversation/c/message")
        for name, values in _NO_MESSAGES.items()
        for value in values
    ),
    Bad("1001 messages", json.dumps({"messages": [{"role": "user", "content": "x"}] * 1001}).encode(), 422,
        ("$.messages",), "/conversation/start"),
    *(
        Bad(f"two ids {' '.join(names)}", json.dumps(dict(zip(names, "ab", strict=True))).encode(), 422,
            tuple(f"$.{name}" for name in names), "/conversation/start")
        for names in (("conversation_id", "session_id"), ("conversation_id", "conversationId"),
                      ("session_id", "conversationId"), ("conversationId", "sessionId"), ("user_id", "userId"))
    ),
]  # fmt: skip

_METADATA = {
    rb'{"a":"\u0000"}': "$.metadata.a",
    rb'{"a":[1,{"b c":"x\u0000"}]}': "$.metadata.a[1]['b c']",
    rb'{"\u0000":1}': "$.metadata",
    rb'{"a":[{"\u0000":1}]}': "$.metadata.a[0]",
    rb'{"\ud83d":1}': "$.metadata",
    rb'{"a":["\ud83d"]}': "$.metadata.a[0]",
    b'{"a":9007199254740993}': "$.metadata.a",
    b'{"a":[-9007199254740993]}': "$.metadata.a[0]",
    b'{"a":1' + b"0" * 400 + b"}": "$.metadata.a",
}
_PROMPTS = {
    rb'"a\u0000b"': "$.prompt",
    rb'"\ud83d"': "$.prompt",
    rb'"\ude00"': "$.prompt",
    rb'"\ude00\ud83d"': "$.prompt",
    rb'"\ud83dx"': "$.prompt",
    rb'[{"role":"\u0000"}]': "$.prompt[0].role",
    rb'[{"role":"user","content":"\u0000"}]': "$.prompt[0].content",
    rb'[{"role":"user","content":[{"text":"\u0000"}]}]': "$.prompt[0].content[0].text",
    rb'[{"role":"user"},{"role":"user","content":"\udc00"}]': "$.prompt[1].content",
    rb'[{"role":"user","content":"x","\ud83d":1}]': "$.prompt[0]",
    b'[{"role":"user","seed":9007199254740993}]': "$.prompt[0].seed",
}
_SESSIONS = {rb'{"title":"a\u0000b"}': "$.title", rb'{"title":"cut \ud83d"}': "$.title"}
_FEEDBACK = {rb'"value":"a\u0000b"': "$.value", rb'"value":1,"comment":"\ud83d"': "$.comment"}
_MESSAGES = {
    rb'"content":"a\u0000b"': "$.content",
    rb'"content":[{"text":"\ud83d"}]': "$.content[0].text",
    rb'"content":[9007199254740993]': "$.content[0]",
    rb'"toolCalls":[{"a":1},{"n":"\u0000"}]': "$.toolCalls[1].n",
}
#: Values that are altered so that they can be stored, or rejected by `TURNLOG_UNSTORABLE=reject`.
UNSTORABLE = [
    *(Bad(f"metadata {said.decode()[:40]}", b'{"prompt":"x","metadata":' + said + b"}", 422, (path,))
      for said, path in _METADATA.items()),
    *(Bad(f"prompt {said.decode()[:60]}", with_prompt(said), 422, (path,)) for said, path in _PROMPTS.items()),
    *(Bad(f"{field} {said}", f'{{"{field}":"a{said}b"}}'.encode(), 422, (f"$.{field}",))
      for field in ("response", "error") for said in (r"\u0000", r"\udfff")),
    Bad("an older route", rb'{"session_id":"s","interaction_id":"i","prompt":"\ud83d"}', 422, ("$.prompt",),
        "/interaction/log"),
    *(Bad(f"session {route} {said.decode()}", said, 422, (path,), route)
      for route in ("/v1/sessions", "/session/create", "/conversation/start") for said, path in _SESSIONS.items()),
    Bad("folder", rb'{"name":"\ud83d"}', 422, ("$.name",), "/v1/folders"),
    *(Bad(f"feedback {said.decode()}", b'{"session_id":"s","interaction_id":"i",' + said + b"}", 422, (path,),
          "/v1/feedback") for said, path in _FEEDBACK.items()),
    *(Bad(f"message {said.decode()}", b'{"role":"assistant",' + said + b"}", 422, (path,), "/conversation/c/message")
      for said, path in _MESSAGES.items()),
]  # fmt: skip

BAD = [*NOT_JSON, *NOT_READ, *INVALID]
