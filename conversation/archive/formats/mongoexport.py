"""Files that `mongoexport` writes from a chat application's collection, with session ids repaired.

A document is a conversation, `{_id, sessionId, messages: [{role, content, timestamp}]}`, or a single message,
`{_id, sessionId, role, content, createdAt}`; messages may be in any order and are sorted by time. Fields are known by
the names that applications have for them (`chatId`, `isCreatedByUser`, `parentMessageId`, LangChain's `History` …).

A conversation whose session id is missing, null, blank, not a name, or already used in the file, gets a new one,
derived from its `_id` or its content, so that it is the same in every run. A single message that names no conversation
is rejected. Fields that Turnlog doesn't have become metadata.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from datetime import datetime
from typing import Any, NamedTuple

from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json

from conversation.archive import field_names, session_keys
from conversation.archive.dialogues import Dialogue, alternatives_of, records, to_text
from conversation.archive.disk_index import DiskIndex
from conversation.archive.entries import (
    HERE,
    Document,
    Entry,
    InvalidDocumentError,
    Location,
    RejectedEntry,
    RepairedId,
    Target,
)
from conversation.archive.formats import extended_json
from conversation.archive.session_keys import check_key, key_from_content
from conversation.refusals import field_synonyms
from conversation.turns import shapes
from conversation.turns.message import Message
from conversation.turns.roles import ASSISTANT, USER, role_of
from logging_store.records import identity
from logging_store.records.models import Session
from logging_store.records.values import Time

_SESSION_ID = field_synonyms.SESSION.split()
_USER_ID = ("user_id", "user", "owner_id", "customer_id")
_ROLE = field_synonyms.ROLE.split()
_IS_USER = ("is_created_by_user", "is_user", "from_user", "is_user_message", "is_human")
_IS_ASSISTANT = ("is_bot", "is_ai", "is_assistant", "from_bot", "is_bot_message", "is_ai_message")
_CONTENT = ("content", "text", "body", "message", "message_text", "message_content", "value", "parts", "history")
_SAID_AT = ("timestamp", "created_at", "date", "time", "sent_at", "created", "ts", "said_at")
_BEGUN_AT = ("started_at", "created_at", "created")
_MESSAGE_ID = ("message_id", "id", "_id")
_PARENT = ("parent_message_id", "parent_id", "reply_to", "in_reply_to")
_NIL = "00000000-0000-0000-0000-000000000000"
_OF_A_MESSAGE = ("tool_calls", "tool_call_id", "name")
_FACTS = ("model", "provider", "finish_reason", "latency_ms", "time_to_first_token_ms", "input_tokens", "output_tokens",
          "cost_usd", "error")  # fmt: skip
_UNTIMED = "~"  # sorts after every time
_TIME: TypeAdapter[datetime] = TypeAdapter(Time)

Json = dict[str, Any]


class _SessionKey(NamedTuple):
    """A session's key; if it differs from the document's id, that id (`was`) and the reason."""

    name: str
    was: Any = None
    reason: str | None = None


def read(documents: Iterable[Document | RejectedEntry], target: Target = HERE) -> Iterator[Entry]:
    """Yield the records of conversations in file order, then those of single messages."""
    with closing(DiskIndex()) as disk:
        for document in documents:
            if isinstance(document, RejectedEntry):
                yield document
                continue
            value = extended_json.plain(document.value)
            if isinstance(value.get("messages", ...), list | None):
                yield from _conversation(document.location, value, disk, target)
            elif _is_message(value):
                yield from _put_by(document, value, disk)
            else:
                reason = "Neither a conversation with messages nor a message with role and content"
                yield RejectedEntry(document.location, reason, to_text(document.value))
        for name, messages in disk.groups():
            yield from _gathered(name, messages, target)


def _is_message(value: Json) -> bool:
    names = {field_names.snake_case(name) for name in value}
    has_role = any(name in names for name in (*_ROLE, *_IS_USER, *_IS_ASSISTANT))
    return "history" in names or (has_role and any(name in names for name in _CONTENT))


def _conversation(location: Location, value: Json, disk: DiskIndex, target: Target) -> Iterator[Entry]:
    named = _named(value)
    own = _own_name(value)
    if named.reason is None and not disk.claim(named.name, own):
        named = _SessionKey(own, named.name, "repeated")
    if named.reason:
        yield RepairedId(location, named.reason, named.was, named.name)
    rest = dict(value)
    if named.reason is None:
        field_names.take(rest, _SESSION_ID)
    items = rest.pop("messages") or ()
    yield from records(location, _dialogue(named.name, items, _session_fields(rest)), target)


def _put_by(document: Document, value: Json, disk: DiskIndex) -> Iterator[Entry]:
    named = _named(value)
    if named.reason == "missing":
        reason = "Names no conversation: none of sessionId, conversationId, chatId, threadId …"
        yield RejectedEntry(document.location, reason, to_text(document.value))
        return
    if named.reason:
        yield RepairedId(document.location, named.reason, named.was, named.name)
    else:
        field_names.take(value, _SESSION_ID)
    said_at = _take_time(dict(value), _SAID_AT)
    order = said_at.isoformat(timespec="microseconds") if said_at else _UNTIMED
    disk.put(named.name, order, document.location, value)


def _gathered(name: str, stored: Iterator[tuple[Location, Json]], target: Target) -> Iterator[Entry]:
    """Yield the records of one conversation from its sorted messages."""
    location, first = next(stored)
    items = [first, *(value for _, value in stored)]
    user_id = _fitting("user_id", field_names.take(dict(first), _USER_ID))
    if user_id is not None:
        for each in items:
            if field_names.take(dict(each), _USER_ID) == user_id:
                field_names.take(each, _USER_ID)
    yield from records(location, _dialogue(name, items, {"user_id": user_id}), target)


def _dialogue(name: str, items: Sequence[Any], session: Json) -> Dialogue:
    messages: list[Message] = []
    aside: dict[int, Json] = {}
    for place, item in enumerate(items):
        found, rest = _messages(item)
        messages += [replace(message, place=place) for message in found]
        aside[place] = rest
    return Dialogue(name, messages, session, aside=aside, alternatives=alternatives_of(messages))


def _named(value: Json) -> _SessionKey:
    """Return the session key of a document; one derived from the document if its session id isn't usable."""
    by_name = {field_names.snake_case(name): name for name in reversed(list(value))}
    given = [value[by_name[name]] for name in _SESSION_ID if name in by_name]
    if not given:
        return _SessionKey(_own_name(value), None, "missing")
    was = given[0]
    name, reason = session_keys.usable_key(was)
    if name is None:
        return _SessionKey(_own_name(value), was, reason)
    who = identity.session("", name)
    return _SessionKey(who.key or who.id)


