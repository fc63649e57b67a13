"""Turns rows of sessions and interactions into records, with the rows' own ids, or derived ones if they have none."""

from collections.abc import Iterable, Iterator

from conversation.archive.entries import Entry, Location, ParsedRecord, RepairedId
from conversation.archive.from_database.row_mapping import RowReader, SessionKey
from conversation.archive.from_database.seen_rows import SeenRows
from conversation.archive.from_database.tables import Row
from logging_store.records.models import Interaction, Session

_SAID = ("prompt", "response", "error", "status")


def sessions(reader: RowReader, rows: Iterable[Row]) -> Iterator[Entry]:
    """Yield the sessions of a table."""
    for number, row in enumerate(rows, start=1):
        parsed = reader.read(Location("sessions_row", number), row)
        named = reader.session(row)
        user_id = parsed.fields.get("user_id")
        if not reader.seen.add_session(named.name, user_id) and not named.reason:
            named = SessionKey(reader.derived(row), named.name, "repeated")
            reader.seen.add_session(named.name, user_id)
        if named.reason:
            yield RepairedId(parsed.location, named.reason, named.was, named.name)
        yield from reader.record(parsed, Session, parsed.fields | {"session_id": named.name})


def interactions(reader: RowReader, rows: Iterable[Row]) -> Iterator[Entry]:
    """Yield the interactions of a table, each after its session if only the interactions name its user."""
    for number, row in enumerate(rows, start=1):
        parsed = reader.read(Location("interactions_row", number), row)
        named = reader.session(row)
        if named.reason:
            yield RepairedId(parsed.location, named.reason, named.was, named.name)
        fields = parsed.fields | {"session_id": named.name, "interaction_id": reader.own_name(row)}
        if (user_id := fields.pop("user_id", None)) is not None:
            yield from owned(reader.seen, parsed.location, named.name, user_id)
            if (known := reader.seen.session(named.name)) is None or known.user_id != user_id:
                fields["participant"] = user_id
        if not any(name in fields for name in _SAID):
            fields["status"] = "pending"  # a record needs one of these; the row has no text, but is imported
        yield from reader.record(parsed, Interaction, fields)


def owned(seen: SeenRows, location: Location, name: str, user_id: str) -> Iterator[Entry]:
    """Yield a session with its user, unless the user of the session is known already."""
    known = seen.session(name)
    if known and known.user_id is not None:
        return
    try:
        session = Session(session_id=name, user_id=user_id)
    except ValueError:
        return  # not a valid user id, which the interaction's own entry reports
    if known:
        seen.give_user(name, user_id)
    else:
        seen.add_session(name, user_id)
    yield ParsedRecord(location, session)
