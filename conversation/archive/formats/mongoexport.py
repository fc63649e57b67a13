"""What `mongoexport` writes of a chat application's collection, repaired on the way.

A document is a conversation, `{_id, sessionId, messages: [{role, content, timestamp}]}`, or one message of one,
`{_id, sessionId, role, content, createdAt}`; messages may lie anywhere in the file and are put in order by their times.
A conversation whose session id is missing, null, blank or no name at all, or was used by another conversation of the
file before, gets a new one, which derives from its `_id`, or from its content if it has none: the same in every run.
What has no place in our fields becomes metadata.
"""

from collections.abc import Iterable, Iterator
from contextlib import closing
from itertools import chain
from typing import Any, NamedTuple

from pydantic import ValidationError

from conversation.archive import names
from conversation.archive.dialogues import (
    Dialogue,
    Message,
    NotADialogueError,
    check_name,
    name_from_content,
    records,
    spelled,
)
from conversation.archive.disk_index import OnDisk
from conversation.archive.entries import Document, Entry, Place, Refused, Repaired
from conversation.archive.formats import extended_json
from conversation.archive.roles import role_of
from logging_store.records import identity
from logging_store.records.models import Session

_SESSION_ID = ("sessionId", "session_id", "conversationId", "conversation_id")
_USER_ID = ("userId", "user_id", "user")
_ROLE = ("role", "sender")
_CONTENT = ("content", "text")
_SAID_AT = ("timestamp", "createdAt", "created_at", "date")
_BEGUN_AT = ("startedAt", "started_at", "createdAt", "created_at")
_UNTIMED = "~"  # sorts behind every time


class _Named(NamedTuple):
    """A conversation's id, and why it isn't the one that the document gives, if it isn't."""

    name: str
    was: Any = None
    reason: str | None = None


def read(documents: Iterable[Document | Refused]) -> Iterator[Entry]:
    """Yield the records of conversations as they come, those of single messages at the end."""
    with closing(OnDisk()) as disk:
        for document in documents:
            if isinstance(document, Refused):
                yield document
                continue
            value = extended_json.plain(document.value)
            if isinstance(value.get("messages", ...), list | None):
                yield from _conversation(document.place, value, disk)
            elif any(name in value for name in _ROLE) and any(name in value for name in _CONTENT):
                yield from _put_by(document.place, value, disk)
            else:
                reason = "Neither a conversation with messages nor a message with role and content"
                yield Refused(document.place, reason, spelled(document.value))
        for name, messages in disk.groups():
            yield from _gathered(name, messages)


def _conversation(place: Place, value: dict[str, Any], disk: OnDisk) -> Iterator[Entry]:
    named = _named(value)
    own = _own_name(value)
    if named.reason is None and not disk.claim(named.name, own):
        named = _Named(own, named.name, "repeated")
    if named.reason:
        yield Repaired(place, named.reason, named.was, named.name)
    rest = dict(value)
    if named.reason is None:
        _take(rest, _SESSION_ID)
    said = [_message(message) for message in rest.pop("messages") or ()]
    yield from records(place, Dialogue(named.name, said, _session_fields(rest)))


def _put_by(place: Place, value: dict[str, Any], disk: OnDisk) -> Iterator[Entry]:
    named = _named(value)
    if named.reason:
        yield Repaired(place, named.reason, named.was, named.name)
    else:
        _take(value, _SESSION_ID)
    said_at = next((time for name in _SAID_AT if (time := extended_json.time_of(value.get(name)))), _UNTIMED)
    disk.put(named.name, said_at, place, value)


def _gathered(name: str, stored: Iterator[tuple[Place, dict[str, Any]]]) -> Iterator[Entry]:
    """Yield the records of one conversation from its messages, in their order."""
    place, first = next(stored)
    user_id = _fitting("user_id", next((first[each] for each in _USER_ID if each in first), None))

    def messages() -> Iterator[Message]:
        for _, value in chain([(place, first)], stored):
            if user_id is not None and next((value[each] for each in _USER_ID if each in value), None) == user_id:
                _take(value, _USER_ID)
            yield _message(value)

    yield from records(place, Dialogue(name, messages(), {"user_id": user_id}))


def _named(value: dict[str, Any]) -> _Named:
    """Return a document's session id as a name; if it is none, one that derives from the document."""
    given = [value[name] for name in _SESSION_ID if name in value]
    if not given:
        return _Named(_own_name(value), None, "missing")
    was = given[0]
    name, reason = names.usable(was)
    if name is None:
        return _Named(_own_name(value), was, reason)
    who = identity.session("", name)
    return _Named(who.key or who.id)


def _own_name(value: dict[str, Any]) -> str:
    """Return the name that a conversation has by its `_id`, or by its content."""
    if value.get("_id") is None:
        return name_from_content(value)
    name = f"mongo-{value['_id'] if isinstance(value['_id'], str) else spelled(value['_id'])}"
    try:
        check_name(name)
    except NotADialogueError:
        return name_from_content({"_id": value["_id"]})
    return name


def _session_fields(rest: dict[str, Any]) -> dict[str, Any]:
    """Return a session's fields; what doesn't fit them stays in `rest`, which becomes metadata."""
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
    """Take out the first of several fields that is there, and return its value."""
    present = next((name for name in names if name in rest), None)
    return None if present is None else rest.pop(present)


def _take_time(rest: dict[str, Any], names: tuple[str, ...]) -> str | None:
    """Take out the first of several fields that is a time; one that is none stays."""
    for name in names:
        if (time := extended_json.time_of(rest.get(name))) is not None:
            del rest[name]
            return time
    return None


def _fitting(field: str, value: Any) -> Any:
    """Return a value as a session's field has it; None if it doesn't fit."""
    try:
        return getattr(Session.model_validate({field: value}), field)
    except ValidationError:
        return None
