"""Files that `mongoexport` writes from a chat application's collection, with session ids repaired.

A document is a conversation, `{_id, sessionId, messages: [{role, content, timestamp}]}`, or a single message,
`{_id, sessionId, role, content, createdAt}`; messages may be in any order and are sorted by time.

A conversation whose session id is missing, null, blank, not a name, or already used in the file, gets a new one,
derived from its `_id` or its content, so that it is the same in every run. Fields that Turnlog doesn't
have become metadata.
"""

from collections.abc import Iterable, Iterator
from contextlib import closing
from itertools import chain
from typing import Any, NamedTuple

from pydantic import ValidationError

from conversation.archive import session_keys
from conversation.archive.dialogues import Dialogue, Message, records, role_of, to_text
from conversation.archive.disk_index import DiskIndex
from conversation.archive.entries import Document, Entry, InvalidDocumentError, Location, RejectedEntry, RepairedId
from conversation.archive.formats import extended_json
from conversation.archive.session_keys import check_key, key_from_content
from logging_store.records import identity
from logging_store.records.models import Session

_SESSION_ID = ("sessionId", "session_id", "conversationId", "conversation_id")
_USER_ID = ("userId", "user_id", "user")
_ROLE = ("role", "sender")
_CONTENT = ("content", "text")
_SAID_AT = ("timestamp", "createdAt", "created_at", "date")
_BEGUN_AT = ("startedAt", "started_at", "createdAt", "created_at")
_UNTIMED = "~"  # sorts after every time


class _SessionKey(NamedTuple):
    """A session's key; if it differs from the document's id, that id (`was`) and the reason."""

    name: str
    was: Any = None
    reason: str | None = None


def read(documents: Iterable[Document | RejectedEntry]) -> Iterator[Entry]:
    """Yield the records of conversations in file order, then those of single messages."""
    with closing(DiskIndex()) as disk:
        for document in documents:
            if isinstance(document, RejectedEntry):
                yield document
                continue
            value = extended_json.plain(document.value)
            if isinstance(value.get("messages", ...), list | None):
                yield from _conversation(document.location, value, disk)
            elif any(name in value for name in _ROLE) and any(name in value for name in _CONTENT):
                yield from _put_by(document.location, value, disk)
            else:
                reason = "Neither a conversation with messages nor a message with role and content"
                yield RejectedEntry(document.location, reason, to_text(document.value))
        for name, messages in disk.groups():
            yield from _gathered(name, messages)


def _conversation(location: Location, value: dict[str, Any], disk: DiskIndex) -> Iterator[Entry]:
    named = _named(value)
    own = _own_name(value)
    if named.reason is None and not disk.claim(named.name, own):
        named = _SessionKey(own, named.name, "repeated")
    if named.reason:
        yield RepairedId(location, named.reason, named.was, named.name)
    rest = dict(value)
    if named.reason is None:
        _take(rest, _SESSION_ID)
    messages = [_message(message) for message in rest.pop("messages") or ()]
    yield from records(location, Dialogue(named.name, messages, _session_fields(rest)))


def _put_by(location: Location, value: dict[str, Any], disk: DiskIndex) -> Iterator[Entry]:
    named = _named(value)
    if named.reason:
        yield RepairedId(location, named.reason, named.was, named.name)
    else:
        _take(value, _SESSION_ID)
    said_at = next((time for name in _SAID_AT if (time := extended_json.time_of(value.get(name)))), _UNTIMED)
    disk.put(named.name, said_at, location, value)


def _gathered(name: str, stored: Iterator[tuple[Location, dict[str, Any]]]) -> Iterator[Entry]:
    """Yield the records of one conversation from its sorted messages."""
    location, first = next(stored)
    user_id = _fitting("user_id", next((first[each] for each in _USER_ID if each in first), None))

    def messages() -> Iterator[Message]:
        for _, value in chain([(location, first)], stored):
            if user_id is not None and next((value[each] for each in _USER_ID if each in value), None) == user_id:
                _take(value, _USER_ID)
            yield _message(value)

    yield from records(location, Dialogue(name, messages(), {"user_id": user_id}))


def _named(value: dict[str, Any]) -> _SessionKey:
    """Return the session key of a document; one derived from the document if its session id isn't usable."""
    given = [value[name] for name in _SESSION_ID if name in value]
    if not given:
        return _SessionKey(_own_name(value), None, "missing")
    was = given[0]
    name, reason = session_keys.usable_key(was)
    if name is None:
        return _SessionKey(_own_name(value), was, reason)
    who = identity.session("", name)
    return _SessionKey(who.key or who.id)


def _own_name(value: dict[str, Any]) -> str:
    """Return a key derived from a document's `_id`, or from its content."""
    if value.get("_id") is None:
        return key_from_content(value)
    name = f"mongo-{value['_id'] if isinstance(value['_id'], str) else to_text(value['_id'])}"
    try:
        check_key(name)
    except InvalidDocumentError:
        return key_from_content({"_id": value["_id"]})
    return name


def _session_fields(rest: dict[str, Any]) -> dict[str, Any]:
    """Move a session's fields out of `rest`, which becomes metadata; invalid values stay there."""
    fields: dict[str, Any] = {"metadata": rest}
    for field, theirs in (("user_id", _USER_ID), ("title", ("title",)), ("tags", ("tags",))):
        present = next((name for name in theirs if name in rest), None)
        if present is not None and (value := _fitting(field, rest[present])) is not None:
            fields[field] = value
            del rest[present]
    fields["started_at"] = _take_time(rest, _BEGUN_AT)
    return fields


def _message(value: Any) -> Message:
    if not isinstance(value, dict):
        return Message("unknown", value)
    rest = dict(value)
    said_at = _take_time(rest, _SAID_AT)
    speaker = _take(rest, _ROLE)
    content = _take(rest, _CONTENT)
    role = role_of(speaker) if isinstance(speaker, str) and speaker.strip() else "unknown"
    if role != speaker and speaker is not None:
        rest["speaker"] = speaker
    return Message(role, content, said_at=said_at, aside=rest)


def _take(rest: dict[str, Any], names: tuple[str, ...]) -> Any:
    """Remove the first of several fields that is present, and return its value."""
    present = next((name for name in names if name in rest), None)
    return None if present is None else rest.pop(present)


def _take_time(rest: dict[str, Any], names: tuple[str, ...]) -> str | None:
    """Remove and return the first of several fields that is a time."""
    for name in names:
        if (time := extended_json.time_of(rest.get(name))) is not None:
            del rest[name]
            return time
    return None


def _fitting(field: str, value: Any) -> Any:
    """Return the validated value of a session's field; None if it is invalid."""
    try:
        return getattr(Session.model_validate({field: value}), field)
    except ValidationError:
        return None
