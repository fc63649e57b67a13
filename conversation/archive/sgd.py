"""Task dialogues as the Schema-Guided Dialogue data set has them, reduced to who said what.

A document is `{dialogue_id, services: [text], turns: [{speaker: "USER" | "SYSTEM", utterance}]}`; services become tags,
and other fields metadata.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from conversation.archive.dialogues import Dialogue, Message, read_dialogues, without
from conversation.archive.entries import Document, Entry, InvalidDocumentError, RejectedEntry

_ROLES = {"USER": "user", "SYSTEM": "assistant"}


def read(documents: Iterable[Document | RejectedEntry]) -> Iterator[Entry]:
    return read_dialogues(documents, _dialogue)


def _dialogue(document: dict[str, Any]) -> Dialogue:
    match document:
        case {"dialogue_id": str(name), "turns": [*turns]}:
            metadata = without(document, "dialogue_id", "turns", "services")
            session = {"tags": document.get("services"), "metadata": metadata}
            return Dialogue(name, [_message(turn) for turn in turns], session)
    raise InvalidDocumentError("Needs a dialogue_id, a text, and turns, a list")


def _message(turn: Any) -> Message:
    match turn:
        case {"speaker": "USER" | "SYSTEM" as speaker, "utterance": str(text)}:
            return Message(_ROLES[speaker], text, aside=without(turn, "speaker", "utterance"))
    raise InvalidDocumentError("A turn needs a speaker, USER or SYSTEM, and an utterance, a text")
