"""Describes the import of tables before anything is written: the mapping of columns, and what will be stored."""

from collections.abc import Iterator, Sequence

from conversation.archive.from_database.column_mapping import TableMapping
from conversation.archive.from_database.column_values import Zone
from conversation.archive.from_database.tables import Column, Counts, Orphans

_WHAT = {
    "sessions": "one session per row",
    "interactions": "one interaction per row",
    "messages": "one message per row; a user's message and the answers to it become an interaction",
}


def lines(
    mappings: Sequence[tuple[TableMapping, Counts]], orphans: Orphans | None, zone: Zone, project: str
) -> Iterator[str]:
    """Yield the lines of the plan: the columns of each table, then a summary."""
    for each, counts in mappings:
        yield from _table(each, counts, zone)
        yield ""
    stored = " and ".join(f"{counts.rows:,} rows of {each.table.name}" for each, counts in mappings)
    yield f"Stores {stored} in the project {project!r}. The source is only read."
    if any(each.aside for each, _ in mappings):
        yield "Columns without a field go to metadata, under their own names. Map one with --map theirs=ours."
    if len(mappings) == 1:
        yield "Sessions are created from the interactions alone. If there is a table of sessions, add --sessions TABLE."
    yield from _missing_ids(mappings)
    if orphans and orphans.rows:
        (parents, _), (children, _) = mappings
        yield (
            f"{orphans.rows:,} rows of {children.table.name} name sessions that are missing from {parents.table.name}"
            f" ({orphans.parents:,} in all). These sessions are created."
        )


def _table(mapping: TableMapping, counts: Counts, zone: Zone) -> Iterator[str]:
    table = mapping.table
    yield f"{table.name}: {counts.rows:,} rows ({_WHAT[mapping.shape]})"
    field_of = {column.name: field for field, column in mapping.fields.items()}
    width = max((len(each.name) for each in table.columns), default=0)
    type_width = max((len(each.type) for each in table.columns), default=0)
    for column in table.columns:
        becomes = _becomes(mapping, column, field_of.get(column.name), counts, zone)
        yield f"  {column.name:{width}}  {column.type:{type_width}}  → {becomes}"
    if table.filtered:
        yield "  Row level security may hide rows from this role: connect as the tables' owner to read all of them."


def _becomes(mapping: TableMapping, column: Column, field: str | None, counts: Counts, zone: Zone) -> str:
    if field:
        unzoned = field.endswith("_at") and column.kind in {"unzoned", "date", "text"}
        return field + (f" (without a time zone: read as {zone.of_unzoned})" if unzoned else "")
    if column in mapping.ignored:
        return f"ignored ({_values(column, counts)})"
    why = mapping.note(column) or "unknown column"
    return f"metadata.{column.name} ({why}; {_values(column, counts)})"


def _values(column: Column, counts: Counts) -> str:
    number = counts.values[column.name]
    return "1 value" if number == 1 else f"{number:,} values"


def _missing_ids(mappings: Sequence[tuple[TableMapping, Counts]]) -> Iterator[str]:
    for each, counts in mappings:
        for field in ("session_id", "interaction_id"):
            column = each.fields.get(field)
            missing = counts.rows - counts.values[column.name] if column else 0
            if column and missing:
                how = "the primary key" if each.table.key else "the content"
                rows = "1 row" if missing == 1 else f"{missing:,} rows"
                yield f"{rows} of {each.table.name} without {column.name}: the id is derived from {how} of the row."
