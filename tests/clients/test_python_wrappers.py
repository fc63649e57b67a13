"""Wrapped clients of OpenAI and Anthropic: the requests and results of unwrapped ones, and the right turns in the log.

The real packages call a model server on loopback. Only tests need them.
"""

import gc
import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import anthropic
import openai
import pytest

from tests.clients.conftest import Log, OpenLog, run_async
from turnlog import Turnlog, wrap_anthropic, wrap_openai

Row = dict[str, Any]
USAGE = {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11, "prompt_tokens_details": {"cached_tokens": 4}}
CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Rome"}'}}


def _completion(message: Row, reason: str = "stop") -> Row:
    choice = {"index": 0, "message": {"role": "assistant", "content": None, **message}, "finish_reason": reason}
    return {
        "id": "c1", "object": "chat.completion", "created": 1, "model": "gpt-x-2026", "choices": [choice],
        "usage": USAGE,
    }  # fmt: skip


def _chunk(delta: Row, reason: str | None = None, **more: Any) -> Row:
    choice = {"index": 0, "delta": delta, "finish_reason": reason}
    return {
        "id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-x-2026", "choices": [choice], **more,
    }  # fmt: skip


def _response(text: str) -> Row:
    part = {"type": "output_text", "text": text, "annotations": []}
    item = {"id": "m1", "type": "message", "role": "assistant", "status": "completed", "content": [part]}
    return {
        "id": "r1", "object": "response", "created_at": 1, "status": "completed", "model": "gpt-x-2026",
        "output": [item],
        "parallel_tool_calls": True, "tool_choice": "auto", "tools": [],
        "usage": {
            "input_tokens": 9, "output_tokens": 2, "total_tokens": 11,
            "input_tokens_details": {"cached_tokens": 4}, "output_tokens_details": {"reasoning_tokens": 1},
        },
    }  # fmt: skip


def _message(content: list[Row], reason: str = "end_turn") -> Row:
    return {
        "id": "a1", "type": "message", "role": "assistant", "model": "claude-x", "content": content,
        "stop_reason": reason, "stop_sequence": None,
        "usage": {
            "input_tokens": 5, "output_tokens": 2, "cache_read_input_tokens": 4, "cache_creation_input_tokens": 1,
        },
    }  # fmt: skip


def _events(*events: Row, named: bool = False, end: bytes = b"") -> bytes:
    lines = [
        (f"event: {each['type']}\n" if named else "").encode() + b"data: " + json.dumps(each).encode() + b"\n\n"
        for each in events
    ]
    return b"".join(lines) + end


def answer(path: str, body: Row) -> tuple[int, str, bytes]:
    """Return what the model server says: status, content type and content."""
    asked = json.dumps(body)
    if "overloaded" in asked:
        return 400, "application/json", b'{"error": {"message": "No such thing", "type": "invalid_request_error"}}'
    stream, tools = body.get("stream"), bool(body.get("tools"))
    if path.endswith("/chat/completions"):
        if not stream:
            content = '{"city":"Rome"}' if body.get("response_format") else "Hello, Ada."
            said = _completion({"tool_calls": [CALL]}, "tool_calls") if tools else _completion({"content": content})
            return 200, "application/json", json.dumps(said).encode()
        deltas: list[Row] = [{"role": "assistant", "content": "Hel"}, {"content": "lo, "}, {"content": "Ada."}]
        if tools:
            first = {
                "index": 0,
                "id": "call_1",
                "type": "function",
                "function": {"name": "weather", "arguments": '{"ci'},
            }
            deltas = [{"tool_calls": [first]}, {"tool_calls": [{"index": 0, "function": {"arguments": 'ty":"Rome"}'}}]}]
        chunks = [_chunk(delta) for delta in deltas] + [_chunk({}, "tool_calls" if tools else "stop", usage=USAGE)]
        return 200, "text/event-stream", _events(*chunks, end=b"data: [DONE]\n\n")
    if path.endswith("/responses"):
        if not stream:
            return 200, "application/json", json.dumps(_response("Hello, Ada.")).encode()
        at = {"item_id": "m1", "output_index": 0, "content_index": 0}
        item = {"id": "m1", "type": "message", "role": "assistant", "status": "in_progress", "content": []}
        part = {"type": "output_text", "text": "", "annotations": []}
        events: list[Row] = [
            {"type": "response.created", "response": _response("") | {"output": [], "status": "in_progress"}},
            {"type": "response.output_item.added", "output_index": 0, "item": item},
            {"type": "response.content_part.added", "part": part, **at},
            {"type": "response.output_text.delta", "delta": "Hello, ", "logprobs": [], **at},
            {"type": "response.output_text.delta", "delta": "Ada.", "logprobs": [], **at},
            {"type": "response.completed", "response": _response("Hello, Ada.")},
        ]
        return (
            200,
            "text/event-stream",
            _events(*({"sequence_number": n, **e} for n, e in enumerate(events)), named=True),
        )
    use = {"type": "tool_use", "id": "call_1", "name": "weather", "input": {"city": "Rome"}}
    if not stream:
        content_blocks = [use] if tools else [{"type": "text", "text": "Hello, Ada."}]
        said = _message(content_blocks, "tool_use" if tools else "end_turn")
        return 200, "application/json", json.dumps(said).encode()
    blocks: list[Row] = [
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hello, "}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Ada."}},
    ]
    if tools:
        blocks = [
            {"type": "content_block_start", "index": 0, "content_block": use | {"input": {}}},
            {
                "type": "content_block_delta",
                "index": 0,
                "delta": {"type": "input_json_delta", "partial_json": '{"city":'},
            },
            {
                "type": "content_block_delta",
                "index": 0,
                "delta": {"type": "input_json_delta", "partial_json": '"Rome"}'},
            },
        ]
    end = {
        "type": "message_delta",
        "delta": {"stop_reason": "tool_use" if tools else "end_turn"},
        "usage": {"output_tokens": 2},
    }
    events = [
        {"type": "message_start", "message": _message([]) | {"stop_reason": None}}, *blocks,
        {"type": "content_block_stop", "index": 0}, end, {"type": "message_stop"},
    ]  # fmt: skip
    return 200, "text/event-stream", _events(*events, named=True)


