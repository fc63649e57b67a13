"""Turns an interaction into chat bubbles, one for each message.

A prompt or a response is a text or a list of messages in some provider's format. Fields and parts that no provider
documents are shown as JSON, never left out. In the place of a file, such as an image, stands its description.
"""

import json
from dataclasses import dataclass, replace
from typing import Any, Literal

from conversation.pages.embedded_files import FileFinder
from conversation.turns import reading, resent, shapes
from conversation.turns.roles import ASSISTANT, USER, role_of
from logging_store import operations as ops

Side = Literal["user", "assistant", "other"]

_MAX_CHARACTERS = 1200  # a longer text is collapsed
_MAX_LINES = 24
_SIDES: dict[str, Side] = {USER: "user", ASSISTANT: "assistant"}
_SHOWN_ELSEWHERE = frozenset({"role", "tool_calls", "name", "tool_call_id"})
_STEP = {"type": "step-start"}  # stands between two calls of a model in the AI SDK
_TEXT_PARTS = frozenset({"text", "input_text", "output_text"})


@dataclass(frozen=True, slots=True)
class Part:
    """One piece of a bubble: text, collapsed JSON under a `label`, or an image that is loaded when it is asked for.

    `file`: the number of the image among the interaction's files; its `text` is its description.
    """

    kind: Literal["text", "json", "image"]
    text: str
    label: str = ""
    file: int = 0

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
        return "\n\n".join(part.text for part in self.parts if part.kind != "image")


class History:
    """The messages of the interactions before one: stateless clients send them again with each prompt."""

    def __init__(self) -> None:
        self._said = resent.History()

    def new_bubbles(self, interaction: ops.Interaction) -> list[Bubble]:
        """Return the bubbles of the next interaction, without those that repeat earlier messages."""
        prompt = reading.messages_of(interaction["prompt"], USER)
        response = reading.messages_of(interaction["response"], ASSISTANT)
        sent = self._said.read(prompt)
        new = [prompt[n] for n in sent.new]
        self._said.add([*new, *response], sent.kept)
        hidden = {message.place for message in prompt} - {message.place for message in new}
        return [bubble for n, bubble in enumerate(of_interaction(interaction)) if n not in hidden]


def of_interaction(interaction: ops.Interaction) -> list[Bubble]:
    """Return the bubbles of an interaction, prompt first; none if its texts were erased or expired."""
    if interaction["erased_at"] or interaction["text_expired_at"]:
        return []
    finder = FileFinder()
    prompt = _bubbles(finder, interaction["prompt"], "user", interaction["participant"] or "user")
    return prompt + _bubbles(finder, interaction["response"], "assistant", interaction["model"] or "assistant")


def of_question(interaction: ops.Interaction) -> list[Bubble]:
    """Return the bubbles of what an answer without a prompt of its own answers."""
    question = interaction.get("question")
    if question is None:
        return []
    return of_interaction(
        {**interaction, "prompt": question["prompt"], "participant": question["participant"], "response": None}
    )


def without_images(shown: list[Bubble]) -> list[Bubble]:
    """Return bubbles with descriptions in the place of images, which are served of what is shown only."""
    return [
        replace(each, parts=[replace(part, kind="text") if part.kind == "image" else part for part in each.parts])
        for each in shown
    ]


def _bubbles(finder: FileFinder, value: str | list[dict[str, Any]] | None, side: Side, speaker: str) -> list[Bubble]:
    if value is None:
        return []
    bubbles = []
    for message in [value] if isinstance(value, str) else value:
        before = len(finder.files)
        plain = finder.without_files(message)
        files = finder.files[before:]
        images = [Part("image", file.description, file=file.number) for file in files if file.image_type]
        is_text = isinstance(plain, str)
        bubble = Bubble(side, speaker, [Part("text", plain)]) if is_text else _bubble(plain, side, speaker)
        bubbles.append(replace(bubble, parts=bubble.parts + images))
    return bubbles


def _bubble(message: dict[str, Any], side: Side, speaker: str) -> Bubble:
    fields = dict(message)
    role = fields.get("role")
    _, content = shapes.take_content(fields)
    if isinstance(role, str):
        role_side = _SIDES.get(role_of(role), "other")
        if role_side != side:
            side, speaker = role_side, role
    name = fields.get("name") or fields.get("tool_call_id")
    if isinstance(name, str):
        speaker = f"{speaker} · {name}"
    parts = _content(content)
    parts.extend(_tool_call(call) for call in _as_list(fields.get("tool_calls")))
    if rest := {key: value for key, value in fields.items() if key not in _SHOWN_ELSEWHERE}:
        parts.append(_json("more fields", rest))
    return Bubble(side, speaker, parts)


def _content(content: Any) -> list[Part]:
    match content:
        case None:
            return []
        case str():
            return [Part("text", content)] if content else []
        case list():
            return [_part(part) for part in content if part != _STEP]
        case _:
            return [_json("content", content)]


def _part(part: Any) -> Part:
    match part:
        case str():
            return Part("text", part)
        case {"type": str(kind), "text": str(text)} if kind in _TEXT_PARTS:
            return Part("text", text)
        case {"text": str(text), **more} if not more:  # Gemini's
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
