"""The settings of a run, and the log or the database, open while a command needs it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import click

from conversation.cli.base import echo
from conversation.interrupts import sigterm_as_interrupt
from logging_store.postgres.reconnection import LONGEST_S, until_reconnected

if TYPE_CHECKING:
    from conversation.settings import Settings
    from conversation.stack import Stack
    from logging_store.errors import StoreUnavailable
    from logging_store.postgres.function_store import FunctionStore
    from logging_store.repository import ConversationRepository

_STACK = "turnlog.stack"
_SETTINGS = "turnlog.settings"


def current_stack() -> Stack:
    """Return the stores of this run: those of the environment's settings, or what `use_stack` named.

    Raises `Misconfigured` if a setting is wrong. Nothing is opened yet.
    """
    meta = click.get_current_context().meta
    if callable(made := meta.get(_STACK)):
        meta[_STACK] = made()
    elif made is None:
        from conversation.stack import Stack

        meta[_STACK] = Stack.build(current_settings())
    stack: Stack = meta[_STACK]
    return stack


def use_stack(context: click.Context, stack: Callable[[], Stack]) -> None:
    """Make the commands under a context use these stores."""
    context.meta.setdefault(_STACK, stack)


def current_settings() -> Settings:
    """Return the settings of this run. Raises `Misconfigured` if one is wrong."""
    meta = click.get_current_context().meta
    if _STACK in meta:
        return current_stack().settings
    if _SETTINGS not in meta:
        from conversation.settings import Settings

        meta[_SETTINGS] = Settings.from_environment()
    settings: Settings = meta[_SETTINGS]
    return settings


@contextmanager
def open_repository(*, creates: bool = False) -> Iterator[ConversationRepository]:
    """Yield the log, once its database says that acknowledged writes are durable; close it afterwards.

    Prints the name of the database on standard error first, and waits for Supabase's API if that is reconnecting to it.
    An embedded database runs meanwhile; if there is none, it is created if `creates`, else this raises `SchemaMissing`.
    """
    stack = current_stack()
    with ExitStack() as closing:
        closing.enter_context(open_address(creates=creates))
        closing.callback(stack.repository.store.close)
        stack.database.reconnect_s = LONGEST_S
        until_reconnected(stack.database.ping, time.monotonic() + LONGEST_S, announce_waiting)
        yield stack.repository


@contextmanager
def open_database(*, creates: bool = False) -> Iterator[FunctionStore]:
    """Yield the database itself, without spool and group commit, as `open_repository` opens it."""
    with open_repository(creates=creates):
        yield current_stack().database


@contextmanager
def open_address(*, creates: bool = False) -> Iterator[str]:
    """Print the database's name; yield its connection string, empty for Supabase. An embedded one runs meanwhile.

    SIGTERM raises `KeyboardInterrupt` meanwhile, so that a command ends in order.
    """
    from conversation import stack as stacks

    settings = current_settings()
    announce(settings)
    _silence_libraries()
    if settings.store_kind == "supabase":
        with sigterm_as_interrupt():
            yield ""
        return
    if not creates:
        stacks.require_log(settings)
    with stacks.running_database(settings) as conninfo:
        if creates and settings.store_kind == "embedded":
            from logging_store.postgres import migrations

            migrations.migrate(conninfo)
        yield conninfo


def _silence_libraries() -> None:
    """Keep the service's log off the terminal: a command prints its own errors, once."""
    root = logging.getLogger()
    if not root.handlers:
        root.addHandler(logging.NullHandler())


def announce_waiting(error: StoreUnavailable) -> None:
    """Print on standard error why the command waits for its database."""
    echo(f"{error}. Waiting for it …", err=True)


def announce(settings: Settings) -> None:
    """Print the name of the command's database on standard error."""
    from conversation.stack import describe

    echo(f"Database: {describe(settings)}", err=True)
