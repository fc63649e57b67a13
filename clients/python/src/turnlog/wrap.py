"""Clients of models that log each call: OpenAI's and Anthropic's, by what goes over the wire.

A wrapped client's HTTP connection is watched, so every way to call is logged alike: plain, streamed, parsed, raw, by a
copy with other options, sync and async. A request is sent as it is, and an answer is passed on as it came. One call of
a model is one interaction of the current session: its prompt is what came after the last answer. Calls outside of a
session's `with` block have sessions of their own.
"""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import json
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from turnlog.client import Session, Turn, Turnlog, current_session
from turnlog.default import default

Client = TypeVar("Client")

_PATHS = ("/chat/completions", "/responses", "/messages")
_MOST_FAILED = 100
_FAILED_FROM = 400


def wrap_openai(client: Client, log: Turnlog | None = None, *, context: bool = False) -> Client:
    """Log the calls of an OpenAI client and of its copies; return it. `context`: also what came before the prompt."""
    return _wrap(client, log, "openai", context)


def wrap_anthropic(client: Client, log: Turnlog | None = None, *, context: bool = False) -> Client:
    """Log the calls of an Anthropic client and its copies; return it. `context`: also what came before the prompt."""
    return _wrap(client, log, "anthropic", context)


def _wrap(client: Client, log: Turnlog | None, provider: str, context: bool) -> Client:
    http: Any = client._client  # type: ignore[attr-defined]  # noqa: SLF001 - where both SDKs have it, and both copy it
    if not isinstance(http.__dict__.get("watcher"), _Watcher):
        client._client = _Watched(http, _Watcher(log, provider, context))  # type: ignore[attr-defined]  # noqa: SLF001
    return client


class _Watched:
    """An HTTP client of httpx whose calls are watched. It passes for the class of the one that it has."""

    def __init__(self, http: Any, watcher: _Watcher) -> None:
        self.__dict__.update(http=http, watcher=watcher)

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        return type(self.__dict__["http"])

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["http"], name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.__dict__["http"], name, value)

    def send(self, request: Any, *args: Any, **options: Any) -> Any:
        http, watcher = self.__dict__["http"], self.__dict__["watcher"]
        call = watcher.begin(request)
        if call is None:
            return http.send(request, *args, **options)
        if inspect.iscoroutinefunction(http.send):
            return _send_async(http, call, request, args, options)
        try:
            response = http.send(request, *args, **options)
        except BaseException as error:
            call.fail(error)
            raise
        call.answer(response)
        return response


async def _send_async(http: Any, call: _Call, request: Any, args: Any, options: Any) -> Any:
    try:
        response = await http.send(request, *args, **options)
    except BaseException as error:
        call.fail(error)
        raise
    call.answer(response)
    return response


class _Watcher:
    def __init__(self, log: Turnlog | None, provider: str, context: bool) -> None:
        self._log, self._provider, self._context = log, provider, context
        self._failed: dict[bytes, tuple[Session, str]] = {}

    def begin(self, request: Any) -> _Call | None:
        """Log that a call begins; return None if it is no call of a model, or can't be understood."""
        log = self._log or default()
        try:
            if request.method != "POST" or not request.url.path.endswith(_PATHS):
                return None
            digest = hashlib.sha256(request.content).digest()
            asked = json.loads(request.content)
            session, name = current_session() or log.session(), None
            if request.headers.get("x-stainless-retry-count", "0") != "0":  # the SDK tries the same call again
                session, name = self._failed.pop(digest, (session, None))
            turn = session.turn(interaction_id=name, provider=self._provider, **_asked(asked, self._context))
            return _Call(turn, asked.get("model"), lambda: self._remember(digest, turn), log)
        except Exception as error:  # noqa: BLE001 - the call goes on
            log.core.failed(error)
            return None

    def _remember(self, digest: bytes, turn: Turn) -> None:
        while len(self._failed) >= _MOST_FAILED:
            self._failed.pop(next(iter(self._failed)))
        self._failed[digest] = turn.session, turn.interaction_id


