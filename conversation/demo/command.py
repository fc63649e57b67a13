"""`flask --app app demo`: fills an empty project with a week of made-up conversations, to see the pages with."""

import re
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice

import click
from flask import Blueprint, current_app

from conversation.access.callers import ALL_SCOPES
from conversation.access.key_registry import KeyRegistry
from conversation.demo import week
from conversation.settings import PROJECT, Settings
from conversation.store_commands import ended_like_an_interrupt, repository_at_work
from logging_store.postgres.function_store import FunctionStore
from logging_store.records.models import Record
from logging_store.repository import ConversationRepository

_AT_ONCE = 500  # records
_KEY_LASTS = timedelta(days=7)

blueprint = Blueprint("demo", __name__, cli_group=None)


class _Time(click.ParamType[datetime]):
    name = "time"

    def convert(self, value: str | datetime, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        if isinstance(value, datetime):
            return value
        try:
            stated = datetime.fromisoformat(value)
        except ValueError:
            self.fail("must be a time with its zone, as in 2026-11-21T18:00:00Z", param, ctx)
        if stated.tzinfo is None:
            self.fail("needs its zone, as in 2026-11-21T18:00:00Z", param, ctx)
        return stated.astimezone(UTC)


@blueprint.cli.command("demo")
@click.option("--project", help="Which project to fill; TURNLOG_PROJECT unless given.")
@click.option("--seed", default=1, show_default=True, help="Another one makes another week.")
@click.option("--until", type=_Time(), help="When the week ends; now unless given.")
@click.option("--unless-made", is_flag=True, help="Leave what is there already, instead of refusing.")
@click.option("--sign-in", is_flag=True, help="Make an admin key that lasts a week, and print how to sign in.")
def demo(*, project: str | None, seed: int, until: datetime | None, unless_made: bool, sign_in: bool) -> None:
    """Fill an empty project with a week of conversations, to see the pages with.

    They are made up: the same seed and the same end make the same records.
    """
    if project is not None and not re.fullmatch(PROJECT, project):
        raise click.BadParameter("--project: must be 1 to 100 letters, digits, dots, dashes or underscores")
    with ended_like_an_interrupt(), repository_at_work() as repository:
        database: FunctionStore = current_app.extensions["turnlog_database"]
        end = until or datetime.now(UTC)
        # past group commit and spool: what is told to be there is in the database
        log = ConversationRepository(
            database,
            project or repository.project,
            clock=lambda: end - week.PLANNED,
            ledger=repository.ledger,
            redaction=repository.redaction,
        )
        if _is_empty(log):
            _fill(log, seed, end)
        elif unless_made:
            click.echo(f"The project {log.project} has conversations already; they stay as they are.")
        else:
            raise click.ClickException(
                f"The project {log.project} has conversations already. The demo fills an empty one: --project another"
            )
        if sign_in:
            _show_way_in(KeyRegistry(database), log.project)


def _is_empty(log: ConversationRepository) -> bool:
    return not (log.sessions({"limit": 1})["sessions"] or log.folders({"limit": 1})["folders"])


def _fill(log: ConversationRepository, seed: int, end: datetime) -> None:
    begun = time.monotonic()
    counted: Counter[str] = Counter()
    try:
        for batch in _batches(week.records(log.project, seed, end)):
            kept = log.write(batch)
            refused = [each.receipt for each in kept if not each.receipt.acknowledged]
            if refused:
                raise click.ClickException(f"The store refused a record of the demo: {refused[0].model_dump()}")
            counted.update(type(record).__name__.removeprefix("Restored") for record in batch)
    except KeyboardInterrupt:
        raise click.ClickException(
            f"Interrupted, so the project {log.project} has a part of the week. Fill another: --project another"
        ) from None
    click.echo(
        f"The project {log.project} has a week of conversations: {counted['Session']:,} sessions, "
        f"{counted['Interaction']:,} interactions, {counted['Folder']} folders, "
        f"{counted['Feedback']:,} times feedback, in {time.monotonic() - begun:.1f} s."
    )


def _batches(records: Iterable[Record]) -> Iterator[list[Record]]:
    waiting = iter(records)
    while batch := list(islice(waiting, _AT_ONCE)):
        yield batch


def _show_way_in(registry: KeyRegistry, project: str) -> None:
    settings: Settings = current_app.extensions["turnlog_settings"]
    made = registry.create(
        project, "secret", ALL_SCOPES, name="made by the demo", expires_at=datetime.now(UTC) + _KEY_LASTS
    )
    host = f"[{settings.turnlog_host}]" if ":" in settings.turnlog_host else settings.turnlog_host
    click.echo(f"\n    Open  http://{host}:{settings.port}/\n    Key   {made.text}\n")
