"""Turnlog's application: builds the stack, attaches the repository, registers the endpoints.

Importing opens nothing, and neither does `create_app`: stores connect at their first call, in the process that
makes it.
"""

from flask import Flask

from conversation import (
    access,
    body,
    commands,
    compat,
    health,
    http,
    interactions,
    openapi,
    problems,
    sessions,
)
from conversation.settings import Settings
from logging_store.embedded import EmbeddedPostgres
from logging_store.group_commit import GroupCommit
from logging_store.postgres import PostgresStore
from logging_store.repository import ConversationRepository
from logging_store.spool import Limits, Spool
from logging_store.store import Store
from logging_store.supabase import SupabaseStore

#: The part of the deadline that a write may take by itself; the rest it may wait for its turn. That has to be longer:
#: who waits behind the write that finds out that the store hangs shall still be there to be spooled.
_OWN_PART = 0.4


def create_app(settings: Settings | None = None, store: Store | None = None) -> Flask:
    """Return the application; settings come from the environment, the store from the settings, unless given."""
    settings = settings or Settings.from_environment()
    app = Flask(__name__, static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = body.MAX_BODY
    app.json = http.Json(app)
    app.extensions["turnlog_settings"] = settings
    app.extensions["conversation_repository"] = ConversationRepository(
        store or create_store(settings), settings.turnlog_project
    )
    app.url_map.converters["session"] = http.SessionName
    app.wsgi_app = http.keep_paths_encoded(app.wsgi_app)  # type: ignore[assignment, method-assign]
    access.attach(app, settings)
    problems.register(app)
    for area in (sessions, interactions, compat, health, commands):
        app.register_blueprint(area.blueprint)
    openapi.register(app)
    return app


def create_store(settings: Settings) -> Store:
    """Return the store that the settings name, unopened."""
    spool = Spool(
        _database_store(settings),
        settings.data_dir / "spool",
        Limits(settings.turnlog_spool_max_mb << 20, settings.turnlog_spool_min_free_mb << 20),
    )
    return GroupCommit(spool, patience_s=settings.turnlog_deadline_s * (1 - _OWN_PART))


def _database_store(settings: Settings) -> Store:
    size, deadline_s = settings.turnlog_pool_size, settings.turnlog_deadline_s * _OWN_PART
    if settings.supabase_url and settings.supabase_key:
        key = settings.supabase_key.get_secret_value()
        return SupabaseStore(settings.supabase_url, key, pool_size=size, deadline_s=deadline_s)
    if settings.database_url:
        conninfo = settings.database_url.get_secret_value()
    else:
        conninfo = EmbeddedPostgres(settings.data_dir).conninfo()
    return PostgresStore(conninfo, pool_size=size, deadline_s=deadline_s)
