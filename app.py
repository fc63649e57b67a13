"""Turnlog's application: builds the stores and registers the blueprints.

Neither the import nor `create_app` connects to anything: a store connects at its first call, in the process that
makes it.
"""

from flask import Flask

from conversation import access, pages, refusals
from conversation.access import limits
from conversation.api import application, audit, openapi, own_prices, problems, routes
from conversation.api.pricing import Prices
from conversation.archive import user_export
from conversation.cli import flask_commands
from conversation.otlp import receiver
from conversation.pages.menu import PAGES
from conversation.settings import Settings
from conversation.stack import Stack
from logging_store.postgres.function_store import FunctionStore
from logging_store.store import Store
from logging_store.upkeep.indexing import Indexing

_MODULES = (*routes.RESOURCES, receiver, *PAGES, user_export)


def create_app(settings: Settings | None = None, store: Store | None = None) -> Flask:
    """Return the application. Settings default to the environment, the store to what the settings name."""
    settings = settings or flask_commands.settings_of_the_environment()
    stack = Stack.build(settings, store)
    app = application.Application(
        __name__, static_folder=None, static_url_path="/static", template_folder="conversation/pages/templates"
    )
    app.config["MAX_CONTENT_LENGTH"] = limits.MAX_BODY
    app.json = application.JsonWriter(app)
    app.extensions["turnlog_settings"] = settings
    app.extensions["turnlog_prices"] = Prices(
        own_prices.read(settings.turnlog_prices) if settings.turnlog_prices else ()
    )
    app.extensions["turnlog_stack"] = stack
    app.extensions["turnlog_database"] = stack.database
    app.extensions["conversation_repository"] = stack.repository
    if isinstance(stack.database, FunctionStore):
        app.extensions["turnlog_indexing"] = Indexing(stack.database)
    app.cli = flask_commands.commands(app.name)
    app.url_map.converters["name"] = application.NameConverter
    app.wsgi_app = application.keep_paths_encoded(app.wsgi_app)  # type: ignore[assignment, method-assign]
    refusals.register(app)
    access.attach(app, settings, stack.repository.store)
    limits.register(app, settings)
    problems.register(app)
    pages.register(app)
    for module in _MODULES:
        app.register_blueprint(module.blueprint)
    openapi.register(app)
    if settings.turnlog_audit_reads:
        audit.register(app)
    return app
