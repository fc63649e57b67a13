"""Which column is which field: by its name, its type, its foreign key, or by what `--map` says."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from conversation.archive.from_database.overrides import LEFT_OUT, Override
from conversation.archive.from_database.synonyms import (
    INTERACTION_FIELDS,
    KEPT_ASIDE,
    MESSAGE_FIELDS,
    SESSION_FIELDS,
    Field,
    spelled_plainly,
)
from conversation.archive.from_database.tables import Column, Table
from conversation.archive.import_run import SourceError

Shape = Literal["sessions", "interactions", "messages"]

_FIELDS: dict[Shape, tuple[Field, ...]] = {
    "sessions": SESSION_FIELDS,
    "interactions": INTERACTION_FIELDS,
    "messages": MESSAGE_FIELDS,
}
_LIKE_A_SESSION = ("session", "chat", "conversation", "thread", "dialog", "room", "channel")


@dataclass(frozen=True, slots=True)
class Understood:
    """What a table's columns are. `aside`: those whose values go to metadata; `left_out`: those that go nowhere."""

    table: Table
    shape: Shape
    fields: Mapping[str, Column]
    aside: tuple[Column, ...]
    left_out: tuple[Column, ...] = ()

    def note(self, column: Column) -> str | None:
        """Return why a column that has no field is nevertheless understood; None if it isn't."""
        return KEPT_ASIDE.get(spelled_plainly(column.name))


def sessions(table: Table, overrides: Sequence[Override], interactions: Table) -> Understood:
    """Understand a table of sessions. Its id is what the interactions refer to."""
    understood = _understand(table, "sessions", overrides, _referred(table, interactions))
    if "session_id" not in understood.fields:
        raise _missing(understood, "names a session", "session_id", _candidates(understood))
    return understood


def interactions(table: Table, overrides: Sequence[Override], sessions: Table | None) -> Understood:
    """Understand a table of interactions, or of messages where each row is what one side said.

    Raises `SourceError` unless it is known what names the session, and what was said.
    """
    known = _referring(table, sessions)
    as_messages = _understand(table, "messages", overrides, known)
    as_interactions = _understand(table, "interactions", overrides, known)
    says = {"prompt", "response"} & as_interactions.fields.keys()
    is_messages = {"role", "content"} <= as_messages.fields.keys() and len(says) < 2  # noqa: PLR2004 - both of them
    understood = as_messages if is_messages else as_interactions
    if "session_id" not in understood.fields:
        raise _missing(understood, "names the session of an interaction", "session_id", _candidates(understood))
    if not is_messages and not says:
        texts = [each for each in understood.aside if each.kind in {"text", "json"}]
        raise _missing(understood, "holds what was asked, or answered", "prompt", texts, "response")
    return understood


def fields_of(shape: Shape) -> tuple[str, ...]:
    return tuple(field.name for field in _FIELDS[shape])


def _understand(table: Table, shape: Shape, overrides: Iterable[Override], known: Mapping[str, Column]) -> Understood:
    free = {column.name: column for column in table.columns}
    stated = {override.theirs: override.ours for override in overrides if override.table == table.name}
    fields: dict[str, Column] = {}
    for theirs, ours in stated.items():
        if ours in fields_of(shape):
            fields[ours] = free.pop(theirs)
    left_out = tuple(free.pop(theirs) for theirs, ours in stated.items() if ours == LEFT_OUT and theirs in free)
    for ours, column in known.items():
        if ours not in fields and column.name in free and column.name not in stated:
            fields[ours] = free.pop(column.name)
    for field in _FIELDS[shape]:
        if field.name not in fields and (found := _found(field, free, stated.keys())):
            fields[field.name] = free.pop(found.name)
    in_order = {field.name: fields[field.name] for field in _FIELDS[shape] if field.name in fields}
    return Understood(table, shape, in_order, tuple(free.values()), left_out)


def _found(field: Field, free: Mapping[str, Column], stated: Iterable[str]) -> Column | None:
    spelled = {spelled_plainly(column.name): column for column in free.values() if column.name not in stated}
    named = (spelled[name] for name in field.names if name in spelled)
    return next((column for column in named if column.kind in field.kinds), None)


def _referring(table: Table, sessions: Table | None) -> dict[str, Column]:
    """Return the column by which interactions refer to the sessions, if a foreign key says so."""
    if sessions is None:
        return {}
    to_them = (each for each in table.columns if each.refers_to and each.refers_to.table == sessions.name)
    return {"session_id": column} if (column := next(to_them, None)) else {}


def _referred(table: Table, interactions: Table) -> dict[str, Column]:
    """Return the column that interactions refer to: the foreign key's, else one of the same name, else of its kind."""
    for each in interactions.columns:
        if each.refers_to and each.refers_to.table == table.name and (column := table.column(each.refers_to.column)):
            return {"session_id": column}
    names = next(field.names for field in INTERACTION_FIELDS if field.name == "session_id")
    spelled = {spelled_plainly(each.name): each for each in interactions.columns}
    referring = next((spelled[name] for name in names if name in spelled), None)
    if referring is None:
        return {}
    likely = [each for each in table.columns if spelled_plainly(each.name) in {*names, "id", "uuid"}]
    likely.sort(key=lambda each: (each.kind != referring.kind, each.name != referring.name, each.name != "id"))
    return {"session_id": likely[0]} if likely else {}


def _candidates(understood: Understood) -> list[Column]:
    ids = [each for each in understood.aside if each.kind in {"uuid", "text", "integer"}]
    likely = [
        each
        for each in ids
        if (name := spelled_plainly(each.name)).endswith("id") or any(word in name for word in _LIKE_A_SESSION)
    ]
    return likely or ids


def _missing(
    understood: Understood, what: str, ours: str, candidates: Sequence[Column], other: str | None = None
) -> SourceError:
    table = understood.table
    option = "sessions" if understood.shape == "sessions" else "interactions"
    named = ", ".join(f"{each.name} ({each.type})" for each in candidates) or "none"
    first = candidates[0].name if candidates else "COLUMN"
    spelling = f"--map {option}.{first}={ours}"
    if other:
        second = candidates[1].name if len(candidates) > 1 else "COLUMN"
        spelling += f" --map {option}.{second}={other}"
    return SourceError(
        f"{table.name}: which column {what} is not understood. Candidates: {named}. Say it, as in {spelling}"
    )
