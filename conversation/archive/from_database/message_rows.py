"""Tables with one message per row: sorted by conversation, then turned into interactions like the messages of files.

Facts about an answer (model, tokens, cost …) become its interaction's.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any

from pydantic import TypeAdapter

from conversation.archive import field_names, session_keys
from conversation.archive.dialogues import Dialogue, alternatives_of, records
from conversation.archive.disk_index import DiskIndex
from conversation.archive.entries import Entry, Location, ParsedRecord, RepairedId, Target
from conversation.archive.formats import extended_json
from conversation.archive.from_database import column_values
from conversation.archive.from_database.column_values import Zone
from conversation.archive.from_database.row_mapping import ParsedRow, RowReader
from conversation.archive.from_database.tables import Row
from conversation.archive.from_database.to_records import owned
from conversation.turns import shapes
from conversation.turns.message import Message
from conversation.turns.roles import ASSISTANT, role_of
from logging_store.records.models import Interaction, Session
from logging_store.records.values import Time

_OF_THE_MESSAGE = {"session_id", "user_id", "role", "content", "said_at", "interaction_id", "reply_to"}
_NOT_OF_A_CALL = {"session_id", "interaction_id", "reply_to", "metadata", "tags", "status"}
_UNTIMED = "~"  # sorts behind every time
_OFFSET = 10**19  # added to positions, so that negative ones sort as text, too
_TIME = TypeAdapter(Time)

_Facts = dict[str, tuple[str, Callable[[Any], Any]]]


def interactions(reader: RowReader, rows: Iterable[Row], zone: Zone, target: Target) -> Iterator[Entry]:
    """Read all messages of a table, then yield the interactions that they form."""
    with closing(DiskIndex()) as disk:
        for number, row in enumerate(rows, start=1):
            yield from _put_by(reader, reader.read(Location("interactions_row", number), row), disk)
        facts = _facts(reader, zone)
        for name, stored in disk.groups():
            location, first = next(stored)
            dialogue = _dialogue(name, [first, *(each for _, each in stored)], facts)
            for entry in records(location, dialogue, target):
                if isinstance(entry, ParsedRecord) and isinstance(entry.record, Session):
                    continue  # imported before, or created along with its interactions
                yield entry


def _put_by(reader: RowReader, parsed_row: ParsedRow, disk: DiskIndex) -> Iterator[Entry]:
    named = reader.session(parsed_row.row)
    if named.reason:
        yield RepairedId(parsed_row.location, named.reason, named.was, named.name)
    yield from parsed_row.entries
    aside = dict(parsed_row.metadata)
    for field, column in reader.mapping.fields.items():
        if field not in _OF_THE_MESSAGE and (value := parsed_row.row[column.name]) is not None:
            aside[column.name] = column_values.plain(value)
    if user_id := parsed_row.fields.get("user_id"):
        yield from owned(reader.seen, parsed_row.location, named.name, user_id)
        if (known := reader.seen.session(named.name)) is None or known.user_id != user_id:
            aside[reader.mapping.fields["user_id"].name] = user_id
    speaker = parsed_row.fields.get("role")
    role = role_of(speaker) if speaker and speaker.strip() else "unknown"
    if speaker is not None and role != speaker:
        aside["speaker"] = speaker
    said_at = extended_json.time_of(parsed_row.fields.get("said_at"))
    position = parsed_row.fields.get("position")
    order = (said_at or _UNTIMED) if position is None else f"{position + _OFFSET:020d}"
    message: dict[str, Any] = {"role": role, "content": parsed_row.fields.get("content"), "said_at": said_at}
    for name, field in (("id", "interaction_id"), ("reply_to", "reply_to")):
        named_by = reader.mapping.fields.get(field)
        if named_by is not None and (value := column_values.plain(parsed_row.row[named_by.name])) is not None:
            message[name], _ = session_keys.usable_key(value)
            if message[name] is None:
                aside[named_by.name] = value
    message["aside"] = aside
    disk.put(named.name, order, parsed_row.location, message)


def _dialogue(name: str, rows: Iterable[dict[str, Any]], facts: _Facts) -> Dialogue:
    messages: list[Message] = []
    aside: dict[int, dict[str, Any]] = {}
    for place, row in enumerate(rows):
        found = _messages(row)
        if found[-1].role == ASSISTANT:
            found[-1] = replace(found[-1], facts=found[-1].facts | _take_facts(row["aside"], facts))
        messages += [replace(each, place=place) for each in found]
        aside[place] = row["aside"]
    return Dialogue(name, messages, aside=aside, alternatives=alternatives_of(messages))


def _messages(row: dict[str, Any]) -> list[Message]:
    """Return the messages of a row, usually one."""
    at = _TIME.validate_python(row["said_at"]) if row["said_at"] else None
    try:
        found = shapes.read_item({"role": row["role"], "content": row["content"]})
    except shapes.InvalidMessageError:
        found = []
    first, *others = found or [Message(row["role"], row["content"])]
    first = replace(first, id=row.get("id"), reply_to=row.get("reply_to"))
    return [replace(each, created_at=at) for each in (first, *others)]


def _facts(reader: RowReader, zone: Zone) -> _Facts:
    """Return the columns with facts about the interaction: by field, the column's name and its converter."""
    return {
        field: (column.name, column_values.converter(field, column.kind, zone, "messages"))
        for field, column in reader.mapping.fields.items()
        if field in Interaction.model_fields and field not in _NOT_OF_A_CALL
    }


def _take_facts(aside: dict[str, Any], facts: _Facts) -> dict[str, Any]:
    """Remove the facts of a call from a row's other columns; one that its field can't hold stays there."""
    found: dict[str, Any] = {}
    for field, (column, convert) in facts.items():
        if column not in aside:
            continue
        try:
            value = convert(aside[column])
        except ValueError:
            continue  # reported when the row was read
        if field_names.is_valid(field, value):
            found[field] = value
            del aside[column]
    return found
