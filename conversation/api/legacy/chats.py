"""`/conversation/…`, as chat frontends call it, over the same log: a conversation is a session of messages."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, NamedTuple

from flask import Blueprint, Response, request
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from conversation import access
from conversation.api import caller, cursors, pagination, problems, requests, responses, sent_messages
from conversation.api.legacy import chat_schemas
from conversation.api.legacy.casing import CasedModel, aliased_field, document_both_cases, to_case
from conversation.api.openapi import describe
from conversation.api.requests import InvalidBody, json_path
from conversation.refusals import validation_messages
from conversation.refusals.codes import Refused
from conversation.turns import reading, shapes
from conversation.turns.message import Message
from conversation.turns.planning import PlannedCall
from logging_store.batches import Receipt
from logging_store.records import identity
from logging_store.records.json_values import Metadata
from logging_store.records.models import Session
from logging_store.records.values import Identifier, Person, Title
from logging_store.repository import WriteResult

blueprint = Blueprint("chats", __name__)

_NAME: TypeAdapter[str] = TypeAdapter(Identifier)
_CAMEL = frozenset(
    name
    for name in (*shapes.ID_FIELDS, *shapes.REPLY_FIELDS, *shapes.TIME_FIELDS, "toolCalls", "toolCallId")
    if name != name.lower()
)

#: The message's field for each field of its interaction.
_MESSAGE_FIELDS = {
    "prompt": "content",
    "response": "content",
    "started_at": "created_at",
    "completed_at": "created_at",
    "key": "message_id",
    "interaction_id": "message_id",
    "alternative_to": "reply_to",
    "status": "role",
    f"metadata.{reading.OWN_ID}": "message_id",
    f"metadata.{reading.REPLIES_TO}": "reply_to",
}


class Start(CasedModel):
    """A conversation to start, with its messages so far. Without `conversation_id` (or `session_id`) it gets a new id.

    A repeated or a longer list stores what is new in it. Each message is validated alone: an invalid one doesn't affect
    the others.
    """

    model_config = ConfigDict(json_schema_extra=document_both_cases)

    conversation_id: Identifier | None = aliased_field("conversation_id", "session_id")
    user_id: Person | None = aliased_field("user_id")
    title: Title | None = None
    metadata: Metadata | None = None
    messages: Annotated[list[sent_messages.AnyMessage], Field(max_length=sent_messages.MAX_MESSAGES)] | None = None


@blueprint.post("/conversation/start")
@access.requires("log", restricted=True)
@describe(
    "Start a conversation with its first messages, unless they exist",
    Start,
    dict.fromkeys((201, 200, 202, 207), chat_schemas.ConversationStarted),
)
def start_conversation() -> Response:
    record = caller.read_record(Start, items="messages")
    items = record.messages or []
    requests.require_proportion(1, (record.conversation_id, record.title, record.metadata))
    sent = sent_messages.read(items)
    camel = record.camel or any(map(_is_camel, items))
    name = record.conversation_id or identity.new_id()
    repository = caller.repository(creating_session=True)
    repository.ledger.reject(len(sent.rejected))
    log, planned = sent_messages.plan(repository, name, sent, from_start=True)
    session = Session(session_id=name, user_id=record.user_id, title=record.title, metadata=record.metadata)
    started, written = sent_messages.write_by_message(repository, session, log, planned, ensure=True)
    assert started is not None  # noqa: S101 - it was ensured

    token = caller.session_token(started)
    ids = {"conversation_id": name, "session_id": started.session.id}
    outcomes = {each.place: each for each in _outcomes(written)}
    repeated = _repetitions(planned)
    receipts = [
        outcomes[place].receipt(item, sent.altered.get(place), camel=camel)
        if place in outcomes
        else to_case(repeated.get(place) or _other_receipt(item, sent.rejected.get(place)), camel=camel)
        for place, item in enumerate(items)
    ]
    all_receipts = [started.receipt, *(each.result.receipt for each in outcomes.values())]
    if not all(receipt.acknowledged for receipt in all_receipts):
        fields = _field_problems(record, started.receipt, camel=camel) + [
            problem
            for place, item in enumerate(items)
            if place in outcomes
            for problem in outcomes[place].problems(item, ("messages", place), camel=camel)
        ]
        fields = requests.listed_conflicts(fields, ())
        return _refusal(all_receipts, fields, to_case(ids | {"messages": receipts}, camel=camel))
    # a caller with a session token may not read: the response holds only what this call sent
    shown = started.receipt.model_copy(update={"session": None}) if token else started.receipt
    body = {
        "success": not sent.rejected,
        **ids,
        "receipt": started.receipt.receipt,
        "fields": _fields(record, started.receipt, camel=camel),
        **requests.altered(),
        "conversation": to_case(ids | _view(record, shown), camel=camel),
        "messages": receipts,
        **token,
    }
    spooled = any(receipt.receipt == "spooled" for receipt in all_receipts)
    status = 207 if sent.rejected else 202 if spooled else responses.status_of(started.receipt)
    return responses.json_response(status, to_case(body, camel=camel))


@blueprint.post("/conversation/<name:session>/message")
@access.requires("log", restricted=True)
@describe(
    "Add a message to a conversation, which is started if it doesn't exist",
    sent_messages.SentMessage,
    dict.fromkeys((201, 200, 202), chat_schemas.MessageResult),
)
def add_message(session: str) -> Response:
    _require_name(session)
    item = caller.read_record(sent_messages.SentMessage).item()
    sent = sent_messages.read(item, ())
    repository = caller.repository()
    for fields in sent.rejected.values():
        repository.ledger.reject(1)
        raise InvalidBody(fields)
    if not sent.messages:
        repository.ledger.reject(1)
        raise InvalidBody([{"path": "$", "detail": "Says nothing by itself; send it with the message that it is of"}])
    log, planned = sent_messages.plan(repository, session, sent)
    _, written = sent_messages.write_by_message(repository, Session(session_id=session), log, planned, ensure=False)
    camel = _is_camel(item)
    outcomes = _outcomes(written)
    if not outcomes:  # a system message that came again
        body = {"success": True, "conversation_id": session, "session_id": log.session_id}
        return responses.json_response(200, to_case(body | _repetitions(planned)[0], camel=camel))
    outcome = outcomes[-1]
    result = outcome.result
    ids = {"conversation_id": session, "session_id": result.session.id}
    receipt_body = outcome.receipt(item, sent.altered.get(0), camel=camel)
    if not result.receipt.acknowledged:
        receipt = result.receipt.model_copy(update={"fields": tuple(receipt_body["fields"])})
        return problems.receipt_problem(receipt, to_case(ids | {"message_id": outcome.message_id}, camel=camel))
    return responses.json_response(
        responses.status_of(result.receipt), to_case({"success": True, **ids}, camel=camel) | receipt_body
    )


@blueprint.get("/conversation/<name:session>")
@access.requires("read", restricted=True)
@describe(
    "Read a conversation's messages, in order",
    None,
    {200: chat_schemas.Conversation},
    query=pagination.ConversationQuery,
)
def get_conversation(session: str) -> Response:
    _require_name(session)
    page = caller.repository().branch(session, pagination.read(request, pagination.ConversationQuery).to_json())
    project = caller.repository().project
    messages = [message for row in page["interactions"] for message in reading.to_views(project, row)]
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


class _Outcome(NamedTuple):
    """What became of the message at a place of the list: of its part of an interaction."""

    place: int
    message: Message
    call: PlannedCall
    result: WriteResult

    @property
    def message_id(self) -> str:
        if self.message.id is not None:
            return self.message.id
        if not self.message.is_answer or self.call.is_alone or self.result.interaction is None:
            return self.call.name
        if self.call.stored and (known := self.call.stored.answer_id):
            return known
        project = caller.repository().project
        return reading.answer_id(project, self.result.session.id, self.result.interaction.id)

    def receipt(self, item: Any, altered: list[str] | None, *, camel: bool) -> dict[str, Any]:
        """Return the receipt. `altered`: the paths of the item's altered values."""
        receipt = self.result.receipt
        body = {
            "message_id": self.message_id,
            "receipt": receipt.receipt,
            "fields": self._names(item, camel=camel),
            **({"altered": altered} if altered else {}),
        }
        return to_case(body | ({"reason": receipt.reason} if receipt.reason else {}), camel=camel)

    def problems(self, item: Any, path: tuple[str | int, ...], *, camel: bool) -> list[dict[str, str]]:
        """Return the problems of a refused message's fields. `path`: the message's place in the body."""
        receipt = self.result.receipt
        if receipt.acknowledged:
            return []
        detail = receipt.reason or "Another value is stored"
        names = self._names(item, camel=camel)
        return [{"path": json_path((*path, *name.split(".", 1))), "detail": detail} for name in names]

    def _names(self, item: Any, *, camel: bool) -> list[str]:
        """Return the fields of its receipt under the names that the caller sent."""
        names = dict.fromkeys(
            _message_field(name, is_answer=self.message.is_answer) for name in self.result.receipt.fields
        )
        return list(dict.fromkeys(sent_messages.caller_name(item, name, camel=camel) for name in names))


