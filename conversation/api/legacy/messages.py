"""Chat messages, and the interactions that hold them.

A user's message is the prompt of an interaction, and the assistant's answer to it is the response of the same
interaction, whichever comes first. Any other message is an interaction of its own. The answer's own id and what a
message replies to have no field in an interaction, so they are in its metadata, under names that begin with `turnlog.`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Self

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from conversation.api.legacy.casing import CasedModel, aliased_field, document_both_cases
from conversation.refusals import validation_messages
from logging_store import operations as ops
from logging_store.records import identity, json_schema
from logging_store.records.json_values import Content, JsonObject
from logging_store.records.models import Interaction
from logging_store.records.values import Identifier, Name, Time

#: Names in an interaction's metadata.
OWN_ID, REPLIES_TO = "turnlog.response_id", "turnlog.reply_to"

USER, ASSISTANT = "user", "assistant"

_CONTENT: TypeAdapter[Any] = TypeAdapter(Content)
_OPTIONAL_FIELDS = ("content", "name", "tool_calls", "tool_call_id")

#: The message's field for each field of its interaction.
_MESSAGE_FIELDS = {
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


def _describe(schema: dict[str, Any], model: type[CasedModel]) -> None:
    needs_one_of = [
        {"required": [name], "properties": {name: {"not": {"type": "null"}}}} for name in ("content", "tool_calls")
    ]
    schema["anyOf"] = needs_one_of
    document_both_cases(schema, model)


class Message(CasedModel):
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
    message_id: Identifier | None = aliased_field("message_id")
    reply_to: Identifier | None = aliased_field("reply_to")
    created_at: Time | None = aliased_field("created_at", "timestamp")
    name: Name | None = None
    tool_calls: Annotated[list[JsonObject], Field(min_length=1)] | None = aliased_field("tool_calls")
    tool_call_id: Name | None = aliased_field("tool_call_id")

    @model_validator(mode="after")
    def _validate_content(self) -> Self:
        if self.content is None and self.tool_calls is None:
            raise PydanticCustomError("empty", "A message needs content or tool calls", {"path": ("content",)})
        try:
            _CONTENT.validate_python([self.as_item()])
        except ValidationError as error:
            (details,) = error.errors(include_url=False)
            _, field, *inner = details["ctx"]["path"]
            path = (self.caller_name(field, camel=self.camel), *inner)
            reason = validation_messages.sentence(details)
            raise PydanticCustomError(details["type"], "{reason}", {"reason": reason, "path": path}) from None
        return self

    def as_item(self) -> dict[str, Any]:
        """Return the message as an item of a list of messages."""
        values = {name: getattr(self, name) for name in _OPTIONAL_FIELDS}
        return {"role": self.role} | {name: value for name, value in values.items() if value is not None}

    def as_content(self) -> str | list[dict[str, Any]]:
        """Return the message as a prompt or a response: a plain text if it is one, else a list of one message."""
        item = self.as_item()
        return self.content if isinstance(self.content, str) and item.keys() == {"role", "content"} else [item]

    def caller_name(self, field: str, *, camel: bool) -> str:
        """Return the name under which the caller sent a field of the message or of its interaction."""
        if field == "prompt" and self.role == ASSISTANT:
            field = "reply_to"  # another question is stored
        if field == "metadata":  # filled: it holds nothing else of a message
            field = "message_id" if self.role == ASSISTANT else "reply_to"
        return super().caller_name(_MESSAGE_FIELDS.get(field, field), camel=camel)


@dataclass(frozen=True, slots=True)
class AssignedMessage:
    """A message and the id of its interaction.

    `is_answer`: it answers another message. `question`: that message, if it comes earlier in the same list and this is
    its first answer.
    """

    message: Message
    interaction: str
    is_answer: bool = False
    question: Message | None = None

    def record(self, session: str) -> Interaction:
        """Return the message as a record of its interaction."""
        message = self.message
        fields: dict[str, Any] = {"session_id": session, "interaction_id": self.interaction}
        metadata: dict[str, str] = {}
        time = message.created_at.isoformat() if message.created_at else None
        if message.role == ASSISTANT:
            fields |= {"response": message.as_content(), "completed_at": time}
            if self.question:
                # repeated, so that the answer isn't stored with another question of the same id
                fields["prompt"] = self.question.as_content()
            if message.message_id or not self.is_answer:
                metadata[OWN_ID] = message.message_id or self.interaction
        elif message.role == USER:
            fields |= {"prompt": message.as_content()}
        else:
            fields |= {"prompt": [message.as_item()], "status": "completed"}  # no response is expected
        if not self.is_answer:
            fields["started_at"] = time
            if message.reply_to:
                metadata[REPLIES_TO] = message.reply_to
        return Interaction.model_validate(fields | ({"metadata": metadata} if metadata else {}))


def assign_interactions(messages: Sequence[Message], name_of: Callable[[int], str]) -> list[AssignedMessage]:
    """Return each message with its interaction. `name_of`: returns the id of a message without one, by position."""
    assigned: list[AssignedMessage] = []
    questions: dict[str, Message] = {}
    for position, message in enumerate(messages):
        before = assigned[-1] if assigned else None
        answered_id = message.reply_to
        if answered_id is None and before and before.message.role == USER:
            answered_id = before.interaction
        if message.role == ASSISTANT and answered_id:
            # removed, so that a question is repeated once at most, however many answers it has in this body
            assigned.append(
                AssignedMessage(message, answered_id, is_answer=True, question=questions.pop(answered_id, None))
            )
            continue
        assigned.append(AssignedMessage(message, message.message_id or name_of(position)))
        if message.role == USER:
            questions[assigned[-1].interaction] = message
    return assigned


def answer_id(project: str, session_id: str, interaction_id: str) -> str:
    """Return the id of an answer that was sent without one: it derives from the interaction."""
    return identity.interaction(project, session_id, f"answer to {interaction_id}").id


def messages_of(project: str, row: ops.Interaction) -> list[dict[str, Any]]:
    """Return an interaction's messages in order, as the API returns them."""
    name = row["key"] or row["interaction_id"]
    own_id, replies_to = row["metadata"].get(OWN_ID), row["metadata"].get(REPLIES_TO)
    asked_at = row["started_at"] or row["created_at"]
    alone = row["prompt"] is None and own_id == name
    messages = [
        *_to_messages(row["prompt"], USER, message_id=name, reply_to=replies_to, created_at=asked_at),
        *_to_messages(
            row["response"],
            ASSISTANT,
            message_id=own_id or answer_id(project, row["session_id"], row["interaction_id"]),
            reply_to=replies_to if alone else name,
            created_at=row["completed_at"] or asked_at,
        ),
    ]
    return [message | {"spooled": row["spooled"]} for message in messages]


def _to_messages(content: str | list[dict[str, Any]] | None, role: str, **own: Any) -> list[dict[str, Any]]:
    """Return the messages of a prompt or a response; the last one has the id."""
    if content is None:
        return []
    *earlier, last = [{"role": role, "content": content}] if isinstance(content, str) else content
    unnamed = {"message_id": None, "reply_to": None, "created_at": own["created_at"]}
    return [*(_order_fields(message, unnamed) for message in earlier), _order_fields(last, own)]


def _order_fields(message: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    first = {"message_id": own["message_id"], "role": message["role"], "content": message.get("content")}
    return first | message | own
