"""Turns the dialogues of all formats into interactions, as the HTTP routes turn messages into interactions.

`conversation.turns` finds what answers what: one interaction for each call of a model. An interaction is named by the
id of its question; without one its id derives from what was said up to it, so that reading the same dialogue again, or
a longer one, yields the same records. `turn` counts a dialogue's interactions.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Any, NamedTuple

from pydantic import BaseModel, ValidationError
from pydantic_core import to_json

from conversation.api.requests import json_path
from conversation.archive import field_names, session_keys
from conversation.archive.disk_index import DiskIndex
from conversation.archive.entries import (
    HERE,
    Document,
    Entry,
    InvalidDocumentError,
    Location,
    NoConversationError,
    ParsedRecord,
    PassedOver,
    RejectedEntry,
    Target,
)
from conversation.refusals import validation_messages
from conversation.turns import matching, planning, shapes
from conversation.turns.message import Message
from conversation.turns.planning import Log, PlannedCall
from conversation.turns.roles import USER
from logging_store.records import identity
from logging_store.records.models import ChosenInteraction, Interaction, Session

_AT_ONCE = 50  # dialogues without ids that are looked up in one query …
_BYTES_AT_ONCE = 4 * 1024 * 1024  # … or fewer, if they are long

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Dialogue:
    """A conversation of a file. `session`, `last`: fields of the session, and of the last interaction.

    `session_id`: None for a dialogue without an id. `aside`: by the place of a message, its fields that are not part of
    a message, for the interaction's metadata. `alternatives`: first questions (by id) that stand in another's place.
    `chosen`: the id of a message on the branch that was looked at last, and a time by which it was.
    `last_id`: the id of the last interaction if nothing was said in it. `counted`: whether its interactions are all
    that their session has. `rejected`: what is wrong with the items that are no messages.
    """

    session_id: str | None
    messages: Sequence[Message]
    session: Json = field(default_factory=dict)
    last: Json = field(default_factory=dict)
    aside: Mapping[int, Json] = field(default_factory=dict)
    alternatives: Mapping[str, str] = field(default_factory=dict)
    chosen: tuple[str, str] | None = None
    last_id: str | None = None
    counted: bool = True
    rejected: Sequence[str] = ()


class _Read(NamedTuple):
    document: Document
    dialogue: Dialogue
    keys: list[str]  # of the sessions that a dialogue without an id may go on with, the likeliest first


def read_dialogues(
    documents: Iterable[Document | RejectedEntry], dialogue_of: Callable[[Json], Dialogue], target: Target = HERE
) -> Iterator[Entry]:
    """Yield the records of documents, each of which is a dialogue.

    One without an id goes on with the stored session, or the session of the file, that it begins like: the longest one
    whose messages are all at its beginning.
    """
    with closing(DiskIndex()) as seen:
        waiting: list[_Read] = []
        for document in documents:
            found = _read(document, dialogue_of)
            if isinstance(found, _Read):
                waiting.append(found)
            full = len(waiting) == _AT_ONCE or sum(each.document.size for each in waiting) > _BYTES_AT_ONCE
            if full or not isinstance(found, _Read):
                yield from _resolved(waiting, target, seen)
                waiting = []
            if not isinstance(found, _Read):
                yield found
        yield from _resolved(waiting, target, seen)


def _read(
    document: Document | RejectedEntry, dialogue_of: Callable[[Json], Dialogue]
) -> _Read | RejectedEntry | PassedOver:
    if isinstance(document, RejectedEntry):
        return document
    try:
        dialogue = dialogue_of(document.value)
        if dialogue.session_id is not None:
            session_keys.check_key(dialogue.session_id)
    except InvalidDocumentError as error:
        return RejectedEntry(document.location, str(error), to_text(document.value))
    except NoConversationError as error:
        return PassedOver(document.location, str(error))
    return _Read(document, dialogue, _keys(dialogue) if dialogue.session_id is None else [])


def _resolved(waiting: Sequence[_Read], target: Target, seen: DiskIndex) -> Iterator[Entry]:
    asked = [key for each in waiting for key in each.keys]
    known = target.known_sessions(asked) if asked else set()
    for each in waiting:
        dialogue = each.dialogue
        if dialogue.session_id is None:
            name = next((key for key in each.keys if key in known or seen.has(key)), each.keys[0])
            seen.claim(name, "")
            dialogue = replace(dialogue, session_id=name)
        yield from records(each.document.location, dialogue, target)
        for reason in dialogue.rejected:
            yield RejectedEntry(each.document.location, reason, to_text(each.document.value))


def _keys(dialogue: Dialogue) -> list[str]:
    """Return the keys of a dialogue and of its beginnings, the longest first.

    They derive from what was said and from the session's other fields, whatever the formatting and the order of fields.
    """
    rest = session_keys.canonical(without_moving(dialogue.session))
    digest = sha256(rest)
    keys = [f"sha256-{sha256(rest).hexdigest()}"] if not dialogue.messages else []
    for message in dialogue.messages:
        digest.update(matching.key(message).encode(errors="surrogatepass"))
        keys.append(f"sha256-{digest.copy().hexdigest()}")
    return keys[::-1]


class Messages(NamedTuple):
    """The messages of a list, and what is wrong with the items that are none, by their places."""

    messages: list[Message]
    rejected: dict[int, str]


def read_messages(items: Sequence[Any], path: str = "$.messages") -> Messages:
    """Return the messages of a list in any shape. Raises `InvalidDocumentError` if it has items, but no message."""
    found = Messages([], {})
    for each in shapes.read_each(items):
        if isinstance(each, shapes.InvalidMessageError):
            where = json_path(each.path).removeprefix("$")
            found.rejected[each.place] = f"{path}[{each.place}]{where}: {each.reason}"
        else:
            found.messages.append(each)
    if found.rejected and not found.messages:
        raise InvalidDocumentError(next(iter(found.rejected.values())))
    return found


def without(fields: Json, *names: str) -> Json:
    """Return all fields but the named ones."""
    return {name: value for name, value in fields.items() if name not in names}


def without_moving(fields: Json) -> Json:
    """Return fields without those, also of the metadata, that change whenever their conversation does."""
    kept = {name: value for name, value in fields.items() if not field_names.is_moving(name)}
    if isinstance(metadata := kept.get("metadata"), dict):
        kept["metadata"] = {name: value for name, value in metadata.items() if not field_names.is_moving(name)}
    return kept


def to_text(value: Any) -> str:
    """Return a value as JSON text."""
    return to_json(value, inf_nan_mode="strings").decode()


def records(location: Location, dialogue: Dialogue, target: Target = HERE) -> Iterator[ParsedRecord | RejectedEntry]:
    """Yield a dialogue's session and its interactions."""
    name = dialogue.session_id
    assert name is not None  # noqa: S101 - a dialogue without an id got one
    yield _validated(location, Session, {"session_id": name, **stated(dialogue.session)})
    log = Log(target.project, identity.session(target.project, name).id)
    dialogue = with_usable_ids(dialogue)
    calls = planning.plan(log, dialogue.messages, from_start=True)
    if not calls and dialogue.last:  # a call that failed
        failed = {"session_id": name, "interaction_id": dialogue.last_id or "1", **stated(dialogue.last)}
        yield _validated(location, Interaction, failed)
    has_branches = len({call.reply_to for call in calls}) < len(calls) or bool(dialogue.alternatives)
    for turn, call in enumerate(calls, start=1):
        fields = {"session_id": name, "interaction_id": call.name, **_fields(call, dialogue)}
        if dialogue.counted or len(calls) > 1:
            fields["turn"] = turn
        if turn == len(calls):
            fields = merged(fields, dialogue.last)
        if has_branches and dialogue.chosen and dialogue.chosen[0] in {message.id for message in call.messages}:
            yield _validated(location, ChosenInteraction, fields | {"chosen_at": dialogue.chosen[1]})
        else:
            yield _validated(location, Interaction, fields)


