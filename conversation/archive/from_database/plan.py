"""What an import of tables understood, and what it will do: printed before anything is written."""

from collections.abc import Iterator, Sequence

from conversation.archive.from_database.column_values import Zone
from conversation.archive.from_database.mapping import Understood
from conversation.archive.from_database.tables import Column, Counts, Orphans

_WHAT = {
    "sessions": "a session a row",
    "interactions": "an interaction a row",
    "messages": "a message a row; a user's message and the answers to it become an interaction",
}


def lines(
    understood: Sequence[tuple[Understood, Counts]], orphans: Orphans | None, zone: Zone, project: str
) -> Iterator[str]:
    """Yield the plan: for each table its columns, then what becomes of it all."""
    for each, counts in understood:
        yield from _table(each, counts, zone)
        yield ""
    stored = " and ".join(f"{counts.rows:,} rows of {each.table.name}" for each, counts in understood)
    yield f"Stores {stored} in the project {project!r}. The source is only read."
    if any(each.aside for each, _ in understood):
        yield "Columns without a field are kept in metadata, by their names. To say what one is: --map theirs=ours."
    if len(understood) == 1:
        yield "Sessions are made of the interactions alone: name a table of theirs by --sessions, if there is one."
    yield from _missing_ids(understood)
    if orphans and orphans.rows:
        (parents, _), (children, _) = understood
        yield (
            f"{orphans.rows:,} rows of {children.table.name} name sessions that {parents.table.name} lacks"
            f" ({orphans.parents:,}): they are made."
        )


def _table(understood: Understood, counts: Counts, zone: Zone) -> Iterator[str]:
    table = understood.table
    yield f"{table.name}: {counts.rows:,} rows ({_WHAT[understood.shape]})"
    field_of = {column.name: field for field, column in understood.fields.items()}
    width = max((len(each.name) for each in table.columns), default=0)
    type_width = max((len(each.type) for each in table.columns), default=0)
    for column in table.columns:
        becomes = _becomes(understood, column, field_of.get(column.name), counts, zone)
        yield f"  {column.name:{width}}  {column.type:{type_width}}  → {becomes}"
    if table.filtered:
        yield "  Row level security may hide rows from this role: read as the tables' owner to be sure of all."


def _becomes(understood: Understood, column: Column, field: str | None, counts: Counts, zone: Zone) -> str:
    if field:
        unzoned = field.endswith("_at") and column.kind in {"unzoned", "date", "text"}
        return field + (f" (without a zone: read as {zone.of_unzoned})" if unzoned else "")
    if column in understood.left_out:
        return f"left out ({_values(column, counts)})"
    why = understood.note(column) or "not understood"
    return f"metadata.{column.name} ({why}; {_values(column, counts)})"


def _values(column: Column, counts: Counts) -> str:
    number = counts.values[column.name]
    return "1 value" if number == 1 else f"{number:,} values"


def _missing_ids(understood: Sequence[tuple[Understood, Counts]]) -> Iterator[str]:
    for each, counts in understood:
        for field in ("session_id", "interaction_id"):
            column = each.fields.get(field)
            missing = counts.rows - counts.values[column.name] if column else 0
            if column and missing:
                how = "the primary key" if each.table.key else "the content"
                rows = "1 row" if missing == 1 else f"{missing:,} rows"
                yield f"{rows} of {each.table.name} without {column.name}: theirs derives from {how} of the row."
