"""`turnlog serve`: runs the service under gunicorn, with the settings that come with Turnlog."""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING

import click

from conversation.cli.base import new_command
from conversation.cli.context import announce, current_settings

if TYPE_CHECKING:
    from flask import Flask


@new_command(
    "serve",
    examples=[
        ("serve", "Serve this folder's log on http://127.0.0.1:8000"),
        ("serve --port 8080", "Serve it on another port"),
    ],
)
@click.option("--host", help="The address to listen on.  [default: TURNLOG_HOST, else 127.0.0.1]")
@click.option("--port", type=click.IntRange(1, 65535), help="The port to listen on.  [default: PORT, else 8000]")
def command(*, host: str | None, port: int | None) -> None:
    """Run the service, until Ctrl-C.

    It starts its own PostgreSQL in DATA_DIR unless DATABASE_URL or SUPABASE_URL names another database, and brings the
    schema up to date. The first start prints an admin key. GUNICORN_CMD_ARGS reaches gunicorn.
    """
    # gunicorn's workers and its reload read the environment again
    if host is not None:
        os.environ["TURNLOG_HOST"] = host
    if port is not None:
        os.environ["PORT"] = str(port)
    announce(current_settings())
    serve()


def serve() -> None:
    """Run the service with the environment's settings; return when it ends."""
    from conversation.server.service import Service

    Service(_application, prog="turnlog serve").run()


def _application() -> Flask:
    # by name: app.py imports all rooms, so no room may import it
    application: Flask = importlib.import_module("app").create_app()
    return application
