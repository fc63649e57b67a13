"""`turnlog migrate`: brings the schema up to date."""

from __future__ import annotations

import click

from conversation.cli.base import echo, echo_source, new_command, next_step
from conversation.cli.context import announce, current_settings


@new_command(
    "migrate",
    examples=[
        ("migrate", "Bring the database up to date; `turnlog serve` does so by itself"),
        ("migrate --print > turnlog.sql", "Write the SQL to a file, for an SQL editor"),
    ],
)
@click.option("--print", "print_only", is_flag=True, help="Print the SQL and connect to nothing.")
@click.option(
    "--again", is_flag=True,
    help="Then run all migrations once more. That restores functions, indexes and rights that were changed or "
    "dropped, and changes no row. Only `turnlog doctor` asks for it.",
)  # fmt: skip
def command(*, print_only: bool, again: bool) -> None:
    """Bring the database's schema up to date."""
    from conversation.stack import running_database
    from logging_store.postgres import migrations

    if print_only:
        for migration in migrations.available():
            echo_source(f"-- {migration.version}_{migration.name}\n{migration.sql}")
        return
    settings = current_settings()
    announce(settings)
    with running_database(settings) as conninfo:
        applied = migrations.migrate(conninfo)
        restored = migrations.migrate(conninfo, again=True).migrations if again else []
    for migration in applied.migrations:
        echo(f"Applied {migration.version}_{migration.name}.")
    for migration in restored:
        echo(f"Applied {migration.version}_{migration.name} again.")
    if applied.notice:
        echo(applied.notice)
    echo(f"The schema is up to date: {migrations.SCHEMA_VERSION}.")
    if applied.migrations:
        next_step("turnlog serve")
