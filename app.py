"""Turnlog's application: builds the stack, attaches the repository, registers the endpoints.

Importing opens nothing, and neither does `create_app`: stores connect at their first call, in the process that
makes it.
"""

from flask import Flask

from conversation import (
    access,
    batches,
    body,
    browser_client,
    chats,
    compat,
    erasing,
    feedback,
    folders,
    health,
    http,
    interactions,
    metrics,
    openapi,
    overview,
    pages,
    participants,
    problems,
    searching,
    sessions,
    user_export,
)
from conversation.access import limits
from conversation.cli import flask_commands
from conversation.pages.areas import PAGES
from conversation.settings import Settings
from conversation.stack import Stack
from logging_store.functions import FunctionStore
from logging_store.indexing import Indexing
from logging_store.store import Store

_AREAS = (
    *(sessions, folders, participants, interactions, searching, batches, feedback, compat, chats),
    *(overview, erasing, user_export),
    *(health, metrics, browser_client),
    *PAGES,
)


def create_app(settings: Settings | None = None, store: Store | None = None) -> Flask:
    """Return the application; settings come from the environment, the store from the settings, unless given."""
    settings = settings or flask_commands.settings_of_the_environment()
    stack = Stack.build(settings, store)
    app = http.App(__name__, static_folder=None, static_url_path="/static", template_folder="conversation/templates")
    app.config["MAX_CONTENT_LENGTH"] = body.MAX_BODY
    app.json = http.Json(app)
    app.extensions["turnlog_settings"] = settings
    app.extensions["turnlog_stack"] = stack
    app.extensions["turnlog_database"] = stack.database
    app.extensions["conversation_repository"] = stack.repository
    if isinstance(stack.database, FunctionStore):
        app.extensions["turnlog_indexing"] = Indexing(stack.database)
    app.cli = flask_commands.commands(app.name)
    app.url_map.converters["name"] = http.NameInPath
    app.wsgi_app = http.keep_paths_encoded(app.wsgi_app)  # type: ignore[assignment, method-assign]
    access.attach(app, settings, stack.repository.store)
    limits.register(app, settings)
    problems.register(app)
    pages.register(app)
    for area in _AREAS:
        app.register_blueprint(area.blueprint)
    openapi.register(app)
    return app
