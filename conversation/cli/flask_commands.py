"""`turnlog …`: the same commands under Flask's own, with the application's settings and stores."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
from flask.cli import AppGroup, ScriptInfo

from conversation.cli.base import load
from conversation.cli.context import use_stack
from conversation.cli.main import command as turnlog
from conversation.settings import Settings
from logging_store.errors import Misconfigured

if TYPE_CHECKING:
    from conversation.stack import Stack


class FlaskCommands(AppGroup):
    """Turnlog's commands as commands of a Flask application; each is imported when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*super().list_commands(ctx), *turnlog.entries]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = turnlog.entries.get(cmd_name)
        if entry is None:
            return super().get_command(ctx, cmd_name)

        def stack_of_application() -> Stack:
            stack: Stack = ctx.ensure_object(ScriptInfo).load_app().extensions["turnlog_stack"]
            return stack

        use_stack(ctx, stack_of_application)
        return load(entry)


def commands(name: str, **settings: Any) -> FlaskCommands:
    return FlaskCommands(name, **settings)


def settings_of_the_environment() -> Settings:
    """Return the settings. Under `flask …`, a wrong one ends the command with a sentence, not a traceback."""
    try:
        return Settings.from_environment()
    except Misconfigured as error:
        if click.get_current_context(silent=True) is None:
            raise
        raise click.ClickException(str(error)) from error