class _Call:
    """One call that was sent. Whatever happens to its answer first ends its turn."""

    def __init__(self, turn: Turn, model: str | None, remember: Callable[[], None], log: Turnlog) -> None:
        self._turn, self._remember, self._log = turn, remember, log
        self._facts = _Facts(model)
        self._ended = self.is_reading = False
        self._status = 0
        self._is_stream = False
        self._buffer = bytearray()

    def fail(self, error: BaseException) -> None:
        with self._guard():
            if not self._ended:
                self._ended = True
                self._remember()
                self._turn.__exit__(type(error), error, None)

    def answer(self, response: Any) -> None:
        """Watch an answer, which may be read already or be read later, in parts."""
        with self._guard():
            self._status = response.status_code
            self._is_stream = "text/event-stream" in response.headers.get("content-type", "")
            if response.is_closed:
                self.feed(response.content)
                self.end(complete=True)
                return
            is_async = hasattr(response.stream, "__aiter__")
            read, close = ("aiter_bytes", "aclose") if is_async else ("iter_bytes", "close")
            setattr(response, read, self._reading(getattr(response, read)))
            setattr(response, close, self._closing(getattr(response, close)))

    def _reading(self, read: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *args, **options: _Parts(read(*args, **options), self)

    def _closing(self, close: Callable[[], Any]) -> Callable[[], Any]:
        def closing() -> Any:
            if not self.is_reading:  # else the answer closes itself at its end
                self.end(complete=self._facts.is_over)
            return close()  # a coroutine of an async response

        return closing

    def feed(self, part: bytes) -> None:
        with self._guard():
            self._buffer += part
            if self._is_stream and self._status < _FAILED_FROM:
                *lines, rest = bytes(self._buffer).split(b"\n")
                self._buffer = bytearray(rest)
                for line in lines:
                    if line.startswith(b"data:") and (event := line[5:].strip()) not in {b"", b"[DONE]"}:
                        self._turn.append(self._facts.add(json.loads(event)))

    def end(self, *, complete: bool) -> None:
        with self._guard():
            if self._ended:
                return
            self._ended = True
            if self._status >= _FAILED_FROM:
                self._remember()
                self._turn.fail(f"{self._status}: {_problem(bytes(self._buffer))}", **self._facts.details())
                return
            if complete and not self._is_stream and self._buffer:
                self._facts.whole(json.loads(bytes(self._buffer)))
            details = self._facts.details()
            if self._facts.error:
                self._turn.fail(self._facts.error, **details)
            elif complete:
                self._turn.complete(self._facts.response(self._turn.text), **details)
            else:
                self._turn.abandon(**details)

    @contextlib.contextmanager
    def _guard(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # noqa: BLE001 - the answer is passed on
            self._log.core.failed(error)


class _Parts:
    """The parts of an answer, sync or async, which its call sees as they are read."""

    def __init__(self, parts: Any, call: _Call) -> None:
        self._parts, self._call = parts, call

    def __getattr__(self, name: str) -> Any:
        return getattr(self._parts, name)  # close, aclose

    def __iter__(self) -> _Parts:
        return self

    def __aiter__(self) -> _Parts:
        return self

    def __next__(self) -> bytes:
        try:
            self._call.is_reading = True
            part: bytes = next(self._parts)
        except StopIteration:
            self._call.end(complete=True)
            raise
        except Exception as error:
            self._call.fail(error)
            raise
        finally:
            self._call.is_reading = False
        self._call.feed(part)
        return part

    async def __anext__(self) -> bytes:
        try:
            self._call.is_reading = True
            part: bytes = await self._parts.__anext__()
        except StopAsyncIteration:
            self._call.end(complete=True)
            raise
        except BaseException as error:
            self._call.fail(error)
            raise
        finally:
            self._call.is_reading = False
        self._call.feed(part)
        return part


def _asked(body: dict[str, Any], context: bool) -> dict[str, Any]:
    """Return what a request asks, as fields of an interaction."""
    sent = body.get("messages", body.get("input"))
    if not isinstance(sent, list):
        return {"prompt": sent}
    messages = [each if "role" in each else {"role": _role(each), **each} for each in sent]
    last = max((n for n, each in enumerate(messages) if each["role"] in {"assistant", "model"}), default=-1)
    before, new = messages[: last + 1], messages[last + 1 :]
    system = body.get("system") or body.get("instructions")
    if system:
        first = {"role": "system", "content": system}
        before, new = ([first, *before], new) if before else (before, [first, *new])
    is_text = len(new) == 1 and new[0].keys() == {"role", "content"} and isinstance(new[0]["content"], str)
    prompt = new[0]["content"] if is_text and new[0]["role"] == "user" else new
    return {"prompt": prompt or None, "context": before if context and before else None}


def _role(item: dict[str, Any]) -> str:
    kind = str(item.get("type", ""))
    return (
        "tool" if kind.endswith("_output") else "assistant" if kind.endswith("_call") or kind == "reasoning" else "user"
    )


def _problem(body: bytes) -> str:
    try:
        error = json.loads(body).get("error", {})
        return str(error.get("message") or error)
    except (ValueError, AttributeError):
        return body[:500].decode(errors="replace")


class _Facts:
    """What an answer says, in one piece or in events."""

    def __init__(self, model: str | None) -> None:
        self._model = model  # the answer's own name of it counts
        self._reason: str | None = None
        self._usage: dict[str, Any] = {}
        self._message: dict[str, Any] | list[Any] | None = None
        self._calls: dict[int, dict[str, Any]] = {}
        self.error: str | None = None
        self.is_over = False

    def whole(self, body: dict[str, Any]) -> None:
        self._model = body.get("model") or self._model
        self._usage.update({name: value for name, value in (body.get("usage") or {}).items() if value is not None})
        if choices := body.get("choices"):  # OpenAI, chat
            self._message, self._reason = choices[0]["message"], choices[0].get("finish_reason")
        elif isinstance(body.get("output"), list):  # OpenAI, responses
            self._message = body["output"]
            self._reason = (body.get("incomplete_details") or {}).get("reason") or body.get("status")
            self.error = (body.get("error") or {}).get("message")
        elif "content" in body:  # Anthropic
            self._message = {"role": "assistant", "content": body["content"]}
            self._reason = body.get("stop_reason")

    def add(self, event: dict[str, Any]) -> str | None:
        """Take an event, and return the text that it adds."""
        kind = str(event.get("type") or "")
        if event.get("error"):
            self.error = str(event["error"].get("message") or event["error"])
        if kind.startswith("response."):
            if kind in {"response.completed", "response.incomplete", "response.failed"}:
                self.is_over = True
                self.whole(event["response"])
            return str(event["delta"]) if kind == "response.output_text.delta" else None
        if kind in {"message_start", "message_delta"}:
            start, delta = event.get("message") or {}, event.get("delta") or {}
            self._model = start.get("model") or self._model
            self._usage.update(
                {k: v for k, v in (event.get("usage") or start.get("usage") or {}).items() if v is not None}
            )
            self._reason = delta.get("stop_reason") or self._reason
        elif kind == "message_stop":
            self.is_over = True
        elif kind == "content_block_start" and event["content_block"].get("type") == "tool_use":
            block = event["content_block"]
            self._call(event["index"], block.get("id"), block.get("name"), "")
        elif kind == "content_block_delta":
            if event["delta"].get("type") == "input_json_delta":
                self._call(event["index"], None, None, event["delta"].get("partial_json"))
            return str(event["delta"].get("text") or "")
        elif "choices" in event:
            return self._chunk(event)
        return None

    def _chunk(self, event: dict[str, Any]) -> str | None:
        self._model = event.get("model") or self._model
        self._usage.update(event.get("usage") or {})
        choice: dict[str, Any] = next((each for each in event["choices"] if not each.get("index")), {})
        self._reason = choice.get("finish_reason") or self._reason
        self.is_over = self._reason is not None
        delta = choice.get("delta") or {}
        for each in delta.get("tool_calls") or ():
            function = each.get("function") or {}
            self._call(each.get("index", 0), each.get("id"), function.get("name"), function.get("arguments"))
        return delta.get("content") or delta.get("refusal")

    def _call(self, index: int, id_: str | None, name: str | None, arguments: str | None) -> None:
        empty: dict[str, Any] = {"id": None, "type": "function", "function": {"name": "", "arguments": ""}}
        call = self._calls.setdefault(index, empty)
        call["id"] = call["id"] or id_
        call["function"]["name"] += name or ""
        call["function"]["arguments"] += arguments or ""

    def response(self, text: str) -> Any:
        """Return the answer: a text if it is no more than that, else messages."""
        if self._calls:
            return [{"role": "assistant", "content": text or None, "tool_calls": list(self._calls.values())}]
        if isinstance(self._message, dict):
            content = self._message.get("content")
            if isinstance(content, list) and [each.get("type") for each in content] == ["text"]:
                content = content[0]["text"]
            is_text = isinstance(content, str) and not self._message.get("tool_calls")
            said = {name: value for name, value in self._message.items() if value not in (None, [])}
            return content if is_text else [{"role": "assistant", **said}]
        if isinstance(self._message, list):
            texts = [part.get("text") for item in self._message for part in item.get("content") or ()]
            if [item.get("type") for item in self._message] == ["message"] and len(texts) == 1 and texts[0] is not None:
                return texts[0]
            return [item if "role" in item else {"role": _role(item), **item} for item in self._message] or text
        return text

    def details(self) -> Any:
        used = self._usage
        of_input = used.get("prompt_tokens_details") or used.get("input_tokens_details") or {}
        of_output = used.get("completion_tokens_details") or used.get("output_tokens_details") or {}
        read, written = used.get("cache_read_input_tokens"), used.get("cache_creation_input_tokens")
        total = used.get("prompt_tokens", used.get("input_tokens"))
        found = {
            "model": self._model,
            "finish_reason": self._reason,
            "input_tokens": None if total is None else total + (read or 0) + (written or 0),
            "output_tokens": used.get("completion_tokens", used.get("output_tokens")),
            "cached_input_tokens": of_input.get("cached_tokens", read),
            "cache_write_tokens": written,
            "reasoning_tokens": of_output.get("reasoning_tokens"),
        }
        return {name: value for name, value in found.items() if value is not None}
