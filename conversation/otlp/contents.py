"""Reads what was sent to a model and what it answered as messages, and finds what of it was new.

What can't be read as a message is kept as it came, as a text of its side's role.
"""

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import replace
from typing import Any
from zoneinfo import ZoneInfo

from pydantic_core import to_json

from conversation.otlp import budget, values
from conversation.turns import parts, shapes
from conversation.turns.message import Message
from conversation.turns.roles import ASSISTANT, SYSTEM, USER
from logging_store.records.intake import Intake

#: Names under which a request to a model has its messages.
_LISTS = ("messages", "input", "contents", "prompt")
_ARGUMENTS = {"args", "kwargs"}
_SYSTEMS = ("system", "instructions", "system_instruction", "systemInstruction")
#: Types of parts that aren't types of messages as well.
_PARTS = frozenset({"text", "thinking", "redacted_thinking", "tool_use", "tool_result", "image", "image_url"})
#: Where a message has parts or calls.
_INNER = ("content", "parts", "tool_calls")
_READING = Intake(zone=ZoneInfo("UTC"))


def read(value: Any, role: str) -> list[Message]:
    """Return the messages of a value in any shape: a list, one message, a text, or JSON in a text.

    `role`: of a text alone, and of what is no message. Raises `TooManyMessagesError`.
    """
    value = values.parsed(value)
    if value is None or values.is_redacted(value):
        return []
    if isinstance(value, str):
        return [Message(role, value)] if value else []
    sent = _items(value, role)
    budget.spend(_weight(sent))
    items = [_named(each, role) for each in sent]
    messages = []
    for found in shapes.read_each(items, _READING):
        if not isinstance(found, shapes.InvalidMessageError):
            messages.append(found)
        elif not _is_empty(sent[found.place]):
            messages.append(Message(role, parts.as_text(sent[found.place]), place=found.place))
    return [each if each.reply_to is None else replace(each, reply_to=None) for each in messages]


def _weight(items: list[Any]) -> int:
    """Return how many messages there may be in items: an SDK may have many calls and results in one."""
    budget.check(len(items))
    return sum(max(1, *(len(inner) for inner in _lists(item))) for item in items)


def _lists(item: Any) -> Iterator[list[Any]]:
    if isinstance(item, dict):
        yield from (inner for name in _INNER if isinstance(inner := item.get(name), list))
    yield []


def _items(value: Any, role: str) -> list[Any]:
    """Return a value as a list of messages."""
    match value:
        case [[*inner]]:  # LangChain has a list for each of several prompts
            return inner
        case [*items] if items and all(map(_is_part, items)):  # the content of one message
            return [{"role": role, "content": items}]
        case [*items]:
            return items
    return [value]


def _is_part(item: Any) -> bool:
    return isinstance(item, dict) and "role" not in item and item.get("type") in _PARTS


def _named(item: Any, role: str) -> Any:
    """Return an item with the role of its side if it has none."""
    if isinstance(item, str):
        return {"role": role, "content": item} if item else item
    if not isinstance(item, dict):
        return item
    if item.get("role") is None and "type" not in item and "lc" not in item:
        return item | {"role": role}
    # libraries dump `"name": null` with each message
    return {key: value for key, value in item.items() if value is not None} if None in item.values() else item


def _is_empty(item: Any) -> bool:
    rest = {key: value for key, value in item.items() if key != "role"} if isinstance(item, dict) else item
    return parts.is_empty(rest)


def request(value: Any) -> list[Message]:
    """Return the messages of a request to a model: of its list, with the system prompt that stands beside it."""
    value = values.parsed(value)
    if not isinstance(value, dict) or "role" in value:
        return read(value, USER)
    name = next((name for name in _LISTS if value.get(name)), None)
    if name is None:
        return request(_argument(value)) if value.keys() >= _ARGUMENTS else read(value, USER)
    beside = next((value[each] for each in _SYSTEMS if value.get(each)), None)
    return with_system(read(value[name], USER), beside)


def _argument(called: dict[str, Any]) -> Any:
    """Return the messages among the arguments of a function that was observed."""
    match called:
        case {"kwargs": dict(named)} if any(named.get(name) for name in _LISTS):
            return named
        case {"args": [first, *_]} if first:
            return first
        case {"kwargs": dict(named)} if named:
            return parts.as_text(named)
    return None


