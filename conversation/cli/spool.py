"""`turnlog spool …`: records that wait on this machine's disk, and those that the store refused."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from conversation.cli.base import Group, new_command, next_step
from conversation.cli.context import current_settings, current_stack, open_address

if TYPE_CHECKING:
    from logging_store.spool import DeadLetters, SpoolDirectory
    from logging_store.spool.dead_letters import DeadLetter

_PAGE = 100
_number = click.argument("number", type=click.IntRange(min=1))


@click.group(
    "spool",
    cls=Group,
    help="Show what waits on this machine's disk, and handle dead letters: records that the store refused.",
    examples=[
        ("spool status", "Count waiting records and dead letters"),
        ("spool list", "All dead letters, with reasons"),
        ("spool retry --all", "Send them again, after the reason is fixed"),
    ],
)
def command() -> None:
    pass


@new_command("status", examples=[("spool status", "Count what waits on this machine")])
def status() -> None:
    """Show how many records wait for delivery, and how many dead letters there are."""
    directory = _directory()
    click.echo(f"Spool: {_spool_dir()}", err=True)
    depth = directory.depth()
    click.echo(f"waiting: {depth.records} records in {depth.entries} batches, {depth.bytes} bytes")
    if depth.entries:
        click.echo(f"oldest: {depth.oldest_s:.0f} s")
    click.echo(f"dead letters: {(letters := _dead_letters().count())}")
    for path in directory.find_unreadable():
        click.echo(f"unreadable: {path}")
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
        click.echo(
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
    click.echo(
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
    """Send a dead letter to the store again. It is removed once it is stored."""
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
            click.echo(f"{letter.number}  {dead_letters.describe(receipt, '  ')}")
    if refused:
        raise click.exceptions.Exit(1)


@new_command("discard", examples=[("spool discard 3 --yes", "Drop dead letter 3")])
@_number
@click.option("--yes", is_flag=True, help="Confirm: the record was acknowledged, and is lost for good.")
def discard(number: int, *, yes: bool) -> None:
    """Drop a dead letter for good."""
    letter = _find(number)
    if not yes:
        raise click.UsageError(f"This drops record {letter.record_id}, which was acknowledged. To confirm: --yes")
    _dead_letters().remove(number)
    click.echo(f"{number}  discarded")


for each in (status, list_dead_letters, show, retry, discard):
    command.add_command(each)


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

    return SpoolDirectory(_spool_dir(), Limits())


def _dead_letters() -> DeadLetters:
    from logging_store.spool import DeadLetters

    return DeadLetters(_spool_dir())


def _spool_dir() -> Path:
    """Return the spool's folder. Raises `SchemaMissing` where neither a spool nor a log is."""
    from conversation.stack import require_log

    settings = current_settings()
    if not settings.spool_dir.exists():
        require_log(settings)
    return settings.spool_dir


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
