"""The database's shape against `catalogue.json`: tables, columns, constraints, indexes, triggers, functions, comments.

What somebody added and what can't change or refuse a record is nobody's business: an index that isn't unique, a
column that may stay empty, a trigger that acts afterwards.
"""

import re
from collections.abc import Iterator
from typing import Any

from conversation.doctor.findings import Check, Finding, number_of
from conversation.doctor.remedies import Remedies, name, text
from logging_store.postgres.catalogue import Catalogue

_DOOR = "public.turnlog(text,jsonb)"
_DOORS_COMMENT = "function public.turnlog(text, jsonb)"


def compare(expected: Catalogue, found: Catalogue, remedies: Remedies) -> list[Check]:
    """Return a check for each kind of thing."""
    if _DOORS_COMMENT not in found["comments"]:  # no service_role: this isn't Supabase
        expected = {kind: _without(things, _DOOR, _DOORS_COMMENT) for kind, things in expected.items()}
    gone = set(expected["tables"]) - set(found["tables"])
    # what a missing table should have is missing too, and comes back with it
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
            "`migrate` takes it for somebody else's, and refuses.",
            [f"comment on {mark} is {text(expected['comments'][mark])};"],
        )
    for table in expected["tables"]:
        there = found["tables"].get(table)
        if there is None:
            yield Finding(f"the table {table} is missing", "Its records can't be stored or read.", remedies.restore)
        elif not there["logged"]:
            yield Finding(
                f"the table {table} is unlogged",
                "PostgreSQL empties it after a crash: what was acknowledged is lost.",
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
                "Records may be refused, or changed as they are stored.",
                steps,
            )
    for full, there in found.items():
        table, column = _split(full)
        if full not in expected and there["not_null"] and not there["default"] and not there["generated"]:
            yield Finding(
                f"{full} isn't Turnlog's, and must be filled",
                "Turnlog doesn't fill it, so every new record of this table is refused.",
                [f"alter table {name('turnlog', table)} alter column {name(column)} drop not null;"],
            )


def _constraints(expected: dict[str, str], found: dict[str, str]) -> Iterator[Finding]:
    for full, wanted in expected.items():
        table, constraint = _split(full)
        alter = f"alter table {name('turnlog', table)}"
        add = f"{alter} add constraint {name(constraint)} {wanted};"
        there = found.get(full)
        if there is None:
            yield Finding(f"{full} is missing", "Rows that contradict each other could be stored.", [add])
        elif there == f"{wanted} DISABLED":
            tables = [table, *re.findall(r" REFERENCES turnlog\.(\w+)", wanted)]
            yield Finding(
                f"{full} is switched off",
                "Rows could be stored whose parents aren't there.",
                [f"alter table {name('turnlog', each)} enable trigger all;" for each in tables],
            )
        elif there == f"{wanted} NOT VALID":
            yield Finding(
                f"{full} was never checked on older rows",
                "Some of them may break it.",
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
                "It refuses or lets pass what it shouldn't.",
                [f"{alter} drop constraint {name(constraint)};", add],
            )
    for full in found.keys() - expected.keys():
        table, constraint = _split(full)
        yield Finding(
            f"{full} isn't Turnlog's: {found[full]}",
            "Records that break it are refused.",
            [f"alter table {name('turnlog', table)} drop constraint {name(constraint)};"],
        )


def _indexes(expected: dict[str, str], found: dict[str, str]) -> Iterator[Finding]:
    for full, wanted in expected.items():
        index = name("turnlog", _split(full)[1])
        unique = wanted.startswith("CREATE UNIQUE")
        means = "The same record could be stored twice." if unique else "Reads that it serves are slow."
        if full not in found:
            yield Finding(f"{full} is missing", means, [f"{wanted};"])
        elif found[full] != wanted:
            yield Finding(f"{full} is {found[full]!r}, not {wanted!r}", means, [f"drop index {index};", f"{wanted};"])
    for full in found.keys() - expected.keys():
        if found[full].startswith("CREATE UNIQUE"):
            yield Finding(
                f"{full} isn't Turnlog's: {found[full]}",
                "Records that break it are refused.",
                [f"drop index {name('turnlog', _split(full)[1])};"],
            )


def _triggers(found: dict[str, str]) -> Iterator[Finding]:
    for full, definition_of in found.items():
        table, trigger = _split(full)
        kind, _, definition = definition_of.partition(": ")
        if kind == "rule" or " BEFORE " in definition:
            yield Finding(
                f"the {kind} {full} isn't Turnlog's: {definition}",
                "It can change or swallow records as they are stored.",
                [f"drop {kind} {name(trigger)} on {name('turnlog', table)};"],
            )


def _functions(expected: Catalogue, found: Catalogue, remedies: Remedies) -> Iterator[Finding]:
    for function, wanted in expected["functions"].items():
        there = found["functions"].get(function)
        if there is None:
            yield Finding(f"{function} is missing", "What it does can't be done.", remedies.restore)
            continue
        marked = function != _DOOR or found["comments"][_DOORS_COMMENT] == expected["comments"][_DOORS_COMMENT]
        differing = [part for part in wanted if there[part] != wanted[part]]
        if not marked:
            yield _unmarked_door(expected["comments"][_DOORS_COMMENT], remedies, is_ours=not differing)
        elif differing:
            replaceable = not {"arguments", "result"} & set(differing)
            yield Finding(
                f"{function} has been changed: {', '.join(differing)}",
                "It doesn't keep to Turnlog's rules, or not as Turnlog's tests have tried them.",
                remedies.restore if replaceable else [f"drop function {function};", *remedies.restore],
            )
    for function in found["functions"].keys() - expected["functions"].keys():
        yield Finding(
            f"{function} isn't Turnlog's",
            "Calls may take it for another of the same name, or fail because they can't tell.",
            [f"alter function {function} rename to theirs;"]
            if function.startswith("public.")
            else [f"drop function {function};"],
        )


def _unmarked_door(mark: str, remedies: Remedies, *, is_ours: bool) -> Finding:
    if is_ours:
        return Finding(
            f"{_DOOR} has lost the comment that marks it as Turnlog's",
            "`migrate` takes it for somebody else's, and refuses.",
            [f"comment on {_DOORS_COMMENT} is {text(mark)};"],
        )
    return Finding(
        f"{_DOOR} isn't Turnlog's",
        "Supabase's API reaches Turnlog under this name, and calls this instead.",
        [f"alter function {_DOOR} rename to theirs;", *remedies.restore],
    )


def _without(things: dict[str, Any], *names: str) -> dict[str, Any]:
    return {full: definition for full, definition in things.items() if full not in names}


def _row_security(tables: dict[str, Any], policies: dict[str, str]) -> Iterator[Finding]:
    for table, there in tables.items():
        alter = f"alter table {name('turnlog', table)}"
        if not there["row_security"]:
            yield Finding(
                f"row-level security of {table} is off",
                "Whoever is granted the table, as Supabase does by default, reads everybody's conversations.",
                [f"{alter} enable row level security;"],
            )
        if there["forced"]:
            yield Finding(
                f"row-level security of {table} is forced",
                "It hides the rows from their owner, too: the log looks empty.",
                [f"{alter} no force row level security;"],
            )
    for full, definition in policies.items():
        table, policy = _split(full)
        yield Finding(
            f"the policy {full} isn't Turnlog's: {definition}",
            "It lets others than the service at the records.",
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
