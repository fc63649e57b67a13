"""Dialogues, and each of them as SDKs and data sets write it. Every shape must become the same interactions.

`DIALOGUES` has them in the plain form: system, user, assistant, a call of tools, their results. `SHAPES` maps the name
of a shape to the function that writes a dialogue in it. Doors of all kinds use both: HTTP routes, importers, traces.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

Item = dict[str, Any]


@dataclass(frozen=True)
class ToolCall:
    id: str
    name: str
    arguments: dict[str, Any]


@dataclass(frozen=True)
class Said:
    """A message. `calls`: an assistant's calls of tools. `call`: the call whose result it is."""

    role: str
    text: str | None = None
    calls: tuple[ToolCall, ...] = ()
    call: ToolCall | None = None


Dialogue = Sequence[Said]

_WEATHER = ToolCall("call_1", "weather", {"city": "Köln", "days": 2})
_NEWS = ToolCall("call_2", "news", {})
_LONG = ToolCall("toolu_" + "x" * 300, "search", {"q": 'a "quoted" text', "deep": [1, {"a": None}]})

DIALOGUES: dict[str, Dialogue] = {
    "one exchange": (Said("user", "Hi"), Said("assistant", "Hello")),
    "with a system prompt": (
        Said("system", "Be short"),
        Said("user", "one?"),
        Said("assistant", "1"),
        Said("user", "two?"),
        Said("assistant", "2"),
    ),
    "the same again": tuple(
        said for n in range(4) for said in (Said("user", "next"), Said("assistant", "ok" if n % 2 else "yes"))
    ),
    "no answer": (Said("user", "Anybody?"), Said("user", "Hello?"), Said("assistant", "Yes"), Said("user", "Good")),
    "tool chain": (
        Said("user", "Weather?"),
        Said("assistant", None, (_WEATHER,)),
        Said("tool", "sunny", call=_WEATHER),
        Said("assistant", "It is sunny."),
        Said("user", "Thanks"),
        Said("assistant", "You're welcome"),
    ),
    "several tools at once": (
        Said("system", "Use tools"),
        Said("user", "Weather and news?"),
        Said("assistant", "Let me look.", (_WEATHER, _NEWS)),
        Said("tool", "sunny", call=_WEATHER),
        Said("tool", "none", call=_NEWS),
        Said("assistant", "Sunny, no news."),
    ),
    "tools in a row": (
        Said("user", "Find it"),
        Said("assistant", None, (_LONG,)),
        Said("tool", "3 hits", call=_LONG),
        Said("assistant", "Reading on.", (_NEWS,)),
        Said("tool", "", call=_NEWS),
        Said("assistant", "Found."),
    ),
    "texts of all kinds": (
        Said("user", "Zeile 1\nZeile 2\t“ü” 🙂 <b>&amp;</b>"),
        Said("assistant", '```python\nprint("hi")\n```'),
        Said("user", "{}"),
        Said("assistant", " "),
    ),
}


def expected(dialogue: Dialogue) -> list[tuple[Any, Any]]:
    """Return a dialogue's interactions: prompt and response, as the API returns them."""
    found: list[tuple[Any, Any]] = []
    prompt: list[Item] = []
    for said, item in zip(dialogue, openai_chat(dialogue), strict=True):
        if said.role == "assistant":
            found.append((_content(prompt, "user"), _content([item], "assistant")))
            prompt = []
            continue
        if said.role == "user" and any(each["role"] == "user" for each in prompt):
            found.append((_content(prompt, "user"), None))
            prompt = []
        prompt.append(item)
    if prompt:
        found.append((_content(prompt, "user"), None))
    return found


def _content(items: list[Item], role: str) -> Any:
    if len(items) == 1 and items[0].keys() == {"role", "content"} and items[0]["role"] == role:
        return items[0]["content"]
    return items


def plain_of(dialogue: Dialogue) -> list[Item]:
    """Return a dialogue of texts alone as pairs of role and text."""
    return [{"role": said.role, "content": said.text} for said in dialogue]


