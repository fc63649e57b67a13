"""`flask --app app spool …`: what waits on this machine's disk, and what the store has refused after all."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime

import click
from flask import Blueprint, current_app
from pydantic_core import to_json

from conversation.api import http
from conversation.commands import database
from conversation.settings import Settings
from logging_store.batches import Receipt
from logging_store.errors import TurnlogError
from logging_store.spool import DeadLetters, Limits, SpoolDirectory, dead_letters
from logging_store.spool.dead_letters import DeadLetter

blueprint = Blueprint("spool_commands", __name__, cli_group="spool")
blueprint.cli.help = "What waits on this machine's disk, and what the store refused."

_PAGE = 100
_number = click.argument("number", type=click.IntRange(min=1))


@blueprint.cli.command("status")
def status() -> None:
    """Tell how much waits to be delivered, and how many dead letters there are."""
    directory = _directory()
    depth = directory.depth()
    click.echo(f"waiting: {depth.records} records in {depth.entries} batches, {depth.bytes} bytes")
    if depth.entries:
        click.echo(f"oldest: {depth.oldest_s:.0f} s")
    click.echo(f"dead letters: {_dead_letters().count()}")
    for path in directory.find_unreadable():
        click.echo(f"unreadable: {path}")


@blueprint.cli.command("list")
@click.option("--after", default=0, help="Begin after this number.")
def list_dead_letters(after: int) -> None:
    """List the dead letters: number, when they were refused, what, and why."""
    letters = _dead_letters().list(_PAGE, after)
    for letter in letters:
        click.echo(
            f"{letter.number}  {_time(letter.rejected_at)}  session {letter.session_id}  record {letter.record_id}  "
            f"{dead_letters.describe(Receipt.model_validate(letter.receipt), ': ')}"
        )
    if len(letters) == _PAGE:
        click.echo(f"There may be more: --after {letters[-1].number}")


@blueprint.cli.command("show")
@_number
def show(number: int) -> None:
    """Show a dead letter, with the record as it was acknowledged."""
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


@blueprint.cli.command("retry")
@click.argument("number", type=click.IntRange(min=1), required=False)
@click.option("--all", "every", is_flag=True, help="Send all dead letters again.")
def retry(number: int | None, *, every: bool) -> None:
    """Send a dead letter to the store again; it is removed once it is kept."""
    if (number is None) != every:
        raise click.UsageError("Give the number of one dead letter, or --all")
    refused = 0
    with _store_at_work():
        for letter in _every() if number is None else [_find(number)]:
            receipt, gone = dead_letters.retry(http.repository().store, _dead_letters(), letter)
            refused += not gone
            click.echo(f"{letter.number}  {dead_letters.describe(receipt, '  ')}")
    if refused:
        raise click.exceptions.Exit(1)


@blueprint.cli.command("discard")
@_number
@click.option("--yes", is_flag=True, help="Yes, drop an acknowledged record for good.")
def discard(number: int, *, yes: bool) -> None:
    """Drop a dead letter for good."""
    letter = _find(number)
    if not yes:
        raise click.UsageError(f"This drops record {letter.record_id}, which was acknowledged. If so: --yes")
    _dead_letters().remove(number)
    click.echo(f"{number}  discarded")


def _every() -> Iterator[DeadLetter]:
    after = 0
    while page := _dead_letters().list(_PAGE, after):
        yield from page
        after = page[-1].number


def _find(number: int) -> DeadLetter:
    letter = _dead_letters().get(number)
    if letter is None:
        raise click.ClickException(f"There is no dead letter {number}; see: flask --app app spool list")
    return letter


@contextmanager
def _store_at_work() -> Iterator[None]:
    """Use the store, with the embedded database running meanwhile; tell its errors as messages."""
    settings: Settings = current_app.extensions["turnlog_settings"]
    try:
        with ExitStack() as closing:
            if settings.store_kind == "embedded":
                closing.enter_context(database(settings))
            closing.callback(http.repository().store.close)
            yield
    except TurnlogError as error:
        raise click.ClickException(str(error)) from error


def _directory() -> SpoolDirectory:
    settings: Settings = current_app.extensions["turnlog_settings"]
    return SpoolDirectory(settings.spool_dir, Limits())


def _dead_letters() -> DeadLetters:
    settings: Settings = current_app.extensions["turnlog_settings"]
    return DeadLetters(settings.spool_dir)


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
