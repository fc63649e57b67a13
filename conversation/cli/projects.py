"""`turnlog projects …`: the projects and their retention."""

from __future__ import annotations

import click

from conversation.cli.base import Group, new_command, next_step
from conversation.cli.retention import find_projects, keep_days_of, open_retention


@click.group(
    "projects",
    cls=Group,
    help="List the projects of this database, and set how long each is kept.",
    examples=[
        ("projects list", "See all projects"),
        ("projects set shop --keep-days 90", "Keep a project for 90 days"),
    ],
)
def command() -> None:
    pass


@new_command("list", examples=[("projects list", "See all projects")])
def show() -> None:
    """List projects and their retention."""
    from conversation.cli.columns import to_columns

    with open_retention() as retention:
        found = retention.projects()
    rows = [("project", "kept for")]
    for project in found:
        days = keep_days_of(project)
        if days is None:
            kept = "ever: TURNLOG_KEEP_DAYS is not set"
        else:
            kept = f"{days:,} days" if project.keep_days else f"{days:,} days, the default of TURNLOG_KEEP_DAYS"
        rows.append((project.name, kept))
    click.echo(to_columns(rows))


@new_command(
    "set",
    examples=[
        ("projects set shop --keep-days 90", "Keep a project for 90 days"),
        ("projects set shop --keep-default", "Let TURNLOG_KEEP_DAYS decide again"),
    ],
)
@click.argument("project")
@click.option(
    "--keep-days",
    type=click.IntRange(1, 36500),
    help="Keep sessions for this many days after their last interaction arrived.",
)
@click.option("--keep-default", is_flag=True, help="Let TURNLOG_KEEP_DAYS decide.")
def set_project(*, project: str, keep_days: int | None, keep_default: bool) -> None:
    """Set a PROJECT's retention."""
    if (keep_days is None) != keep_default:
        raise click.UsageError("Choose one: --keep-days N, or --keep-default")
    with open_retention() as retention:
        find_projects(retention, project)
        retention.set_keep_days(project, keep_days)
    click.echo(f"{project}: kept {'as TURNLOG_KEEP_DAYS says' if keep_days is None else f'for {keep_days:,} days'}")
    next_step("turnlog expire --dry-run  # what would be erased now")


for each in (show, set_project):
    command.add_command(each)
