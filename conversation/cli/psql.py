"""`turnlog psql`: opens the database in psql."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence

import click

from conversation.cli.base import new_command
from conversation.cli.context import announce, current_settings


@new_command(
    "psql",
    context_settings={"ignore_unknown_options": True},
    examples=[
        ("psql", "Look around"),
        ("psql -c 'select count(*) from turnlog.ai_sessions'", "Run one query; psql's own options all work"),
    ],
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def command(*, arguments: Sequence[str]) -> None:
    """Open the database in psql. An embedded database runs meanwhile."""
    from conversation.settings import Settings
    from conversation.stack import require_log, running_database
    from logging_store.embedded import binaries

    settings = current_settings()
    announce(settings)
    require_log(settings)
    with running_database(settings) as conninfo:
        program, environment = binaries.psql(conninfo, arguments, Settings.without_ours(os.environ))
        interrupted = signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends a statement, not psql
        try:
            status = subprocess.run(program, env=environment, check=False).returncode
        finally:
            signal.signal(signal.SIGINT, interrupted)
    sys.exit(status)
