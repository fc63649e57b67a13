"""Checks the rows of Turnlog's tables: missing parents, and missing or repeated identities.

The constraints forbid these. They appear while a constraint was dropped, by imports with triggers switched off, and
through damaged indexes. So the checks follow `catalogue.json`, not the constraints that the database has now.
"""

import re
from collections.abc import Iterator
from typing import Any

from conversation.doctor.findings import Check, Finding, number_of, some
from conversation.doctor.remedies import command, name, text
from logging_store.postgres.catalogue import Catalogue

_FOREIGN = re.compile(r"FOREIGN KEY \((?P<columns>[^)]*)\) REFERENCES turnlog\.(?P<table>\w+)\((?P<referenced>[^)]*)\)")
_PRIMARY = re.compile(r"PRIMARY KEY \((?P<columns>[^)]*)\)")
_UNIQUE = re.compile(r"(?:UNIQUE|CREATE UNIQUE INDEX .* USING btree) \((?P<columns>[\w, ]*)\)")
_NIL = "'00000000-0000-0000-0000-000000000000'"

_INDEX = command("index", "--all")  # changes by SQL aren't queued for the search index
_DELETE_ERASED = (
    "delete from turnlog.ai_interactions as i using turnlog.ai_sessions as s "
    "where s.project = i.project and s.id = i.session_id and s.erased_at is not null;"
)


def question(expected: Catalogue) -> dict[str, Any]:
    """Return the argument of `turnlog.identities`: the keys and references to check."""
    foreign, keys = [], []
    for full, definition in {**expected["constraints"], **expected["indexes"]}.items():
        table = full.partition(".")[0]
        if match := _FOREIGN.match(definition):
            columns, referenced = match["columns"].split(", "), match["referenced"].split(", ")
            entry = {"table": table, "columns": columns, "references": match["table"], "referenced": referenced}
            foreign.append(entry)
        elif match := _PRIMARY.match(definition) or _UNIQUE.match(definition):
            required = definition.startswith("PRIMARY")
            keys.append({"table": table, "columns": match["columns"].split(", "), "required": required})
    names = [
        {"table": table, "column": column}
        for table, column in (full.split(".") for full in expected["columns"])
        if column in {"id", "key"}
    ]
    return {"foreign": foreign, "keys": keys, "names": names}


def check(answer: dict[str, Any], expected: Catalogue) -> Check:
    """Return the check of the result of `turnlog.identities`."""
    summary = "no orphans, no missing and no repeated identities"
    return Check("rows", summary, [*_orphans(answer, expected), *_identities(answer, expected)])


def _orphans(answer: dict[str, Any], expected: Catalogue) -> Iterator[Finding]:
    for orphan in answer["orphans"]:
        rows, table, parent = orphan["rows"], orphan["table"], orphan["references"]
        yield Finding(
            f"{number_of(rows, 'row')} of {table} without {parent}: {some(orphan['examples'], rows)}",
            "Their parents are missing, so they can't be read.",
            [_insert_parents(orphan, expected)],
        )
    if answer["undead"]:
        yield Finding(
            f"{number_of(answer['undead'], 'interaction')} of erased sessions",
            "Their sessions were erased on request, but the interactions are still stored.",
            [_DELETE_ERASED, _INDEX],
        )


def _identities(answer: dict[str, Any], expected: Catalogue) -> Iterator[Finding]:
    for each in answer["incomplete"]:
        columns = [name(column) for column in each["columns"]]
        lacking = " or ".join(f"{column} is null" for column in columns)
        yield Finding(
            f"{number_of(each['rows'], 'row')} of {each['table']} without {' or '.join(columns)}",
            "They can't be addressed.",
            [_fill(each["table"], columns, lacking), _INDEX],
        )
    for each in answer["repeated"]:
        listed = ", ".join(name(column) for column in each["columns"])
        table = name("turnlog", each["table"])
        yield Finding(
            f"{number_of(each['values'], 'identity', 'identities')} of {each['table']} ({listed}) repeated: "
            f"{some(each['examples'], each['values'])}",
            "Only you can tell which row is right: look at them, and delete the others by their ctid.",
            [_list_repeated(table, listed)],
        )
    for each in answer["placeholders"]:
        table, column = each["table"], each["column"]
        yield Finding(
            f"{number_of(each['rows'], 'row')} of {table} whose {column} is nil, blank or a word like 'null'",
            "It looks like a missing id. The service rejects such ids, so these rows can't be addressed.",
            [_rename_nil(table, expected), _INDEX] if column == "id" else [_forget_key(table)],
        )


