"""`flask --app app expire`: erases what is older than its project keeps it."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import click
from flask import Blueprint, current_app

from conversation.settings import Settings
from conversation.store_commands import database_at_work, ended_like_an_interrupt
from logging_store.spool import Limits, SpoolDirectory
from logging_store.upkeep.retention import Expired, Project, Retention

blueprint = Blueprint("retention", __name__, cli_group=None)


@blueprint.cli.command("expire")
@click.option("--project", "only", help="Only this project.")
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
def expire(*, only: str | None, dry_run: bool) -> None:
    """Erase sessions to which nothing has been added for as many days as their project keeps them.

    In short steps beside the service; run again, it goes on where it was cut.
    """
    locked = 0
    with ended_like_an_interrupt(), retention_at_work() as retention:
        for project in named(retention, only):
            days = keep_days_of(project)
            if days is None:
                click.echo(f"{project.name}: kept for ever")
                continue
            locked += _expire(retention, project, days, dry_run=dry_run)
    if locked:
        raise click.ClickException(f"{locked:,} sessions are locked by other transactions: run it again")


def _expire(retention: Retention, project: Project, days: int, *, dry_run: bool) -> int:
    """Erase what is older in a project; return how many sessions somebody's lock kept."""
    would = Expired()
    for step in retention.expire(project, days, dry_run=True):
        would = would.plus(step)
    since = (project.now - timedelta(days=days)).isoformat(sep=" ", timespec="seconds")
    click.echo(
        f"{project.name}: kept for {days:,} days; idle since {since}: {_told(would)}{' would go' if dry_run else ''}"
    )
    if dry_run or not any(would):
        return 0
    done = Expired()
    # a bar where a person looks on
    with click.progressbar(length=would.sessions, file=sys.stderr, hidden=not sys.stderr.isatty()) as bar:
        for step in retention.expire(project, days, dry_run=False):
            done = done.plus(step)
            bar.update(step.sessions)
    click.echo(f"{project.name}: erased {_told(done)}")
    return done.locked


def _told(counts: Expired) -> str:
    return f"{counts.sessions:,} sessions with {counts.interactions:,} interactions, {counts.folders:,} folders"


def named(retention: Retention, only: str | None) -> list[Project]:
    found = retention.projects(only)
    if only is not None and not found:
        raise click.ClickException(f"There is no project {only}; see: flask --app app projects list")
    return found


def keep_days_of(project: Project) -> int | None:
    settings: Settings = current_app.extensions["turnlog_settings"]
    return project.keep_days or settings.turnlog_keep_days


@contextmanager
def retention_at_work() -> Iterator[Retention]:
    settings: Settings = current_app.extensions["turnlog_settings"]
    with database_at_work() as database:
        yield Retention(database, SpoolDirectory(settings.spool_dir, Limits()).parent_ids)
