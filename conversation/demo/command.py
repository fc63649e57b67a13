"""`flask --app app demo`: fills an empty project with a recorded week of conversations, to see the pages with."""

import re
import time
from datetime import UTC, datetime, timedelta
from typing import NoReturn

import click
from flask import Blueprint, current_app

from conversation.access.callers import ALL_SCOPES
from conversation.access.key_registry import KeyRegistry
from conversation.archive import documents, sources
from conversation.archive.formats import turnlog_lines
from conversation.archive.importing import Import, Row
from conversation.archive.shifting import Shift
from conversation.demo import RECORDING
from conversation.settings import PROJECT, Settings
from conversation.store_commands import ended_like_an_interrupt, repository_at_work
from logging_store.postgres.function_store import FunctionStore
from logging_store.repository import ConversationRepository

_KEY_LASTS = timedelta(days=7)

blueprint = Blueprint("demo", __name__, cli_group=None)


@blueprint.cli.command("demo")
@click.option("--project", help="Which project to fill; TURNLOG_PROJECT unless given.")
@click.option("--unless-made", is_flag=True, help="Leave what is there already, instead of refusing.")
@click.option("--sign-in", is_flag=True, help="Make an admin key that lasts a week, and print how to sign in.")
def demo(*, project: str | None, unless_made: bool, sign_in: bool) -> None:
    """Fill an empty project with a week of conversations, to see the pages with.

    They are made up and recorded; their times are moved so that the week ends now.
    """
    if project is not None and not re.fullmatch(PROJECT, project):
        raise click.BadParameter("--project: must be 1 to 100 letters, digits, dots, dashes or underscores")
    with ended_like_an_interrupt(), repository_at_work() as repository:
        database: FunctionStore = current_app.extensions["turnlog_database"]
        # past group commit and spool: what is said to be there is in the database
        log = ConversationRepository(
            database, project or repository.project, ledger=repository.ledger, redaction=repository.redaction
        )
        if _is_empty(log):
            _fill(log)
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


def _fill(log: ConversationRepository) -> None:
    begun = time.monotonic()
    # the database was asked a moment ago: if it goes away now, nobody waits for it
    run = Import(log.write, reject=_refuse, report=_refuse, waiting=lambda *_: None, patience_s=0)
    try:
        with sources.opened(RECORDING) as source:
            shift = Shift.to_now(turnlog_lines.read(documents.read(source.stream)))
        with sources.opened(RECORDING) as source:
            for _ in run.run(shift.moved(turnlog_lines.read(documents.read(source.stream)))):
                pass
    except KeyboardInterrupt:
        raise click.ClickException(
            f"Interrupted, so the project {log.project} has a part of the week. Fill another: --project another"
        ) from None
    counts = {kind: outcomes.total() for kind, outcomes in run.tally.kinds.items()}
    click.echo(
        f"The project {log.project} has a week of conversations: {counts['sessions']:,} sessions, "
        f"{counts['interactions']:,} interactions, {counts['folders']} folders, "
        f"{counts['feedback']:,} times feedback, in {time.monotonic() - begun:.1f} s."
    )


def _refuse(row: Row) -> NoReturn:
    raise click.ClickException(f"A record of the demo can't be stored: {row}")


def _show_way_in(registry: KeyRegistry, project: str) -> None:
    settings: Settings = current_app.extensions["turnlog_settings"]
    made = registry.create(
        project, "secret", ALL_SCOPES, name="made by the demo", expires_at=datetime.now(UTC) + _KEY_LASTS
    )
    host = f"[{settings.turnlog_host}]" if ":" in settings.turnlog_host else settings.turnlog_host
    click.echo(f"\n    Open  http://{host}:{settings.port}/\n    Key   {made.text}\n")
