"""Conversations in the ShareGPT format, which many data sets use.

A document is `{id, conversations: [{from: "human" | "gpt" | "system" | "tool" …, value}]}`, optionally with a system
prompt as `system`. Other fields become metadata.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from conversation.archive.dialogues import Dialogue, Message, read_dialogues, role_of, without
from conversation.archive.entries import Document, Entry, InvalidDocumentError, RejectedEntry
from conversation.archive.session_keys import document_key


def read(documents: Iterable[Document | RejectedEntry]) -> Iterator[Entry]:
    return read_dialogues(documents, _dialogue)


def _dialogue(document: dict[str, Any]) -> Dialogue:
    match document:
        case {"conversations": [*turns]}:
            name = document_key(document)
            rest = without(document, "id", "conversations")
            messages = [_message(turn, n) for n, turn in enumerate(turns)]
            if isinstance(system := rest.get("system"), str) and system:
                messages.insert(0, Message("system", rest.pop("system")))
            return Dialogue(name, messages, {"metadata": rest})
    raise InvalidDocumentError("Needs conversations, a list")


def _message(turn: Any, n: int) -> Message:
    match turn:
        case {"from": str(speaker), "value": value}:
            role = role_of(speaker)
            usual = speaker in {"human", "gpt", role}
            return Message(role, value, aside=without(turn, "value", *(["from"] if usual else [])))
    raise InvalidDocumentError(f"$.conversations[{n}]: Needs from, a text, and a value")
