"""`turnlog spool …`: records that wait on this machine's disk, and those that the store refused."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from conversation.cli.base import Group, echo, echo_json, new_command, next_step
from conversation.cli.context import current_settings, current_stack, open_address

if TYPE_CHECKING:
    from logging_store.spool import DeadLetters, SpoolDirectory
    from logging_store.spool.dead_letters import DeadLetter

_PAGE = 100
_number = click.argument("number", type=click.IntRange(min=1))


@click.group(
    "spool",
    cls=Group,
    help="Show what waits on this machine's disk, and handle dead letters (records that the store refused) and records "
    "of other databases.",
    examples=[
        ("spool status", "Count waiting records and dead letters"),
        ("spool list", "All dead letters, with reasons"),
        ("spool retry --all", "Send them again, after the reason is fixed"),
        ("spool deliver 5d7c2f0e9b1a4c38-1f0a6b2c", "Deliver to this database what waits for another one"),
    ],
)
def command() -> None:
    pass


@new_command("status", examples=[("spool status", "Count what waits on this machine")])
def status() -> None:
    """Show how many records wait for delivery, how many dead letters there are, and what waits for other databases.

    A service delivers records only to the database that it acknowledged them for. Where that one is lost, or this one
    is its copy, `turnlog spool deliver FOLDER` delivers them to this one.
    """
    from logging_store.spool import others

    directory = _directory()
    echo(f"Spool: {_spool_dir()}", err=True)
    depth = directory.depth()
    echo(f"waiting: {depth.records} records in {depth.entries} batches, {depth.bytes} bytes")
    if depth.entries:
        echo(f"oldest: {depth.oldest_s:.0f} s")
    echo(f"dead letters: {(letters := _dead_letters().count())}")
    for path in directory.find_unreadable():
        echo(f"unreadable: {path}")
    folders = current_settings().spool_folders
    found = others.find(folders)
    for other in found:
        echo(f"of another database: {other}")
    if found and folders.own().database is None:
        echo("No database has answered at this address yet; what is its own is delivered then.", err=True)
    if found:
        next_step(f"turnlog spool deliver {found[0].path.name}  # to this one")
    if letters:
        next_step("turnlog spool list")


@new_command("list", examples=[("spool list", "All dead letters")])
@click.option("--after", default=0, help="Start after this number.")
def list_dead_letters(after: int) -> None:
    """List dead letters: number, time of refusal, record and reason."""
    from logging_store.batches import Receipt
    from logging_store.spool import dead_letters

    letters = _dead_letters().list(_PAGE, after)
    for letter in letters:
        echo(
            f"{letter.number}  {_time(letter.rejected_at)}  session {letter.session_id}  record {letter.record_id}  "
            f"{dead_letters.describe(Receipt.model_validate(letter.receipt), ': ')}"
        )
    if len(letters) == _PAGE:
        next_step(f"turnlog spool list --after {letters[-1].number}")
    elif letters:
        next_step(f"turnlog spool show {letters[0].number}", f"turnlog spool retry {letters[0].number}")


@new_command("show", examples=[("spool show 3", "Dead letter 3")])
@_number
def show(number: int) -> None:
    """Show a dead letter with its record, as JSON."""
    from pydantic_core import to_json

    letter = _find(number)
    echo_json(
        to_json(
            {
                "number": letter.number,
                "acknowledged_at": _time(letter.spooled_at),
                "rejected_at": _time(letter.rejected_at),
                "receipt": letter.receipt,
                "batch": letter.batch.to_json(),
            },
            indent=2,
        ).decode()
    )


@new_command("retry", examples=[("spool retry 3", "Send dead letter 3 again"), ("spool retry --all", "All of them")])
@click.argument("number", type=click.IntRange(min=1), required=False)
@click.option("--all", "every", is_flag=True, help="Send all dead letters.")
def retry(number: int | None, *, every: bool) -> None:
    """Send a dead letter to the database that answers, whichever it is. It is removed once it is stored."""
    from logging_store.spool import dead_letters

    if (number is None) != every:
        raise click.UsageError("Give the number of one dead letter, or --all")
    refused = 0
    store = current_stack().repository.store
    # dead letters belong to a log even if its database is lost: as `turnlog serve`, this creates a new one
    with open_address(creates=True), closing(store):
        for letter in _all_letters() if number is None else [_find(number)]:
            receipt, gone = dead_letters.retry(store, _dead_letters(), letter)
            refused += not gone
            echo(f"{letter.number}  {dead_letters.describe(receipt, '  ')}")
    if refused:
        raise click.exceptions.Exit(1)


@new_command(
    "deliver",
    examples=[("spool deliver 5d7c2f0e9b1a4c38-1f0a6b2c", "Deliver what `spool status` lists in this folder")],
)
@click.argument("folder")
def deliver(folder: str) -> None:
    """Deliver to this database what was acknowledged for another one, and keep its dead letters with this one's.

    FOLDER is one of those that `turnlog spool status` lists. Records that this database has already are duplicates;
    those that it refuses become dead letters. The exit status is 1 if anything is left.
    """
    from collections import Counter

    from conversation.doctor.findings import number_of
    from logging_store.spool import DeadLetters, others

    path = _other(folder)
    folders, store = current_settings().spool_folders, current_stack().database
    # as `turnlog serve`, this creates a new database if that of the records is lost
    with open_address(creates=True), closing(store):
        database = store.ping()["database_id"]
        own = folders.identify(database)
        if path not in own.paths:
            receipts = others.deliver(store, path, database, DeadLetters(own.paths[0]))
            counts = Counter(receipt.receipt for receipt in receipts)
            echo(f"Delivered {number_of(len(receipts), 'record')}: {dict(counts) or 'none'}")
        else:
            echo(f"{path} is this database's own; its service delivers it.")
    left = others.look(path)
    if left.total and path not in own.paths:
        echo(f"Left, since another process holds them or they can't be read: {left}", err=True)
        raise click.exceptions.Exit(1)


@new_command(
    "discard",
    examples=[
        ("spool discard 3 --yes", "Drop dead letter 3"),
        ("spool discard 5d7c2f0e9b1a4c38-1f0a6b2c --yes", "Drop what waits in the folder of another database"),
    ],
)
@click.argument("what", metavar="NUMBER|FOLDER")
@click.option("--yes", is_flag=True, help="Confirm: what was acknowledged is lost for good.")
def discard(what: str, *, yes: bool) -> None:
    """Drop a dead letter for good, or everything in the folder of another database."""
    if not (what.isascii() and what.isdigit()):
        _discard_folder(what, yes=yes)
        return
    number = int(what)
    letter = _find(number)
    if not yes:
        raise click.UsageError(f"This drops record {letter.record_id}, which was acknowledged. To confirm: --yes")
    _dead_letters().remove(number)
    echo(f"{number}  discarded")


def _discard_folder(folder: str, *, yes: bool) -> None:
    from logging_store.spool import others

    path = _other(folder)
    if not yes:
        raise click.UsageError(f"This drops what was acknowledged: {others.look(path)}. To confirm: --yes")
    others.discard(path)
    left = others.look(path)
    if left.total:
        raise click.ClickException(f"Another process holds the rest, or it can't be read: {left}")
    echo(f"{folder}  discarded")


for each in (status, list_dead_letters, show, retry, deliver, discard):
    command.add_command(each)


def _other(folder: str) -> Path:
    """Return the path of another database's folder."""
    found = {path.name: path for path in current_settings().spool_folders.others()}
    if folder not in found:
        raise click.ClickException(f"There is no folder {folder} of another database. See all: turnlog spool status")
    return found[folder]


def _all_letters() -> Iterator[DeadLetter]:
    after = 0
    while page := _dead_letters().list(_PAGE, after):
        yield from page
        after = page[-1].number


def _find(number: int) -> DeadLetter:
    letter = _dead_letters().get(number)
    if letter is None:
        raise click.ClickException(f"There is no dead letter {number}. See all: turnlog spool list")
    return letter


def _directory() -> SpoolDirectory:
    from logging_store.spool import Limits, SpoolDirectory

    _spool_dir()
    return SpoolDirectory(current_settings().spool_folders, Limits())


def _dead_letters() -> DeadLetters:
    from logging_store.spool import DeadLetters

    return DeadLetters(_spool_dir())


def _spool_dir() -> Path:
    """Return the spool's folder. Raises `SchemaMissing` where neither a spool nor a log is."""
    from conversation.stack import require_log

    settings = current_settings()
    if not settings.spool_folders.root.exists():
        require_log(settings)
    return settings.spool_dir


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
