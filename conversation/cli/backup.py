"""`turnlog backup`: writes everything in the database to one file."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click

from conversation.cli.base import echo, new_command, next_step
from conversation.cli.context import current_stack, open_address
from logging_store import private_files

if TYPE_CHECKING:
    from conversation.settings import Settings
    from logging_store.store import Backlog, Store

NEEDS_ADDRESS = (
    "Supabase's API can't {}. Set DATABASE_URL to the project's connection string instead of SUPABASE_URL, or use "
    "`turnlog {}`"
)
#: Exit status: the file is complete, but this machine has acknowledged records that are not in it.
INCOMPLETE = 3
STDIO = Path("-")
_DELIVERY_TIMEOUT_S = 10  # to empty the spool; with a healthy database it takes a moment


@new_command(
    "backup",
    examples=[
        ("backup turnlog.zip", "Back everything up, while the service runs"),
        ("backup - | ssh other 'cat > turnlog.zip'", "Send it elsewhere without a file here"),
    ],
)
@click.argument("file", type=click.Path(dir_okay=False, allow_dash=True, path_type=Path))
@click.option("--force", is_flag=True, help="Replace FILE if it exists.")
def command(*, file: Path, force: bool) -> None:
    """Write everything in the database to FILE: conversations, feedback, keys, tombstones, projects.

    The backup is a snapshot of one moment; the service keeps writing meanwhile. FILE is readable only by you, and
    appears only once it is complete. - is standard output.

    Records in this machine's spool are delivered first. If some can't be, the backup is written without them, their
    number is printed, and the exit status is 3.
    """
    from logging_store.postgres import backup
    from logging_store.store import Backlog

    settings, store = current_stack().settings, current_stack().repository.store
    if settings.store_kind == "supabase":
        raise click.ClickException(NEEDS_ADDRESS.format("export keys and tombstones", "export"))
    if file == STDIO and sys.stdout.isatty():
        raise click.UsageError("Standard output is a terminal. Name a file, or pipe it: turnlog backup - | …")
    _require_free(file, force=force)
    with open_address() as conninfo:
        with closing(store):
            _deliver(settings, store)
        left = Backlog()

        def look_again() -> None:
            nonlocal left  # also what was spooled after the delivery, while a lock held up the snapshot
            left = _backlog(settings, store)

        with _new_file(file, force=force) as opened:
            manifest = backup.write(conninfo, opened, before_snapshot=look_again)
    size = "" if file == STDIO else f" ({file.stat().st_size / 1e6:,.1f} MB)"
    echo(f"Backed up {manifest.counts}{size}.", err=file == STDIO)
    if file != STDIO:
        next_step(f"turnlog restore {file}  # into an empty database, with DATA_DIR or DATABASE_URL")
    sys.exit(_report(settings, left))


def _deliver(settings: Settings, store: Store) -> None:
    """Deliver the spool, as the service does, until it is empty or the timeout is over."""
    from logging_store.errors import TurnlogError

    if not settings.spool_folders.root.exists():
        return
    try:
        store.ping()
    except TurnlogError:
        return  # of an older schema, for example; if the backup fails as well, it says why
    store.start()
    give_up = time.monotonic() + _DELIVERY_TIMEOUT_S
    while store.backlog().records and time.monotonic() < give_up:
        time.sleep(0.05)


def _backlog(settings: Settings, store: Store) -> Backlog:
    from logging_store.store import Backlog

    return store.backlog() if settings.spool_folders.root.exists() else Backlog()


def _report(settings: Settings, left: Backlog) -> int:
    """Print which acknowledged records of this machine the backup lacks; return the exit status."""
    from conversation.doctor.findings import number_of

    lacks = []
    if left.records:
        lacks.append(f"{number_of(left.records, 'record')} in the spool, not delivered yet (turnlog spool status)")
    if left.unreadable_files:
        lacks.append(f"{number_of(left.unreadable_files, 'file')} of the spool that can't be read (turnlog doctor)")
    if left.dead_letters is None:
        lacks.append("dead letters, which can't be read (turnlog doctor)")
    elif left.dead_letters:
        lacks.append(f"{number_of(left.dead_letters, 'dead letter')}, refused by the database (turnlog spool list)")
    for each in lacks:
        echo(f"NOT IN THE BACKUP: {each}", err=True, bold=True)
    if lacks:
        folders = ", ".join(str(path) for path in settings.spool_folders.own().paths if path.exists())
        echo(f"They are in {folders}: copy that folder as well.", err=True)
    return INCOMPLETE if lacks else 0


def _require_free(file: Path, *, force: bool) -> None:
    if not file.parent.is_dir():
        raise click.UsageError(f"There is no folder {str(file.parent)!r}.")
    if file != STDIO and file.exists() and not force:
        raise click.ClickException(f"{file} exists. Choose another name, or replace it with --force.")


@contextmanager
def _new_file(file: Path, *, force: bool) -> Iterator[BinaryIO]:
    """Yield the file to write to; it gets its name only once it is complete on the disk."""
    if file == STDIO:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    partial = file.with_name(f".{file.name}.{os.getpid()}.partial")
    try:
        descriptor = private_files.create(partial)
        try:
            with os.fdopen(descriptor, "wb") as opened:
                yield opened
                opened.flush()
                os.fsync(opened.fileno())
            _require_free(file, force=force)  # another process may have created it meanwhile
            partial.replace(file)
        finally:
            partial.unlink(missing_ok=True)
        private_files.sync_directory(file.parent)
    except OSError as error:
        raise click.ClickException(f"{file} can't be written: {error.strerror}") from error