class ModelServer(ThreadingHTTPServer):
    """Keeps what it was sent. `busy`: so many calls are answered with 429 first."""

    daemon_threads = True
    busy = 0

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.received: list[tuple[str, bytes]] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # a client that left


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: ModelServer

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.received.append((self.path, body))
        if self.server.busy:
            self.server.busy -= 1
            status, kind, content = 429, "application/json", b'{"error": {"message": "Slower"}}'
        else:
            status, kind, content = answer(self.path, json.loads(body))
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Retry-After-Ms", "1")
        self.end_headers()
        if b"slowly" in body:
            for event in content.split(b"\n\n")[:-1]:
                self.wfile.write(event + b"\n\n")
                self.wfile.flush()
                time.sleep(0.1)
        else:
            self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name of the class it is from
        pass


@pytest.fixture(scope="module")
def model() -> Iterator[ModelServer]:
    server = ModelServer()
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


HI: list[Any] = [
    {"role": "system", "content": "Be kind."}, {"role": "user", "content": "Before"},
    {"role": "assistant", "content": "Yes?"}, {"role": "user", "content": "Hi"},
]  # fmt: skip
TOOL: Any = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}
CLAUDE_TOOL: Any = {"name": "weather", "input_schema": {"type": "object"}}
CHAT: dict[str, Any] = {"model": "gpt-x", "messages": HI}
CLAUDE: dict[str, Any] = {"model": "claude-x", "max_tokens": 9, "messages": HI[1:]}
SLOWLY: Any = {"messages": [{"role": "user", "content": "slowly"}]}
Calls = dict[str, Callable[[Any], Any]]


def _streamed(stream: Any, most: int = 1000) -> list[Any]:
    return [each.model_dump() for each, _ in zip(stream, range(most), strict=False)]


def _helper(manager: Any) -> list[Any]:
    with manager as stream:
        return [event.type for event in stream]


def _lines(manager: Any) -> list[str]:
    with manager as response:
        return list(response.iter_lines())


