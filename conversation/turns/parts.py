"""Reads the parts of a message's content: texts, reasoning, calls of tools and their results, files.

Texts are `{"type": "text", "text": …}`, reasoning `{"type": "reasoning", "text": …}`, whatever an SDK calls them; calls
of tools and their results become fields and messages of their own; any other part stays as it is.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from conversation.turns.message import Content, Item
from conversation.turns.roles import ASSISTANT, TOOL

_TEXT_TYPES = frozenset({"text", "input_text", "output_text", "summary_text"})
_REASONING_TYPES = frozenset({"reasoning", "thinking", "thought"})
_OTEL_TYPES = frozenset({"text", "reasoning"})  # whose text is their `content` in OpenTelemetry's messages
_CALL_TYPES = frozenset({"tool_use", "tool-call", "tool_call", "function_call"})
_RESULT_TYPES = frozenset({"tool_result", "tool-result", "function_call_output", "tool_call_response"})
_ARGUMENTS = ("arguments", "args", "input", "parameters")
_CALL_IDS = ("id", "toolCallId", "tool_call_id", "call_id", "tool_use_id")
_DONE = {"state": "done"}  # a streamed part of the AI SDK


@dataclass(slots=True)
class Piece:
    """A message's part of an item's content."""

    role: str
    content: Content | None
    tool_calls: list[Item] = field(default_factory=list)
    tool_call_id: str | None = None
    name: str | None = None
    extras: Item = field(default_factory=dict)


def split(content: Any, role: str) -> list[Piece]:
    """Return a content as pieces, a message each; empty for an empty content.

    A user's results of tools come first and apart. An assistant's results are followed by the next call of the model.
    Raises `ValueError` for what is no content.
    """
    match content:
        case str():
            return [Piece(role, content)] if content else []
        case None | []:
            return []
        case list():
            return _split_parts(content, role)
        case _ if role == TOOL:
            return [Piece(role, as_text(content))]
        case dict():
            return _split_parts([content], role)
    raise ValueError("Must be a text or a list of parts")


def _split_parts(content: list[Any], role: str) -> list[Piece]:
    steps: list[tuple[list[Item], list[Item], list[Piece]]] = [([], [], [])]  # contents, calls, results
    for part in content:
        if _is_boundary(part):
            steps.append(([], [], []))
            continue
        call, result, kept = _sorted(part)
        if role == ASSISTANT and kept and steps[-1][2]:
            steps.append(([], [], []))
        contents, calls, results = steps[-1]
        contents += [kept] if kept else []
        calls += [call] if call else []
        results += [result] if result else []
    pieces: list[Piece] = []
    for contents, calls, results in steps:
        own = [Piece(role, simple(contents), calls)] if contents or calls else []
        pieces += [*own, *results] if role == ASSISTANT else [*results, *own]
    return pieces


def simple(content: Sequence[Item]) -> Content | None:
    """Return parts as a text if they are one text, None if there are none."""
    match content:
        case []:
            return None
        case [{"type": "text", "text": str(text), **rest}] if not rest:
            return text
    return list(content)


def tool_call(sent: Item) -> Item:
    """Return a call of a tool as OpenAI's chat API has it."""
    if sent.get("type") == "custom" and "custom" in sent:
        return {key: value for key, value in sent.items() if not is_empty(value)}
    if isinstance(function := sent.get("function"), dict):
        rest = {name: value for name, value in sent.items() if name not in {"id", "type", "function", "index"}}
        call_id, name = sent.get("id"), function.get("name")
        arguments: Any = next((function[key] for key in _ARGUMENTS if key in function), None)
    else:
        call_id = next((sent[key] for key in _CALL_IDS if sent.get(key) is not None), None)
        name = sent.get("name") or sent.get("toolName") or sent.get("tool_name")
        arguments = next((sent[key] for key in _ARGUMENTS if key in sent), None)
        rest = {}
    call: Item = {} if call_id is None else {"id": call_id if isinstance(call_id, str) else as_text(call_id)}
    call |= {"type": "function", "function": {"name": name, "arguments": _arguments(arguments)}}
    return call | {key: value for key, value in rest.items() if not is_empty(value)}


def as_text(value: Any) -> str:
    """Return a text as it is, another value as compact JSON."""
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def texts_of(parts: Sequence[Item], kind: str) -> str:
    """Return the texts of all parts of a kind, each on lines of its own."""
    of_kind = (part.get("text") for part in parts if part.get("type") == kind)
    return "\n".join(text for text in of_kind if isinstance(text, str))


def is_empty(value: Any) -> bool:
    """Return whether a value says nothing: null, empty, or an object of such values."""
    if isinstance(value, dict):
        return all(map(is_empty, value.values()))
    return value is None or value in ([], "")


