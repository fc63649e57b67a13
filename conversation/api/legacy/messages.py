"""Messages, as chats write them, and the interactions that keep them.

A user's message begins an interaction, as its prompt; the assistant's answer to it is the response of that same
interaction, whichever comes first. Any other message is an interaction of its own. What an interaction has no field
for, the answer's own id and what a message replies to, stands in its metadata under names of ours.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Self

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from conversation.api.legacy.casing import Spelled, in_both_cases, spelled
from logging_store import operations as ops
from logging_store.records import identity, json_schema
from logging_store.records.json_values import Content, JsonObject
from logging_store.records.models import Interaction
from logging_store.records.values import Identifier, Name, Time

#: Names in an interaction's metadata.
OWN_ID, REPLIES_TO = "turnlog.response_id", "turnlog.reply_to"

USER, ASSISTANT = "user", "assistant"

_CONTENT: TypeAdapter[Any] = TypeAdapter(Content)
_BESIDE_ROLE = ("content", "name", "tool_calls", "tool_call_id")

#: What a message calls the facts that its interaction states.
_CALLED = {
    "prompt": "content",
    "response": "content",
    "started_at": "created_at",
    "completed_at": "created_at",
    "key": "message_id",
    "interaction_id": "message_id",
    "status": "role",
    f"metadata.{OWN_ID}": "message_id",
    f"metadata.{REPLIES_TO}": "reply_to",
}


def _text_or_parts(value: object) -> object:
    if isinstance(value, str) or (isinstance(value, list) and value):
        return value
    raise PydanticCustomError("content", "Must be a text or a list of parts")


def _describe(schema: dict[str, Any], model: type[Spelled]) -> None:
    says = [{"required": [name], "properties": {name: {"not": {"type": "null"}}}} for name in ("content", "tool_calls")]
    schema["anyOf"] = says
    in_both_cases(schema, model)


class Message(Spelled):
    """One message. An assistant's `reply_to` names the message that it answers; `created_at` is also `timestamp`."""

    model_config = ConfigDict(json_schema_extra=_describe)

    role: Name
    content: (
        Annotated[
            Any,
            AfterValidator(_text_or_parts),
            json_schema.DocumentedAs(json_schema.Parts),
            Field(description="A text, or a list of parts."),
        ]
        | None
    ) = None
    message_id: Identifier | None = spelled("message_id")
    reply_to: Identifier | None = spelled("reply_to")
    created_at: Time | None = spelled("created_at", "timestamp")
    name: Name | None = None
    tool_calls: Annotated[list[JsonObject], Field(min_length=1)] | None = spelled("tool_calls")
    tool_call_id: Name | None = spelled("tool_call_id")

    @model_validator(mode="after")
    def _can_be_kept(self) -> Self:
        if self.content is None and self.tool_calls is None:
            raise PydanticCustomError("empty", "A message needs a content, or tool calls", {"path": ("content",)})
        try:
            _CONTENT.validate_python([self.as_listed()])
        except ValidationError as error:
            (wrong,) = error.errors(include_url=False)
            _, field, *inner = wrong["ctx"]["path"]
            path = (self.called(field, camel=self.camel), *inner)
            raise PydanticCustomError(wrong["type"], "{reason}", {"reason": wrong["msg"], "path": path}) from None
        return self

    def as_listed(self) -> dict[str, Any]:
        """Return the message as it stands in a list of messages."""
        stated = {name: getattr(self, name) for name in _BESIDE_ROLE}
        return {"role": self.role} | {name: value for name, value in stated.items() if value is not None}

    def as_said(self) -> str | list[dict[str, Any]]:
        """Return the message as a prompt or a response: a text where it is nothing else, however it was logged."""
        listed = self.as_listed()
        return self.content if isinstance(self.content, str) and listed.keys() == {"role", "content"} else [listed]

    def called(self, field: str, *, camel: bool) -> str:
        """Return what the caller calls a field, or a fact that the message's interaction states."""
        if field == "prompt" and self.role == ASSISTANT:
            field = "reply_to"  # the question that is stored is another
        if field == "metadata":  # filled: nothing else of a message stands there
            field = "message_id" if self.role == ASSISTANT else "reply_to"
        return super().called(_CALLED.get(field, field), camel=camel)


