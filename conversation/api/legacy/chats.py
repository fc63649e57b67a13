"""The spellings of chats that keep conversations with messages, over the same log: a conversation is a session."""

from typing import Annotated, Any

from flask import Blueprint, Response, request
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from conversation import access
from conversation.api import cursors, http, pagination, problems, validation_messages
from conversation.api.legacy import chat_schemas
from conversation.api.legacy.casing import Spelled, in_both_cases, spell, spelled
from conversation.api.legacy.messages import Message, Placed, answer_id, messages_of, place
from conversation.api.openapi import describe
from conversation.api.requests import json_path
from conversation.problem_codes import Refused
from logging_store.batches import Receipt
from logging_store.records import identity
from logging_store.records.json_values import JsonObject
from logging_store.records.models import Session, Title
from logging_store.records.values import Identifier, Name
from logging_store.repository import WriteResult

blueprint = Blueprint("chats", __name__)

MOST_MESSAGES = 1000  # of one call, as of a batch

_NAME: TypeAdapter[str] = TypeAdapter(Identifier)


class Start(Spelled):
    """A conversation to start, with its messages so far. Left out, `conversation_id` (also `session_id`) is a new one.

    Messages without an id are named by their position, so the same call again doubles nothing.
    """

    model_config = ConfigDict(json_schema_extra=in_both_cases)

    conversation_id: Identifier | None = spelled("conversation_id", "session_id")
    user_id: Name | None = spelled("user_id")
    title: Title | None = None
    metadata: JsonObject | None = None
    messages: Annotated[list[Message], Field(max_length=MOST_MESSAGES)] | None = None


@blueprint.post("/conversation/start")
@access.requires("log", restricted=True)
@describe(
    "Start a conversation with its first messages, unless they are there",
    Start,
    dict.fromkeys((201, 200, 202), chat_schemas.ConversationStarted),
)
def start_conversation() -> Response:
    stated = http.read_record(Start)
    messages = stated.messages or []
    camel = stated.camel or any(message.camel for message in messages)
    name = stated.conversation_id or identity.new_id()
    placed = place(messages, lambda position: f"start-{position}" if stated.conversation_id else identity.new_id())
    session = Session(session_id=name, user_id=stated.user_id, title=stated.title, metadata=stated.metadata)
    started, *said = http.repository(creating_session=True).write(
        [session, *(each.record(name) for each in placed)], return_parents=True
    )

    token = http.session_token(started)
    ids = {"conversation_id": name, "session_id": started.session.id}
    receipts = [_receipt(each, kept, camel=camel) for each, kept in zip(placed, said, strict=True)]
    everything = [kept.receipt for kept in (started, *said)]
    if not all(receipt.acknowledged for receipt in everything):
        wrong = _wrong(stated, started.receipt, camel=camel) + [
            field
            for position, (each, kept) in enumerate(zip(placed, said, strict=True))
            for field in _wrong(each.message, kept.receipt, ("messages", position), camel=camel)
        ]
        return _refused(everything, wrong, spell(ids | {"messages": receipts}, camel=camel))
    # who gets a token may append, not read: they are told what they said themselves
    shown = started.receipt.model_copy(update={"session": None}) if token else started.receipt
    answer = {
        "success": True,
        **ids,
        "receipt": started.receipt.receipt,
        "fields": _fields(stated, started.receipt, camel=camel),
        "conversation": spell(ids | _view(stated, shown), camel=camel),
        "messages": receipts,
        **token,
    }
    spooled = any(receipt.receipt == "spooled" for receipt in everything)
    return http.answer(202 if spooled else http.status_of(started.receipt), spell(answer, camel=camel))