def alternatives_of(messages: Iterable[Message]) -> dict[str, str]:
    """Return by id the questions that stand in place of the first one: others of those that reply to nothing.

    Only where messages say what they reply to.
    """
    every = list(messages)
    if not any(message.reply_to for message in every):
        return {}
    asked = [message for message in every if message.role == USER and message.id is not None]
    first, *others = [message.id for message in asked if message.reply_to is None] or [None]
    return {other: first for other in others if other is not None and first is not None}


def with_usable_ids(dialogue: Dialogue) -> Dialogue:
    """Return a dialogue whose ids can name its messages, each only one, and whose replies are to messages that it has.

    An id that can't goes to the message's other fields.
    """
    ids = {message.id for message in dialogue.messages}
    met: set[str] = set()
    found = []
    aside = {place: dict(fields) for place, fields in dialogue.aside.items()}
    for message in dialogue.messages:
        own_id, reply_to = message.id, message.reply_to
        if own_id is not None and (own_id in met or session_keys.usable_key(own_id)[0] is None):
            aside.setdefault(message.place, {}).setdefault("id", own_id)
            own_id = None
        if own_id is not None:
            met.add(own_id)
        if reply_to is not None and (reply_to not in ids or reply_to == own_id):
            aside.setdefault(message.place, {}).setdefault("reply_to", reply_to)
            reply_to = None
        found.append(replace(message, id=own_id, reply_to=reply_to))
    return replace(dialogue, messages=found, aside=aside)


def merged(fields: Json, more: Json) -> Json:
    """Return the fields of an interaction with further ones, which win; metadata has the entries of both."""
    metadata = {**fields.get("metadata", {}), **more.get("metadata", {})}
    return fields | stated(more) | ({"metadata": metadata} if metadata else {})


def _fields(call: PlannedCall, dialogue: Dialogue) -> Json:
    fields = call.fields()
    aside = {
        "prompt": [_aside(message, dialogue) for message in call.prompt],
        "response": [_aside(call.response, dialogue)] if call.response else [],
    }
    metadata = {
        side: found[0] if len(found) == 1 else found
        for side, every in aside.items()
        if (found := [each for each in every if each])
    }
    if call.name in dialogue.alternatives:
        fields["alternative_to"] = dialogue.alternatives[call.name]
    return merged(fields, {"metadata": metadata})


def _aside(message: Message, dialogue: Dialogue) -> Json:
    return dict(dialogue.aside.get(message.place, {}))


def stated(fields: Json) -> Json:
    """Return the fields that have a value."""
    return {name: value for name, value in fields.items() if value not in (None, {}, [])}


def _validated(
    location: Location, model: type[Session] | type[Interaction], fields: Json
) -> ParsedRecord | RejectedEntry:
    try:
        return ParsedRecord(location, model.model_validate(fields))
    except ValidationError as error:
        return RejectedEntry(location, describe_errors(error, model), to_text(fields))


def describe_errors(error: ValidationError, model: type[BaseModel] | None = None) -> str:
    """Return one line with the path and the reason of each invalid field."""
    look_ups = validation_messages.LookUps()
    reasons = []
    for detail in error.errors(include_url=False):
        path = json_path((*detail["loc"], *detail.get("ctx", {}).get("path", ())))
        reasons.append(f"{path}: {validation_messages.sentence(detail, model, look_ups=look_ups)}")
    return "; ".join(reasons)
