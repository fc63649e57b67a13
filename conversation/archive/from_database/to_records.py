"""Rows of sessions and of interactions become records: the ids are theirs, or derive from the row where it has none."""

from collections.abc import Iterable, Iterator

from conversation.archive.entries import Entry, Place, Repaired, Stated
from conversation.archive.from_database.duplicates import Seen
from conversation.archive.from_database.row_mapping import Named, Reading
from conversation.archive.from_database.tables import Row
from logging_store.records.models import Interaction, Session

_SAID = ("prompt", "response", "error", "status")


def sessions(reading: Reading, rows: Iterable[Row]) -> Iterator[Entry]:
    """Yield the sessions of a table."""
    for number, row in enumerate(rows, start=1):
        read = reading.read(Place("sessions_row", number), row)
        named = reading.session(row)
        user_id = read.fields.get("user_id")
        if not reading.seen.add_session(named.name, user_id) and not named.reason:
            named = Named(reading.derived(row), named.name, "repeated")
            reading.seen.add_session(named.name, user_id)
        if named.reason:
            yield Repaired(read.place, named.reason, named.was, named.name)
        yield from reading.stated(read, Session, read.fields | {"session_id": named.name})


def interactions(reading: Reading, rows: Iterable[Row]) -> Iterator[Entry]:
    """Yield the interactions of a table, and before them the sessions of whose user only they know."""
    for number, row in enumerate(rows, start=1):
        read = reading.read(Place("interactions_row", number), row)
        named = reading.session(row)
        if named.reason:
            yield Repaired(read.place, named.reason, named.was, named.name)
        fields = read.fields | {"session_id": named.name, "interaction_id": reading.own_name(row)}
        if (user_id := fields.pop("user_id", None)) is not None:
            yield from owned(reading.seen, read.place, named.name, user_id)
            if (known := reading.seen.session(named.name)) is None or known.user_id != user_id:
                fields["participant"] = user_id
        if not any(name in fields for name in _SAID):
            fields["status"] = "pending"  # nothing was said, and the row is kept all the same
        yield from reading.stated(read, Interaction, fields)


def owned(seen: Seen, place: Place, name: str, user_id: str) -> Iterator[Entry]:
    """Yield the session that belongs to a user, unless it is known already whose it is."""
    known = seen.session(name)
    if known and known.user_id is not None:
        return
    try:
        session = Session(session_id=name, user_id=user_id)
    except ValueError:
        return  # no name that a user can have: the interaction tells of it
    if known:
        seen.give_user(name, user_id)
    else:
        seen.add_session(name, user_id)
    yield Stated(place, session)
