"""The commands themselves."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any, TypeVar

import click
from flask import Blueprint, current_app

from conversation.columns import in_columns
from conversation.commands import database
from conversation.doctor.examination import TABLE_TIMEOUT_S, Examination
from conversation.doctor.findings import Check, number_of, some, to_json, to_table
from conversation.doctor.foreign import AmbiguousError, ForeignTable, TableOptions, resolve
from conversation.doctor.foreign_tables import foreign_tables
from conversation.doctor.remedies import FLASK, where_sql_goes
from conversation.settings import Settings
from logging_store.embedded.server import EmbeddedPostgres
from logging_store.errors import SchemaMissing, StoreUnavailable, TurnlogError
from logging_store.postgres.function_store import FunctionStore

blueprint = Blueprint("doctor", __name__, cli_group=None)

_Command = TypeVar("_Command", bound=Callable[..., Any])


def _naming_columns(command: _Command) -> _Command:
    for option in reversed([
        click.option("--id", "identity", help="The column that names a row."),
        click.option("--session", help="The column that names its session."),
        click.option("--parent", help="The table of the sessions, as in public.chat_sessions."),
        click.option("--parent-id", help="Its column that --session refers to."),
        click.option("--no-parent", is_flag=True, help="The sessions have no table of their own."),
    ]):  # fmt: skip
        command = option(command)
    return command


@blueprint.cli.command("doctor")
@click.option(
    "--table", "tables", multiple=True, help="Look at somebody else's table, too, as in public.chat_messages."
)
@_naming_columns
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def doctor(
    *,
    tables: Sequence[str],
    identity: str | None,
    session: str | None,
    parent: str | None,
    parent_id: str | None,
    no_parent: bool,
    as_json: bool,
) -> None:
    """Tell what is wrong with the database, this machine's spool and its clock, and what mends it.

    --id, --session, --parent and --parent-id hold for every --table, and are needed only where they can't be told from
    foreign keys and names. The exit status is 1 if there is any trouble.
    """
    settings: Settings = current_app.extensions["turnlog_settings"]
    if tables:
        _require_address(settings)
    names = [TableOptions(table, identity, session, parent, parent_id, not no_parent) for table in tables]
    checks = list(_examine(settings, names))
    ok = all(check.is_ok for check in checks)
    if as_json:
        click.echo(to_json(checks))
    else:
        click.echo(to_table(checks))
        click.echo("\nAll is well." if ok else f"\nThere is trouble. {where_sql_goes(settings.store_kind)}")
    sys.exit(0 if ok else 1)


@blueprint.cli.command("repair")
@click.option("--table", required=True, help="Somebody else's table, as in public.chat_messages.")
@_naming_columns
@click.option("--set", "fills", multiple=True, metavar="COLUMN=VALUE", help="Fill a column of new sessions.")
@click.option("--apply", "applies", is_flag=True, help="Do it. Without this, only tell what would be done.")
@click.option("--expect", type=click.IntRange(min=0), help="Do it only if it changes this many rows.")
def repair(
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
    """Mend the identities of somebody else's table: missing sessions are made, empty ids filled, repeats told.

    A dry run unless --apply is given. Nothing is ever deleted.
    """
    settings: Settings = current_app.extensions["turnlog_settings"]
    _require_address(settings)
    values = _parsed(fills)
    try:
        with _database_at_work(settings) as address, foreign_tables(address) as tables:
            found = resolve(TableOptions(table, identity, session, parent, parent_id, not no_parent), tables.describe)
            before = tables.inspect(found)
            _require_fills(found, before, values)
            report = tables.repair(found, values)
            if applies and expect in {None, report["changed"]}:
                tables.commit(found)
    except AmbiguousError as error:
        raise click.UsageError(str(error)) from error
    except StoreUnavailable as error:  # perhaps during the commit
        raise click.ClickException(f"{error} (a dry run tells whether anything was changed)") from error
    except TurnlogError as error:
        raise click.ClickException(f"nothing was changed: {error}") from error
    _tell(found, before, report)
    _conclude(found, report, fills, applies=applies, expect=expect)


def _examine(settings: Settings, names: Sequence[TableOptions]) -> Iterator[Check]:
    store: FunctionStore = current_app.extensions["turnlog_database"]
    store.deadline_s = TABLE_TIMEOUT_S  # of its statements; each question has a time of its own
    examination = Examination(settings, store, names)
    try:
        with _database_at_work(settings) as address, closing(store):  # past the spool
            yield from examination.check_database(address)
    except TurnlogError as error:  # the embedded one can't be started, or hasn't been made
        yield examination.unreachable(error)
    yield from examination.check_machine()


def _require_address(settings: Settings) -> None:
    if settings.store_kind == "supabase":
        raise click.ClickException(
            "Supabase's API doesn't reach other people's tables: set DATABASE_URL to the project's connection string "
            "instead of SUPABASE_URL"
        )


@contextmanager
def _database_at_work(settings: Settings) -> Iterator[str]:
    """Yield the database's own address, if it has one; the embedded one runs meanwhile. Raises `TurnlogError`."""
    if settings.store_kind == "supabase":
        yield ""
        return
    if settings.store_kind == "embedded" and not (EmbeddedPostgres(settings.data_dir).cluster / "PG_VERSION").exists():
        raise SchemaMissing(f"there is no database in {settings.data_dir} yet: run `{FLASK} migrate`")
    with database(settings) as address:
        yield address