def _insert_parents(orphan: dict[str, Any], expected: Catalogue) -> str:
    """Return SQL that inserts missing parents; sessions are `implicit`, as when the service creates them."""
    parent = orphan["references"]
    columns = {
        full.partition(".")[2]: wanted for full, wanted in expected["columns"].items() if full.startswith(f"{parent}.")
    }
    values = dict(zip(orphan["referenced"], (f"c.{name(column)}" for column in orphan["columns"]), strict=True))
    if "implicit" in columns:
        values["implicit"] = "true"
    for column, wanted in columns.items():
        if wanted["not_null"] and wanted["default"] is None and column not in values:
            values[column] = "now()" if wanted["type"].startswith("timestamp") else text("")
    same = " and ".join(
        f"p.{name(theirs)} = c.{name(ours)}"
        for theirs, ours in zip(orphan["referenced"], orphan["columns"], strict=True)
    )
    complete = " and ".join(f"c.{name(column)} is not null" for column in orphan["columns"])
    return (
        f"insert into {name('turnlog', parent)} ({', '.join(map(name, values))}) "
        f"select distinct {', '.join(values.values())} from {name('turnlog', orphan['table'])} as c "
        f"where {complete} and not exists (select from {name('turnlog', parent)} as p where {same}) "
        "on conflict do nothing;"
    )


def _fill(table: str, columns: list[str], lacking: str) -> str:
    made = {"id": "gen_random_uuid()", "session_id": "gen_random_uuid()", "project": "'default'"}
    fills = ", ".join(f"{column} = coalesce({column}, {made[column]})" for column in columns if column in made)
    return f"update {name('turnlog', table)} set {fills} where {lacking};"


def _list_repeated(table: str, columns: str) -> str:
    repeated = f"select {columns} from {table} group by {columns} having count(*) > 1"
    return f"select ctid, * from {table} where ({columns}) in ({repeated}) order by {columns};"


def _forget_key(table: str) -> str:
    return (
        f"update {name('turnlog', table)} set key = null where lower(btrim(key)) in ('', 'null', 'undefined', 'none');"
    )


def _rename_nil(table: str, expected: Catalogue) -> str:
    """Return SQL that gives rows with the nil UUID new ids, also in their children."""
    children = [
        (full.partition(".")[0], dict(zip(match["referenced"].split(", "), match["columns"].split(", "), strict=True)))
        for full, definition in expected["constraints"].items()
        if (match := _FOREIGN.match(definition)) and match["table"] == table
    ]
    if not children:
        return f"update {name('turnlog', table)} set id = gen_random_uuid() where id = {_NIL};"
    moved = "".join(
        f", moved_{n} as (update {name('turnlog', child)} as c set {name(columns['id'])} = n.id from renamed as n "
        f"where c.{name(columns['project'])} = n.project and c.{name(columns['id'])} = {_NIL})"
        for n, (child, columns) in enumerate(children)
    )
    return (
        f"with renamed as (insert into {name('turnlog', table)} select (jsonb_populate_record(p, jsonb_build_object("
        f"'id', gen_random_uuid(), 'key', null))).* from {name('turnlog', table)} as p where p.id = {_NIL} "
        f"returning project, id){moved} delete from {name('turnlog', table)} where id = {_NIL};"
    )
