"""Turnlog's application: builds the stack, attaches the repository, registers the endpoints.

Importing opens nothing, and neither does `create_app`: stores connect at their first call, in the process that
makes it.
"""

from collections.abc import Callable

import click
from flask import Flask

from conversation import (
    access,
    checking,
    commands,
    key_commands,
    pages,
    project_commands,
    refusals,
    report_commands,
    retention_commands,
    search_commands,
    spool_commands,
)
from conversation.access import limits
from conversation.api import http, openapi, problems, routes
from conversation.archive import export_command, import_command, user_export
from conversation.demo import command as demo
from conversation.doctor import commands as doctor
from conversation.pages.menu import PAGES
from conversation.settings import Settings
from logging_store.embedded.server import EmbeddedPostgres
from logging_store.errors import Misconfigured
from logging_store.group_commit import GroupCommit
from logging_store.metrics import ledger
from logging_store.metrics.ledger import Ledger
from logging_store.postgres.function_store import FunctionStore
from logging_store.postgres.postgres_store import PostgresStore
from logging_store.postgres.supabase_store import SupabaseStore
from logging_store.redaction import Redaction
from logging_store.repository import ConversationRepository
from logging_store.spool import CircuitBreaker, Limits, Spool
from logging_store.store import Store
from logging_store.upkeep.indexing import Indexing

_AREAS = (
    *routes.AREAS,
    *PAGES,
    user_export,
    *(commands, key_commands, project_commands, retention_commands, report_commands, spool_commands, search_commands),
    *(checking, doctor, import_command, export_command, demo),
)


def create_app(settings: Settings | None = None, store: Store | None = None) -> Flask:
    """Return the application; settings come from the environment, the store from the settings, unless given."""
    settings = settings or _settings_of_the_environment()
    app = http.App(
        __name__, static_folder=None, static_url_path="/static", template_folder="conversation/pages/templates"
    )
    app.config["MAX_CONTENT_LENGTH"] = limits.MAX_BODY
    app.json = http.Json(app)
    app.extensions["turnlog_settings"] = settings
    counts = ledger.process_ledger(settings.redacted)
    app.extensions["turnlog_database"] = database = store or create_database_store(settings)
    if isinstance(database, FunctionStore):
        app.extensions["turnlog_indexing"] = Indexing(database)
    app.extensions["conversation_repository"] = ConversationRepository(
        store or create_store(settings, database, counts),
        settings.turnlog_project,
        ledger=counts,
        redaction=create_redaction(settings),
    )
    app.url_map.converters["name"] = http.NameInPath
    app.wsgi_app = http.keep_paths_encoded(app.wsgi_app)  # type: ignore[assignment, method-assign]
    refusals.register(app)
    access.attach(app, settings, app.extensions["conversation_repository"].store)
    limits.register(app, settings)
    problems.register(app)
    pages.register(app)
    for area in _AREAS:
        app.register_blueprint(area.blueprint)
    openapi.register(app)
    return app


def _settings_of_the_environment() -> Settings:
    try:
        return Settings.from_environment()
    except Misconfigured as error:
        if click.get_current_context(silent=True) is None:
            raise
        raise click.ClickException(str(error)) from error  # whoever types `flask …` reads a sentence, not a traceback


def create_store(settings: Settings, database: Store, counts: Ledger) -> Store:
    """Return what keeps the log in a database: groups of writes, over a spool, over that."""
    spool = Spool(
        database,
        settings.spool_dir,
        Limits(settings.turnlog_spool_max_mb << 20, settings.turnlog_spool_min_free_mb << 20),
        revive=_reviver(settings, database),
        breaker=CircuitBreaker(on_change=counts.breaker),
        on_delivered=counts.delivered,
    )
    return GroupCommit(
        spool, max_wait_s=settings.turnlog_deadline_s / 2, overflow=spool.enqueue, on_written=counts.written
    )


def create_database_store(settings: Settings) -> FunctionStore:
    """Return the database that the settings name, unopened, with nothing around it."""
    # a write may wait as long for its turn as it then takes itself
    size, deadline_s = settings.turnlog_pool_size, settings.turnlog_deadline_s / 2
    if settings.supabase_url and settings.supabase_key:
        key = settings.supabase_key.get_secret_value()
        return SupabaseStore(settings.supabase_url, key, pool_size=size, deadline_s=deadline_s)
    if settings.database_url:
        conninfo = settings.database_url.get_secret_value()
    else:
        conninfo = EmbeddedPostgres(settings.data_dir).conninfo()
    return PostgresStore(conninfo, pool_size=size, deadline_s=deadline_s)


def _reviver(settings: Settings, database: Store) -> Callable[[], None] | None:
    """Return what this service can do for a database that was away, before it asks whether that is back."""
    if settings.store_kind == "embedded":
        return EmbeddedPostgres(settings.data_dir).revive
    if settings.database_url is None:
        return None
    conninfo = settings.database_url.get_secret_value()

    def bring_up_to_date() -> None:
        # away when this service started, it could not be migrated then
        try:
            database.ping()
        except Misconfigured:
            commands.apply_migrations(conninfo)

    return bring_up_to_date


def create_redaction(settings: Settings) -> Redaction | None:
    """Return what redacts by the settings; None where nothing is to be. Raises `Misconfigured` for a bad file."""
    if not settings.redacted:
        return None
    from logging_store.redaction import finder_factory  # noqa: PLC0415 - what finds things takes memory and time to load

    try:
        finders = finder_factory.create_finders(
            settings.turnlog_redact,
            settings.turnlog_redact_patterns,
            phone_regions=settings.turnlog_redact_phone_regions,
            gitleaks=settings.turnlog_redact_gitleaks,
        )
        return Redaction(list(finders), fail_open=settings.turnlog_redact_failure == "open")
    except ValueError as error:
        raise Misconfigured(f"TURNLOG_REDACT_GITLEAKS: {error}") from None