def _parsed(fills: Sequence[str]) -> dict[str, str]:
    values = {}
    for fill in fills:
        column, equals, value = fill.partition("=")
        if not (column and equals):
            raise click.UsageError(f"--set {fill}: must be COLUMN=VALUE")
        values[column] = value
    return values


def _require_fills(table: ForeignTable, before: dict[str, Any], values: dict[str, str]) -> None:
    if table.parent is None:
        return
    if table.parent.column in values:
        raise AmbiguousError(f"--set {table.parent.column}: that is the id, which is known")
    lacking = [column for column in table.parent_needs if column not in values]
    if lacking and (before["blank_sessions"] or before["missing"]["sessions"]):
        raise AmbiguousError(
            f"no row can be made in {table.parent.relation} without {', '.join(lacking)}: say what to put there with "
            + " ".join(f"--set {column}=VALUE" for column in lacking)
        )


def _tell(table: ForeignTable, before: dict[str, Any], report: dict[str, Any]) -> None:
    """Print what is repaired, and what is left."""
    where = f"{table.relation}: {number_of(before['rows'], 'row')}, identity {table.id.column}"
    where += f", session {table.session}" if table.session else ""
    where += f", sessions in {table.parent.relation} ({table.parent.column})" if table.parent else ""
    examples = report["examples"]
    ids = [f"{json_text(each['from'])} → {each['to']}" for each in examples["ids"]]
    sessions = [f"{table.id.column} {each['id']} → {each['to']}" for each in examples["sessions"]]
    repeated = before["repeated"]
    rows = [
        ("what", "rows", "for example"),
        ("sessions made", f"{report['parents']:,}", some(examples["parents"], report["parents"])),
        ("empty ids filled", f"{report['ids']:,}", some(ids, report["ids"])),
        ("empty sessions filled", f"{report['sessions']:,}", some(sessions, report["sessions"])),
        ("repeated ids, left as they are", f"{repeated['rows']:,}", some(repeated["examples"], repeated["values"])),
    ]
    click.echo(f"{where}\n\n{in_columns(rows, numbers={1})}\n")


def json_text(value: str | None) -> str:
    return "null" if value is None else repr(value)


def _conclude(
    table: ForeignTable, report: dict[str, Any], fills: Sequence[str], *, applies: bool, expect: int | None
) -> None:
    changed = report["changed"]
    if applies and expect not in {None, changed}:
        raise click.ClickException(
            f"{number_of(changed, 'row')} would be changed, not {expect:,}: all of it was rolled back"
        )
    if applies:
        click.echo(f"Done: {number_of(changed, 'row')} changed." if changed else "There was nothing to do.")
    elif changed:
        again = table.repair(*(part for fill in fills for part in ("--set", fill)), "--apply", "--expect", str(changed))
        click.echo(f"A dry run: nothing was changed. {number_of(changed, 'row')} would be, by\n  {again}")
    else:
        click.echo("There is nothing to do.")
