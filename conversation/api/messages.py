"""Messages as SDKs have them: a list, whole or in part, becomes interactions; only what is new is stored."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Annotated, Any
from uuid import UUID

from flask import Blueprint, Response
from pydantic import AliasChoices, BeforeValidator, ConfigDict, Field, create_model

from conversation import access
from conversation.api import caller, interactions, requests, responses, sent_messages
from conversation.api.batches import BatchReceipt
from conversation.api.openapi import describe
from conversation.api.schemas import Altered, ResponseModel
from conversation.api.sent_messages import AnyMessage, Sent, Written
from conversation.turns import facts
from conversation.turns.message import Message
from conversation.turns.planning import Log
from conversation.turns.roles import SYSTEM
from logging_store.batches import Outcome
from logging_store.records import identity, json_schema
from logging_store.records.json_values import JsonObject
from logging_store.records.models import Interaction, Record, Session
from logging_store.records.values import Person, Title
from logging_store.repository import ConversationRepository, WriteResult

blueprint = Blueprint("messages", __name__)

#: Fields of an interaction that follow from the messages, the address or the place in the list.
_DERIVED = frozenset(
    {"session_id", "interaction_id", "key", "prompt", "context", "response", "reply_to", "alternative_to", "turn"}
)
_LISTS = ("messages", "contents", "input")
_BESIDE = -1  # the place of a message that isn't in the list
_SYSTEMS = ("system", "instructions", "systemInstruction", "system_instruction")


def _as_list(value: Any) -> Any:
    """Return a text as a list: it is what a user wrote."""
    return [value] if isinstance(value, str) else value


class _Messages(Record):
    """Messages of a session, and beside them what is known of the newest answer.

    The whole conversation, its last messages or only the newest may be sent, any number of times.
    """

    model_config = ConfigDict(json_schema_extra={"required": ["messages"]})

    messages: Annotated[
        list[AnyMessage],
        BeforeValidator(_as_list),
        json_schema.DocumentedAs(
            Annotated[list[AnyMessage], Field(min_length=1, max_length=sent_messages.MAX_MESSAGES)] | str
        ),
        Field(
            min_length=1,
            max_length=sent_messages.MAX_MESSAGES,
            validation_alias=AliasChoices(*_LISTS),
            description="Also `contents` (Gemini) or `input` (OpenAI Responses).",
        ),
    ]
    system: Annotated[
        AnyMessage | None,
        Field(
            validation_alias=AliasChoices(*_SYSTEMS),
            description="A system prompt beside the list; also `instructions`, `systemInstruction`.",
        ),
    ] = None
    usage: Annotated[JsonObject | None, Field(description="Tokens, as a provider counts them.")] = None
    user_id: Annotated[Person | None, Field(description="Of the session.")] = None
    title: Annotated[Title | None, Field(description="Of the session.")] = None


_FIELDS: dict[str, Any] = {
    name: (field.annotation, field) for name, field in Interaction.model_fields.items() if name not in _DERIVED
}
MessagesOfSession = create_model("MessagesOfSession", __base__=_Messages, __doc__=_Messages.__doc__, **_FIELDS)


class MessagesReceipt(BatchReceipt):
    """The receipt of an interaction. `messages`: the positions of its messages in the list."""

    messages: list[int]


class SessionReceipt(ResponseModel):
    """The outcome for the session. `fields`: those that were filled, or that contradict what is stored."""

    session_id: UUID
    key: str | None
    receipt: Outcome
    fields: list[str]


class MessagesResult(ResponseModel):
    """`session`: of a call that sends a field of the session; null of others."""

    receipts: list[MessagesReceipt]
    counts: dict[Outcome, int]
    session: SessionReceipt | None
    altered: Altered


@blueprint.post("/v1/sessions/<name:session>/messages")
@access.requires("log", restricted=True)
@describe(
    "Log messages as SDKs have them, the whole list or the newest; an interaction and a receipt for each answer",
    MessagesOfSession,
    dict.fromkeys((201, 200, 202, 207), MessagesResult),
)
def log_messages(session: str) -> Response:
    body = caller.read_record(MessagesOfSession, 'Send the list as {"messages": […]}', items="messages")
    record = _session(session, body)
    sent = sent_messages.read(body.messages, session=session)
    if body.system is not None:
        sent.messages[:0] = _system_prompt(body.system)
    repository = caller.repository()
    repository.ledger.reject(len(sent.rejected))
    log, planned = sent_messages.plan(repository, session, sent)
    ensured, written = sent_messages.write(repository, record, log, planned, _newest(body))
    receipts = [_receipt(each, log, repository, session) for each in written] + [
        {"messages": [place], "receipt": "rejected", "reason": "invalid", "fields": fields}
        for place, fields in sent.rejected.items()
    ]
    receipts = [{"index": n} | each | _altered(each["messages"], sent) for n, each in enumerate(receipts)]
    counts = Counter(each["receipt"] for each in receipts)
    of_session = None if ensured is None else _session_receipt(ensured)
    is_partial = any("differs" in each for each in receipts) or (ensured and not ensured.receipt.acknowledged)
    status = 207 if is_partial else _status(counts)
    return responses.json_response(
        status, {"receipts": receipts, "counts": counts, "session": of_session} | requests.altered()
    )


def _altered(places: Iterable[int], sent: Sent) -> dict[str, list[str]]:
    """Return the member `altered` of the receipt of messages at these places."""
    paths = [path for place in places for path in sent.altered.get(place, ())]
    return {"altered": paths} if paths else {}


def _status(counts: Mapping[str, int]) -> int:
    if counts.get("rejected") or counts.get("conflict"):
        return 207
    return 202 if counts.get("spooled") else 201 if counts.get("created") else 200


def _session(name: str, body: _Messages) -> Session:
    fields = {"session_id": name, "user_id": body.user_id, "title": body.title}
    return requests.validate(Session, {name: value for name, value in fields.items() if value is not None})


def _system_prompt(value: Any) -> list[Message]:
    """Return a system prompt that is beside the list: a text, parts, or an object with parts or a content."""
    match value:
        case dict() if "role" in value:
            item = value
        case dict() if "parts" in value or "content" in value:
            item = {"role": SYSTEM, **value}
        case _:
            item = {"role": SYSTEM, "content": value}
    sent = sent_messages.read(item, ("system",))
    for problems in sent.rejected.values():
        raise requests.InvalidBody(problems)
    return [replace(message, place=_BESIDE) for message in sent.messages]


def _newest(body: _Messages) -> dict[str, Any]:
    """Return what is known of the newest answer, as fields of its interaction."""
    fields = body.json_fields(*_Messages.model_fields)
    return {**facts.usage(body.usage or {}), **fields}


def _receipt(own: Written, log: Log, repository: ConversationRepository, session: str) -> dict[str, Any]:
    places = sorted({message.place for message in (*own.call.messages, *own.call.repeats)} - {_BESIDE})
    if own.record is None or own.answer is None:
        return {
            "session_id": log.session_id,
            "session_key": identity.session(repository.project, session).key,
            "interaction_id": own.call.id,
            "interaction_key": identity.interaction(repository.project, log.session_id, own.call.name).key,
            "receipt": "spooled" if own.call.stored and own.call.stored.is_spooled else "duplicate",
            "fields": [],
            "messages": places,
        }
    item = interactions.receipt_payload(own.record, own.answer)
    item.pop("altered", None)  # the body's own, which the response names
    for problems in (item["fields"], item.get("differs", ())):
        for problem in problems:
            if isinstance(problem, dict) and problem["path"] in {"$.prompt", "$.response"}:
                asked = own.call.prompt[-1:] if problem["path"] == "$.prompt" else [own.call.response]
                problem["path"] = requests.json_path(("messages", *(each.place for each in asked if each), "content"))
    return item | {"messages": places}


def _session_receipt(result: WriteResult) -> dict[str, Any]:
    return {
        "session_id": result.session.id,
        "key": result.session.key,
        "receipt": result.receipt.receipt,
        "fields": result.receipt.fields,
    }
