"""`turnlog repair`: fixes the ids of another application's table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from conversation.cli.base import echo, new_command
from conversation.cli.context import announce, current_settings
from conversation.cli.foreign_options import naming_columns, require_address

if TYPE_CHECKING:
    from conversation.doctor.foreign import ForeignTable


@new_command(
    "repair",
    examples=[
        ("repair --table public.chat_messages", "See what would be changed"),
        ("repair --table public.chat_messages --apply --expect 12", "Change it, if it is 12 rows"),
    ],
)
@click.option("--table", required=True, help="The other application's table, as in public.chat_messages.")
@naming_columns
@click.option(
    "--set", "fills", multiple=True, metavar="COLUMN=VALUE", help="What to put into a column of new sessions."
)
@click.option(
    "--apply", "applies", is_flag=True, help="Change the rows. Without this, only print what would be changed."
)
@click.option("--expect", type=click.IntRange(min=0), help="Change them only if they are this many.")
def command(
    *,
    table: str,
    identity: str | None,
    session: str | None,
    parent: str | None,
    parent_id: str | None,
    no_parent: bool,
    fills: Sequence[str],
    applies: bool,
    expect: int | None,
) -> None:
    """Fix missing or invalid ids in another application's table.

    Creates the sessions that are missing, fills empty ids, and lists repeated ones. It is a dry run unless --apply is
    given. Nothing is ever deleted.
    """
    from conversation.doctor.foreign import AmbiguousError, TableOptions, resolve
    from conversation.doctor.foreign_tables import foreign_tables
    from conversation.stack import require_log, running_database
    from logging_store.errors import StoreUnavailable, TurnlogError

    settings = current_settings()
    announce(settings)
    require_address(settings)
    require_log(settings)
    values = _parse_fills(fills)
    try:
        with running_database(settings) as address, foreign_tables(address) as tables:
            found = resolve(TableOptions(table, identity, session, parent, parent_id, not no_parent), tables.describe)
            before = tables.inspect(found)
            _require_fills(found, before, values)
            report = tables.repair(found, values)
            if applies and expect in {None, report["changed"]}:
                tables.commit(found)
    except AmbiguousError as error:
        raise click.UsageError(str(error)) from error
    except StoreUnavailable as error:  # perhaps during the commit
        raise click.ClickException(f"{error} (a dry run shows whether anything was changed)") from error
    except TurnlogError as error:
        raise click.ClickException(f"nothing was changed: {error}") from error
    _print_report(found, before, report)
    _print_outcome(found, report, fills, applies=applies, expect=expect)


def _parse_fills(fills: Sequence[str]) -> dict[str, str]:
    values = {}
    for fill in fills:
        column, equals, value = fill.partition("=")
        if not (column and equals):
            raise click.UsageError(f"--set {fill}: must be COLUMN=VALUE")
        values[column] = value
    return values


def _require_fills(table: ForeignTable, before: dict[str, Any], values: dict[str, str]) -> None:
    from conversation.doctor.foreign import AmbiguousError

    if table.parent is None:
        return
    if table.parent.column in values:
        raise AmbiguousError(f"--set {table.parent.column}: that is the id, which the repair sets")
    lacking = [column for column in table.parent_needs if column not in values]
    if lacking and (before["blank_sessions"] or before["missing"]["sessions"]):
        raise AmbiguousError(
            f"no row can be created in {table.parent.relation} without {', '.join(lacking)}: give values with "
            + " ".join(f"--set {column}=VALUE" for column in lacking)
        )


def _print_report(table: ForeignTable, before: dict[str, Any], report: dict[str, Any]) -> None:
    """Print what is repaired and what is left."""
    from conversation.cli.columns import to_columns
    from conversation.doctor.findings import number_of, some

    where = f"{table.relation}: {number_of(before['rows'], 'row')}, identity {table.id.column}"
    where += f", session {table.session}" if table.session else ""
    where += f", sessions in {table.parent.relation} ({table.parent.column})" if table.parent else ""
    examples = report["examples"]
    ids = [f"{_quoted(each['from'])} → {each['to']}" for each in examples["ids"]]
    sessions = [f"{table.id.column} {each['id']} → {each['to']}" for each in examples["sessions"]]
    repeated = before["repeated"]
    rows = [
        ("what", "rows", "for example"),
        ("sessions created", f"{report['parents']:,}", some(examples["parents"], report["parents"])),
        ("empty ids filled", f"{report['ids']:,}", some(ids, report["ids"])),
        ("empty sessions filled", f"{report['sessions']:,}", some(sessions, report["sessions"])),
        ("repeated ids, left as they are", f"{repeated['rows']:,}", some(repeated["examples"], repeated["values"])),
    ]
    echo(where, "", *to_columns(rows, numbers={1}), "")


def _quoted(value: str | None) -> str:
    return "null" if value is None else repr(value)


def _print_outcome(
    table: ForeignTable, report: dict[str, Any], fills: Sequence[str], *, applies: bool, expect: int | None
) -> None:
    from conversation.doctor.findings import number_of

    changed = report["changed"]
    if applies and expect not in {None, changed}:
        raise click.ClickException(
            f"{number_of(changed, 'row')} would be changed, not {expect:,}: all of it was rolled back"
        )
    if applies:
        echo(f"Done: {number_of(changed, 'row')} changed." if changed else "There was nothing to do.")
    elif changed:
        again = table.repair(*(part for fill in fills for part in ("--set", fill)), "--apply", "--expect", str(changed))
        echo(f"A dry run: nothing was changed. {number_of(changed, 'row')} would be. To change them:", f"  {again}")
    else:
        echo("There is nothing to do.")
