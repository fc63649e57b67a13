"""`flask --app app index`: indexes for the search what waits for it."""

import click
from flask import Blueprint

from conversation.store_commands import database_at_work, ended_like_an_interrupt
from logging_store.upkeep import indexing

blueprint = Blueprint("search_index", __name__, cli_group=None)

_STEP_MS = 200  # who writes what is being indexed waits meanwhile


@blueprint.cli.command("index")
@click.option("--all", "anew", is_flag=True, help="Index anew all there is, also what was written past the service.")
def index(*, anew: bool) -> None:
    """Index for the search all that waits for it, at once and beside the service, which does so slowly by itself.

    After an import of many conversations, say; with --all after rows were changed by SQL.
    Cut anywhere, nothing is lost.
    """
    indexed, left = 0, True
    with ended_like_an_interrupt(), database_at_work() as database:
        if anew:
            click.echo(f"Queued {sum(indexing.queue_all(database)):,} interactions.")
        while left:
            step = indexing.index(database, _STEP_MS)
            indexed, left = indexed + step["indexed"], step["left"] and step["indexed"] > 0
    click.echo(f"Indexed {indexed:,} interactions.")
