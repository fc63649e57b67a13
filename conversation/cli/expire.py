"""`turnlog expire`: erases what is older than its project keeps it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

import click

from conversation.cli.base import echo, new_command, next_step
from conversation.cli.context import current_settings
from conversation.cli.retention import find_projects, keep_days_of, keep_text_days_of, open_retention

if TYPE_CHECKING:
    from logging_store.upkeep.retention import Expired, Project, Retention

    Steps = Callable[..., Iterator[Expired]]


@new_command(
    "expire",
    examples=[
        ("expire --dry-run", "See what would be erased"),
        ("expire", "Erase it; run this once a day, from cron or a timer"),
    ],
)
@click.option("--project", "only", help="Only this project.")
@click.option("--dry-run", is_flag=True, help="Only print what would be erased.")
@click.option("--trust-clock", is_flag=True, help="Erase also if the clock looks wrong, such as after a long pause.")
def command(*, only: str | None, dry_run: bool, trust_clock: bool) -> None:
    """Erase sessions past their project's retention, or their texts only, and old records of who read what.

    A session's age counts from its last addition. The service keeps running meanwhile; after an interruption, run the
    command again and it continues.

    Nothing is erased if the database's clock is a day from this machine's, or 45 days ahead of the last run: after a
    jump of the clock everything would look old.
    """
    locked, forever, doubts = 0, False, []
    with open_retention() as retention:
        for project in find_projects(retention, only):
            days, text_days = keep_days_of(project), keep_text_days_of(project)
            if not dry_run:
                if not trust_clock and (doubt := project.doubt(datetime.now(UTC))):
                    doubts.append(f"{project.name}: {doubt}")
                    continue
                retention.set_project(project.name, {"expired": True})
            _expire_reads(retention, project, dry_run=dry_run)
            if days is None:
                forever = forever or text_days is None
                echo(f"{project.name}: kept for ever")
            else:
                locked += _expire(retention, project, days, dry_run=dry_run)
            if text_days is not None and days is not None and text_days >= days:
                echo(f"{project.name}: texts go with their sessions: {text_days:,} days aren't fewer than {days:,}")
            elif text_days is not None:
                locked += _expire_texts(retention, project, text_days, days, dry_run=dry_run)
    if doubts:
        raise click.ClickException(
            "\n".join([*doubts, "Nothing of it was erased. If the clock is right: --trust-clock"])
        )
    if locked:
        raise click.ClickException(f"{locked:,} sessions are locked by another transaction: run it again")
    if forever:
        next_step("turnlog projects set PROJECT --keep-days 90  # to keep a project for 90 days")


def _expire(retention: Retention, project: Project, days: int, *, dry_run: bool) -> int:
    """Erase a project's idle sessions; return how many were skipped because another transaction locks them."""

    def counts(found: Expired) -> str:
        return f"{found.sessions:,} sessions with {found.interactions:,} interactions, {found.folders:,} folders"

    heading = f"{project.name}: kept for {days:,} days; idle since {_since(project, days)}: "
    erase = partial(retention.expire, project, days)
    return _run(
        erase,
        lambda found: heading + counts(found) + (" would go" if dry_run else ""),
        lambda found: f"{project.name}: erased {counts(found)}",
        dry_run=dry_run,
    )


def _expire_texts(retention: Retention, project: Project, days: int, erased_after: int | None, *, dry_run: bool) -> int:
    """Remove the texts of a project's idle sessions; return as `_expire` does."""

    def counts(found: Expired) -> str:
        return f"texts of {found.sessions:,} sessions with {found.interactions:,} interactions"

    heading = f"{project.name}: texts kept for {days:,} days; idle since {_since(project, days)}: "
    remove = partial(retention.expire_texts, project, days, erased_after=erased_after)
    return _run(
        remove,
        lambda found: heading + counts(found) + (" would go" if dry_run else ""),
        lambda found: f"{project.name}: removed the {counts(found)}",
        dry_run=dry_run,
    )


def _run(steps: Steps, found: Callable[[Expired], str], finished: Callable[[Expired], str], *, dry_run: bool) -> int:
    """Print what would go, then do it; return how many sessions were skipped because another transaction locks them."""
    from logging_store.upkeep.retention import Expired

    would = Expired()
    for step in steps(dry_run=True):
        would = would.plus(step)
    echo(found(would))
    if dry_run or not any(would):
        return 0
    done = Expired()
    # a progress bar if the output is a terminal
    with click.progressbar(length=would.sessions, file=sys.stderr, hidden=not sys.stderr.isatty()) as bar:
        for step in steps(dry_run=False):
            done = done.plus(step)
            bar.update(step.sessions)
    echo(finished(done))
    return done.locked


def _since(project: Project, days: int) -> str:
    return (project.now - timedelta(days=days)).isoformat(sep=" ", timespec="seconds")


def _expire_reads(retention: Retention, project: Project, *, dry_run: bool) -> None:
    days = current_settings().turnlog_audit_keep_days
    if found := retention.expire_reads(project, days, dry_run=dry_run):
        done = "would go" if dry_run else "deleted"
        echo(f"{project.name}: {found:,} records of reads older than {days:,} days {done}")
