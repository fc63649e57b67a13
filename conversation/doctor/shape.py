"""Compares the schema with `catalogue.json`: tables, columns, constraints, indexes, triggers, functions, comments.

Additions that can't change or reject a record are fine: an index that isn't unique, a nullable column, a trigger that
runs after the change.
"""

import re
from collections.abc import Iterator
from typing import Any

from conversation.doctor.findings import Check, Finding, number_of
from conversation.doctor.remedies import Remedies, name, text
from logging_store.postgres.catalogue import Catalogue

_ENTRY_POINT = "public.turnlog(text,jsonb)"
_ENTRY_POINT_COMMENT = "function public.turnlog(text, jsonb)"


def compare(expected: Catalogue, found: Catalogue, remedies: Remedies) -> list[Check]:
    """Return a check for each kind of object."""
    if _ENTRY_POINT_COMMENT not in found["comments"]:  # no service_role: this isn't Supabase
        expected = {kind: _without(things, _ENTRY_POINT, _ENTRY_POINT_COMMENT) for kind, things in expected.items()}
    gone = set(expected["tables"]) - set(found["tables"])
    # don't report the parts of a missing table, which are restored with it
    expected = {
        kind: {
            full: definition
            for full, definition in things.items()
            if kind in {"tables", "functions", "comments"} or _table(full) not in gone
        }
        for kind, things in expected.items()
    }

    def check(label: str, kind: str, findings: Iterator[Finding]) -> Check:
        return Check(label, f"{number_of(len(expected[kind]), kind[:-1])} as expected", list(findings))

    return [
        check("tables", "tables", _tables(expected, found, remedies)),
        check("columns", "columns", _columns(expected["columns"], found["columns"])),
        check("constraints", "constraints", _constraints(expected["constraints"], found["constraints"])),
        check("indexes", "indexes", _indexes(expected["indexes"], found["indexes"])),
        check("functions", "functions", _functions(expected, found, remedies)),
        Check("triggers", "none that changes a record", list(_triggers(found["triggers"]))),
        Check(
            "row-level security",
            "on for every table, with no policy",
            list(_row_security(found["tables"], found["policies"])),
        ),
    ]


def _tables(expected: Catalogue, found: Catalogue, remedies: Remedies) -> Iterator[Finding]:
    mark = "schema turnlog"
    if found["comments"][mark] != expected["comments"][mark]:
        yield Finding(
            "the schema turnlog has lost the comment that marks it as Turnlog's",
            "`migrate` takes it for another application's, and refuses to run.",
            [f"comment on {mark} is {text(expected['comments'][mark])};"],
        )
    for table in expected["tables"]:
        there = found["tables"].get(table)
        if there is None:
            yield Finding(f"the table {table} is missing", "Its records can't be stored or read.", remedies.restore)
        elif not there["logged"]:
            yield Finding(
                f"the table {table} is unlogged",
                "PostgreSQL empties it after a crash, and acknowledged records are lost.",
                [f"alter table {name('turnlog', table)} set logged;"],
            )


def _columns(expected: dict[str, Any], found: dict[str, Any]) -> Iterator[Finding]:
    for full, wanted in expected.items():
        table, column = _split(full)
        alter = f"alter table {name('turnlog', table)}"
        if full not in found:
            declared = wanted["type"] + (f" default {wanted['default']}" if wanted["default"] else "")
            declared += " not null" if wanted["not_null"] else ""
            yield Finding(
                f"{full} is missing", "Turnlog's functions fail.", [f"{alter} add column {name(column)} {declared};"]
            )
            continue
        there = found[full]
        alter += f" alter column {name(column)}"
        steps = []
        if there["type"] != wanted["type"]:
            steps.append(f"{alter} type {wanted['type']} using {name(column)}::{wanted['type']};")
        if there["not_null"] != wanted["not_null"]:
            steps.append(f"{alter} {'set' if wanted['not_null'] else 'drop'} not null;")
        if there["default"] != wanted["default"]:
            steps.append(f"{alter} set default {wanted['default']};" if wanted["default"] else f"{alter} drop default;")
        if there["generated"] != wanted["generated"]:
            steps.append(f"{alter} drop {'expression' if there['generated'] == 's' else 'identity'};")
        if steps:
            yield Finding(
                f"{full} is {_declared(there)}, not {_declared(wanted)}",
                "Records may be rejected, or stored with other values.",
                steps,
            )
    for full, there in found.items():
        table, column = _split(full)
        if full not in expected and there["not_null"] and not there["default"] and not there["generated"]:
            yield Finding(
                f"{full} isn't Turnlog's and has no default, but is not null",
                "Turnlog doesn't fill it, so every new row of this table is rejected.",
                [f"alter table {name('turnlog', table)} alter column {name(column)} drop not null;"],
            )


def _constraints(expected: dict[str, str], found: dict[str, str]) -> Iterator[Finding]:
    for full, wanted in expected.items():
        table, constraint = _split(full)
        alter = f"alter table {name('turnlog', table)}"
        add = f"{alter} add constraint {name(constraint)} {wanted};"
        there = found.get(full)
        if there is None:
            yield Finding(f"{full} is missing", "Inconsistent rows could be stored.", [add])
        elif there == f"{wanted} DISABLED":
            tables = [table, *re.findall(r" REFERENCES turnlog\.(\w+)", wanted)]
            yield Finding(
                f"{full} is disabled",
                "Rows without a parent could be stored.",
                [f"alter table {name('turnlog', each)} enable trigger all;" for each in tables],
            )
        elif there == f"{wanted} NOT VALID":
            yield Finding(
                f"{full} was never validated for existing rows",
                "Some of them may violate it.",
                [f"{alter} validate constraint {name(constraint)};"],
            )
        elif there == f"{wanted} INVALID INDEX":
            yield Finding(
                f"the index of {full} is broken",
                "The same record could be stored twice.",
                [f"reindex index {name('turnlog', constraint)};"],
            )
        elif there != wanted:
            yield Finding(
                f"{full} is {there!r}, not {wanted!r}",
                "It accepts or rejects the wrong rows.",
                [f"{alter} drop constraint {name(constraint)};", add],
            )
    for full in found.keys() - expected.keys():
        table, constraint = _split(full)
        yield Finding(
            f"{full} isn't Turnlog's: {found[full]}",
            "Records that violate it are rejected.",
            [f"alter table {name('turnlog', table)} drop constraint {name(constraint)};"],
        )


