"""A message in the one form that this room works with, whatever shape it came in."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from conversation.turns.roles import ASSISTANT, TOOL, USER

Item = dict[str, Any]
Content = str | list[Item]


@dataclass(frozen=True, slots=True)
class Message:
    """One message.

    `content`: a text, a list of parts, or None. A single text part is a text. `tool_calls`: as OpenAI's chat API has
    them: `{"id": …, "type": "function", "function": {"name": …, "arguments": "JSON as a text"}}`.
    `facts`: what the message says of the call of the model that wrote it, by the names of an interaction's fields:
    model, finish_reason, input_tokens, … `extras`: its further fields, which are kept with it.
    `place`: its position in the list that it came in; two messages may come from one item of that list.
    """

    role: str
    content: Content | None = None
    tool_calls: Sequence[Item] = ()
    tool_call_id: str | None = None
    name: str | None = None
    id: str | None = None
    reply_to: str | None = None
    created_at: datetime | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    extras: dict[str, Any] = field(default_factory=dict)
    place: int = field(default=0, compare=False)

    @property
    def is_answer(self) -> bool:
        return self.role == ASSISTANT

    @property
    def plain(self) -> bool:
        """Whether the message has a text and, beside its role, nothing else to be kept with it."""
        return isinstance(self.content, str) and not (self.tool_calls or self.tool_call_id or self.name or self.extras)

    def to_item(self) -> Item:
        """Return the message as an item of a prompt or a response; ids and times have fields of their own."""
        item: Item = {"role": self.role, "content": self.content}
        if self.name is not None:
            item["name"] = self.name
        if self.tool_calls:
            item["tool_calls"] = list(self.tool_calls)
        if self.tool_call_id is not None:
            item["tool_call_id"] = self.tool_call_id
        return item | self.extras


def to_content(messages: Sequence[Message], role: str) -> Content | None:
    """Return messages as an interaction's prompt (`role` user) or response (assistant); None without any.

    A single plain message of that role is a text, any other is a list of items. Of several messages the last one's id,
    time and link are the interaction's; the others have theirs in the item, as `id`, `said_at` and `reply_to`.
    """
    match messages:
        case []:
            return None
        case [message] if message.plain and message.role == role:
            assert isinstance(message.content, str)  # noqa: S101 - it is plain
            return message.content
    named = naming(messages) if role == USER else messages[-1]
    items = []
    for message in messages:
        own: Item = {}
        if message is not named:
            own = {"id": message.id, "reply_to": message.reply_to}
        if message.created_at is not None and len(messages) > 1:
            own["said_at"] = message.created_at.isoformat()
        items.append(message.to_item() | {name: value for name, value in own.items() if value is not None})
    return items


def naming(messages: Sequence[Message]) -> Message:
    """Return the message of a prompt whose id is the interaction's: the last of a user, else the last one."""
    return next((message for message in reversed(messages) if message.role == USER), messages[-1])


def awaits_answer(prompt: Sequence[Message]) -> bool:
    """Return whether a prompt expects an answer: it has a user's message or a tool's result."""
    return any(message.role in {USER, TOOL} for message in prompt)
