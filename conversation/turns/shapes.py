"""Reads messages in the shapes of SDKs, data sets and frameworks, each known by its form.

OpenAI's chat messages and Responses items, Anthropic's and Gemini's messages, the AI SDK's UI and model messages,
LangChain's (`{type, data}`, `{type, content}`, dumps with `lc`), ShareGPT's `{from, value}`, pairs of role and text,
and a text alone, which a user wrote. Null and empty fields say nothing and are left out; a field that no shape has is
kept with its message.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import Any

from pydantic import TypeAdapter, ValidationError

from conversation.refusals import validation_messages
from conversation.turns import facts, parts
from conversation.turns.message import Message
from conversation.turns.roles import ASSISTANT, TOOL, USER, is_known, role_of
from logging_store.records.intake import Intake
from logging_store.records.values import MAX_NAME, Time

Item = dict[str, Any]

_TIME: TypeAdapter[datetime] = TypeAdapter(Time)

ROLE_FIELDS = ("role", "from", "sender", "speaker")
CONTENT_FIELDS = ("content", "parts", "value", "text")
ID_FIELDS = ("message_id", "messageId", "id")
REPLY_FIELDS = ("reply_to", "replyTo", "parent_id", "parentId", "parent_message_id", "parentMessageId")
TIME_FIELDS = ("created_at", "createdAt", "timestamp", "said_at")
_TOOL_CALL_ID_FIELDS = ("tool_call_id", "toolCallId", "tool_use_id", "call_id")

#: Values that only say what is usual.
_USUAL: dict[str, set[Any]] = {
    "type": {"message"},
    "object": {"message", "thread.message", "realtime.item"},
    "status": {"completed", "success"},
    "example": {False},
    "is_error": {False},
}
_RESPONSES_CALLS = {"function_call": "arguments", "custom_tool_call": "input"}
_RESPONSES_OUTPUTS = frozenset({"function_call_output", "custom_tool_call_output"})


class InvalidMessageError(ValueError):
    """An item is no message. `path`: of the wrong part within the item; `reason`: a sentence."""

    def __init__(self, reason: str, *path: str | int) -> None:
        super().__init__(reason)
        self.reason = reason
        self.path = path
        self.place = 0


def read_each(values: Any, intake: Intake | None = None) -> Iterator[Message | InvalidMessageError]:
    """Yield the messages of a list, and in their places errors for the items that are none.

    Items of OpenAI's Responses API that one call of the model returned (reasoning, text, function calls) are one
    message.
    """
    items: Iterable[Any] = values if not isinstance(values, str | dict) else [values]
    output: list[Message] = []  # of one call, in the Responses API
    for place, item in enumerate(items):
        if (message := _plain(item, place)) is not None:
            yield from _joined(output)
            output = []
            yield message
            continue
        try:
            found = [replace(message, place=place) for message in read_item(item, intake)]
        except InvalidMessageError as error:
            error.place = place
            yield from _joined(output)
            output = []
            yield error
            continue
        if _is_output_item(item):
            output += found
            continue
        yield from _joined(output)
        output = []
        yield from found
    yield from _joined(output)


def _plain(item: Any, place: int) -> Message | None:
    """Return the message of an item that has a role, a text and perhaps why it ended, as most have; else None."""
    # without patterns, which take three times as long
    if type(item) is not dict or not 2 <= len(item) <= 3:  # noqa: PLR2004 - these
        return None
    text = item.get("content") if "content" in item else _only_text(item.get("parts"))
    role = item.get("role")
    if type(text) is not str or not text or type(role) is not str or not role.strip():
        return None
    role = role_of(role)
    if len(item) == 2:  # noqa: PLR2004 - role and text
        return Message(role, text, place=place)
    reason = item.get("finish_reason")
    if role != ASSISTANT or type(reason) is not str or not reason.isidentifier() or len(reason) > MAX_NAME:
        return None
    return Message(role, text, facts={"finish_reason": reason}, place=place)


def _only_text(content: Any) -> Any:
    """Return the text of parts that are one text as OpenTelemetry has it."""
    if type(content) is not list or len(content) != 1:
        return None
    (part,) = content
    if type(part) is not dict or len(part) != 2 or part.get("type") != "text":  # noqa: PLR2004 - and its text
        return None
    return part.get("content")


def read_item(item: Any, intake: Intake | None = None) -> list[Message]:
    """Return the messages of one item: several where an SDK has calls of tools and their results in one."""
    match item:
        case str() if item:
            return [Message(USER, item)]
        case [str(role), str(text)] | {"role": str(role), "content": str(text)} if len(item) == 2:  # noqa: PLR2004
            return [Message(_role(role, "role"), text)]
        case dict():
            return _of_object(_unwrapped(item), intake)
    raise InvalidMessageError("Must be a message: an object with a role and a content")


def _role(speaker: Any, field: str) -> str:
    if not isinstance(speaker, str) or not speaker.strip():
        raise InvalidMessageError("A message needs a role, a text", field)
    return role_of(speaker)


def _unwrapped(item: Item) -> Item:
    """Return the fields of a LangChain message from around which its serialisation is taken."""
    match item:
        case {"lc": int(), "kwargs": dict(fields), **more}:
            path = more.get("id")
            named = path[-1] if isinstance(path, list) and path and isinstance(path[-1], str) else None
            return {"role": _langchain_role(fields.get("type") or named)} | _without(fields, "type", "role")
        case {"type": str(kind), "data": dict(fields)} if is_known(kind) or kind == "chat":
            role = fields.get("role") if kind == "chat" else kind
            return {"role": role} | _without(fields, "type", "role")
        case {"type": str(kind)} if (
            is_known(kind) and "role" not in item and kind not in _RESPONSES_CALLS.keys() | _RESPONSES_OUTPUTS
        ):
            return {"role": kind} | _without(item, "type")
    return item


def _langchain_role(kind: Any) -> Any:
    return kind.removesuffix("MessageChunk").removesuffix("Message") if isinstance(kind, str) else kind


def _of_object(item: Item, intake: Intake | None) -> list[Message]:
    match item.get("type"):
        case str(kind) if kind in _RESPONSES_CALLS and "role" not in item:
            return [_responses_call(item, kind)]
        case str(kind) if kind in _RESPONSES_OUTPUTS and "role" not in item:
            return [_responses_output(item)]
        case "reasoning" if "role" not in item and "from" not in item:
            return [_responses_reasoning(item)]
        case "item_reference":
            return []
        case str(kind) if kind.endswith(("_call", "_call_output")) and "role" not in item:
            own = _stated(_without(item, "status"))
            return [Message(TOOL if kind.endswith("output") else ASSISTANT, [own], id=_text_id(item.get("id")))]
    return _of_chat(item, intake)


def _of_chat(item: Item, intake: Intake | None) -> list[Message]:
    rest = dict(item)
    role_field = next((name for name in ROLE_FIELDS if name in rest), None)
    if role_field is None and "parts" not in rest:
        raise InvalidMessageError("A message needs a role, a text", "role")
    speaker = USER if role_field is None else rest.pop(role_field)  # Gemini's may leave the user's role out
    role = _role(speaker, role_field or "role")
    field, content = take_content(rest)
    own: Item = {
        "id": _take_id(rest, ID_FIELDS),
        "reply_to": _take_id(rest, REPLY_FIELDS, lenient=True),
        "created_at": _take_time(rest, intake),
        "name": _take_text(rest, ("name",)),
        "tool_call_id": _take_text(rest, _TOOL_CALL_ID_FIELDS),
    }
    if role == TOOL and own["name"] is None:
        own["name"] = _take_text(rest, ("tool_name", "toolName"))
    calls = _take_calls(rest)
    said = facts.take(rest) if role == ASSISTANT else {}
    extras = _stated(rest)
    if role_field == "from" and isinstance(content, str) and speaker.lower() == "function_call":
        content, calls = _sharegpt_call(content)
    try:
        pieces = parts.split(content, role)
    except ValueError as error:
        raise InvalidMessageError(str(error), field) from None
    if not pieces:
        if content != "" and not calls and not (role == ASSISTANT and (extras or said)):
            raise InvalidMessageError("A message needs content or tool calls", field)
        pieces = [parts.Piece(role, "" if content == "" and not calls else None)]
    return _messages(pieces, Message(role, tool_calls=calls, facts=said, extras=extras, **own))


def _messages(pieces: Sequence[parts.Piece], item: Message) -> list[Message]:
    """Return the messages of one item. The first one has the item's id, others an id that begins with it.

    `item`: what the item says beside its content; the last message has its calls, facts and extras.
    """
    messages = []
    for n, piece in enumerate(pieces):
        is_last, is_own = n == len(pieces) - 1, piece.role == item.role
        calls = tuple(piece.tool_calls)
        messages.append(
            Message(
                piece.role,
                piece.content,
                (*calls, *_new_calls(item.tool_calls, calls)) if is_last and is_own else calls,
                piece.tool_call_id or (item.tool_call_id if is_own else None),
                piece.name or (item.name if is_own else None),
                item.id if n == 0 or item.id is None else f"{item.id}#{n}",
                item.reply_to if n == 0 else None,
                item.created_at,
                item.facts if is_last else {},
                (item.extras if is_last else {}) | piece.extras,
            )
        )
    return messages


def _new_calls(calls: Iterable[Item], known: Sequence[Item]) -> Iterator[Item]:
    """Yield the calls that the content doesn't have as well."""
    ids = {call.get("id") for call in known}
    return (call for call in calls if call.get("id") is None or call["id"] not in ids)


