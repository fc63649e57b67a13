"""Tables with one message per row: sorted by conversation, then grouped into interactions like the messages of files.

Facts about an answer (model, tokens, cost …) become the interaction's if a single assistant message has them.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from typing import Any

from pydantic import ValidationError

from conversation.archive.dialogues import Dialogue, Message, records, role_of
from conversation.archive.disk_index import DiskIndex
from conversation.archive.entries import Entry, Location, ParsedRecord, RepairedId
from conversation.archive.formats import extended_json
from conversation.archive.from_database import column_values
from conversation.archive.from_database.column_values import Zone
from conversation.archive.from_database.row_mapping import ParsedRow, RowReader
from conversation.archive.from_database.tables import Row
from conversation.archive.from_database.to_records import owned
from logging_store.records.models import Interaction, Session

_OF_THE_MESSAGE = {"session_id", "user_id", "role", "content", "said_at"}
_UNTIMED = "~"  # sorts behind every time
_OFFSET = 10**19  # added to positions, so that negative ones sort as text, too


def interactions(reader: RowReader, rows: Iterable[Row], zone: Zone) -> Iterator[Entry]:
    """Read all messages of a table, then yield the interactions that they form."""
    with closing(DiskIndex()) as disk:
        for number, row in enumerate(rows, start=1):
            yield from _put_by(reader, reader.read(Location("interactions_row", number), row), disk)
        facts = _facts(reader, zone)
        for name, stored in disk.groups():
            location, first = next(stored)
            messages = _messages(first, stored)
            for entry in records(location, Dialogue(name, messages)):
                if isinstance(entry, ParsedRecord) and isinstance(entry.record, Session):
                    continue  # imported before, or created along with its interactions
                yield _with_facts(entry, facts) if isinstance(entry, ParsedRecord) else entry


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
    message = {"role": role, "content": parsed_row.fields.get("content"), "said_at": said_at, "aside": aside}
    disk.put(named.name, order, parsed_row.location, message)


def _messages(first: dict[str, Any], stored: Iterator[tuple[Location, dict[str, Any]]]) -> Iterator[Message]:
    yield _message(first)
    for _, each in stored:
        yield _message(each)


def _message(stored: dict[str, Any]) -> Message:
    return Message(stored["role"], stored["content"], said_at=stored["said_at"], aside=stored["aside"])


def _facts(reader: RowReader, zone: Zone) -> dict[str, tuple[str, Callable[[Any], Any]]]:
    """Return the columns with facts about the interaction: by field, the column's name and its converter."""
    return {
        field: (column.name, column_values.converter(field, column.kind, zone, "messages"))
        for field, column in reader.mapping.fields.items()
        if field in Interaction.model_fields and field not in {"session_id", "interaction_id"}
    }


def _with_facts(parsed: ParsedRecord, facts: dict[str, tuple[str, Callable[[Any], Any]]]) -> ParsedRecord:
    interaction = parsed.record
    if not isinstance(interaction, Interaction) or not (metadata := dict(interaction.metadata or {})):
        return parsed
    asides = [dict(each) for each in metadata["messages"]]
    answers = [each for each in asides if each["role"] == "assistant"]
    found: dict[str, Any] = {}
    for field, (column, convert) in facts.items():
        holders = [each for each in answers if column in each]
        if len(holders) == 1:
            try:
                found[field] = convert(holders[0][column])
            except ValueError:
                continue  # reported when the row was read
            del holders[0][column]
    metadata["messages"] = [each for each in asides if each.keys() != {"role"}]
    fields = interaction.json_fields("metadata") | found | ({"metadata": metadata} if metadata["messages"] else {})
    try:
        return ParsedRecord(parsed.location, Interaction.model_validate(fields))
    except ValidationError:
        return parsed  # the facts stay in its metadata
