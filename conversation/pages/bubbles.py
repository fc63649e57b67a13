"""An interaction as a conversation shows it: who said what, in bubbles.

A prompt or a response is a text or a list of messages in the form of some provider; what isn't known of it is shown
as JSON, never left out.
"""

import json
from dataclasses import dataclass
from typing import Any, Literal

from logging_store import operations as ops

Side = Literal["user", "assistant", "other"]

_SHORT = 1200  # characters; what is longer is folded
_SHORT_LINES = 24
_SIDES: dict[str, Side] = {
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "model": "assistant",
    "ai": "assistant",
}
_SAID_ELSEWHERE = frozenset({"role", "content", "tool_calls", "name", "tool_call_id"})
_TEXT_PARTS = frozenset({"text", "input_text", "output_text"})


@dataclass(frozen=True, slots=True)
class Part:
    """One piece of a bubble. `text`: of people and models; `json`: folded, under `label`."""

    kind: Literal["text", "json"]
    text: str
    label: str = ""

    @property
    def is_long(self) -> bool:
        return len(self.text) > _SHORT or self.text.count("\n") > _SHORT_LINES

    @property
    def beginning(self) -> str:
        lines = self.text[: _SHORT // 2].splitlines()[: _SHORT_LINES // 2]
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class Bubble:
    side: Side
    who: str
    parts: list[Part]

    @property
    def text(self) -> str:
        """What a reader copies."""
        return "\n\n".join(part.text for part in self.parts)


def of(interaction: ops.Interaction) -> list[Bubble]:
    """Return what was said in an interaction, prompt first."""
    asked = _said(interaction["prompt"], "user", interaction["participant"] or "user")
    return asked + _said(interaction["response"], "assistant", interaction["model"] or "assistant")


def _said(value: str | list[dict[str, Any]] | None, side: Side, who: str) -> list[Bubble]:
    if value is None:
        return []
    if isinstance(value, str):
        return [Bubble(side, who, [Part("text", value)])]
    return [_bubble(message, side, who) for message in value]


def _bubble(message: dict[str, Any], side: Side, who: str) -> Bubble:
    role = message.get("role")
    if isinstance(role, str):
        its_side = _SIDES.get(role.lower(), "other")
        if its_side != side:
            side, who = its_side, role
    name = message.get("name") or message.get("tool_call_id")
    if isinstance(name, str):
        who = f"{who} · {name}"
    parts = _content(message.get("content"))
    parts.extend(_tool_call(call) for call in _listed(message.get("tool_calls")))
    if rest := {key: value for key, value in message.items() if key not in _SAID_ELSEWHERE}:
        parts.append(_json("more fields", rest))
    return Bubble(side, who, parts)


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
    """Return arguments that providers send as JSON in a text; what is none stays as it is."""
    if not isinstance(arguments, str):
        return arguments
    try:
        return json.loads(arguments)
    except ValueError:
        return arguments


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _json(label: str, value: Any) -> Part:
    return Part("json", json.dumps(value, indent=2, ensure_ascii=False), label)
