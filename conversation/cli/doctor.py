"""`turnlog doctor`: what is wrong with the database and this machine, and how to fix it."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

import click

from conversation.cli.base import echo, echo_json, new_command
from conversation.cli.context import announce, announce_waiting, current_settings, current_stack
from conversation.cli.foreign_options import naming_columns, require_address

if TYPE_CHECKING:
    from conversation.doctor.findings import Check
    from conversation.doctor.foreign import TableOptions
    from conversation.settings import Settings


@new_command(
    "doctor",
    examples=[
        ("doctor", "Check this log"),
        ("doctor --json", "For a monitor: exit status 1 and one JSON document if anything is wrong"),
        ("doctor --table public.chat_messages", "Also look for broken ids in another application's table"),
    ],
)
@click.option(
    "--table", "tables", multiple=True, help="Also check another application's table, as in public.chat_messages."
)
@naming_columns
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(
    *,
    tables: Sequence[str],
    identity: str | None,
    session: str | None,
    parent: str | None,
    parent_id: str | None,
    no_parent: bool,
    as_json: bool,
) -> None:
    """Check database, spool and clock, and print how to fix what's wrong.

    --id, --session, --parent and --parent-id apply to every --table, and are only needed where foreign keys and names
    don't show them. The exit status is 1 if anything is wrong.
    """
    from conversation.cli.columns import table_of_checks
    from conversation.doctor.findings import to_json
    from conversation.doctor.foreign import TableOptions
    from conversation.doctor.remedies import where_sql_goes

    settings = current_settings()
    announce(settings)
    if tables:
        require_address(settings)
    names = [TableOptions(table, identity, session, parent, parent_id, not no_parent) for table in tables]
    checks = list(_examine(settings, names))
    ok = all(check.is_ok for check in checks)
    if as_json:
        echo_json(to_json(checks))
    else:
        echo(*table_of_checks(checks), "")
        echo("All is well." if ok else f"Something is wrong. {where_sql_goes(settings.store_kind)}")
    sys.exit(0 if ok else 1)


def _examine(settings: Settings, names: Sequence[TableOptions]) -> Iterator[Check]:
    from conversation.doctor.examination import TABLE_TIMEOUT_S, Examination
    from logging_store.errors import TurnlogError

    store = current_stack().database
    store.deadline_s = TABLE_TIMEOUT_S  # per statement
    examination = Examination(settings, store, names, on_wait=announce_waiting)
    try:
        with _address(settings) as address, closing(store):  # past the spool
            yield from examination.check_database(address)
    except TurnlogError as error:  # the embedded database can't be started, or doesn't exist
        yield examination.unreachable(error)
    yield from examination.check_machine()


@contextmanager
def _address(settings: Settings) -> Iterator[str]:
    """Yield the database's connection string, or an empty one for Supabase; the embedded database runs meanwhile.

    Raises `TurnlogError`.
    """
    from conversation.stack import require_log, running_database

    if settings.store_kind == "supabase":
        yield ""
        return
    require_log(settings)
    with running_database(settings) as address:
        yield address
