"""Tables with a row for each message: put in order by conversation, then paired as messages of a file are.

What only an assistant's message knows (its model, tokens, cost …) becomes the interaction's, where one message answers.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from typing import Any

from pydantic import ValidationError

from conversation.archive.dialogues import Dialogue, Message, records
from conversation.archive.disk_index import OnDisk
from conversation.archive.entries import Entry, Place, Repaired, Stated
from conversation.archive.formats import extended_json
from conversation.archive.from_database import column_values
from conversation.archive.from_database.column_values import Zone
from conversation.archive.from_database.row_mapping import Read, Reading
from conversation.archive.from_database.tables import Row
from conversation.archive.from_database.to_records import owned
from conversation.archive.roles import role_of
from logging_store.records.models import Interaction, Session

_OF_THE_MESSAGE = {"session_id", "user_id", "role", "content", "said_at"}
_UNTIMED = "~"  # sorts behind every time
_MIDDLE = 10**19  # added to positions, so that negative ones sort as text as well


def interactions(reading: Reading, rows: Iterable[Row], zone: Zone) -> Iterator[Entry]:
    """Yield the interactions that a table's messages make, once all of them have been read."""
    with closing(OnDisk()) as disk:
        for number, row in enumerate(rows, start=1):
            yield from _put_by(reading, reading.read(Place("interactions_row", number), row), disk)
        facts = _facts(reading, zone)
        for name, stored in disk.groups():
            place, first = next(stored)
            said = _messages(first, stored)
            for entry in records(place, Dialogue(name, said)):
                if isinstance(entry, Stated) and isinstance(entry.record, Session):
                    continue  # it was stated before, or the interactions make it
                yield _with_facts(entry, facts) if isinstance(entry, Stated) else entry


def _put_by(reading: Reading, read: Read, disk: OnDisk) -> Iterator[Entry]:
    named = reading.session(read.row)
    if named.reason:
        yield Repaired(read.place, named.reason, named.was, named.name)
    yield from read.entries
    aside = dict(read.metadata)
    for field, column in reading.understood.fields.items():
        if field not in _OF_THE_MESSAGE and (value := read.row[column.name]) is not None:
            aside[column.name] = column_values.plain(value)
    if user_id := read.fields.get("user_id"):
        yield from owned(reading.seen, read.place, named.name, user_id)
        if (known := reading.seen.session(named.name)) is None or known.user_id != user_id:
            aside[reading.understood.fields["user_id"].name] = user_id
    speaker = read.fields.get("role")
    role = role_of(speaker) if speaker and speaker.strip() else "unknown"
    if speaker is not None and role != speaker:
        aside["speaker"] = speaker
    said_at = extended_json.time_of(read.fields.get("said_at"))
    position = read.fields.get("position")
    order = (said_at or _UNTIMED) if position is None else f"{position + _MIDDLE:020d}"
    message = {"role": role, "content": read.fields.get("content"), "said_at": said_at, "aside": aside}
    disk.put(named.name, order, read.place, message)


def _messages(first: dict[str, Any], stored: Iterator[tuple[Place, dict[str, Any]]]) -> Iterator[Message]:
    yield _message(first)
    for _, each in stored:
        yield _message(each)


def _message(stored: dict[str, Any]) -> Message:
    return Message(stored["role"], stored["content"], said_at=stored["said_at"], aside=stored["aside"])


def _facts(reading: Reading, zone: Zone) -> dict[str, tuple[str, Callable[[Any], Any]]]:
    """Return which columns say something of the whole interaction: by field, the column and what converts it."""
    return {
        field: (column.name, column_values.converter(field, column.kind, zone, "messages"))
        for field, column in reading.understood.fields.items()
        if field in Interaction.model_fields and field not in {"session_id", "interaction_id"}
    }


def _with_facts(stated: Stated, facts: dict[str, tuple[str, Callable[[Any], Any]]]) -> Stated:
    interaction = stated.record
    if not isinstance(interaction, Interaction) or not (metadata := dict(interaction.metadata or {})):
        return stated
    asides = [dict(each) for each in metadata["messages"]]
    answers = [each for each in asides if each["role"] == "assistant"]
    found: dict[str, Any] = {}
    for field, (column, convert) in facts.items():
        holders = [each for each in answers if column in each]
        if len(holders) == 1:
            try:
                found[field] = convert(holders[0][column])
            except ValueError:
                continue  # told of when it was read
            del holders[0][column]
    metadata["messages"] = [each for each in asides if each.keys() != {"role"}]
    fields = interaction.json_fields("metadata") | found | ({"metadata": metadata} if metadata["messages"] else {})
    try:
        return Stated(stated.place, Interaction.model_validate(fields))
    except ValidationError:
        return stated  # with all of it in its metadata
