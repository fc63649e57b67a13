"""Task dialogues as the Schema-Guided Dialogue data set has them, reduced to who said what.

A document is `{dialogue_id, services: [text], turns: [{speaker: "USER" | "SYSTEM", utterance}]}`; services become tags,
and other fields metadata.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from conversation.archive.dialogues import Dialogue, Message, NotADialogueError, of_each
from conversation.archive.entries import Document, Entry, Refused

_ROLES = {"USER": "user", "SYSTEM": "assistant"}


def read(documents: Iterable[Document | Refused]) -> Iterator[Entry]:
    return of_each(documents, _dialogue)


def _dialogue(document: dict[str, Any]) -> Dialogue:
    match document:
        case {"dialogue_id": str() as name, "turns": [*turns], **more}:
            services = more.pop("services", [])
            tags = services if isinstance(services, list) else [services]
            return Dialogue(name, [_message(turn) for turn in turns], {"tags": tags, "metadata": more})
    raise NotADialogueError("Needs a dialogue_id, a text, and turns, a list")


def _message(turn: Any) -> Message:
    match turn:
        case {"speaker": "USER" | "SYSTEM" as speaker, "utterance": str() as text, **more}:
            return Message(_ROLES[speaker], text, aside=more)
    raise NotADialogueError("A turn needs a speaker, USER or SYSTEM, and an utterance, a text")
