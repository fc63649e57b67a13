"""`conversations.json` of a ChatGPT export: each conversation is a tree of messages, `{mapping, current_node, …}`.

Regenerated answers and edited questions are kept as alternatives. A document that is no conversation, a project's
folder for example, is passed over. Messages that ChatGPT hides, or that say nothing, are left out.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from heapq import heapify, heappop, heappush
from typing import Any, NamedTuple

from pydantic import TypeAdapter, ValidationError

from conversation.archive.dialogues import Dialogue, alternatives_of, read_dialogues, without
from conversation.archive.entries import (
    HERE,
    Document,
    Entry,
    InvalidDocumentError,
    NoConversationError,
    RejectedEntry,
    Target,
)
from conversation.archive.session_keys import document_key
from conversation.turns.message import Item, Message
from conversation.turns.parts import is_empty, simple, texts_of
from conversation.turns.roles import ASSISTANT, SYSTEM, TOOL, role_of
from logging_store.records.values import Time

_TIME: TypeAdapter[datetime] = TypeAdapter(Time)
_TO_EVERYBODY = "all"
_RECAP = "reasoning_recap"  # how long the model thought

Json = dict[str, Any]


class _Node(NamedTuple):
    """A message that is kept, and its fields that are not part of it."""

    message: Message
    aside: Json


def read(documents: Iterable[Document | RejectedEntry], target: Target = HERE) -> Iterator[Entry]:
    return read_dialogues(documents, _dialogue, target)


def _dialogue(document: Json) -> Dialogue:
    mapping = document.get("mapping")
    if mapping is None and "messages" not in document and "chat_messages" not in document:
        raise NoConversationError("No conversation: it has no mapping")
    if not isinstance(mapping, dict):
        raise InvalidDocumentError("Needs mapping, an object of messages")
    nodes = _nodes(mapping)
    messages = [node.message for node in nodes]
    rest = {
        name: value
        for name, value in without(document, "id", "conversation_id", "title", "create_time", "mapping").items()
        if not is_empty(value)
    }
    session = {
        "title": document.get("title") or None,
        "started_at": _iso(document.get("create_time")),
        "metadata": rest,
    }
    aside = {place: node.aside for place, node in enumerate(nodes)}
    key = document_key({"id": document.get("conversation_id") or document.get("id")})
    return Dialogue(
        key, messages, session, aside=aside, alternatives=alternatives_of(messages), chosen=_chosen(document, messages)
    )


def _chosen(document: Json, messages: Sequence[Message]) -> tuple[str, str] | None:
    """Return the message that the conversation was left at, and when it was last changed."""
    left_at = document.get("current_node")
    times = [message.created_at for message in messages if message.created_at is not None]
    changed = _time(document.get("update_time"))
    at = max([*times, *([changed] if changed else [])], default=None)
    return (left_at, at.isoformat()) if isinstance(left_at, str) and at is not None else None


def _nodes(mapping: Json) -> list[_Node]:
    """Return the messages that are kept, in the order in which they were said, each after the one that it follows."""
    kept: dict[str, Message] = {}
    nodes = []
    followed: dict[str, str | None] = {}  # by node: the nearest kept message that isn't instructions, itself or before
    thoughts: dict[str, list[Item]] = {}  # by node: what the model thought up to it, since the last kept message
    for node_id, node in _in_order(mapping):
        parent = node.get("parent")
        before = followed.get(parent) if isinstance(parent, str) else None
        thought = thoughts.get(parent, []) if isinstance(parent, str) else []
        followed[node_id], thoughts[node_id] = before, thought
        said = node.get("message")
        if not isinstance(said, dict) or _is_hidden(said):
            continue
        if _kind(said) == "thoughts":
            thoughts[node_id] = [*thought, *_thoughts(said["content"])]
            continue
        message = _message(node_id, said, thought, before, kept)
        if message is None:
            continue
        kept[node_id] = message
        nodes.append(_Node(message, _aside(said)))
        thoughts[node_id] = []
        if message.role != SYSTEM:
            followed[node_id] = node_id
    return nodes


def _in_order(mapping: Json) -> Iterator[tuple[str, Json]]:
    """Yield the nodes by time, none before its parent; a node without a time comes right after its parent."""
    children: dict[str | None, list[str]] = {}
    for node_id, node in mapping.items():
        if not isinstance(node, dict):
            raise InvalidDocumentError(f"$.mapping.{node_id}: Must be an object")
        parent = node.get("parent")
        is_known = isinstance(parent, str) and parent in mapping and parent != node_id
        children.setdefault(parent if is_known else None, []).append(node_id)
    places = {node_id: place for place, node_id in enumerate(mapping)}
    ahead = [(0.0, places[root], root) for root in children.get(None, [])]
    heapify(ahead)
    while ahead:
        at, _, node_id = heappop(ahead)
        yield node_id, mapping[node_id]
        for child in children.get(node_id, []):
            heappush(ahead, (max(at, _seconds(mapping[child])), places[child], child))


def _seconds(node: Json) -> float:
    message = node.get("message")
    time = message.get("create_time") if isinstance(message, dict) else None
    return float(time) if isinstance(time, int | float) else 0.0


def _is_hidden(said: Json) -> bool:
    return _metadata(said).get("is_visually_hidden_from_conversation") is True


def _metadata(said: Json) -> Json:
    metadata = said.get("metadata")
    return metadata if isinstance(metadata, dict) else {}


def _kind(said: Json) -> str:
    content = said.get("content")
    kind = content.get("content_type") if isinstance(content, dict) else None
    return kind if isinstance(kind, str) else "text"


def _message(
    node_id: str, said: Json, thought: list[Item], before: str | None, kept: Mapping[str, Message]
) -> Message | None:
    """Return a message; None if it says nothing."""
    author = said.get("author")
    speaker = author.get("role") if isinstance(author, dict) else None
    role = role_of(speaker) if isinstance(speaker, str) and speaker.strip() else "unknown"
    parts = _parts(said.get("content"), _kind(said))
    metadata = _metadata(said)
    own_id = said.get("id") if isinstance(said.get("id"), str) else node_id
    at = _time(said.get("create_time"))
    caller = kept.get(before or "")
    message = Message(role, simple(parts), id=own_id, reply_to=caller.id if caller else None, created_at=at)
    if role == TOOL:
        calls = caller.tool_calls if caller else ()
        name = author.get("name") if isinstance(author, dict) and isinstance(author.get("name"), str) else None
        call_id = calls[0]["id"] if calls else None
        return replace(message, content=simple(parts) or "", tool_call_id=call_id, name=None if call_id else name)
    if role != ASSISTANT:
        return message if parts else None
    facts: Json = {}
    if isinstance(model := metadata.get("model_slug"), str) and model:
        facts["model"] = model
    match metadata.get("finish_details"):
        case {"type": "interrupted"}:
            facts["status"] = "abandoned"
        case {"type": str(reason)}:
            facts["finish_reason"] = reason
    recipient = said.get("recipient")
    if isinstance(recipient, str) and recipient != _TO_EVERYBODY:
        arguments = texts_of(parts, "text")
        function = {"name": recipient, "arguments": arguments}
        call = {"id": own_id, "type": "function", "function": function}
        return replace(message, content=simple(thought), tool_calls=(call,), facts=facts)
    if not parts:
        return None
    return replace(message, content=simple([*thought, *parts]), facts=facts)


def _parts(content: Any, kind: str) -> list[Item]:
    """Return what a content says; a part that is no text stays as it is."""
    if not isinstance(content, dict) or kind == _RECAP:
        return []
    given = content.get("parts")
    items = given if isinstance(given, list) else [content[name] for name in ("text", "result") if name in content]
    found: list[Item] = []
    for item in items:
        match item:
            case str():
                found += [{"type": "text", "text": item}] if item.strip() else []
            case {"content_type": str(inner)}:
                found.append({"type": inner, **without(item, "content_type")})
            case dict() if item:
                found.append({"type": "part", **item})
    if not found and not isinstance(given, list) and (rest := without(content, "content_type", "text", "result")):
        said = {name: value for name, value in rest.items() if not is_empty(value)}
        found = [{"type": kind, **said}] if said else []
    return found


def _thoughts(content: Json) -> list[Item]:
    given = content.get("thoughts")
    texts = [
        "\n".join(text for text in (each.get("summary"), each.get("content")) if isinstance(text, str) and text)
        for each in (given if isinstance(given, list) else ())
        if isinstance(each, dict)
    ]
    return [{"type": "reasoning", "text": text} for text in texts if text]


def _aside(said: Json) -> Json:
    """Return the message's fields that have no place in it."""
    metadata = without(_metadata(said), "model_slug")
    rest = {name: value for name, value in metadata.items() if not is_empty(value)}
    return {"metadata": rest} if rest else {}


def _iso(value: Any) -> str | None:
    time = _time(value)
    return time.isoformat() if time else None


def _time(value: Any) -> datetime | None:
    try:
        return _TIME.validate_python(value)
    except ValidationError:
        return None
