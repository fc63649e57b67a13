"""Conversations in the ShareGPT format, which many data sets use.

A document is `{id, conversations: [{from: "human" | "gpt" | "system" | "tool" …, value}]}`, optionally with a system
prompt as `system`; messages may also be `{role, content}`. Other fields become metadata.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from conversation.archive.dialogues import Dialogue, read_dialogues, read_messages, without
from conversation.archive.entries import HERE, Document, Entry, InvalidDocumentError, RejectedEntry, Target
from conversation.archive.session_keys import document_key
from conversation.turns.message import Message
from conversation.turns.roles import SYSTEM


def read(documents: Iterable[Document | RejectedEntry], target: Target = HERE) -> Iterator[Entry]:
    return read_dialogues(documents, _dialogue, target)


def _dialogue(document: dict[str, Any]) -> Dialogue:
    turns = document.get("conversations", document.get("conversation"))
    if not isinstance(turns, list):
        raise InvalidDocumentError("Needs conversations, a list")
    rest = without(document, "id", "conversations" if "conversations" in document else "conversation")
    messages, rejected = read_messages(turns, "$.conversations")
    if isinstance(system := rest.get("system"), str) and system:
        messages.insert(0, Message(SYSTEM, rest.pop("system"), place=-1))
    return Dialogue(document_key(document), messages, {"metadata": rest}, rejected=[*rejected.values()])