@blueprint.post("/conversation/<name:session>/message")
@access.requires("log", restricted=True)
@describe(
    "Add a message to a conversation, which is started if it isn't there",
    Message,
    dict.fromkeys((201, 200, 202), chat_schemas.MessageKept),
)
def add_message(session: str) -> Response:
    _require_name(session)
    message = http.read_record(Message)
    (placed,) = place([message], lambda _: identity.new_id())
    (kept,) = http.repository().log([placed.record(session)])
    camel = message.camel
    ids = {"conversation_id": session, "session_id": kept.session.id}
    told = _receipt(placed, kept, camel=camel)
    if not kept.receipt.acknowledged:
        receipt = kept.receipt.model_copy(update={"fields": tuple(told["fields"])})
        return problems.refused(receipt, spell(ids | {"message_id": _id_of(placed, kept)}, camel=camel))
    return http.answer(http.status_of(kept.receipt), spell({"success": True, **ids}, camel=camel) | told)


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
    page = http.repository().transcript(session, pagination.read(request, pagination.TranscriptQuery).to_json())
    project = http.repository().project
    messages = [message for row in page["interactions"] for message in messages_of(project, row)]
    answer = {
        "success": True,
        "conversation_id": session,
        "session_id": page["session"]["session_id"],
        "messages": messages,
        "complete": page["complete"],
        "next": cursors.transcript_cursor(page["after"]),
    }
    return http.answer(200, answer)


def _require_name(name: str) -> None:
    """Refuse what can't be a conversation's id: mostly a missing one that was turned into text."""
    try:
        _NAME.validate_python(name)
    except ValidationError as error:
        reason = validation_messages.sentence(error.errors(include_url=False)[0], Session)
        raise Refused(
            "session-not-found",
            f"No conversation has the id {name!r}: {reason}. POST /conversation/start gives a new one",
        ) from None


def _view(stated: Start, receipt: Receipt) -> dict[str, Any]:
    """Return the conversation as it is; while the store is away, as far as it was stated."""
    known = receipt.session or {
        "user_id": stated.user_id,
        "title": stated.title,
        "metadata": stated.metadata or {},
    }
    names = list(chat_schemas.ConversationView.model_fields)
    return {name: known.get(name) for name in names if name not in {"conversation_id", "session_id"}}


def _id_of(placed: Placed, kept: WriteResult) -> str:
    if placed.message.message_id:
        return placed.message.message_id
    if not placed.answers or kept.interaction is None:
        return placed.interaction
    return answer_id(http.repository().project, kept.session.id, kept.interaction.id)


def _receipt(placed: Placed, kept: WriteResult, *, camel: bool) -> dict[str, Any]:
    receipt = {
        "message_id": _id_of(placed, kept),
        "receipt": kept.receipt.receipt,
        "fields": _fields(placed.message, kept.receipt, camel=camel),
    }
    return spell(receipt | ({"reason": kept.receipt.reason} if kept.receipt.reason else {}), camel=camel)


def _fields(stated: Start | Message, receipt: Receipt, *, camel: bool) -> list[str]:
    """Return the fields that a receipt names, as the caller calls them."""
    return list(dict.fromkeys(stated.called(field, camel=camel) for field in receipt.fields))


def _wrong(
    stated: Start | Message, receipt: Receipt, path: tuple[str | int, ...] = (), *, camel: bool
) -> list[dict[str, str]]:
    """Return what is wrong with which fields; `path`: where in the body they stand."""
    if receipt.acknowledged:
        return []
    detail = receipt.reason or "Another value is stored"
    names = _fields(stated, receipt, camel=camel)
    return [{"path": json_path((*path, *name.split(".", 1))), "detail": detail} for name in names]


def _refused(receipts: list[Receipt], wrong: list[dict[str, str]], more: dict[str, Any]) -> Response:
    """Answer for a conversation of which something was not kept; the rest was, and its receipts say so."""
    refused = [receipt for receipt in receipts if not receipt.acknowledged]
    if any(receipt.reason == "erased" for receipt in refused):
        return problems.problem("session-erased", "The conversation was erased; nothing can be added to it", **more)
    conflict = any(receipt.receipt == "conflict" for receipt in refused)
    names = ", ".join(field["path"].removeprefix("$.") for field in wrong)
    clash = next((problems.clash(receipt) for receipt in refused if receipt.constraint), {})
    return problems.problem(
        "unique-conflict" if clash else "conflict" if conflict else "rejected",
        f"{'Contradicts what is stored' if conflict else 'Rejected'}: {names or 'the conversation'}; what was stored "
        "stays as it is, and `messages` says what became of each message",
        fields=wrong,
        receipt=receipts[0].receipt,
        **more,
        **clash,
    )
