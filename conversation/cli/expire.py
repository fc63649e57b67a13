"""`turnlog expire`: erases what is older than its project keeps it."""

from __future__ import annotations

import sys
from datetime import timedelta
from typing import TYPE_CHECKING

import click

from conversation.cli.base import new_command, next_step
from conversation.cli.retention import find_projects, keep_days_of, open_retention

if TYPE_CHECKING:
    from logging_store.upkeep.retention import Expired, Project, Retention


@new_command(
    "expire",
    examples=[
        ("expire --dry-run", "See what would be erased"),
        ("expire", "Erase it; run this once a day, from cron or a timer"),
    ],
)
@click.option("--project", "only", help="Only this project.")
@click.option("--dry-run", is_flag=True, help="Only print what would be erased.")
def command(*, only: str | None, dry_run: bool) -> None:
    """Erase sessions past their project's retention.

    A session's age counts from its last addition. The service keeps running meanwhile; after an interruption, run the
    command again and it continues.
    """
    locked, forever = 0, False
    with open_retention() as retention:
        for project in find_projects(retention, only):
            days = keep_days_of(project)
            if days is None:
                forever = True
                click.echo(f"{project.name}: kept for ever")
                continue
            locked += _expire(retention, project, days, dry_run=dry_run)
    if locked:
        raise click.ClickException(f"{locked:,} sessions are locked by another transaction: run it again")
    if forever:
        next_step("turnlog projects set PROJECT --keep-days 90  # to keep a project for 90 days")


def _expire(retention: Retention, project: Project, days: int, *, dry_run: bool) -> int:
    """Erase a project's idle sessions; return how many were skipped because another transaction locks them."""
    from logging_store.upkeep.retention import Expired

    would = Expired()
    for step in retention.expire(project, days, dry_run=True):
        would = would.plus(step)
    since = (project.now - timedelta(days=days)).isoformat(sep=" ", timespec="seconds")
    click.echo(
        f"{project.name}: kept for {days:,} days; idle since {since}: {_counts(would)}{' would go' if dry_run else ''}"
    )
    if dry_run or not any(would):
        return 0
    done = Expired()
    # a progress bar if the output is a terminal
    with click.progressbar(length=would.sessions, file=sys.stderr, hidden=not sys.stderr.isatty()) as bar:
        for step in retention.expire(project, days, dry_run=False):
            done = done.plus(step)
            bar.update(step.sessions)
    click.echo(f"{project.name}: erased {_counts(done)}")
    return done.locked


def _counts(counts: Expired) -> str:
    return f"{counts.sessions:,} sessions with {counts.interactions:,} interactions, {counts.folders:,} folders"
