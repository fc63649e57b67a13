"""Conversations as ShareGPT's exports, and the many sets made after them, have them.

A document is `{id, conversations: [{from: "human" | "gpt" | "system" | "tool" …, value}]}`, perhaps with the system's
instructions as `system`. Other fields become metadata.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from conversation.archive.dialogues import Dialogue, Message, NotADialogueError, name_of, of_each, without
from conversation.archive.entries import Document, Entry, Refused
from conversation.archive.roles import role_of


def read(documents: Iterable[Document | Refused]) -> Iterator[Entry]:
    return of_each(documents, _dialogue)


def _dialogue(document: dict[str, Any]) -> Dialogue:
    match document:
        case {"conversations": [*turns]}:
            name = name_of(document)
            rest = without(document, "id", "conversations")
            said = [_message(turn, n) for n, turn in enumerate(turns)]
            if isinstance(system := rest.get("system"), str) and system:
                said.insert(0, Message("system", rest.pop("system")))
            return Dialogue(name, said, {"metadata": rest})
    raise NotADialogueError("Needs conversations, a list")


def _message(turn: Any, n: int) -> Message:
    match turn:
        case {"from": str(speaker), "value": value}:
            role = role_of(speaker)
            usual = speaker in {"human", "gpt", role}
            return Message(role, value, aside=without(turn, "value", *(["from"] if usual else [])))
    raise NotADialogueError(f"$.conversations[{n}]: Needs from, a text, and a value")
