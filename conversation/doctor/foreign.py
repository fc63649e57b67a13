"""Finds the id columns of another application's table: from the options, or from its schema if it is unambiguous."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from conversation.doctor.remedies import command, name

#: Describes a table by schema and name: see `describe` in foreign_tables.sql.
Describe = Callable[[str, str], dict[str, Any] | None]

_PART = r'"(?:[^"]|"")+"|[^".]+'
_TABLE_NAME = re.compile(rf"(?:(?P<schema>{_PART})\.)?(?P<table>{_PART})")
_SESSIONS = ("session", "conversation", "chat", "thread")


class AmbiguousError(Exception):
    """The columns can't be determined. The message says which option to add."""


@dataclass(frozen=True, slots=True)
class TableOptions:
    """The options of the command line for one table."""

    table: str
    id: str | None = None
    session: str | None = None
    parent: str | None = None
    parent_id: str | None = None
    has_parent: bool = True


@dataclass(frozen=True, slots=True)
class Column:
    schema: str
    table: str
    column: str

    @property
    def relation(self) -> str:
        return name(self.schema, self.table)


@dataclass(frozen=True, slots=True)
class ForeignTable:
    """A table with its id columns. `parent_needs`: columns of the parent that a new row must fill."""

    id: Column
    session: str | None
    parent: Column | None
    parent_needs: Sequence[str] = field(default=())

    @property
    def relation(self) -> str:
        return self.id.relation

    def request(self) -> dict[str, Any]:
        """Return the argument of the functions in foreign_tables.sql."""
        request: dict[str, Any] = {"schema": self.id.schema, "table": self.id.table, "id": self.id.column}
        if self.session is not None:
            request["session"] = self.session
        if self.parent is not None:
            parent = self.parent
            request["parent"] = {"schema": parent.schema, "table": parent.table, "id": parent.column}
        return request

    def repair(self, *more: str) -> str:
        """Return the command that repairs the table, with all columns named."""
        arguments = ["repair", "--table", self.relation, "--id", self.id.column]
        if self.session is not None:
            arguments += ["--session", self.session]
        if self.parent is not None:
            arguments += ["--parent", self.parent.relation, "--parent-id", self.parent.column]
        else:
            arguments.append("--no-parent")
        return command(*arguments, *more)


def resolve(names: TableOptions, describe: Describe) -> ForeignTable:
    """Return the table with its columns. Raises `AmbiguousError`."""
    table = _find(names.table, describe, "--table")
    if table["schema"] == "turnlog":
        raise AmbiguousError(f"{names.table} is Turnlog's own: `turnlog doctor` examines it without --table")
    session = _session(names, table, describe)
    identity = _column(table, names.id, "--id") if names.id else _only_id(table, session)
    if identity == session:
        raise AmbiguousError(f"{identity} can't be both --id and --session of {names.table}: name them")
    mine = Column(table["schema"], table["table"], identity)
    if not names.has_parent or session is None:
        return ForeignTable(mine, session, None)
    parent, parent_id = _parent(names, table, session, describe)
    needs = [each["name"] for each in parent["columns"] if each["must_be_filled"] and each["name"] != parent_id]
    return ForeignTable(mine, session, Column(parent["schema"], parent["table"], parent_id), needs)


def _find(written: str, describe: Describe, option: str) -> dict[str, Any]:
    match = _TABLE_NAME.fullmatch(written)
    if match is None:
        raise AmbiguousError(f"{option} {written}: must be a name as in public.chat_messages")
    schema, table = (_unquoted(match[part] or "public") for part in ("schema", "table"))
    # as written, or folded to lower case, as PostgreSQL does with unquoted names
    found = describe(schema, table) or describe(schema.lower(), table.lower())
    if found is None:
        raise AmbiguousError(f"{option} {written}: there is no table of this name")
    where = name(found["schema"], found["table"])
    if not found["readable"]:
        raise AmbiguousError(
            f"{option} {where}: this role may not read the table. Grant select, insert, update on table {where}"
        )
    if found["rows_hidden"]:
        raise AmbiguousError(f"{option} {where}: row-level security hides rows from this role; connect as the owner")
    return found


