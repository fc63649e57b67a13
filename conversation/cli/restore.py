"""`turnlog restore`: puts a backup into an empty database."""

from __future__ import annotations

import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

import click

from conversation.cli.backup import NEEDS_ADDRESS, STDIO
from conversation.cli.base import echo, new_command, next_step
from conversation.cli.context import announce, current_settings, current_stack
from conversation.interrupts import sigterm_as_interrupt

if TYPE_CHECKING:
    from conversation.settings import Settings
    from logging_store.postgres import backup


@new_command(
    "restore",
    examples=[
        ("restore turnlog.zip", "Into an empty database, which is created if needed"),
        ("restore --force turnlog.zip", "Into a database that has only the key of a first start"),
    ],
)
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path))
@click.option("--force", is_flag=True, help="Replace the keys and projects of a database without conversations.")
def command(*, file: Path, force: bool) -> None:
    """Put the backup FILE into an empty database, bring its schema up to date, and examine it. - is standard input.

    Either everything is restored or nothing. A database with conversations is never touched. The exit status is also 1
    if the examination finds anything wrong.
    """
    from conversation.stack import running_database
    from logging_store.postgres import backup

    settings = current_settings()
    announce(settings)
    if settings.store_kind == "supabase":
        raise click.ClickException(NEEDS_ADDRESS.format("restore a backup", "import"))
    with sigterm_as_interrupt(), _opened(file) as opened:
        manifest = backup.read_manifest(opened)  # before an embedded database is created for it
        version = manifest.server_version.split()[0]
        echo(f"Backup of {manifest.made_at:%Y-%m-%d %H:%M} UTC, from PostgreSQL {version}.")
        with running_database(settings) as conninfo:
            _print_restored(backup.restore(conninfo, opened, replace_keys=force))
            is_well = _examine(settings, conninfo)
    if is_well:
        elsewhere = settings.store_kind == "embedded" and settings.data_dir != Path("data")
        next_step(f"DATA_DIR={shlex.quote(str(settings.data_dir))} turnlog serve" if elsewhere else "turnlog serve")
    sys.exit(0 if is_well else 1)


@contextmanager
def _opened(file: Path) -> Iterator[BinaryIO]:
    if file != STDIO:
        with file.open("rb") as opened:
            yield opened
        return
    with tempfile.TemporaryFile() as copy:  # a backup is read from its end, and a pipe can't seek
        shutil.copyfileobj(sys.stdin.buffer, copy)
        yield cast("BinaryIO", copy)


def _print_restored(done: backup.Restored) -> None:
    if done.replaced:
        echo(f"Replaced what the database held: {', '.join(done.replaced)}.")
    for column in done.added:
        echo(f"{column} isn't Turnlog's: its values are back, its default and its constraints aren't.")
    for table in done.left_out:
        echo(f"{table} isn't Turnlog's: it was left out. Its rows are in the backup, as {table}.copy.")
    echo(f"Restored {done.manifest.counts}.")


def _examine(settings: Settings, conninfo: str) -> bool:
    """Examine the restored database as `doctor` does; print findings, and return whether there are none."""
    from conversation.cli.columns import table_of_checks
    from conversation.doctor.examination import TABLE_TIMEOUT_S, Examination

    store = current_stack().database
    store.deadline_s = TABLE_TIMEOUT_S
    with closing(store):
        checks = list(Examination(settings, store).check_database(conninfo))
    wrong = [check for check in checks if not check.is_ok]
    if wrong:
        echo(*table_of_checks(wrong))
    else:
        echo(f"Examined it: {len(checks)} checks, all is well.")
    return not wrong
