"""Turns the dialogues of all formats into interactions.

A user's message and the messages up to the user's next one are one interaction: prompt and response. Messages before
the user's first one (a system prompt, an assistant's greeting) go to the start of the first prompt. `turn` counts 1, 2,
3 …, and is the interaction's key as well, so that reading the same dialogue again yields the same records. A prompt or
response that is a single plain message is a text; any other is a list of its messages.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import to_json

from conversation.api.requests import json_path
from conversation.archive.entries import Document, InvalidDocumentError, Location, ParsedRecord, RejectedEntry
from conversation.archive.session_keys import check_key
from conversation.refusals import validation_messages
from logging_store.records.models import Interaction, Session

_ROLES = {
    "user": ("human", "customer", "client", "visitor"),
    "assistant": ("gpt", "chatgpt", "bot", "ai", "model", "bing", "bard", "claude", "agent"),
    "tool": ("function", "function_response", "observation"),
}
_ROLE_OF = {name: role for role, names in _ROLES.items() for name in (role, *names)}


@dataclass(frozen=True, slots=True)
class Message:
    """A message. `more`: its further fields (a name, tool calls).

    `said_at`: ISO 8601 with a zone. `aside`: fields that are not part of a message, for the interaction's metadata.
    """

    role: str
    content: Any
    more: dict[str, Any] = field(default_factory=dict)
    said_at: str | None = None
    aside: dict[str, Any] = field(default_factory=dict)

    @property
    def plain(self) -> bool:
        """Return whether the message has a text and, but for its role, nothing else."""
        return isinstance(self.content, str) and not self.more

    def to_json(self) -> dict[str, Any]:
        said_at = {"said_at": self.said_at} if self.said_at else {}
        return {"role": self.role, "content": self.content, **self.more, **said_at}


@dataclass(frozen=True, slots=True)
class Dialogue:
    """A conversation of a file. `session`, `last`: fields of the session, and of the last interaction."""

    session_id: str
    messages: Iterable[Message]
    session: dict[str, Any] = field(default_factory=dict)
    last: dict[str, Any] = field(default_factory=dict)


def read_dialogues(
    documents: Iterable[Document | RejectedEntry], dialogue_of: Callable[[dict[str, Any]], Dialogue]
) -> Iterator[ParsedRecord | RejectedEntry]:
    """Yield the records of documents, each of which is a dialogue."""
    for document in documents:
        if isinstance(document, RejectedEntry):
            yield document
            continue
        try:
            dialogue = dialogue_of(document.value)
            check_key(dialogue.session_id)
        except InvalidDocumentError as error:
            yield RejectedEntry(document.location, str(error), to_text(document.value))
        else:
            yield from records(document.location, dialogue)


def role_of(speaker: str) -> str:
    """Return the role for a speaker's name; an unknown name is returned as it is."""
    return _ROLE_OF.get(speaker.lower(), speaker)


def without(fields: dict[str, Any], *names: str) -> dict[str, Any]:
    """Return all fields but the named ones."""
    return {name: value for name, value in fields.items() if name not in names}


def to_text(value: Any) -> str:
    """Return a value as JSON text."""
    return to_json(value, inf_nan_mode="strings").decode()


def records(location: Location, dialogue: Dialogue) -> Iterator[ParsedRecord | RejectedEntry]:
    """Yield a dialogue's session and its interactions."""
    yield _validated(location, Session, {"session_id": dialogue.session_id, **_stated(dialogue.session)})
    waiting: dict[str, Any] | None = None
    for turn, (prompt, response) in enumerate(_exchanges(dialogue.messages), start=1):
        if waiting is not None:
            yield _validated(location, Interaction, waiting)
        waiting = {
            "session_id": dialogue.session_id,
            "interaction_id": str(turn),
            "turn": turn,
            **_interaction(prompt, response),
        }
    if waiting is not None:
        yield _validated(location, Interaction, _with_last(waiting, dialogue.last))


def _with_last(interaction: dict[str, Any], last: dict[str, Any]) -> dict[str, Any]:
    metadata = {**interaction.get("metadata", {}), **last.get("metadata", {})}
    return interaction | _stated(last) | ({"metadata": metadata} if metadata else {})


def _exchanges(messages: Iterable[Message]) -> Iterator[tuple[list[Message], list[Message]]]:
    prompt: list[Message] = []
    response: list[Message] = []
    has_user = False
    for message in messages:
        if message.role == "user":
            if has_user:
                yield prompt, response
                prompt, response = [], []
            has_user = True
            prompt.append(message)
        elif has_user:
            response.append(message)
        else:
            prompt.append(message)
    if has_user:
        yield prompt, response
    elif prompt:
        # without a user's message, the assistant's first one starts the response
        answer = next((n for n, message in enumerate(prompt) if message.role == "assistant"), len(prompt))
        yield prompt[:answer], prompt[answer:]


def _interaction(prompt: Sequence[Message], response: Sequence[Message]) -> dict[str, Any]:
    asides = [{"role": message.role, **message.aside} for message in (*prompt, *response) if message.aside]
    return _stated(
        {
            "prompt": _content(prompt, "user"),
            "response": _content(response, "assistant"),
            "started_at": next((message.said_at for message in prompt if message.role == "user"), None),
            "completed_at": response[-1].said_at if response else None,
            "metadata": {"messages": asides} if asides else None,
        }
    )


def _content(messages: Sequence[Message], role: str) -> str | list[dict[str, Any]] | None:
    match messages:
        case []:
            return None
        case [message] if message.plain and message.role == role:
            text: str = message.content
            return text
    return [message.to_json() for message in messages]


def _stated(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value not in (None, {}, [])}


def _validated(
    location: Location, model: type[Session] | type[Interaction], fields: dict[str, Any]
) -> ParsedRecord | RejectedEntry:
    try:
        return ParsedRecord(location, model.model_validate(fields))
    except ValidationError as error:
        return RejectedEntry(location, describe_errors(error, model), to_text(fields))


def describe_errors(error: ValidationError, model: type[BaseModel] | None = None) -> str:
    """Return one line with the path and the reason of each invalid field."""
    look_ups = validation_messages.LookUps()
    reasons = []
    for detail in error.errors(include_url=False):
        path = json_path((*detail["loc"], *detail.get("ctx", {}).get("path", ())))
        reasons.append(f"{path}: {validation_messages.sentence(detail, model, look_ups=look_ups)}")
    return "; ".join(reasons)