def _own_name(value: Json) -> str:
    """Return a key derived from a document's `_id`, or from its content."""
    if value.get("_id") is None:
        return key_from_content(value)
    name = f"mongo-{value['_id'] if isinstance(value['_id'], str) else to_text(value['_id'])}"
    try:
        check_key(name)
    except InvalidDocumentError:
        return key_from_content({"_id": value["_id"]})
    return name


def _session_fields(rest: Json) -> Json:
    """Move a session's fields out of `rest`, which becomes metadata; invalid values stay there."""
    fields: Json = {"metadata": rest}
    for field, theirs in (("user_id", _USER_ID), ("title", ("title",)), ("tags", ("tags",))):
        found = field_names.take(dict(rest), theirs)
        if found is not None and (value := _fitting(field, found)) is not None:
            field_names.take(rest, theirs)
            fields[field] = value
    begun = _take_time(rest, _BEGUN_AT)
    return fields | {"started_at": begun.isoformat() if begun else None}


def _messages(item: Any) -> tuple[list[Message], Json]:
    """Return the messages of a document, usually one, and its other fields."""
    if not isinstance(item, dict):
        return [Message("unknown", item)], {}
    rest = dict(item)
    said_at = _take_time(rest, _SAID_AT)
    own_id = _take_id(rest, _MESSAGE_ID)
    reply_to = _take_id(rest, _PARENT)
    role, speaker = _take_role(rest)
    content = _take_content(rest)
    inner = content if isinstance(content, dict) and ("data" in content or "type" in content) else None
    shape: Json = inner if inner is not None else {"role": role, "content": content}
    if inner is None:
        shape |= {name: rest.pop(name) for name in _OF_A_MESSAGE if name in rest}
    try:
        found = shapes.read_item(shape)
    except shapes.InvalidMessageError:
        found = [Message(role, content)]
    if not found:
        found = [Message(role, content)]
    if speaker is not None and speaker != found[0].role:
        rest["speaker"] = speaker
    facts = field_names.take_call(rest, _FACTS) if found[-1].role == ASSISTANT else {}
    if rest.get("error") is True:
        facts |= {"status": "failed", "error": content if isinstance(content, str) and content else "Failed"}
    elif rest.get("unfinished") is True and found[-1].role == ASSISTANT:
        facts["status"] = "abandoned"
    first, *others = found
    first = replace(first, id=own_id, reply_to=reply_to, created_at=said_at)
    messages = [first, *(replace(each, created_at=said_at) for each in others)]
    messages[-1] = replace(messages[-1], facts=messages[-1].facts | facts)
    aside = {name: value for name, value in rest.items() if value is not None and not field_names.is_moving(name)}
    return messages, aside


