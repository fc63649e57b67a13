"""Projects and their retention, for `turnlog projects` and `turnlog expire`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from conversation.cli.context import current_settings, open_database

if TYPE_CHECKING:
    from logging_store.upkeep.retention import Project, Retention


@contextmanager
def open_retention() -> Iterator[Retention]:
    from logging_store.spool import Limits, SpoolDirectory
    from logging_store.upkeep.retention import Retention

    with open_database() as database:
        yield Retention(database, SpoolDirectory(current_settings().spool_folders, Limits()).parent_ids)


def find_projects(retention: Retention, only: str | None) -> list[Project]:
    """Return all projects, or the one of a name; ends the command if there is no such project."""
    found = retention.projects(only)
    if only is not None and not found:
        raise click.ClickException(
            f"There is no project {only}: its first key creates it (turnlog keys create --project {only}). "
            "See all: turnlog projects list"
        )
    return found


def keep_days_of(project: Project) -> int | None:
    """Return for how many days a project's sessions are kept; None: for ever."""
    return project.keep_days or current_settings().turnlog_keep_days


def keep_text_days_of(project: Project) -> int | None:
    """Return for how many days the texts of a project's sessions are kept; None: as long as the sessions."""
    return project.keep_text_days or current_settings().turnlog_keep_text_days
