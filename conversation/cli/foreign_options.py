"""Options that name another application's columns, for `turnlog doctor --table` and `turnlog repair`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from conversation.settings import Settings

_Command = TypeVar("_Command", bound=Callable[..., Any])


def naming_columns(command: _Command) -> _Command:
    """Add the options for the id columns of another application's table."""
    for option in reversed([
        click.option("--id", "identity", help="The column of a row's id."),
        click.option("--session", help="The column of its session's id."),
        click.option("--parent", help="The table of sessions, as in public.chat_sessions."),
        click.option("--parent-id", help="The parent's column that --session refers to."),
        click.option("--no-parent", is_flag=True, help="There is no table of sessions."),
    ]):  # fmt: skip
        command = option(command)
    return command


def require_address(settings: Settings) -> None:
    if settings.store_kind == "supabase":
        raise click.ClickException(
            "Supabase's API doesn't reach other applications' tables: set DATABASE_URL to the project's connection "
            "string instead of SUPABASE_URL"
        )