def _take_role(rest: Json) -> tuple[str, Any]:
    """Remove and return who spoke: the role, and the speaker's name as it was."""
    by_name = {field_names.snake_case(name): name for name in reversed(list(rest))}
    for names, yes, no in ((_IS_USER, USER, ASSISTANT), (_IS_ASSISTANT, ASSISTANT, USER)):
        for name in names:
            if isinstance(rest.get(by_name.get(name, "")), bool):
                role = yes if rest.pop(by_name[name]) else no
                return role, None  # a `sender` beside it is a name, which stays
    speaker = next((rest.pop(by_name[name]) for name in _ROLE if name in by_name), None)
    if not isinstance(speaker, str) or not speaker.strip():
        return "unknown", speaker
    return role_of(speaker), speaker


def _take_content(rest: Json) -> Any:
    """Remove and return what was said: of several fields the first one that isn't empty."""
    by_name = {field_names.snake_case(name): name for name in reversed(list(rest))}
    present = [by_name[name] for name in _CONTENT if name in by_name]
    if not present:
        return None
    name = next((each for each in present if rest[each] not in (None, "", [])), present[0])
    content = rest.pop(name)
    for other in present:
        if rest.get(other) in (None, "", []):
            rest.pop(other, None)
    if field_names.snake_case(name) == "history" and isinstance(content, str):
        with suppress(ValueError):
            content = from_json(content)
    return content


def _take_id(rest: Json, names: Sequence[str]) -> str | None:
    by_name = {field_names.snake_case(name) if name != "_id" else name: name for name in reversed(list(rest))}
    for name in names:
        if name in by_name:
            usable, _ = session_keys.usable_key(rest[by_name[name]])
            if usable is not None and usable != _NIL:
                del rest[by_name[name]]
                return usable
            if rest[by_name[name]] == _NIL:
                del rest[by_name[name]]
    return None


def _take_time(rest: Json, names: Sequence[str]) -> datetime | None:
    """Remove and return the first of several fields that is a time."""
    by_name = {field_names.snake_case(name): name for name in reversed(list(rest))}
    for name in names:
        if (theirs := by_name.get(name)) is not None and not isinstance(rest[theirs], bool):
            with suppress(ValidationError):
                time = _TIME.validate_python(rest[theirs])
                del rest[theirs]
                return time
    return None


def _fitting(field: str, value: Any) -> Any:
    """Return the validated value of a session's field; None if it is invalid."""
    try:
        return getattr(Session.model_validate({field: value}), field)
    except ValidationError:
        return None
