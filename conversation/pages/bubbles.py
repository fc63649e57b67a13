"""Turns an interaction into chat bubbles, one for each message.

A prompt or a response is a text or a list of messages in some provider's format. Fields and parts that no provider
documents are shown as JSON, never left out.
"""

import json
from dataclasses import dataclass
from typing import Any, Literal

from logging_store import operations as ops

Side = Literal["user", "assistant", "other"]

_MAX_CHARACTERS = 1200  # a longer text is collapsed
_MAX_LINES = 24
_SIDES: dict[str, Side] = {
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "model": "assistant",
    "ai": "assistant",
}
_SHOWN_ELSEWHERE = frozenset({"role", "content", "tool_calls", "name", "tool_call_id"})
_TEXT_PARTS = frozenset({"text", "input_text", "output_text"})


@dataclass(frozen=True, slots=True)
class Part:
    """One piece of a bubble: text, or collapsed JSON under a `label`."""

    kind: Literal["text", "json"]
    text: str
    label: str = ""

    @property
    def is_long(self) -> bool:
        return len(self.text) > _MAX_CHARACTERS or self.text.count("\n") > _MAX_LINES

    @property
    def preview(self) -> str:
        lines = self.text[: _MAX_CHARACTERS // 2].splitlines()[: _MAX_LINES // 2]
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class Bubble:
    side: Side
    speaker: str
    parts: list[Part]

    @property
    def text(self) -> str:
        """The text that the copy button copies."""
        return "\n\n".join(part.text for part in self.parts)


def of_interaction(interaction: ops.Interaction) -> list[Bubble]:
    """Return the bubbles of an interaction, prompt first."""
    prompt = _bubbles(interaction["prompt"], "user", interaction["participant"] or "user")
    return prompt + _bubbles(interaction["response"], "assistant", interaction["model"] or "assistant")


def _bubbles(value: str | list[dict[str, Any]] | None, side: Side, speaker: str) -> list[Bubble]:
    if value is None:
        return []
    if isinstance(value, str):
        return [Bubble(side, speaker, [Part("text", value)])]
    return [_bubble(message, side, speaker) for message in value]


def _bubble(message: dict[str, Any], side: Side, speaker: str) -> Bubble:
    role = message.get("role")
    if isinstance(role, str):
        role_side = _SIDES.get(role.lower(), "other")
        if role_side != side:
            side, speaker = role_side, role
    name = message.get("name") or message.get("tool_call_id")
    if isinstance(name, str):
        speaker = f"{speaker} · {name}"
    parts = _content(message.get("content"))
    parts.extend(_tool_call(call) for call in _as_list(message.get("tool_calls")))
    if rest := {key: value for key, value in message.items() if key not in _SHOWN_ELSEWHERE}:
        parts.append(_json("more fields", rest))
    return Bubble(side, speaker, parts)


def _content(content: Any) -> list[Part]:
    match content:
        case None:
            return []
        case str():
            return [Part("text", content)] if content else []
        case list():
            return [_part(part) for part in content]
        case _:
            return [_json("content", content)]


def _part(part: Any) -> Part:
    match part:
        case str():
            return Part("text", part)
        case {"type": str(kind), "text": str(text)} if kind in _TEXT_PARTS:
            return Part("text", text)
        case {"type": str(kind)}:
            return _json(kind.replace("_", " "), part)
        case _:
            return _json("part", part)


def _tool_call(call: Any) -> Part:
    match call:
        case {"function": {"name": str(name), "arguments": arguments}}:
            return _json(f"tool call: {name}", _parsed(arguments))
        case {"name": str(name)}:
            return _json(f"tool call: {name}", call)
        case _:
            return _json("tool call", call)


def _parsed(arguments: Any) -> Any:
    """Return the arguments of a call, which providers send as JSON in a text; invalid JSON stays a text."""
    if not isinstance(arguments, str):
        return arguments
    try:
        return json.loads(arguments)
    except ValueError:
        return arguments


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _json(label: str, value: Any) -> Part:
    return Part("json", json.dumps(value, indent=2, ensure_ascii=False), label)
