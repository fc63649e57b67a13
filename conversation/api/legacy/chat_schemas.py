"""What the chats' spellings answer, for the contract; all of it in camelCase, too."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import ConfigDict, Field

from conversation.api.legacy.casing import in_both_cases
from conversation.api.schemas import Answer, Kept
from logging_store.records.models import SessionStatus

_OwnName = Annotated[str, Field(description="As it was given; else the UUID.")]


class _Spelled(Answer):
    model_config = ConfigDict(json_schema_extra=in_both_cases)


class ConversationView(_Spelled):
    """A conversation. While the store is away, null stands for what isn't known."""

    conversation_id: _OwnName
    session_id: UUID
    user_id: str | None
    title: str | None
    status: SessionStatus | None
    metadata: dict[str, Any]
    created_at: datetime | None
    interaction_count: int | None
    last_activity_at: datetime | None


class MessageReceipt(_Spelled):
    """What became of a message. `fields` are those that this call filled."""

    message_id: _OwnName
    receipt: Kept
    fields: list[str]


class ConversationStarted(_Spelled):
    """`receipt` and `fields` are the conversation's own; each message has its receipt."""

    success: Literal[True]
    conversation_id: _OwnName
    session_id: UUID
    receipt: Kept
    fields: list[str]
    conversation: ConversationView
    messages: list[MessageReceipt]
    session_token: Annotated[str | None, Field(description="What appends to it from a browser")] = None
    session_token_expires_at: datetime | None = None


class MessageKept(_Spelled):
    """`fields` are those that this call filled."""

    success: Literal[True]
    conversation_id: _OwnName
    session_id: UUID
    message_id: _OwnName
    receipt: Kept
    fields: list[str]


class MessageView(_Spelled):
    """A message, with whatever else it carries: tool calls, a name.

    `reply_to` is the id of the message that it answers. `message_id` is null for all but the last of several messages
    that were logged as one prompt. `created_at`: as its sender said; else when its interaction was first received.
    """

    model_config = ConfigDict(extra="allow")

    message_id: str | None
    role: str
    content: Any
    reply_to: str | None
    created_at: datetime
    spooled: bool


class Conversation(_Spelled):
    """`complete` is false while the store is away: then only what waits on the service's disk is shown."""

    success: Literal[True]
    conversation_id: _OwnName
    session_id: UUID
    messages: list[MessageView]
    complete: bool
    next: str | None