def openai_chat(dialogue: Dialogue) -> list[Item]:
    items: list[Item] = []
    for said in dialogue:
        item: Item = {"role": said.role, "content": said.text}
        if said.calls:
            item["tool_calls"] = [
                {
                    "id": call.id,
                    "type": "function",
                    "function": {"name": call.name, "arguments": compact(call.arguments)},
                }
                for call in said.calls
            ]
        if said.call:
            item["tool_call_id"] = said.call.id
        items.append(item)
    return items


def openai_chat_as_dumped(dialogue: Dialogue) -> list[Item]:
    """Return the messages with all that the SDK's `model_dump()` writes."""
    nothing: Item = {"refusal": None, "annotations": [], "audio": None, "function_call": None}
    return [
        {**nothing, "tool_calls": None, **item} if item["role"] == "assistant" else item
        for item in openai_chat(dialogue)
    ]


def openai_responses(dialogue: Dialogue) -> list[Item]:
    items: list[Item] = []
    for n, said in enumerate(dialogue):
        if said.call:
            items.append({"type": "function_call_output", "call_id": said.call.id, "output": said.text, "id": None})
            continue
        if said.role == "assistant":
            items.append({"type": "reasoning", "id": f"rs_{n}", "summary": [], "status": None})
        if said.text is not None:
            kind = "output_text" if said.role == "assistant" else "input_text"
            part: Item = {"type": kind, "text": said.text}
            if said.role == "assistant":
                part |= {"annotations": [], "logprobs": None}
            items.append({"type": "message", "role": said.role, "status": "completed", "content": [part]})
        items += [
            {"type": "function_call", "call_id": call.id, "name": call.name, "arguments": compact(call.arguments),
             "status": "completed"}
            for call in said.calls
        ]  # fmt: skip
    return items


def anthropic(dialogue: Dialogue) -> list[Item]:
    items: list[Item] = []
    for said in dialogue:
        if said.call:
            block = {"type": "tool_result", "tool_use_id": said.call.id, "content": said.text, "is_error": False}
            if items and items[-1]["role"] == "user" and items[-1]["content"][0]["type"] == "tool_result":
                items[-1]["content"].append(block)
            else:
                items.append({"role": "user", "content": [block]})
            continue
        blocks: list[Item] = [] if said.text is None else [{"type": "text", "text": said.text, "citations": None}]
        blocks += [
            {"type": "tool_use", "id": call.id, "name": call.name, "input": call.arguments} for call in said.calls
        ]
        items.append({"role": said.role, "content": blocks})
    return items


def ai_sdk_model_messages(dialogue: Dialogue) -> list[Item]:
    items: list[Item] = []
    for said in dialogue:
        parts: list[Item] = [] if said.text is None or said.call else [{"type": "text", "text": said.text}]
        parts += [
            {"type": "tool-call", "toolCallId": call.id, "toolName": call.name, "input": call.arguments}
            for call in said.calls
        ]
        if said.call:
            output = {"type": "text", "value": said.text}
            result = {"type": "tool-result", "toolCallId": said.call.id, "toolName": said.call.name, "output": output}
            if items and items[-1]["role"] == "tool":
                items[-1]["content"].append(result)
                continue
            parts = [result]
        items.append({"role": said.role, "content": said.text if said.role == "system" else parts})
    return items


def ai_sdk_ui_messages(dialogue: Dialogue) -> list[Item]:
    """Return messages as `useChat` has them: an answer's steps, with tools and their results, are one message."""
    items: list[Item] = []
    for said in dialogue:
        if said.call:
            part = next(p for p in items[-1]["parts"] if p.get("toolCallId") == said.call.id)
            part |= {"state": "output-available", "output": said.text}
            continue
        parts: list[Item] = [{"type": "step-start"}] if said.role == "assistant" else []
        if said.text is not None:
            parts.append({"type": "text", "text": said.text, "state": "done"})
        parts += [
            {"type": f"tool-{call.name}", "toolCallId": call.id, "state": "input-available", "input": call.arguments}
            for call in said.calls
        ]
        if said.role == "assistant" and items and items[-1]["role"] == "assistant":
            items[-1]["parts"] += parts
        else:
            items.append({"role": said.role, "parts": parts})
    return items


