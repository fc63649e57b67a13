"""`flask --app app projects …`: which projects there are, and how long each is kept."""

import click
from flask import Blueprint

from conversation.columns import in_columns
from conversation.retention_commands import keep_days_of, named, retention_at_work

blueprint = Blueprint("projects", __name__, cli_group="projects")
blueprint.cli.help = "The projects of this database, and how long each is kept."


@blueprint.cli.command("list")
def show() -> None:
    """List the projects, and how long each is kept."""
    with retention_at_work() as retention:
        found = retention.projects()
    rows = [("project", "kept for")]
    for project in found:
        days = keep_days_of(project)
        if days is None:
            kept = "ever: TURNLOG_KEEP_DAYS is not set here"
        else:
            kept = f"{days:,} days" if project.keep_days else f"{days:,} days, as TURNLOG_KEEP_DAYS says here"
        rows.append((project.name, kept))
    click.echo(in_columns(rows))


@blueprint.cli.command("set")
@click.argument("project")
@click.option("--keep-days", type=click.IntRange(1, 36500), help="Keep what nothing is added to for so many days.")
@click.option("--keep-default", is_flag=True, help="Keep it as TURNLOG_KEEP_DAYS says.")
def set_project(*, project: str, keep_days: int | None, keep_default: bool) -> None:
    """Say how long a project is kept."""
    if (keep_days is None) != keep_default:
        raise click.UsageError("Say how long: --keep-days N, or --keep-default")
    with retention_at_work() as retention:
        named(retention, project)
        retention.set_keep_days(project, keep_days)
    click.echo(f"{project}: kept {'as TURNLOG_KEEP_DAYS says' if keep_days is None else f'for {keep_days:,} days'}")