OPENAI: Calls = {
    "plain": lambda c: c.chat.completions.create(**CHAT),
    "options": lambda c: c.with_options(timeout=9, max_retries=0).chat.completions.create(**CHAT),
    "raw": lambda c: c.chat.completions.with_raw_response.create(**CHAT).parse(),
    "parse": lambda c: c.chat.completions.parse(**CHAT),
    "tools": lambda c: c.chat.completions.create(**CHAT, tools=[TOOL]),
    "stream": lambda c: _streamed(c.chat.completions.create(**CHAT, stream=True)),
    "stream tools": lambda c: _streamed(c.chat.completions.create(**CHAT, tools=[TOOL], stream=True)),
    "helper": lambda c: _helper(c.chat.completions.stream(**CHAT)),
    "raw stream": lambda c: _streamed(c.chat.completions.with_raw_response.create(**CHAT, stream=True).parse()),
    "streaming response": lambda c: _lines(c.chat.completions.with_streaming_response.create(**CHAT)),
    "responses": lambda c: c.responses.create(model="gpt-x", input="Hi"),
    "responses list": lambda c: c.responses.create(model="gpt-x", input=[{"role": "user", "content": "Hi"}]),
    "responses stream": lambda c: _streamed(c.responses.create(model="gpt-x", input="Hi", stream=True)),
    "responses helper": lambda c: _helper(c.responses.stream(model="gpt-x", input="Hi")),
}
ANTHROPIC: Calls = {
    "plain": lambda c: c.messages.create(**CLAUDE),
    "options": lambda c: c.with_options(timeout=9).messages.create(**CLAUDE),
    "raw": lambda c: c.messages.with_raw_response.create(**CLAUDE).parse(),
    "tools": lambda c: c.messages.create(**CLAUDE, tools=[CLAUDE_TOOL]),
    "stream": lambda c: _streamed(c.messages.create(**CLAUDE, stream=True)),
    "stream tools": lambda c: _streamed(c.messages.create(**CLAUDE, tools=[CLAUDE_TOOL], stream=True)),
    "helper": lambda c: _helper(c.messages.stream(**CLAUDE)),
}


def new_openai(model: ModelServer, **options: Any) -> Any:
    return openai.OpenAI(api_key="k", base_url=f"{model.url}/v1", **options)


def new_anthropic(model: ModelServer, **options: Any) -> Any:
    return anthropic.Anthropic(api_key="k", base_url=model.url, **options)


def plain(result: Any) -> Any:
    return result.model_dump() if hasattr(result, "model_dump") else result


def logged(log: Turnlog, session: str = "chat") -> Row:
    (row,) = log.stored[session]
    return row


@pytest.mark.parametrize(
    ("kind", "name"), [("openai", name) for name in OPENAI] + [("anthropic", name) for name in ANTHROPIC]
)
def test_each_way_to_call_has_the_same_request_and_result_and_its_turn(
    model: ModelServer, kind: str, name: str
) -> None:
    call = (OPENAI if kind == "openai" else ANTHROPIC)[name]
    new, wrap = (new_openai, wrap_openai) if kind == "openai" else (new_anthropic, wrap_anthropic)
    log = Turnlog.memory()
    model.received.clear()
    with new(model) as bare:
        expected = plain(call(bare))
    with new(model) as client, log.session("chat"):
        assert plain(call(wrap(client, log))) == expected
    first, second = model.received
    assert first == second, "byte for byte"
    row = logged(log)
    assert (row["prompt"], row["status"]) == ("Hi", "completed")
    if "tools" in name:
        (message,) = row["response"]
        calls = message.get("tool_calls") or message["content"]
        assert (calls[0]["id"], "Rome" in json.dumps(calls)) == ("call_1", True)
        assert row["finish_reason"] in {"tool_calls", "tool_use"}
    else:
        assert row["response"] == "Hello, Ada."
        assert row["finish_reason"] in {"stop", "completed", "end_turn"}
    assert (row["model"], row["output_tokens"]) == ("gpt-x-2026" if kind == "openai" else "claude-x", 2)
    assert (row["input_tokens"], row["cached_input_tokens"]) == (9 if kind == "openai" else 10, 4)
    assert log.report().failures == log.report().conflict == 0
    log.close()


@pytest.mark.parametrize("kind", ["openai", "anthropic"])
def test_async_clients_are_logged_alike(model: ModelServer, kind: str) -> None:
    log = Turnlog.memory()

    async def talk() -> None:
        client: Any  # of either package
        if kind == "openai":
            client = wrap_openai(openai.AsyncOpenAI(api_key="k", base_url=f"{model.url}/v1"), log)
            create, options = client.chat.completions.create, CHAT
        else:
            client = wrap_anthropic(anthropic.AsyncAnthropic(api_key="k", base_url=model.url), log)
            create, options = client.messages.create, CLAUDE
        async with client:
            with log.session("plain"):
                await create(**options)
            with log.session("stream"):
                parts = [part async for part in await create(**options, stream=True)]
                assert len(parts) > 3
            with log.session("left"):
                async for _ in await create(**options, stream=True):
                    break

    run_async(talk())
    gc.collect()
    rows = {session: logged(log, session) for session in ("plain", "stream", "left")}
    assert [row["response"] for row in rows.values()][:2] == ["Hello, Ada."] * 2
    assert [row["status"] for row in rows.values()][:2] == ["completed"] * 2
    assert rows["left"]["status"] in {"completed", "abandoned"}
    log.close()