def take_content(rest: Item) -> tuple[str, Any]:
    """Remove and return a message's content and its field. Parts win over the text that repeats them."""
    present = [name for name in CONTENT_FIELDS if name in rest]
    if rest.get("parts") and isinstance(rest["parts"], list):
        content = rest.pop("parts")
        texts = "".join(
            part["text"] for part in content if isinstance(part, dict) and isinstance(part.get("text"), str)
        )
        if rest.get("content") in ("", texts):
            del rest["content"]
        rest.pop("toolInvocations", None)  # the parts have them
        return "parts", content
    if not present:
        return "content", None
    return present[0], rest.pop(present[0])


def _take_id(rest: Item, names: Sequence[str], *, lenient: bool = False) -> str | None:
    """Remove and return the first of several fields that isn't null; a whole number is its digits."""
    found: str | None = None
    for name in names:
        if name not in rest:
            continue
        value = rest[name]
        own = None if value is None else _text_id(value)
        if own is None and value not in (None, "") and not lenient:
            raise InvalidMessageError("Must be a text or a whole number", name)
        if found is not None and own is not None and own != found:
            continue  # another id, kept with the message
        if own is not None or value in (None, ""):
            del rest[name]
            found = found or own
    return found


def _text_id(value: Any) -> str | None:
    match value:
        case bool():
            return None
        case str():
            return value or None
        case int():
            return str(value)
        case float() if value.is_integer():
            return str(int(value))
    return None