def _arguments(value: Any) -> str:
    return "{}" if value is None else as_text(value)


def _is_boundary(part: Any) -> bool:
    match part:
        case {"type": "step-start" | "step_start"}:
            return True
    return False


def _sorted(part: Any) -> tuple[Item | None, Piece | None, Item | None]:
    """Return what a part is: a call of a tool, its result, or content."""
    match part:
        case str():
            return None, None, {"type": "text", "text": part} if part else None
        case {"type": "tool-invocation", "toolInvocation": dict(invocation)}:
            return _invocation(invocation, invocation.get("toolName"))
        case {"type": "dynamic-tool", "toolName": name}:
            return _invocation(part, name)
        case {"type": str(kind), "toolCallId": _} if (
            kind.startswith("tool-") and kind not in _CALL_TYPES | _RESULT_TYPES
        ):
            return _invocation(part, kind.removeprefix("tool-"))
        case {"type": str(kind)} if kind in _CALL_TYPES:
            return tool_call(part), None, None
        case {"type": str(kind)} if kind in _RESULT_TYPES:
            return None, _result(part), None
        case {"functionCall": dict(call)} | {"function_call": dict(call)}:
            return tool_call(call), None, None
        case {"functionResponse": dict(answer)} | {"function_response": dict(answer)}:
            return None, _gemini_result(answer), None
        case dict():
            return None, None, _object(part)
    return None, None, {"type": "json", "value": part}


def _object(part: Item) -> Item | None:
    """Return a part of content without what says nothing; None for an empty text."""
    rest = {name: value for name, value in part.items() if not is_empty(value) and _DONE.get(name) != value}
    kind = rest.get("type")
    if isinstance(kind, str) and kind in _OTEL_TYPES and isinstance(rest.get("content"), str) and "text" not in rest:
        rest["text"] = rest.pop("content")
    if kind in _TEXT_TYPES if isinstance(kind, str) else isinstance(rest.get("text"), str):
        if rest.pop("thought", False):
            return {"type": "reasoning"} | {name: value for name, value in rest.items() if name != "type"}
        match rest.get("text"):
            case {"value": str(text)}:  # of OpenAI's threads
                rest["text"] = text
            case None:
                return None
        return {"type": "text"} | {name: value for name, value in rest.items() if name != "type"}
    if isinstance(kind, str) and kind in _REASONING_TYPES:
        text = next(
            (rest.pop(name) for name in ("text", "thinking", "reasoning") if isinstance(rest.get(name), str)), ""
        )
        return {"type": "reasoning", "text": text} | {name: value for name, value in rest.items() if name != "type"}
    return rest or None


def _invocation(part: Item, name: Any) -> tuple[Item | None, Piece | None, None]:
    """Return a tool's part of a UI message as a call, and as a result once there is one."""
    call_id = part.get("toolCallId")
    arguments = part.get("input", part.get("args", part.get("rawInput")))
    call = tool_call({"id": call_id, "name": name, "arguments": arguments})
    output = part.get("output", part.get("result"))
    error = part.get("errorText")
    if output is None and error is None:
        return call, None, None
    result = Piece(TOOL, as_text(output if error is None else error), tool_call_id=call_id)
    if error is not None:
        result.extras["is_error"] = True
    return call, result, None


def _result(part: Item) -> Piece:
    value = next((part[name] for name in ("response", "content", "output", "result") if name in part), None)
    match value:
        case {"type": "text" | "error-text", "value": text}:
            value = text
        case {"type": "json" | "error-json", "value": inner}:
            value = inner
        case {"type": "content", "value": inner}:
            value = inner
    call_id = next((part[name] for name in ("tool_use_id", *_CALL_IDS) if isinstance(part.get(name), str)), None)
    content: Content
    if isinstance(value, list) and all(isinstance(each, dict) and "type" in each for each in value):
        content = simple([kept for each in value if (kept := _object(each))]) or ""
    else:
        content = "" if value is None else as_text(value)
    failed = part.get("is_error") is True or part.get("isError") is True
    return Piece(TOOL, content, tool_call_id=call_id, extras={"is_error": True} if failed else {})


def _gemini_result(answer: Item) -> Piece:
    value = answer.get("response")
    match value:
        case {"output": inner, **more} | {"result": inner, **more} if not more:
            value = inner  # Google's SDKs send a value that is no object under these names
    call_id = answer.get("id")
    name = answer.get("name")
    return Piece(
        TOOL,
        "" if value is None else as_text(value),
        tool_call_id=call_id if isinstance(call_id, str) else None,
        name=name if isinstance(name, str) else None,
    )