def test_a_stream_that_is_left_is_abandoned_with_what_there_was(model: ModelServer) -> None:
    log = Turnlog.memory()
    with new_openai(model) as bare:
        client = wrap_openai(bare, log)
        with log.session("closed"):
            stream = client.chat.completions.create(**CHAT | SLOWLY, stream=True)
            next(iter(stream))
            stream.close()
        with log.session("collected"):
            stream = client.chat.completions.create(**CHAT, stream=True)
            del stream
            gc.collect()
    assert [logged(log, name)["status"] for name in ("closed", "collected")] == ["abandoned", "abandoned"]
    log.close()


def test_errors_are_raised_as_ever_and_logged(model: ModelServer) -> None:
    log = Turnlog.memory()
    bad = CHAT | {"messages": [{"role": "user", "content": "overloaded"}]}
    with new_openai(model, max_retries=0) as bare:
        client = wrap_openai(bare, log)
        for name, options in [("plain", {}), ("stream", {"stream": True})]:
            with log.session(name), pytest.raises(openai.BadRequestError, match="No such thing"):
                client.chat.completions.create(**bad, **options)
            assert (logged(log, name)["status"], logged(log, name)["error"]) == ("failed", "400: No such thing")
        unreachable = client.with_options(base_url="http://127.0.0.1:9/v1")
        with log.session("away"), pytest.raises(openai.APIConnectionError):
            unreachable.chat.completions.create(**CHAT)
        assert "ConnectError" in logged(log, "away")["error"]
    log.close()


def test_a_call_that_the_sdk_tries_again_is_one_interaction(model: ModelServer) -> None:
    log = Turnlog.memory()
    model.busy = 2
    with new_openai(model) as bare, log.session("chat"):
        wrap_openai(bare, log).chat.completions.create(**CHAT)
    row = logged(log)
    assert (row["status"], row["response"], row["error"]) == ("completed", "Hello, Ada.", "429: Slower")
    log.close()


def test_only_the_wrapped_client_is_logged_and_once(model: ModelServer) -> None:
    log = Turnlog.memory()
    with new_openai(model) as bare, new_openai(model) as other, log.session("chat"):
        client = wrap_openai(wrap_openai(bare, log), log)
        client.chat.completions.create(**CHAT)
        other.chat.completions.create(**CHAT)
    assert logged(log)["response"] == "Hello, Ada."
    log.close()


def test_the_service_stores_what_was_called(model: ModelServer, log_service: Log, open_log: OpenLog) -> None:
    log = open_log(log_service.url)
    with new_openai(model) as first, new_anthropic(model) as second:
        one, two = wrap_openai(first, log, context=True), wrap_anthropic(second, log)
        with log.session("wrapped", user_id="ada"):
            one.chat.completions.create(**CHAT, tools=[TOOL])
            done = {"role": "tool", "tool_call_id": "call_1", "content": "Sunny"}
            asked = [*HI, {"role": "assistant", "tool_calls": [CALL]}, done]
            one.chat.completions.create(model="gpt-x", messages=asked, stream=True).close()
            one.responses.create(
                model="gpt-x", input=[{"type": "function_call_output", "call_id": "c", "output": "Sunny"}]
            )
            two.messages.create(**CLAUDE, system="Be kind.", tools=[CLAUDE_TOOL])
    assert log.flush(10).complete
    rows = log_service.transcript("wrapped")
    assert [row["status"] for row in rows].count("completed") >= 3
    assert rows[0]["response"][0]["tool_calls"][0]["id"] == "call_1"
    assert rows[1]["prompt"] == [done]
    assert rows[2]["prompt"][0]["role"] == "tool"


def test_a_log_that_fails_changes_nothing_for_the_caller(model: ModelServer, monkeypatch: pytest.MonkeyPatch) -> None:
    log = Turnlog.memory()

    def broken(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("turnlog.client.Turn.append", broken)
    monkeypatch.setattr("turnlog.client.Turn.complete", broken)
    with new_openai(model) as bare, log.session("chat"):
        stream = wrap_openai(bare, log).chat.completions.create(**CHAT, stream=True)
        assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == "Hello, Ada."
    assert log.report().failures > 0
    log.close()