def _take_time(rest: Item, intake: Intake | None) -> datetime | None:
    for name in TIME_FIELDS:
        if rest.get(name) is not None:
            try:
                time = _TIME.validate_python(rest[name], context=intake)
            except ValidationError as error:
                reason = validation_messages.sentence(error.errors(include_url=False)[0])
                raise InvalidMessageError(reason, name) from None
            del rest[name]
            return time
    return None


def _take_text(rest: Item, names: Sequence[str]) -> str | None:
    for name in names:
        if isinstance(rest.get(name), str) and rest[name]:
            value: str = rest.pop(name)
            return value
    return None


def _take_calls(rest: Item) -> list[Item]:
    """Remove and return a message's tool calls, which OpenAI and LangChain have beside the content."""
    field = "tool_calls" if rest.get("tool_calls") else "toolCalls"
    calls = rest.pop("tool_calls", None) or rest.get("toolCalls")
    rest.pop("toolCalls", None)
    more = rest.get("additional_kwargs")
    if isinstance(more, dict) and more:
        beside = {name: more[name] for name in ("tool_calls", "function_call") if more.get(name)}
        rest["additional_kwargs"] = _without(more, "tool_calls", "function_call")
        calls = calls or beside.get("tool_calls")
        if not calls and beside.get("function_call"):
            calls = [{"type": "function", "function": beside["function_call"]}]
    if not calls and isinstance(rest.get("function_call"), dict):
        calls = [{"type": "function", "function": rest.pop("function_call")}]
    if calls is None:
        return []
    if not isinstance(calls, list):
        raise InvalidMessageError("Must be a list of objects", field)
    for n, call in enumerate(calls):
        if not isinstance(call, dict):
            raise InvalidMessageError("Must be an object", field, n)
    return [parts.tool_call(call) for call in calls]


