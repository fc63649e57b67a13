"""`flask --app app index`: indexes for the search what waits for it."""

import click
from flask import Blueprint

from conversation.store_commands import database_at_work, ended_like_an_interrupt
from logging_store import indexing

blueprint = Blueprint("search_index", __name__, cli_group=None)

_STEP_MS = 1000


@blueprint.cli.command("index")
def index() -> None:
    """Index for the search all that waits for it, at once and beside the service, which does so slowly by itself.

    After an import of many conversations, say. Cut anywhere, nothing is lost.
    """
    indexed, left = 0, True
    with ended_like_an_interrupt(), database_at_work() as database:
        while left:
            step = indexing.index(database.perform, _STEP_MS)
            indexed, left = indexed + step["indexed"], step["left"] and step["indexed"] > 0
    click.echo(f"Indexed {indexed:,} interactions.")
