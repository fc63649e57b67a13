"""Response models of the chat routes, for the contract; each also in camelCase."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import ConfigDict, Field

from conversation.api.legacy.casing import document_both_cases
from conversation.api.schemas import Acknowledged, Altered, FieldProblem, ResponseModel
from logging_store.records.models import SessionStatus

_OwnName = Annotated[str, Field(description="As it was sent; else the UUID.")]


class _CasedResponse(ResponseModel):
    model_config = ConfigDict(json_schema_extra=document_both_cases)


class ConversationView(_CasedResponse):
    """A conversation. While the store is unavailable, unknown fields are null."""

    conversation_id: _OwnName
    session_id: UUID
    user_id: str | None
    title: str | None
    status: SessionStatus | None
    metadata: dict[str, Any]
    created_at: datetime | None
    interaction_count: int | None
    last_activity_at: datetime | None


class MessageReceipt(_CasedResponse):
    """The outcome for a message. `fields`: those that this call filled, or those that are wrong, with reasons."""

    message_id: Annotated[str | None, Field(description="As it was sent; else the UUID. Null if it was rejected")]
    receipt: Acknowledged | Literal["rejected"]
    fields: list[str] | list[FieldProblem]
    altered: Altered
    reason: str | None = None


class ConversationStarted(_CasedResponse):
    """`receipt` and `fields` are the conversation's own; each message has its receipt.

    `success` is false, with the status 207, if a message was rejected.
    """

    success: bool
    conversation_id: _OwnName
    session_id: UUID
    receipt: Acknowledged
    fields: list[str]
    altered: Altered
    conversation: ConversationView
    messages: list[MessageReceipt]
    session_token: Annotated[str | None, Field(description="Authorises a browser to append to this session")] = None
    session_token_expires_at: datetime | None = None


class MessageResult(_CasedResponse):
    """`fields` are those that this call filled."""

    success: Literal[True]
    conversation_id: _OwnName
    session_id: UUID
    message_id: _OwnName
    receipt: Acknowledged
    fields: list[str]
    altered: Altered


class MessageView(_CasedResponse):
    """A message, with whatever else it carries: tool calls, a name.

    `reply_to` is the id of the message that it answers. `message_id` is null for all but the last of several messages
    that were logged as one prompt. `created_at`: as sent; else when its interaction was first received.
    """

    model_config = ConfigDict(extra="allow")

    message_id: str | None
    role: str
    content: Any
    reply_to: str | None
    created_at: datetime
    interaction_id: UUID
    alternative_to: Annotated[
        UUID | None, Field(description="The interaction in whose place it stands: another answer, an edited question.")
    ]
    spooled: bool


class Conversation(_CasedResponse):
    """`complete` is false while the store is unavailable: then only spooled messages are listed."""

    success: Literal[True]
    conversation_id: _OwnName
    session_id: UUID
    messages: list[MessageView]
    complete: bool
    next: str | None
