"""Messages in a request's body, in any shape of an SDK: read and validated one by one, and written as interactions.

A message that can't be read costs nothing but itself.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, repeat
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import ConfigDict, TypeAdapter, ValidationError, WithJsonSchema

from conversation.api import requests
from conversation.api.body_parts import Unparsed
from conversation.refusals import validation_messages
from conversation.turns import planning, shapes
from conversation.turns.message import Message, awaits_answer, naming
from conversation.turns.planning import Log, PlannedCall
from conversation.turns.reading import OWN_ID
from logging_store.batches import Row
from logging_store.records import identity
from logging_store.records.json_values import JsonObject
from logging_store.records.models import Interaction, LoggedInteraction, OnConflict, Record, Session
from logging_store.records.values import MAX_NAME, Identifier, Name
from logging_store.redaction import Redaction
from logging_store.repository import ConversationRepository, WriteResult

MAX_MESSAGES = requests.MAX_ITEMS

_READ = 10  # of the session's last interactions that are compared with a list, beside one for each message
_READ_MOST = 100
_ITEM: TypeAdapter[dict[str, Any]] = TypeAdapter(JsonObject)
_ID: TypeAdapter[str] = TypeAdapter(Identifier)
_NAME: TypeAdapter[str] = TypeAdapter(Name)
#: Names: a text in their place that can't be stored is refused, and a number of any size is its digits.
_NOT_ALTERED = frozenset((*shapes.ID_FIELDS, *shapes.REPLY_FIELDS, *shapes.ROLE_FIELDS))

#: The names that SDKs have for a message's fields.
_NAMES: dict[str, Sequence[str]] = {
    "role": shapes.ROLE_FIELDS,
    "content": (*shapes.CONTENT_FIELDS, "tool_calls", "toolCalls"),
    "message_id": shapes.ID_FIELDS,
    "reply_to": shapes.REPLY_FIELDS,
    "created_at": shapes.TIME_FIELDS,
}

_SCHEMA: dict[str, Any] = {
    "description": "A message as an SDK has it: OpenAI (chat and Responses), Anthropic, Gemini, the AI SDK, LangChain; "
    "known by its form. It needs a role, in any spelling, and a content or calls of tools. Null and empty fields say "
    "nothing; fields that no SDK has are kept with the message.",
    "examples": [
        {"role": "user", "content": "Hello", "id": "m1", "created_at": "2026-11-21T06:30:00Z"},
        {"role": "assistant", "content": [{"type": "text", "text": "Hi"}], "id": "m2", "reply_to": "m1"},
        {"role": "model", "parts": [{"text": "Hi"}]},
    ],
}
AnyMessage = Annotated[Any, WithJsonSchema(_SCHEMA)]
FieldProblems = list[dict[str, str]]


class SentMessage(Record):
    """A message as an SDK has it."""

    model_config = ConfigDict(extra="allow", json_schema_extra={**_SCHEMA, "additionalProperties": True})

    def item(self) -> dict[str, Any]:
        """Return the message as it was sent."""
        return dict(self.__pydantic_extra__ or {})


@dataclass(slots=True)
class Sent:
    """The messages of a body; by position the problems of the items that are none, and the paths of altered values."""

    messages: list[Message] = field(default_factory=list)
    rejected: dict[int, FieldProblems] = field(default_factory=dict)
    altered: dict[int, list[str]] = field(default_factory=dict)


def read(values: Any, path: Sequence[str | int] = ("messages",), session: str | None = None) -> Sent:
    """Return the messages of a list. `path`: the list's place in the body; problems have the paths of its items.

    `session`: the name of the session, if the receipts repeat it.
    """
    sent = Sent()
    sent_items = values if isinstance(values, list) else [values]
    requests.require_proportion(len(sent_items), chain(_repeated(sent_items), repeat(session, len(sent_items))))
    items = [
        _storable(item, (*path, place) if isinstance(values, list) else path, place, sent)
        for place, item in enumerate(sent_items)
    ]

    def reject(place: int, inner: Sequence[str | int], reason: str) -> None:
        own = (*path, place) if isinstance(values, list) else path
        field = {"path": requests.json_path((*own, *inner)), "detail": reason}
        sent.rejected.setdefault(place, []).extend(requests.listed([field], own, 1))

    for found in shapes.read_each(items, requests.intake()):
        if found.place in sent.rejected:
            continue
        if isinstance(found, shapes.InvalidMessageError):
            reject(found.place, found.path, found.reason)
            continue
        problems = list(_invalid_names(found, items[found.place]))
        for name, reason in problems:
            reject(found.place, (name,), reason)
        if not problems:
            sent.messages.append(found)
    return sent


def _repeated(items: Sequence[Any]) -> Iterator[str]:
    """Yield the texts of messages that their receipts repeat: their ids."""
    for item in items:
        if isinstance(item, dict):
            named = (item[name] for name in shapes.ID_FIELDS if name in item)
            yield from (text for text in named if isinstance(text, str) and len(text) <= MAX_NAME)


def _storable(item: Any, path: Sequence[str | int], place: int, sent: Sent) -> Any:
    """Return an item with values that can be stored, and note in `sent` what was altered; None for a rejected one."""
    if isinstance(item, Unparsed):
        problems = ({"path": requests.json_path((*path, *inner)), "detail": detail} for inner, detail in item.problems)
        sent.rejected[place] = requests.listed(problems, path, len(item.problems))
        return None
    names: dict[str, Any] = {}
    if isinstance(item, dict):
        names = {name: item[name] for name in _NOT_ALTERED if name in item}
        item = {name: value for name, value in item.items() if name not in names}
    intake = requests.intake()
    try:
        (value,) = _ITEM.validate_python({"": item}, context=intake).values()
    except ValidationError as error:
        detail = error.errors(include_url=False)[0]
        inner = detail.get("ctx", {}).get("path", ("",))[1:]
        field = {"path": requests.json_path((*path, *inner)), "detail": validation_messages.sentence(detail)}
        sent.rejected[place] = requests.listed([field], path, 1)
        return None
    if intake.altered:
        altered = [requests.json_path((*path, *inner[1:])) for inner in intake.altered]
        sent.altered[place] = requests.listed_paths(altered, path)
    return value | names if names else value


def caller_name(item: Any, name: str, *, camel: bool = False) -> str:
    """Return the name that an item has for a field of a message."""
    present = [each for each in _NAMES.get(name, (name,)) if isinstance(item, Mapping) and each in item]
    if present:
        return next((each for each in present if item[each] is not None), present[0])
    first, *more = name.split("_")
    return first + "".join(part.title() for part in more) if camel else name


def _invalid_names(message: Message, item: Any) -> list[tuple[str, str]]:
    checks = (
        ("role", message.role, _NAME),
        ("message_id", message.id, _ID),
        ("reply_to", message.reply_to, _ID),
    )
    found = []
    for name, value, valid in checks:
        if value is not None:
            try:
                valid.validate_python(value)
            except ValidationError as error:
                reason = validation_messages.sentence(error.errors(include_url=False)[0])
                found.append((caller_name(item, name), reason))
    return found


@dataclass(slots=True)
class Written:
    """An interaction that came of messages, and what became of its prompt and of its response.

    Both are one record's where they were written as one; None where nothing was to be written: it is stored already.
    """

    call: PlannedCall
    question: WriteResult | None = None
    answer: WriteResult | None = None
    record: Interaction | None = None
    beside: Mapping[str, Any] = field(default_factory=dict)


def plan(
    repository: ConversationRepository, session: str, sent: Sent, *, from_start: bool = False
) -> tuple[Log, list[PlannedCall]]:
    """Return which interactions of a session messages become, and what the session has stored."""
    messages = sent.messages
    compared = messages if repository.redaction is None else _redacted(messages, repository.redaction)
    rows, is_whole = repository.latest(session, min(_READ + len(messages), _READ_MOST))
    log = Log(repository.project, identity.session(repository.project, session).id, rows, is_whole)
    planned = planning.plan(log, compared, from_start=from_start, gaps=sent.rejected)
    if repository.redaction is not None:
        _count_replacements(repository, messages, compared, planned)
    return log, planned


def _redacted(messages: Sequence[Message], redaction: Redaction) -> list[Message]:
    """Return messages as they would be stored, so that they can be compared with what is."""
    rows: list[Row] = [{"prompt": [message.to_item()]} for message in messages]
    redaction.redact_rows(rows)  # what can't be redacted stays, and is rejected when it is written
    redacted = []
    for message, row in zip(messages, rows, strict=True):
        (item,) = row["prompt"]
        fields = {name: item.pop(name) for name in ("content", "name", "tool_calls") if name in item}
        extras = {name: value for name, value in item.items() if name not in {"role", "tool_call_id"}}
        redacted.append(replace(message, **fields, extras=extras))
    return redacted


def _count_replacements(
    repository: ConversationRepository,
    messages: Sequence[Message],
    compared: Sequence[Message],
    planned: Sequence[PlannedCall],
) -> None:
    """Count what was replaced in messages that are new; writing them finds nothing more to replace."""
    assert repository.redaction is not None  # noqa: S101 - its caller asked
    new = {id(each) for call in planned for part, each in call.parts if part in call.news}
    rows = [{"prompt": [mine.to_item()]} for mine, theirs in zip(messages, compared, strict=True) if id(theirs) in new]
    repository.ledger.redacted(repository.redaction.redact_rows(rows).replaced, Counter())


def write(
    repository: ConversationRepository,
    session: Session,
    log: Log,
    planned: Sequence[PlannedCall],
    newest: Mapping[str, Any],
) -> tuple[WriteResult | None, list[Written]]:
    """Write interactions, each as one record, in one transaction; return the session's result and theirs, in order.

    `session`: is written if it says more than its id. `newest`: fields of the newest answer's interaction. What is
    stored already isn't written again.
    """
    records: list[Session | Interaction] = [session] if session.model_fields_set - {"session_id"} else []
    name = session.session_id
    last = _newest(planned)
    written = []
    for call in planned:
        own = Written(call, beside=newest if call is last else {})
        if call.has_news or own.beside:
            own.record = _record(name, call, call.fields() | _context(call, planned, log), own.beside)
            records.append(own.record)
        written.append(own)
    results = iter(repository.write(records, return_parents=True) if records else ())
    session_result = next(results) if records and isinstance(records[0], Session) else None
    for own in written:
        if own.record is not None:
            own.question = own.answer = next(results)
    _write_again(repository, name, log, written)
    return session_result, written


def write_by_message(
    repository: ConversationRepository, session: Session, log: Log, planned: Sequence[PlannedCall], *, ensure: bool
) -> tuple[WriteResult | None, list[Written]]:
    """Write interactions, their prompts and their responses as records of their own, so that each has its receipt.

    `ensure`: write the session as well.
    """
    records: list[Session | Interaction] = [session] if ensure else []
    name = session.session_id
    halves: list[tuple[Written, bool]] = []
    written = [Written(call) for call in planned]
    for own in written:
        question, answer = own.call.question_fields(), own.call.answer_fields()
        if question:
            halves.append((own, False))
            records.append(_record(name, own.call, question | _context(own.call, planned, log), {}))
        if answer:
            # repeated, so that the answer isn't stored with another question of the same id
            asked = {"prompt": question["prompt"]} if question else {}
            halves.append((own, True))
            records.append(_record(name, own.call, asked | answer, {}))
    results = iter(repository.write(records, return_parents=True) if records else ())
    session_result = next(results) if ensure else None
    for own, is_answer in halves:
        if is_answer:
            own.answer = next(results)
        else:
            own.question = next(results)
    _write_again(repository, name, log, written)
    return session_result, written


def _record(
    session: str | None,
    call: PlannedCall,
    fields: Mapping[str, Any],
    beside: Mapping[str, Any],
    on_conflict: OnConflict | None = None,
) -> LoggedInteraction:
    """Return the record of an interaction. What is known to be edited is to be revised."""
    metadata = {**fields.get("metadata", {}), **(beside.get("metadata") or {})}
    more = {"metadata": metadata} if metadata else {}
    how = on_conflict or ("revise" if call.is_edited else "keep")
    return LoggedInteraction.model_validate(
        {"session_id": session, "interaction_id": call.name} | {**fields, **beside} | more | {"on_conflict": how}
    )


def _newest(planned: Sequence[PlannedCall]) -> PlannedCall | None:
    """Return the interaction that has the last message of the list that is more than an instruction."""
    asked = [call for call in planned if call.response or awaits_answer(call.prompt)]
    return max(
        asked or planned,
        key=lambda call: max((each.place for each in (*call.messages, *call.repeats)), default=-1),
        default=None,
    )


def _context(call: PlannedCall, planned: Sequence[PlannedCall], log: Log) -> dict[str, Any]:
    """Return the field `context` of a new interaction for whose sake the list was sent: the newest.

    Nothing where texts of the session were erased or have expired: they would come back with it.
    """
    if call is not planned[-1] or call.stored is not None or not call.context:
        return {}
    if any(row["erased_at"] or row["text_expired_at"] for row in log.interactions):
        return {}
    return {"context": [message.to_item() for message in call.context]}


def _write_again(
    repository: ConversationRepository,
    session: str | None,
    log: Log,
    written: list[Written],
) -> None:
    """Write again what contradicts a part of an interaction that the log didn't show when it was read.

    That was stored meanwhile by another call, or longer ago than what was read. Another answer to a question is an
    interaction of its own; a message with the id of the stored one is a revision of it. An answer whose question is
    revised as well follows it in `written`.
    """
    again: list[_Again] = []
    for own in list(written):
        call, is_one_record = own.call, own.question is own.answer
        question, answer = _contradicting(own.question), _contradicting(own.answer)
        is_edited = "prompt" in question | answer and bool(call.prompt) and naming(call.prompt).id is not None
        is_other = call.response is not None and (
            f"metadata.{OWN_ID}" in answer or (call.response.id is None and "response" in answer)
        )
        if is_edited and (is_other or not is_one_record):
            again.append(_Again(own, "question", _record(session, call, call.question_fields(), {}, "revise")))
        if is_other and (is_edited or "prompt" not in answer):
            again.append(_as_other_answer(session, log, own, written, is_edited=is_edited))
        elif answer and (is_edited or ("response" in answer and call.response is not None)):
            fields = call.fields()
            if not is_one_record:
                asked = {"prompt": call.question_fields()["prompt"]} if call.prompt else {}
                fields = asked | call.answer_fields()
            own.record = _record(session, call, fields, own.beside, "revise")
            again.append(_Again(own, "both" if is_one_record else "answer", own.record))
    results = repository.write([each.record for each in again]) if again else ()
    for (own, part, _), result in zip(again, results, strict=True):
        if part != "answer":
            own.question = result
        if part != "question" or own.call.response is None:
            own.answer = result


class _Again(NamedTuple):
    """A record to be written again, and whose results its receipt is."""

    own: Written
    part: Literal["both", "question", "answer"]
    record: LoggedInteraction


def _as_other_answer(session: str | None, log: Log, own: Written, written: list[Written], *, is_edited: bool) -> _Again:
    """Make an interaction's answer another one's, behind it in `written` if its question is edited as well."""
    call, is_one_record = own.call, own.question is own.answer
    other = own
    if is_edited:
        other = Written(call, beside=own.beside)
        written.insert(written.index(own) + 1, other)
        own.call, own.beside = replace(call, response=None, news={"prompt"}), {}
    other.call = planning.other_answer(log, call)
    record = _record(session, other.call, other.call.fields(), other.beside)
    other.record = record
    return _Again(other, "both" if is_edited or is_one_record else "answer", record)


def _contradicting(result: WriteResult | None) -> set[str]:
    """Return the fields in which a record contradicts what is stored."""
    return set(result.receipt.fields) if result and result.receipt.receipt == "conflict" else set()