def _outcomes(written: Sequence[sent_messages.Written]) -> list[_Outcome]:
    """Return the outcomes of messages in their order; of several messages of one item the last one that was new."""
    found: dict[int, _Outcome] = {}
    for own in written:
        for message in own.call.messages:
            result = own.answer if message.is_answer else own.question
            assert result is not None  # noqa: S101 - each message was written
            before = found.get(message.place)
            if before is None or before.result.receipt.receipt in {"duplicate", "filled"}:
                found[message.place] = _Outcome(message.place, message, own.call, result)
    return [found[place] for place in sorted(found)]


def _message_field(name: str, *, is_answer: bool) -> str:
    """Return the message's field for a field of its interaction."""
    if name == "prompt" and is_answer:
        return "reply_to"  # another question is stored
    if name == "metadata":  # filled: it holds nothing else of a message
        return "message_id" if is_answer else "reply_to"
    return _MESSAGE_FIELDS.get(name, name)


def _is_camel(item: Any) -> bool:
    """Return whether a message has a name in camelCase."""
    return isinstance(item, Mapping) and not _CAMEL.isdisjoint(item)


def _repetitions(planned: Sequence[PlannedCall]) -> dict[int, dict[str, Any]]:
    """Return the receipts of system messages that are stored already, by place."""
    return {
        message.place: {
            "message_id": message.id or call.name,
            "receipt": "spooled" if call.stored and call.stored.is_spooled else "duplicate",
            "fields": [],
        }
        for call in planned
        for message in call.repeats
    }


def _other_receipt(item: Any, problems: list[dict[str, str]] | None) -> dict[str, Any]:
    """Return the receipt of an item that is no message, or that is a part of another one, as a reasoning is.

    `problems`: why it is no message.
    """
    if problems:
        return {"message_id": None, "receipt": "rejected", "fields": problems, "reason": "invalid"}
    own = item.get(sent_messages.caller_name(item, "message_id")) if isinstance(item, Mapping) else None
    return {"message_id": str(own or ""), "receipt": "duplicate", "fields": []}


def _fields(record: Start, receipt: Receipt, *, camel: bool) -> list[str]:
    """Return the fields of a receipt, under the names that the caller sent."""
    return list(dict.fromkeys(record.caller_name(field, camel=camel) for field in receipt.fields))


def _field_problems(
    record: Start, receipt: Receipt, path: tuple[str | int, ...] = (), *, camel: bool
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
    if any(receipt.reason == "erased" and not receipt.fields for receipt in refused):  # not only one of its turns
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
