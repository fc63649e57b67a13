"""`turnlog demo`: a recorded week of conversations, in a database of its own, and the service that shows it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from conversation.cli.base import echo, new_command, next_step
from conversation.cli.context import current_stack, open_repository
from conversation.cli.option_types import PROJECT

if TYPE_CHECKING:
    from logging_store.repository import ConversationRepository

_FOLDER = Path("data/demo")
#: Settings that would direct the demo to an existing log.
_OTHERS = ("DATABASE_URL", "SUPABASE_URL", "SUPABASE_SECRET_KEY", "SUPABASE_SERVICE_ROLE_KEY", "TURNLOG_KEYLESS")


@new_command(
    "demo",
    examples=[
        ("demo", "Look at a week of conversations on http://127.0.0.1:8000; Ctrl-C ends it"),
        ("demo --port 8080", "On another port"),
        ("demo --here --project example", "Only fill an empty project of your own database"),
    ],
)
@click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=_FOLDER,
    show_default=True,
    help="Where the demo keeps its database. Delete the folder to forget it.",
)
@click.option("--port", type=click.IntRange(1, 65535), help="The port to listen on.  [default: PORT, else 8000]")
@click.option("--here", is_flag=True, help="Fill the database that the settings name instead, and serve nothing.")
@click.option("--project", type=PROJECT, help="With --here: the project to fill.  [default: TURNLOG_PROJECT]")
def command(*, folder: Path, port: int | None, here: bool, project: str | None) -> None:
    """Serve a log of example conversations, in a database of its own.

    The week was recorded; its times are moved so that it ends now. Whatever the settings name as database is left
    alone, unless --here is given: that fills an empty project there.
    """
    if project and not here:
        raise click.UsageError("--project goes with --here")
    if here:
        with open_repository(creates=True) as repository:
            _fill(_log(project or repository.project), refill=False)
        next_step("turnlog open  # while `turnlog serve` runs")
        return
    os.environ.update(dict.fromkeys(_OTHERS, ""), DATA_DIR=str(folder))
    if port is not None:
        os.environ["PORT"] = str(port)
    _fill_and_serve()


def _fill_and_serve() -> None:
    from conversation.cli import serve
    from conversation.server import ports

    settings = current_stack().settings
    ports.require_free(settings.turnlog_host, settings.port, lambda sentence: echo(sentence, err=True))
    with open_repository(creates=True) as repository:
        _fill(_log(repository.project), refill=True)
        key = _create_key(repository.project)
    echo("", f"    Open  {settings.url}/", f"    Key   {key}", "")
    serve.serve()


def _log(project: str) -> ConversationRepository:
    """Return the log of a project without spool and group commit, so that counted records are in the database."""
    from logging_store.repository import ConversationRepository

    stack = current_stack()
    return ConversationRepository(
        stack.database, project, ledger=stack.repository.ledger, redaction=stack.repository.redaction
    )


def _fill(log: ConversationRepository, *, refill: bool) -> None:
    """Import the recording into an empty project. `refill`: a project that was filled before stays as it is."""
    from conversation.demo import recording

    if not recording.is_empty(log):
        if not refill:
            raise click.ClickException(
                f"The project {log.project} has conversations already. The demo fills an empty one: --project NAME"
            )
        echo(f"The project {log.project} is filled already; it stays as it is.")
        return
    try:
        counts = recording.import_into(log)
    except KeyboardInterrupt:
        raise click.ClickException(
            f"Interrupted, so the project {log.project} holds only a part of the week. Fill another project, or delete "
            "its folder"
        ) from None
    echo(
        f"The project {log.project} has a week of conversations: {counts.kinds['sessions'].total():,} sessions, "
        f"{counts.kinds['interactions'].total():,} interactions, {counts.kinds['folders'].total()} folders, "
        f"{counts.kinds['feedback'].total():,} feedback."
    )


def _create_key(project: str) -> str:
    from datetime import UTC, datetime, timedelta

    from conversation.keys.callers import ALL_SCOPES
    from conversation.keys.key_registry import KeyRegistry

    lifetime = timedelta(days=7)
    made = KeyRegistry(current_stack().database).create(
        project, "secret", ALL_SCOPES, name="made by the demo", expires_at=datetime.now(UTC) + lifetime
    )
    return made.text