def with_system(sent: list[Message], value: Any) -> list[Message]:
    """Return messages after a system prompt that was stated beside them, unless they have it."""
    value = values.parsed(value)
    if value is None:
        return sent
    if isinstance(value, list) and not any(isinstance(each, dict) and "role" in each for each in value):
        value = {"role": SYSTEM, "content": value}
    elif isinstance(value, dict) and "role" not in value:
        value = {"role": SYSTEM, **value}
    known = {_comparable(each.content) for each in sent if each.role == SYSTEM}
    new = [each for each in read(value, SYSTEM) if _comparable(each.content) not in known]
    return [*(replace(each, role=SYSTEM, place=-1) for each in new), *sent]


def _comparable(content: Any) -> Hashable:
    return content if isinstance(content, str) else (to_json(content, fallback=repr, inf_nan_mode="constants"),)


def answer(value: Any) -> list[Message]:
    """Return the messages of an answer in any shape, also that of a provider's whole response."""
    value = values.parsed(value)
    match value:
        case {"choices": [*choices]}:
            budget.check(len(choices))
            return [message for choice in choices for message in _choice(choice)]
        case {"candidates": [{"content": content, **rest}, *_]}:
            return _with_finish(read(content, ASSISTANT), rest.get("finishReason") or rest.get("finish_reason"))
        case {"output": {"message": dict(message)}, **rest}:  # Bedrock's
            return _with_finish(read(message, ASSISTANT), rest.get("stopReason"))
        case {"output": [*items]}:
            return joined(read(items, ASSISTANT))
        case {"output": str(said)}:
            return read(said, ASSISTANT)
        case {"type": "message", "content": content}:  # Anthropic's
            return read({"role": ASSISTANT, "content": content}, ASSISTANT)
    return joined(read(_unwrapped(value), ASSISTANT))


def _unwrapped(value: Any) -> Any:
    """Return an answer from around which a library's own objects are taken."""
    match value:
        case {"generations": [[{"message": said}, *_] | [{"text": said}, *_], *_]}:  # LangChain's
            return said
        case {"message": dict(said)} | {"messages": [*said]}:  # Ollama's, LangGraph's
            return said
    return value


def _choice(choice: Any) -> list[Message]:
    match choice:
        case {"message": dict(message), **rest}:
            return _with_finish(read(message, ASSISTANT), rest.get("finish_reason"))
        case {"text": str(said), **rest}:
            return _with_finish(read(said, ASSISTANT), rest.get("finish_reason"))
    return []


def _with_finish(messages: list[Message], reason: Any) -> list[Message]:
    if not isinstance(reason, str) or not reason:
        return messages
    return [replace(each, facts={"finish_reason": reason} | each.facts) for each in messages]


def joined(messages: list[Message]) -> list[Message]:
    """Return the items of one answer as one message, unless more than one of them is a text: these are choices."""
    if len(messages) < 2 or any(not each.is_answer for each in messages):  # noqa: PLR2004 - one is joined already
        return messages
    if sum(isinstance(each.content, str) for each in messages) > 1:
        return messages
    content: list[dict[str, Any]] = []
    for each in messages:
        text = [{"type": "text", "text": each.content}]
        content += text if isinstance(each.content, str) else each.content or []
    calls = tuple(call for each in messages for call in each.tool_calls)
    said = {name: value for each in messages for name, value in each.facts.items()}
    extras = {name: value for each in messages for name, value in each.extras.items()}
    return [replace(messages[-1], content=parts.simple(content), tool_calls=calls, facts=said, extras=extras)]


def references(value: Any) -> int:
    """Return the position of the last item that stands for an answer which the provider has; -1 if there is none."""
    items = values.parsed(value)
    if isinstance(items, dict):
        items = next((items[name] for name in _LISTS if items.get(name)), None)
    places = [
        place
        for place, item in enumerate(items if isinstance(items, list) else ())
        if isinstance(item, dict) and item.get("type") == "item_reference"
    ]
    return places[-1] if places else -1


def split(sent: Sequence[Message], reference: int = -1) -> tuple[list[Message], list[Message]]:
    """Return what was sent as context and prompt: the prompt is what follows the model's last answer.

    `reference`: see `references`. An answer at the end, which the model goes on with, is a part of the prompt.
    """
    last_input = max((n for n, each in enumerate(sent) if not each.is_answer), default=-1)
    begin = 0
    for n, each in enumerate(sent[:last_input]):
        if each.is_answer or each.place < reference:
            begin = n + 1
    return list(sent[:begin]), list(sent[begin:])