@dataclass(frozen=True, slots=True)
class Placed:
    """A message, and the name of the interaction that it is a part of.

    `answers`: as the answer to another message; `question` is that one, where it stands before this in the same list
    and this is the first to answer it.
    """

    message: Message
    interaction: str
    answers: bool = False
    question: Message | None = None

    def record(self, session: str) -> Interaction:
        """Return what the message states, of its interaction."""
        message = self.message
        facts: dict[str, Any] = {"session_id": session, "interaction_id": self.interaction}
        metadata: dict[str, str] = {}
        time = message.created_at.isoformat() if message.created_at else None
        if message.role == ASSISTANT:
            facts |= {"response": message.as_said(), "completed_at": time}
            if self.question:
                # stated again: where another question is stored, its answer shall not be this one
                facts["prompt"] = self.question.as_said()
            if message.message_id or not self.answers:
                metadata[OWN_ID] = message.message_id or self.interaction
        elif message.role == USER:
            facts |= {"prompt": message.as_said()}
        else:
            facts |= {"prompt": [message.as_listed()], "status": "completed"}  # nobody is asked for anything
        if not self.answers:
            facts["started_at"] = time
            if message.reply_to:
                metadata[REPLIES_TO] = message.reply_to
        return Interaction.model_validate(facts | ({"metadata": metadata} if metadata else {}))


def place(messages: Sequence[Message], name_of: Callable[[int], str]) -> list[Placed]:
    """Find each message's interaction. `name_of` names those that have no id, by their position."""
    placed: list[Placed] = []
    asked: dict[str, Message] = {}
    for position, message in enumerate(messages):
        before = placed[-1] if placed else None
        answered = message.reply_to
        if answered is None and before and before.message.role == USER:
            answered = before.interaction
        if message.role == ASSISTANT and answered:
            # taken out: each question is written twice at most, however many answers one body gives it
            placed.append(Placed(message, answered, answers=True, question=asked.pop(answered, None)))
            continue
        placed.append(Placed(message, message.message_id or name_of(position)))
        if message.role == USER:
            asked[placed[-1].interaction] = message
    return placed


def answer_id(project: str, session_id: str, interaction_id: str) -> str:
    """Return the id of an answer that was given none: it derives from the interaction that it answers."""
    return identity.interaction(project, session_id, f"answer to {interaction_id}").id


def messages_of(project: str, row: ops.Interaction) -> list[dict[str, Any]]:
    """Return the messages that an interaction keeps, in order, as the API shows them."""
    name = row["key"] or row["interaction_id"]
    own_id, replies_to = row["metadata"].get(OWN_ID), row["metadata"].get(REPLIES_TO)
    asked_at = row["started_at"] or row["created_at"]
    alone = row["prompt"] is None and own_id == name
    messages = [
        *_shown(row["prompt"], USER, message_id=name, reply_to=replies_to, created_at=asked_at),
        *_shown(
            row["response"],
            ASSISTANT,
            message_id=own_id or answer_id(project, row["session_id"], row["interaction_id"]),
            reply_to=replies_to if alone else name,
            created_at=row["completed_at"] or asked_at,
        ),
    ]
    return [message | {"spooled": row["spooled"]} for message in messages]


def _shown(said: str | list[dict[str, Any]] | None, role: str, **own: Any) -> list[dict[str, Any]]:
    """Return a prompt's or a response's messages; the last of them is the one that has the id."""
    if said is None:
        return []
    *earlier, last = [{"role": role, "content": said}] if isinstance(said, str) else said
    unnamed = {"message_id": None, "reply_to": None, "created_at": own["created_at"]}
    return [*(_arranged(message, unnamed) for message in earlier), _arranged(last, own)]


def _arranged(message: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    first = {"message_id": own["message_id"], "role": message["role"], "content": message.get("content")}
    return first | message | own
