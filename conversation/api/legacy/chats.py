"""`/conversation/…`, as chat frontends call it, over the same log: a conversation is a session of messages."""

from typing import Annotated, Any

from flask import Blueprint, Response, request
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from conversation import access
from conversation.api import caller, cursors, pagination, problems, responses
from conversation.api.legacy import chat_schemas
from conversation.api.legacy.casing import CasedModel, aliased_field, document_both_cases, to_case
from conversation.api.legacy.messages import AssignedMessage, Message, answer_id, assign_interactions, messages_of
from conversation.api.openapi import describe
from conversation.api.requests import json_path
from conversation.refusals import validation_messages
from conversation.refusals.codes import Refused
from logging_store.batches import Receipt
from logging_store.records import identity
from logging_store.records.json_values import JsonObject
from logging_store.records.models import Session, Title
from logging_store.records.values import Identifier, Name
from logging_store.repository import WriteResult

blueprint = Blueprint("chats", __name__)

MAX_MESSAGES = 1000  # per call, as in a batch

_NAME: TypeAdapter[str] = TypeAdapter(Identifier)


class Start(CasedModel):
    """A conversation to start, with its messages so far. Without `conversation_id` (or `session_id`) it gets a new id.

    Messages without an id are named by their position, so that a repeated call stores nothing twice.
    """

    model_config = ConfigDict(json_schema_extra=document_both_cases)

    conversation_id: Identifier | None = aliased_field("conversation_id", "session_id")
    user_id: Name | None = aliased_field("user_id")
    title: Title | None = None
    metadata: JsonObject | None = None
    messages: Annotated[list[Message], Field(max_length=MAX_MESSAGES)] | None = None


@blueprint.post("/conversation/start")
@access.requires("log", restricted=True)
@describe(
    "Start a conversation with its first messages, unless they exist",
    Start,
    dict.fromkeys((201, 200, 202), chat_schemas.ConversationStarted),
)
def start_conversation() -> Response:
    record = caller.read_record(Start)
    messages = record.messages or []
    camel = record.camel or any(message.camel for message in messages)
    name = record.conversation_id or identity.new_id()
    assigned = assign_interactions(
        messages, lambda position: f"start-{position}" if record.conversation_id else identity.new_id()
    )
    session = Session(session_id=name, user_id=record.user_id, title=record.title, metadata=record.metadata)
    started, *results = caller.repository(creating_session=True).write(
        [session, *(each.record(name) for each in assigned)], return_parents=True
    )

    token = caller.session_token(started)
    ids = {"conversation_id": name, "session_id": started.session.id}
    receipts = [_receipt(each, result, camel=camel) for each, result in zip(assigned, results, strict=True)]
    all_receipts = [result.receipt for result in (started, *results)]
    if not all(receipt.acknowledged for receipt in all_receipts):
        fields = _field_problems(record, started.receipt, camel=camel) + [
            field
            for position, (each, result) in enumerate(zip(assigned, results, strict=True))
            for field in _field_problems(each.message, result.receipt, ("messages", position), camel=camel)
        ]
        return _refusal(all_receipts, fields, to_case(ids | {"messages": receipts}, camel=camel))
    # a caller with a session token may not read: the response holds only what this call sent
    shown = started.receipt.model_copy(update={"session": None}) if token else started.receipt
    body = {
        "success": True,
        **ids,
        "receipt": started.receipt.receipt,
        "fields": _fields(record, started.receipt, camel=camel),
        "conversation": to_case(ids | _view(record, shown), camel=camel),
        "messages": receipts,
        **token,
    }
    spooled = any(receipt.receipt == "spooled" for receipt in all_receipts)
    return responses.json_response(202 if spooled else responses.status_of(started.receipt), to_case(body, camel=camel))


@blueprint.post("/conversation/<name:session>/message")
@access.requires("log", restricted=True)
@describe(
    "Add a message to a conversation, which is started if it doesn't exist",
    Message,
    dict.fromkeys((201, 200, 202), chat_schemas.MessageResult),
)
def add_message(session: str) -> Response:
    _require_name(session)
    message = caller.read_record(Message)
    (assigned,) = assign_interactions([message], lambda _: identity.new_id())
    (result,) = caller.repository().log([assigned.record(session)])
    camel = message.camel
    ids = {"conversation_id": session, "session_id": result.session.id}
    receipt_body = _receipt(assigned, result, camel=camel)
    if not result.receipt.acknowledged:
        receipt = result.receipt.model_copy(update={"fields": tuple(receipt_body["fields"])})
        return problems.receipt_problem(receipt, to_case(ids | {"message_id": _id_of(assigned, result)}, camel=camel))
    return responses.json_response(
        responses.status_of(result.receipt), to_case({"success": True, **ids}, camel=camel) | receipt_body
    )


