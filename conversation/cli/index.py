"""`turnlog index`: indexes queued interactions for the search."""

from __future__ import annotations

import click

from conversation.cli.base import echo, new_command
from conversation.cli.context import open_database

_STEP_MS = 200  # writers of the rows being indexed wait this long


@new_command(
    "index",
    examples=[
        ("index", "Make everything searchable at once, for example after a large import"),
        ("index --all", "Index everything again, after rows were changed by SQL"),
    ],
)
@click.option("--all", "everything", is_flag=True, help="Index everything again, also rows changed by SQL.")
def command(*, everything: bool) -> None:
    """Build the search index now (the service also does it in the background).

    It can be interrupted at any time; the next run continues.
    """
    from logging_store.upkeep import indexing

    indexed, left = 0, True
    with open_database() as database:
        if everything:
            echo(f"Queued {sum(indexing.queue_all(database)):,} interactions.")
        while left:
            step = indexing.index(database, _STEP_MS)
            indexed, left = indexed + step["indexed"], step["left"] and step["indexed"] > 0
    echo(f"Indexed {indexed:,} interactions.")
