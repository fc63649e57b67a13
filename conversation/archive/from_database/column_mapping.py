"""Maps the columns of a table to fields: by name, type and foreign key, or by `--map`."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from conversation.archive.field_names import snake_case
from conversation.archive.from_database.overrides import IGNORED, Override
from conversation.archive.from_database.synonyms import (
    INTERACTION_FIELDS,
    MESSAGE_FIELDS,
    METADATA_NOTES,
    SESSION_FIELDS,
    Field,
)
from conversation.archive.from_database.tables import Column, Table
from conversation.archive.sources import SourceError

Shape = Literal["sessions", "interactions", "messages"]

_FIELDS: dict[Shape, tuple[Field, ...]] = {
    "sessions": SESSION_FIELDS,
    "interactions": INTERACTION_FIELDS,
    "messages": MESSAGE_FIELDS,
}
_LIKE_A_SESSION = ("session", "chat", "conversation", "thread", "dialog", "room", "channel")


@dataclass(frozen=True, slots=True)
class TableMapping:
    """The mapping of a table's columns to fields. `aside`: columns for metadata; `ignored`: columns not imported."""

    table: Table
    shape: Shape
    fields: Mapping[str, Column]
    aside: tuple[Column, ...]
    ignored: tuple[Column, ...] = ()

    def note(self, column: Column) -> str | None:
        """Return a note about a known column without a field; None for an unknown one."""
        return METADATA_NOTES.get(snake_case(column.name))


def sessions(table: Table, overrides: Sequence[Override], interactions: Table) -> TableMapping:
    """Map a table of sessions. Its `session_id` is the column that the interactions refer to."""
    mapping = _map_columns(table, "sessions", overrides, _referred_column(table, interactions))
    if "session_id" not in mapping.fields:
        raise _missing(mapping, "names a session", "session_id", _candidates(mapping))
    return mapping


def interactions(table: Table, overrides: Sequence[Override], sessions: Table | None) -> TableMapping:
    """Map a table of interactions, or of messages, where each row is one message.

    Raises `SourceError` if no column identifies the session, or none holds a prompt or a response.
    """
    known = _referring_column(table, sessions)
    as_messages = _map_columns(table, "messages", overrides, known)
    as_interactions = _map_columns(table, "interactions", overrides, known)
    content = {"prompt", "response"} & as_interactions.fields.keys()
    is_messages = {"role", "content"} <= as_messages.fields.keys() and len(content) < 2  # noqa: PLR2004 - both of them
    mapping = as_messages if is_messages else as_interactions
    if "session_id" not in mapping.fields:
        raise _missing(mapping, "names the session of an interaction", "session_id", _candidates(mapping))
    if not is_messages and not content:
        texts = [each for each in mapping.aside if each.kind in {"text", "json"}]
        raise _missing(mapping, "holds what was asked, or answered", "prompt", texts, "response")
    return mapping


def fields_of(shape: Shape) -> tuple[str, ...]:
    return tuple(field.name for field in _FIELDS[shape])


def _map_columns(
    table: Table, shape: Shape, overrides: Iterable[Override], known: Mapping[str, Column]
) -> TableMapping:
    free = {column.name: column for column in table.columns}
    overridden = {override.theirs: override.ours for override in overrides if override.table == table.name}
    fields: dict[str, Column] = {}
    for theirs, ours in overridden.items():
        if ours in fields_of(shape):
            fields[ours] = free.pop(theirs)
    ignored = tuple(free.pop(theirs) for theirs, ours in overridden.items() if ours == IGNORED and theirs in free)
    for ours, column in known.items():
        if ours not in fields and column.name in free and column.name not in overridden:
            fields[ours] = free.pop(column.name)
    for field in _FIELDS[shape]:
        if field.name not in fields and (found := _found(field, free, overridden.keys())):
            fields[field.name] = free.pop(found.name)
    in_order = {field.name: fields[field.name] for field in _FIELDS[shape] if field.name in fields}
    return TableMapping(table, shape, in_order, tuple(free.values()), ignored)


def _found(field: Field, free: Mapping[str, Column], overridden: Iterable[str]) -> Column | None:
    by_name = {snake_case(column.name): column for column in free.values() if column.name not in overridden}
    named = (by_name[name] for name in field.names if name in by_name)
    return next((column for column in named if column.kind in field.kinds), None)


def _referring_column(table: Table, sessions: Table | None) -> dict[str, Column]:
    """Return the column of a foreign key from interactions to sessions, if there is one."""
    if sessions is None:
        return {}
    to_them = (each for each in table.columns if each.refers_to and each.refers_to.table == sessions.name)
    return {"session_id": column} if (column := next(to_them, None)) else {}


def _referred_column(table: Table, interactions: Table) -> dict[str, Column]:
    """Return the column that interactions refer to: by foreign key, else by the same name, else by the same kind."""
    for each in interactions.columns:
        if each.refers_to and each.refers_to.table == table.name and (column := table.column(each.refers_to.column)):
            return {"session_id": column}
    names = next(field.names for field in INTERACTION_FIELDS if field.name == "session_id")
    by_name = {snake_case(each.name): each for each in interactions.columns}
    referring = next((by_name[name] for name in names if name in by_name), None)
    if referring is None:
        return {}
    likely = [each for each in table.columns if snake_case(each.name) in {*names, "id", "uuid"}]
    likely.sort(key=lambda each: (each.kind != referring.kind, each.name != referring.name, each.name != "id"))
    return {"session_id": likely[0]} if likely else {}


def _candidates(mapping: TableMapping) -> list[Column]:
    ids = [each for each in mapping.aside if each.kind in {"uuid", "text", "integer"}]
    likely = [
        each
        for each in ids
        if (name := snake_case(each.name)).endswith("id") or any(word in name for word in _LIKE_A_SESSION)
    ]
    return likely or ids


def _missing(
    mapping: TableMapping, what: str, ours: str, candidates: Sequence[Column], other: str | None = None
) -> SourceError:
    table = mapping.table
    option = "sessions" if mapping.shape == "sessions" else "interactions"
    named = ", ".join(f"{each.name} ({each.type})" for each in candidates) or "none"
    first = candidates[0].name if candidates else "COLUMN"
    example = f"--map {option}.{first}={ours}"
    if other:
        second = candidates[1].name if len(candidates) > 1 else "COLUMN"
        example += f" --map {option}.{second}={other}"
    return SourceError(
        f"{table.name}: can't tell which column {what}. Candidates: {named}. Name it, for example {example}"
    )