def _sharegpt_call(text: str) -> tuple[Any, list[Item]]:
    """Return the content and the tool calls of a `function_call` in a data set, which is JSON in a text."""
    with suppress(ValueError):
        found = json.loads(text)
        calls = found if isinstance(found, list) else [found]
        if calls and all(isinstance(call, dict) and isinstance(call.get("name"), str) for call in calls):
            return None, [parts.tool_call(call) for call in calls]
    return text, []


def _responses_call(item: Item, kind: str) -> Message:
    call = parts.tool_call(
        {"id": item.get("call_id"), "name": item.get("name"), "arguments": item.get(_RESPONSES_CALLS[kind])}
    )
    return Message(ASSISTANT, None, (call,), id=_text_id(item.get("id")))


def _responses_output(item: Item) -> Message:
    rest = _without(item, "type", "output", "call_id", "id")
    (piece,) = parts.split(item.get("output"), TOOL) or [parts.Piece(TOOL, "")]
    return Message(
        TOOL,
        piece.content,
        tool_call_id=_text_id(item.get("call_id")),
        id=_text_id(item.get("id")),
        extras=_stated(rest),
    )


def _responses_reasoning(item: Item) -> Message:
    texts = [
        part["text"]
        for field in ("summary", "content")
        for part in item.get(field) or ()
        if isinstance(part, dict) and isinstance(part.get("text"), str)
    ]
    rest = _stated(_without(item, "summary", "content", "id"))
    content = [rest | {"text": "\n\n".join(texts)}] if texts or len(rest) > 1 else None
    return Message(ASSISTANT, content, id=_text_id(item.get("id")))


def _is_output_item(item: Any) -> bool:
    """Return whether an item is a part of what a call of the Responses API returned."""
    if not isinstance(item, dict) or not isinstance(kind := item.get("type"), str):
        return False
    if kind == "message":
        content = item.get("content")
        kinds = [part.get("type") for part in content if isinstance(part, dict)] if isinstance(content, list) else []
        return role_of(str(item.get("role"))) == ASSISTANT and ("output_text" in kinds or "refusal" in kinds)
    return "role" not in item and (kind == "reasoning" or kind.endswith("_call"))


def _joined(output: Sequence[Message]) -> Iterator[Message]:
    """Yield one message for the items that a call returned; its id is that of the text, or else of the first item."""
    if not output:
        return
    content: list[Item] = []
    for message in output:
        if isinstance(message.content, str):
            content.append({"type": "text", "text": message.content})
        else:
            content += message.content or ()
    speaks = next((m for m in output if isinstance(m.content, str)), output[0])
    calls = tuple(call for message in output for call in message.tool_calls)
    extras = {name: value for message in output for name, value in message.extras.items()}
    said = {name: value for message in output for name, value in message.facts.items()}
    if content or calls or extras:
        yield replace(
            speaks, content=parts.simple(content), tool_calls=calls, extras=extras, facts=said, place=output[-1].place
        )


def _stated(fields: Item) -> Item:
    """Return the fields that say something: not null, not empty, not what is usual."""
    return {
        name: value
        for name, value in fields.items()
        if not parts.is_empty(value)
        and not (name in _USUAL and isinstance(value, str | bool) and value in _USUAL[name])
    }


def _without(fields: Item, *names: str) -> Item:
    return {name: value for name, value in fields.items() if name not in names}
