"""`turnlog restore`: puts a backup into an empty database."""

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import BinaryIO, cast

import click
from flask import Blueprint, current_app

from conversation.cli.backup import NEEDS_ADDRESS, STDIO
from conversation.commands import database
from conversation.doctor.examination import PATIENCE_S, Examination
from conversation.doctor.findings import to_table
from conversation.settings import Settings
from conversation.store_commands import ended_like_an_interrupt
from logging_store.errors import TurnlogError
from logging_store.postgres import backup
from logging_store.postgres.function_store import FunctionStore

blueprint = Blueprint("restore", __name__, cli_group=None)


@blueprint.cli.command("restore")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path))
@click.option("--force", is_flag=True, help="Replace the keys and projects of a database without conversations.")
def command(*, file: Path, force: bool) -> None:
    """Put the backup FILE into an empty database, bring its schema up to date, and examine it. - is standard input.

    All of it happens or nothing. A database that holds conversations is never touched. The exit status is 1 if
    anything is wrong afterwards, too.
    """
    settings: Settings = current_app.extensions["turnlog_settings"]
    if settings.store_kind == "supabase":
        raise click.ClickException(NEEDS_ADDRESS.format("restore a backup", "import"))
    try:
        with ended_like_an_interrupt(), _opened(file) as opened:
            manifest = backup.read_manifest(opened)  # before an embedded database is made for it
            version = manifest.server_version.split()[0]
            click.echo(f"Backup of {manifest.made_at:%Y-%m-%d %H:%M} UTC, from PostgreSQL {version}.")
            with database(settings) as conninfo:
                _tell(backup.restore(conninfo, opened, replace_keys=force))
                is_well = _examine(settings, conninfo)
    except TurnlogError as error:
        raise click.ClickException(str(error)) from error
    sys.exit(0 if is_well else 1)


@contextmanager
def _opened(file: Path) -> Iterator[BinaryIO]:
    if file != STDIO:
        with file.open("rb") as opened:
            yield opened
        return
    with tempfile.TemporaryFile() as copy:  # a backup is read from its end, which a pipe doesn't have
        shutil.copyfileobj(sys.stdin.buffer, copy)
        yield cast("BinaryIO", copy)


def _tell(done: backup.Restored) -> None:
    if done.replaced:
        click.echo(f"Replaced what the database held: {', '.join(done.replaced)}.")
    for column in done.added:
        click.echo(f"{column} isn't Turnlog's: its values are back, its default and its constraints aren't.")
    for table in done.left_out:
        click.echo(f"{table} isn't Turnlog's: it was left out. Its rows are in the backup, as {table}.copy.")
    click.echo(f"Restored {done.manifest.counts}.")


def _examine(settings: Settings, conninfo: str) -> bool:
    """Look at the restored database as `doctor` does; print what is wrong, and tell whether all is well."""
    store: FunctionStore = current_app.extensions["turnlog_database"]
    store.deadline_s = PATIENCE_S
    with closing(store):
        checks = list(Examination(settings, store).look_at_database(conninfo))
    wrong = [check for check in checks if not check.is_ok]
    if wrong:
        click.echo(to_table(wrong))
    else:
        click.echo(f"Examined it: {len(checks)} checks, all is well.")
    return not wrong