def _indexes(expected: dict[str, str], found: dict[str, str]) -> Iterator[Finding]:
    for full, wanted in expected.items():
        index = name("turnlog", _split(full)[1])
        unique = wanted.startswith("CREATE UNIQUE")
        means = "The same record could be stored twice." if unique else "Queries that need it are slow."
        if full not in found:
            yield Finding(f"{full} is missing", means, [f"{wanted};"])
        elif found[full] != wanted:
            yield Finding(f"{full} is {found[full]!r}, not {wanted!r}", means, [f"drop index {index};", f"{wanted};"])
    for full in found.keys() - expected.keys():
        if found[full].startswith("CREATE UNIQUE"):
            yield Finding(
                f"{full} isn't Turnlog's: {found[full]}",
                "Records that violate it are rejected.",
                [f"drop index {name('turnlog', _split(full)[1])};"],
            )


def _triggers(found: dict[str, str]) -> Iterator[Finding]:
    for full, definition_of in found.items():
        table, trigger = _split(full)
        kind, _, definition = definition_of.partition(": ")
        if kind == "rule" or " BEFORE " in definition:
            yield Finding(
                f"the {kind} {full} isn't Turnlog's: {definition}",
                "It can change or drop records when they are stored.",
                [f"drop {kind} {name(trigger)} on {name('turnlog', table)};"],
            )


def _functions(expected: Catalogue, found: Catalogue, remedies: Remedies) -> Iterator[Finding]:
    for function, wanted in expected["functions"].items():
        there = found["functions"].get(function)
        if there is None:
            yield Finding(f"{function} is missing", "Calls that need it fail.", remedies.restore)
            continue
        marked = (
            function != _ENTRY_POINT
            or found["comments"][_ENTRY_POINT_COMMENT] == expected["comments"][_ENTRY_POINT_COMMENT]
        )
        differing = [part for part in wanted if there[part] != wanted[part]]
        if not marked:
            yield _unmarked_entry_point(expected["comments"][_ENTRY_POINT_COMMENT], remedies, is_ours=not differing)
        elif differing:
            replaceable = not {"arguments", "result"} & set(differing)
            yield Finding(
                f"{function} has been changed: {', '.join(differing)}",
                "It may not follow Turnlog's rules, and Turnlog's tests don't cover it.",
                remedies.restore if replaceable else [f"drop function {function};", *remedies.restore],
            )
    for function in found["functions"].keys() - expected["functions"].keys():
        yield Finding(
            f"{function} isn't Turnlog's",
            "Calls may resolve to it instead of Turnlog's own, or fail as ambiguous.",
            [f"alter function {function} rename to theirs;"]
            if function.startswith("public.")
            else [f"drop function {function};"],
        )


def _unmarked_entry_point(mark: str, remedies: Remedies, *, is_ours: bool) -> Finding:
    if is_ours:
        return Finding(
            f"{_ENTRY_POINT} has lost the comment that marks it as Turnlog's",
            "`migrate` takes it for another application's, and refuses to run.",
            [f"comment on {_ENTRY_POINT_COMMENT} is {text(mark)};"],
        )
    return Finding(
        f"{_ENTRY_POINT} isn't Turnlog's",
        "Supabase's API calls Turnlog by this name, and reaches this function instead.",
        [f"alter function {_ENTRY_POINT} rename to theirs;", *remedies.restore],
    )


def _without(things: dict[str, Any], *names: str) -> dict[str, Any]:
    return {full: definition for full, definition in things.items() if full not in names}


def _row_security(tables: dict[str, Any], policies: dict[str, str]) -> Iterator[Finding]:
    for table, there in tables.items():
        alter = f"alter table {name('turnlog', table)}"
        if not there["row_security"]:
            yield Finding(
                f"row-level security of {table} is off",
                "Roles with a grant on the table, which Supabase gives by default, can read all conversations.",
                [f"{alter} enable row level security;"],
            )
        if there["forced"]:
            yield Finding(
                f"row-level security of {table} is forced",
                "It hides the rows from their owner, too, so the log looks empty.",
                [f"{alter} no force row level security;"],
            )
    for full, definition in policies.items():
        table, policy = _split(full)
        yield Finding(
            f"the policy {full} isn't Turnlog's: {definition}",
            "It may let roles other than the service's access the records.",
            [f"drop policy {name(policy)} on {name('turnlog', table)};"],
        )


def _declared(column: dict[str, Any]) -> str:
    words = [column["type"], "not null" if column["not_null"] else ""]
    words += [f"default {column['default']}" if column["default"] else ""]
    words += ["generated" if column["generated"] else ""]
    return " ".join(word for word in words if word)


def _split(full: str) -> tuple[str, str]:
    table, _, thing = full.partition(".")
    return table, thing


def _table(full: str) -> str:
    return _split(full)[0]
