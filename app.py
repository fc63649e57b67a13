"""Turnlog's application: builds the stack, attaches the repository, registers the endpoints.

Importing opens nothing, and neither does `create_app`: stores connect at their first call, in the process that
makes it.
"""

from flask import Flask

from conversation import access, pages, refusals
from conversation.access import limits
from conversation.api import http, openapi, problems, routes
from conversation.archive import user_export
from conversation.cli import flask_commands
from conversation.pages.menu import PAGES
from conversation.settings import Settings
from conversation.stack import Stack
from logging_store.postgres.function_store import FunctionStore
from logging_store.store import Store
from logging_store.upkeep.indexing import Indexing

_AREAS = (*routes.AREAS, *PAGES, user_export)


def create_app(settings: Settings | None = None, store: Store | None = None) -> Flask:
    """Return the application; settings come from the environment, the store from the settings, unless given."""
    settings = settings or flask_commands.settings_of_the_environment()
    stack = Stack.build(settings, store)
    app = http.App(
        __name__, static_folder=None, static_url_path="/static", template_folder="conversation/pages/templates"
    )
    app.config["MAX_CONTENT_LENGTH"] = limits.MAX_BODY
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
    refusals.register(app)
    access.attach(app, settings, stack.repository.store)
    limits.register(app, settings)
    problems.register(app)
    pages.register(app)
    for area in _AREAS:
        app.register_blueprint(area.blueprint)
    openapi.register(app)
    return app