def _session(names: TableOptions, table: dict[str, Any], describe: Describe) -> str | None:
    if names.session:
        return _column(table, names.session, "--session")
    references = table["references"]
    if names.parent:
        parent = _find(names.parent, describe, "--parent")
        references = [
            each for each in references if (each["schema"], each["table"]) == (parent["schema"], parent["table"])
        ]
        if len(references) == 1:
            return str(references[0]["column"])
    candidates = [
        each["name"] for each in table["columns"] if _stem(each["name"]) in _SESSIONS and each["name"] != names.id
    ]
    referring = {each["column"] for each in table["references"]}
    best = [candidate for candidate in candidates if candidate in referring] or candidates
    if len(best) == 1:
        return str(best[0])
    if not best and not names.has_parent:
        return None
    raise AmbiguousError(
        f"which column of {names.table} holds the session? Give --session, one of: {_join(best or _names(table))}"
        + ("" if best else ", or --no-parent if there is none")
    )


def _only_id(table: dict[str, Any], session: str | None) -> str:
    key = table["primary_key"]
    if len(key) == 1 and key[0] != session:
        return str(key[0])
    columns = [column for column in _names(table) if column != session]
    own = {"id", "uuid", _letters(table["table"]).removesuffix("s") + "id", "messageid", "interactionid"}
    candidates = [column for column in columns if _letters(column) in own]
    exact = [column for column in candidates if _letters(column) == "id"]
    for best in (exact, candidates):
        if len(best) == 1:
            return best[0]
    raise AmbiguousError(
        f"which column of {name(table['schema'], table['table'])} is a row's identity? Give --id, one of: "
        f"{_join(candidates or columns)}"
    )


def _parent(names: TableOptions, table: dict[str, Any], session: str, describe: Describe) -> tuple[dict[str, Any], str]:
    """Return the sessions' table and its id column."""
    reference = next((each for each in table["references"] if each["column"] == session), None)
    if names.parent:
        parent = _find(names.parent, describe, "--parent")
    elif reference:
        parent = _find(name(reference["schema"], reference["table"]), describe, "--parent")
    else:
        stem = _stem(session)
        near = [
            each
            for each in table["neighbours"]
            if each != table["table"] and _letters(each).removesuffix("s").endswith(stem)
        ]
        if len(near) != 1:
            options = _join(near or [each for each in table["neighbours"] if each != table["table"]])
            raise AmbiguousError(
                f"which table has the sessions of {names.table}? Give --parent"
                + (f", one of: {options}" if options else "")
                + "; or --no-parent if there is none"
            )
        parent = _find(name(table["schema"], near[0]), describe, "--parent")
    if names.parent_id:
        return parent, _column(parent, names.parent_id, "--parent-id")
    if reference and (reference["schema"], reference["table"]) == (parent["schema"], parent["table"]):
        return parent, str(reference["referenced"])
    if len(parent["primary_key"]) == 1:
        return parent, str(parent["primary_key"][0])
    candidates = [column for column in _names(parent) if column == session or _letters(column) == "id"]
    if len(candidates) != 1:
        raise AmbiguousError(
            f"which column of {name(parent['schema'], parent['table'])} does {session} name? Give --parent-id, one of: "
            f"{_join(candidates or _names(parent))}"
        )
    return parent, candidates[0]


def _column(table: dict[str, Any], wanted: str, option: str) -> str:
    if wanted not in _names(table):
        where = name(table["schema"], table["table"])
        raise AmbiguousError(f"{option} {wanted}: {where} has no such column. Columns: {_join(_names(table))}")
    return wanted


def _names(table: dict[str, Any]) -> list[str]:
    return [each["name"] for each in table["columns"]]


def _join(columns: Sequence[str]) -> str:
    return ", ".join(columns)


def _letters(written: str) -> str:
    return re.sub(r"[^a-z0-9]", "", written.lower())


def _stem(column: str) -> str:
    """Return a column's name without its id suffix: `session` for session_id, sessionId and session_uuid."""
    return re.sub(r"(u?uid|id)$", "", _letters(column))


def _unquoted(part: str) -> str:
    return part[1:-1].replace('""', '"') if part.startswith('"') else part
