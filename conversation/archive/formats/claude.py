"""`conversations.json` of a Claude export: `{uuid, name, chat_messages: [{uuid, sender, content, attachments}]}`.

The text of attachments is part of the message that they came with. Messages of newer exports name the one before them,
so edited questions and regenerated answers are alternatives.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from conversation.archive.dialogues import Dialogue, alternatives_of, read_dialogues, without
from conversation.archive.entries import HERE, Document, Entry, InvalidDocumentError, RejectedEntry, Target
from conversation.archive.session_keys import document_key
from conversation.turns import shapes
from conversation.turns.message import Item, Message
from conversation.turns.parts import is_empty

_ROOT = "00000000-0000-4000-8000-000000000000"
_OF_A_CONVERSATION = ("uuid", "name", "created_at", "chat_messages")
_OF_A_MESSAGE = ("uuid", "text", "content", "sender", "created_at", "updated_at", "parent_message_uuid", "attachments")
_OF_A_PART = (
    "start_timestamp",
    "stop_timestamp",
    "flags",
    "summaries",
    "cut_off",
    "truncated",
    "alternative_display_type",
)

Json = dict[str, Any]


def read(documents: Iterable[Document | RejectedEntry], target: Target = HERE) -> Iterator[Entry]:
    return read_dialogues(documents, _dialogue, target)


def _dialogue(document: Json) -> Dialogue:
    said = document.get("chat_messages")
    if not isinstance(said, list):
        raise InvalidDocumentError("Needs chat_messages, a list")
    messages: list[Message] = []
    aside: dict[int, Json] = {}
    rejected = []
    for place, item in enumerate(said):
        try:
            found = _messages(item)
        except shapes.InvalidMessageError as error:
            rejected.append(f"$.chat_messages[{place}]: {error.reason}")
            continue
        messages += [replace(message, place=place) for message in found]
        aside[place] = {name: value for name, value in without(item, *_OF_A_MESSAGE).items() if not is_empty(value)}
    rest = {name: value for name, value in without(document, *_OF_A_CONVERSATION).items() if not is_empty(value)}
    session = {"title": document.get("name") or None, "started_at": document.get("created_at"), "metadata": rest}
    key = document_key({"id": document.get("uuid")})
    return Dialogue(key, messages, session, aside=aside, alternatives=alternatives_of(messages), rejected=rejected)


def _messages(item: Any) -> list[Message]:
    if not isinstance(item, dict):
        raise shapes.InvalidMessageError("Must be an object")
    parent = item.get("parent_message_uuid")
    return shapes.read_item(
        {
            "role": item.get("sender"),
            "content": _content(item),
            "id": item.get("uuid"),
            "created_at": item.get("created_at"),
            "reply_to": None if parent == _ROOT else parent,
        }
    )


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _content(item: Json) -> str | list[Item]:
    """Return the parts of a message, with the texts of its attachments; older exports have a text only."""
    parts = [without(part, *_OF_A_PART) for part in _list(item.get("content")) if isinstance(part, dict)]
    if not any(not is_empty(without(part, "type")) for part in parts):
        parts = [{"type": "text", "text": item["text"]}] if item.get("text") else []
    texts = (each.get("extracted_content") for each in _list(item.get("attachments")) if isinstance(each, dict))
    return [*parts, *({"type": "text", "text": text} for text in texts if text)]
