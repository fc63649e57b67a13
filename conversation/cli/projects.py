"""`turnlog projects …`: the projects and their retention."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from conversation.cli.base import Group, echo, new_command, next_step
from conversation.cli.retention import find_projects, keep_days_of, keep_text_days_of, open_retention

if TYPE_CHECKING:
    from logging_store import operations as ops


@click.group(
    "projects",
    cls=Group,
    help="List the projects of this database, and set how long each is kept.",
    examples=[
        ("projects list", "See all projects"),
        ("projects set shop --keep-days 90", "Keep a project for 90 days"),
        ("projects set shop --keep-text-days 30", "Keep its texts for 30 days only"),
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
    rows = [("project", "kept for", "texts kept for")]
    for project in found:
        days, text_days = keep_days_of(project), keep_text_days_of(project)
        kept = "ever: TURNLOG_KEEP_DAYS is not set"
        if days is not None:
            kept = f"{days:,} days" if project.keep_days else f"{days:,} days, the default of TURNLOG_KEEP_DAYS"
        kept_texts = "as long"
        if text_days is not None:
            source = "" if project.keep_text_days else ", the default of TURNLOG_KEEP_TEXT_DAYS"
            kept_texts = f"{text_days:,} days{source}"
        rows.append((project.name, kept, kept_texts))
    echo(*to_columns(rows))


@new_command(
    "set",
    examples=[
        ("projects set shop --keep-days 90", "Keep a project for 90 days"),
        ("projects set shop --keep-default", "Let TURNLOG_KEEP_DAYS decide again"),
        ("projects set shop --keep-text-days 30", "Keep its texts for 30 days only"),
    ],
)
@click.argument("project")
@click.option(
    "--keep-days",
    type=click.IntRange(1, 36500),
    help="Keep sessions for this many days after their last interaction arrived.",
)
@click.option("--keep-default", is_flag=True, help="Let TURNLOG_KEEP_DAYS decide.")
@click.option(
    "--keep-text-days",
    type=click.IntRange(1, 36500),
    help="Keep the texts of sessions for this many days, counted in the same way.",
)
@click.option("--keep-text-default", is_flag=True, help="Let TURNLOG_KEEP_TEXT_DAYS decide.")
def set_project(
    *, project: str, keep_days: int | None, keep_default: bool, keep_text_days: int | None, keep_text_default: bool
) -> None:
    """Set a PROJECT's retention."""
    if (
        (keep_days is not None and keep_default)
        or (keep_text_days is not None and keep_text_default)
        or not (keep_days or keep_default or keep_text_days or keep_text_default)
    ):
        raise click.UsageError(
            "Choose one: --keep-days N, or --keep-default. For the texts: --keep-text-days N, or --keep-text-default"
        )
    days: ops.SetProjectQuery = {}
    done = []
    if keep_days or keep_default:
        days["keep_days"] = keep_days
        done.append(f"kept for {keep_days:,} days" if keep_days else "kept as TURNLOG_KEEP_DAYS says")
    if keep_text_days or keep_text_default:
        days["keep_text_days"] = keep_text_days
        done.append(
            f"texts kept for {keep_text_days:,} days" if keep_text_days else "texts kept as TURNLOG_KEEP_TEXT_DAYS says"
        )
    with open_retention() as retention:
        find_projects(retention, project)
        retention.set_project(project, days)
    echo(f"{project}: {', '.join(done)}")
    next_step("turnlog expire --dry-run  # what would be erased now")


for each in (show, set_project):
    command.add_command(each)