@blueprint.get("/conversation/<name:session>")
@access.requires("read", restricted=True)
@describe(
    "Read a conversation's messages, in order",
    None,
    {200: chat_schemas.Conversation},
    query=pagination.TranscriptQuery,
)
def get_conversation(session: str) -> Response:
    _require_name(session)
    page = caller.repository().transcript(session, pagination.read(request, pagination.TranscriptQuery).to_json())
    project = caller.repository().project
    messages = [message for row in page["interactions"] for message in messages_of(project, row)]
    body = {
        "success": True,
        "conversation_id": session,
        "session_id": page["session"]["session_id"],
        "messages": messages,
        "complete": page["complete"],
        "next": cursors.transcript_cursor(page["after"]),
    }
    return responses.json_response(200, body)


def _require_name(name: str) -> None:
    """Refuse an invalid conversation id: usually a missing value turned into text, such as `undefined`."""
    try:
        _NAME.validate_python(name)
    except ValidationError as error:
        reason = validation_messages.sentence(error.errors(include_url=False)[0], Session)
        raise Refused(
            "session-not-found",
            f"No conversation has the id {name!r}: {reason}. POST /conversation/start gives a new one",
        ) from None


def _view(record: Start, receipt: Receipt) -> dict[str, Any]:
    """Return the conversation as stored; while the store is unavailable, as sent."""
    known = receipt.session or {
        "user_id": record.user_id,
        "title": record.title,
        "metadata": record.metadata or {},
    }
    names = list(chat_schemas.ConversationView.model_fields)
    return {name: known.get(name) for name in names if name not in {"conversation_id", "session_id"}}


def _id_of(assigned: AssignedMessage, result: WriteResult) -> str:
    if assigned.message.message_id:
        return assigned.message.message_id
    if not assigned.is_answer or result.interaction is None:
        return assigned.interaction
    return answer_id(caller.repository().project, result.session.id, result.interaction.id)


def _receipt(assigned: AssignedMessage, result: WriteResult, *, camel: bool) -> dict[str, Any]:
    receipt = {
        "message_id": _id_of(assigned, result),
        "receipt": result.receipt.receipt,
        "fields": _fields(assigned.message, result.receipt, camel=camel),
    }
    return to_case(receipt | ({"reason": result.receipt.reason} if result.receipt.reason else {}), camel=camel)


def _fields(record: Start | Message, receipt: Receipt, *, camel: bool) -> list[str]:
    """Return the fields of a receipt, under the names that the caller sent."""
    return list(dict.fromkeys(record.caller_name(field, camel=camel) for field in receipt.fields))


def _field_problems(
    record: Start | Message, receipt: Receipt, path: tuple[str | int, ...] = (), *, camel: bool
) -> list[dict[str, str]]:
    """Return the problems of a refused record's fields. `path`: the record's place in the body."""
    if receipt.acknowledged:
        return []
    detail = receipt.reason or "Another value is stored"
    names = _fields(record, receipt, camel=camel)
    return [{"path": json_path((*path, *name.split(".", 1))), "detail": detail} for name in names]


def _refusal(receipts: list[Receipt], fields: list[dict[str, str]], more: dict[str, Any]) -> Response:
    """Return the problem of a conversation that was stored in part; `messages` holds a receipt for each message."""
    refused = [receipt for receipt in receipts if not receipt.acknowledged]
    if any(receipt.reason == "erased" for receipt in refused):
        return problems.problem("session-erased", "The conversation was erased; nothing can be added to it", **more)
    conflict = any(receipt.receipt == "conflict" for receipt in refused)
    names = ", ".join(field["path"].removeprefix("$.") for field in fields)
    constraint = next((problems.constraint_details(receipt) for receipt in refused if receipt.constraint), {})
    return problems.problem(
        "unique-conflict" if constraint else "conflict" if conflict else "rejected",
        f"{'Contradicts what is stored' if conflict else 'Rejected'}: {names or 'the conversation'}; what was stored "
        "stays as it is, and `messages` has the receipt of each message",
        fields=fields,
        receipt=receipts[0].receipt,
        **more,
        **constraint,
    )
