"""The log as a command uses it: the store is asked first, the embedded database runs meanwhile."""

import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import click
from flask import current_app

from conversation.commands import database
from conversation.settings import Settings
from logging_store.errors import TurnlogError
from logging_store.postgres.function_store import FunctionStore
from logging_store.repository import ConversationRepository


@contextmanager
def repository_at_work() -> Iterator[ConversationRepository]:
    """Yield the log, once its store says that it may be trusted; the embedded database runs meanwhile."""
    settings: Settings = current_app.extensions["turnlog_settings"]
    repository: ConversationRepository = current_app.extensions["conversation_repository"]
    try:
        with ExitStack() as closing:
            if settings.store_kind == "embedded":
                closing.enter_context(database(settings))
            closing.callback(repository.store.close)
            repository.store.ping()
            yield repository
    except TurnlogError as error:
        raise click.ClickException(str(error)) from error


@contextmanager
def database_at_work() -> Iterator[FunctionStore]:
    """Yield the database that the settings name, past spool and groups; the embedded one runs meanwhile."""
    with repository_at_work():
        yield current_app.extensions["turnlog_database"]


@contextmanager
def ended_like_an_interrupt() -> Iterator[None]:
    """Let SIGTERM, too, end the work in order."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