def langchain_dicts(dialogue: Dialogue) -> list[Item]:
    """Return messages as `messages_to_dict` writes them."""
    return [
        {"type": fields["type"], "data": {**fields, "additional_kwargs": {}, "response_metadata": {}, "name": None,
                                          "id": None, "example": False}}
        for fields in _langchain(dialogue)
    ]  # fmt: skip


def langchain_flat(dialogue: Dialogue) -> list[Item]:
    """Return messages as `model_dump()` writes them."""
    return _langchain(dialogue)


def langchain_serialised(dialogue: Dialogue) -> list[Item]:
    """Return messages as `dumpd` writes them."""
    names = {"human": "HumanMessage", "ai": "AIMessage", "system": "SystemMessage", "tool": "ToolMessage"}
    return [
        {"lc": 1, "type": "constructor", "id": ["langchain", "schema", "messages", names[fields["type"]]],
         "kwargs": fields}
        for fields in _langchain(dialogue)
    ]  # fmt: skip


def _langchain(dialogue: Dialogue) -> list[Item]:
    types = {"user": "human", "assistant": "ai"}
    items = []
    for said in dialogue:
        item: Item = {"type": types.get(said.role, said.role), "content": said.text or ""}
        if said.role == "assistant":
            item |= {
                "tool_calls": [
                    {"name": call.name, "args": call.arguments, "id": call.id, "type": "tool_call"}
                    for call in said.calls
                ],
                "invalid_tool_calls": [],
                "usage_metadata": None,
            }
        if said.call:
            item |= {"tool_call_id": said.call.id, "status": "success", "artifact": None}
        items.append(item)
    return items


def gemini(dialogue: Dialogue) -> list[Item]:
    items: list[Item] = []
    for said in dialogue:
        role = "model" if said.role == "assistant" else said.role if said.role == "system" else "user"
        parts: list[Item] = [] if said.text is None or said.call else [{"text": said.text}]
        parts += [
            {"functionCall": {"id": call.id, "name": call.name, "args": call.arguments}, "text": None}
            for call in said.calls
        ]
        if said.call:
            answer = {"id": said.call.id, "response": {"output": said.text}}
            if items and "functionResponse" in items[-1]["parts"][0]:
                items[-1]["parts"].append({"functionResponse": answer})
                continue
            parts = [{"functionResponse": answer}]
        items.append({"role": role, "parts": parts})
    return items


def sharegpt(dialogue: Dialogue) -> list[Item]:
    """Return messages as data sets have them, for dialogues without tools: these have no ids there."""
    names = {"user": "human", "assistant": "gpt"}
    return [{"from": names.get(said.role, said.role), "value": said.text} for said in dialogue]


def has_tools(dialogue: Dialogue) -> bool:
    return any(said.calls for said in dialogue)


def compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


SHAPES: dict[str, Callable[[Dialogue], list[Item]]] = {
    "OpenAI chat": openai_chat,
    "OpenAI chat, dumped": openai_chat_as_dumped,
    "OpenAI Responses": openai_responses,
    "Anthropic": anthropic,
    "Gemini": gemini,
    "AI SDK model messages": ai_sdk_model_messages,
    "AI SDK UI messages": ai_sdk_ui_messages,
    "LangChain dicts": langchain_dicts,
    "LangChain flat": langchain_flat,
    "LangChain serialised": langchain_serialised,
    "ShareGPT": sharegpt,
}


def written() -> list[tuple[str, str, list[Item], Dialogue]]:
    """Return every dialogue in every shape that can write it: shape, name, list, dialogue."""
    return [
        (shape, name, write(dialogue), dialogue)
        for shape, write in SHAPES.items()
        for name, dialogue in DIALOGUES.items()
        if shape != "ShareGPT" or not has_tools(dialogue)
    ]
