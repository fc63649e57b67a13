"""Dialogues become interactions the same way, whatever format they came in.

A user's message and what follows it, up to the user's next one, are one interaction: prompt and response. What comes
before the user's first message (a system's instructions, an assistant's greeting) is kept at the head of the first
prompt. `turn` counts 1, 2, 3 …, and is the interaction's key as well, so that the same dialogue read again states
the same records. A prompt or a response of one plain message is a text; any other is a list of its messages.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic_core import to_json

from conversation.api.requests import json_path
from conversation.archive.entries import Document, Place, Refused, Stated
from logging_store.records.models import Interaction, Session
from logging_store.records.values import Identifier

_NAME: TypeAdapter[str] = TypeAdapter(Identifier)


@dataclass(frozen=True, slots=True)
class Message:
    """What somebody said. `more`: further fields that belong to the message (a name, tool calls).

    `said_at`: ISO 8601 with a zone. `aside`: what has no place in a message, and goes to the interaction's metadata.
    """

    role: str
    content: Any
    more: dict[str, Any] = field(default_factory=dict)
    said_at: str | None = None
    aside: dict[str, Any] = field(default_factory=dict)

    @property
    def plain(self) -> bool:
        """Tell whether the text alone says it all, given the place where it stands."""
        return isinstance(self.content, str) and not self.more

    def to_json(self) -> dict[str, Any]:
        said_at = {"said_at": self.said_at} if self.said_at else {}
        return {"role": self.role, "content": self.content, **self.more, **said_at}


@dataclass(frozen=True, slots=True)
class Dialogue:
    """A conversation as a file tells it. `session` and `last` are fields of the session and of the last interaction."""

    session_id: str
    messages: Iterable[Message]
    session: dict[str, Any] = field(default_factory=dict)
    last: dict[str, Any] = field(default_factory=dict)


class NotADialogueError(Exception):
    """The document isn't what its format says. The message tells where."""


def of_each(
    documents: Iterable[Document | Refused], dialogue_of: Callable[[dict[str, Any]], Dialogue]
) -> Iterator[Stated | Refused]:
    """Yield the records of documents that are a dialogue each."""
    for document in documents:
        if isinstance(document, Refused):
            yield document
            continue
        try:
            dialogue = dialogue_of(document.value)
            check_name(dialogue.session_id)
        except NotADialogueError as error:
            yield Refused(document.place, str(error), spelled(document.value))
        else:
            yield from records(document.place, dialogue)


def without(fields: dict[str, Any], *names: str) -> dict[str, Any]:
    """Return all fields but the named ones."""
    return {name: value for name, value in fields.items() if name not in names}


def spelled(value: Any) -> str:
    """Return a JSON value as text."""
    return to_json(value, inf_nan_mode="strings").decode()


def name_of(document: dict[str, Any]) -> str:
    """Return the session's key: the document's own `id`; without one, a name from its content."""
    match document.get("id"):
        case None:
            return name_from_content(document)
        case int() as number if not isinstance(number, bool):
            return str(number)
        case str() as name:
            return name
    raise NotADialogueError("$.id: Must be a text or a number")


def check_name(name: str) -> None:
    """Raise `NotADialogueError` for a name that no session can have."""
    try:
        _NAME.validate_python(name)
    except ValidationError as error:
        raise NotADialogueError(f"Its id {name[:50]!r} can't be used: {error.errors()[0]['msg']}") from None


def name_from_content(document: dict[str, Any]) -> str:
    """Return a key for a dialogue that has none of its own: the same for the same content, however it is spelled."""
    return f"sha256-{sha256(_canonical(document)).hexdigest()}"


def records(place: Place, dialogue: Dialogue) -> Iterator[Stated | Refused]:
    """Yield a dialogue's session and its interactions."""
    yield _validated(place, Session, {"session_id": dialogue.session_id, **_stated(dialogue.session)})
    waiting: dict[str, Any] | None = None
    for turn, (prompt, response) in enumerate(_exchanges(dialogue.messages), start=1):
        if waiting is not None:
            yield _validated(place, Interaction, waiting)
        waiting = {
            "session_id": dialogue.session_id,
            "interaction_id": str(turn),
            "turn": turn,
            **_interaction(prompt, response),
        }
    if waiting is not None:
        yield _validated(place, Interaction, _with_last(waiting, dialogue.last))


def _with_last(interaction: dict[str, Any], last: dict[str, Any]) -> dict[str, Any]:
    metadata = {**interaction.get("metadata", {}), **last.get("metadata", {})}
    return interaction | _stated(last) | ({"metadata": metadata} if metadata else {})


def _exchanges(messages: Iterable[Message]) -> Iterator[tuple[list[Message], list[Message]]]:
    prompt: list[Message] = []
    response: list[Message] = []
    asked = False  # the user has said something
    for message in messages:
        if message.role == "user":
            if asked:
                yield prompt, response
                prompt, response = [], []
            asked = True
            prompt.append(message)
        elif asked:
            response.append(message)
        else:
            prompt.append(message)
    if asked:
        yield prompt, response
    elif prompt:
        # nobody asked: what an assistant said is a response all the same
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


def _validated(place: Place, model: type[Session] | type[Interaction], fields: dict[str, Any]) -> Stated | Refused:
    try:
        return Stated(place, model.model_validate(fields))
    except ValidationError as error:
        return Refused(place, told(error), spelled(fields))


def told(error: ValidationError) -> str:
    """Say in one line which fields are wrong, and why."""
    return "; ".join(
        f"{json_path((*detail['loc'], *detail.get('ctx', {}).get('path', ())))}: {detail['msg']}"
        for detail in error.errors(include_url=False)
    )


def _canonical(document: dict[str, Any]) -> bytes:
    return to_json(_sorted(document), inf_nan_mode="strings")


def _sorted(value: Any) -> Any:
    match value:
        case dict():
            return {key: _sorted(value[key]) for key in sorted(value)}
        case list():
            return [_sorted(item) for item in value]
    return value
