"""The table of the commands, and the entry point `turnlog`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from shutil import which

import click

from conversation import VERSION
from conversation.cli.base import Entry, LazyGroup, print_unexpected

_ROOM = "conversation.cli"

SECTIONS = {
    "Run": {
        "serve": Entry(f"{_ROOM}.serve", "Run the service."),
        "demo": Entry(f"{_ROOM}.demo", "Serve a log of example conversations."),
        "open": Entry(f"{_ROOM}.open", "Open the pages in your browser."),
    },
    "Access and projects": {
        "keys": Entry(f"{_ROOM}.keys", "Create, list, revoke and rotate API keys."),
        "projects": Entry(f"{_ROOM}.projects", "List projects and set their retention."),
        "audit": Entry(f"{_ROOM}.audit", "List who read whose conversations."),
    },
    "Data": {
        "import": Entry(f"{_ROOM}.import_", "Import conversations from a file or a database."),
        "backup": Entry(f"{_ROOM}.backup", "Write everything in the database to one file."),
        "restore": Entry(f"{_ROOM}.restore", "Put a backup into an empty database."),
        "export": Entry(f"{_ROOM}.export", "Export sessions and interactions."),
        "expire": Entry(f"{_ROOM}.expire", "Erase sessions past their project's retention."),
        "verify-report": Entry(f"{_ROOM}.verify_report", "Verify a signed erasure report."),
    },
    "Database": {
        "migrate": Entry(f"{_ROOM}.migrate", "Bring the database's schema up to date."),
        "index": Entry(f"{_ROOM}.index", "Build the search index now."),
        "psql": Entry(f"{_ROOM}.psql", "Open the database in psql."),
    },
    "Check": {
        "doctor": Entry(f"{_ROOM}.doctor", "Check database, spool and clock; print how to fix what's wrong."),
        "selftest": Entry(f"{_ROOM}.selftest", "Prove that your database loses and doubles nothing."),
        "ledger": Entry(f"{_ROOM}.ledger", "Compare what a client sent with what is stored."),
        "spool": Entry(f"{_ROOM}.spool", "Show what waits on this machine's disk, and dead letters."),
        "repair": Entry(f"{_ROOM}.repair", "Fix missing or invalid ids in another application's table."),
    },
    "Shell": {
        "completion": Entry(f"{_ROOM}.completion", "Print the shell's completion script."),
    },
}

command = LazyGroup(
    name="turnlog",
    sections=SECTIONS,
    help=(
        "Turnlog, the AI conversation log: sessions and interactions, stored once.\n\n"
        "Settings are environment variables. DATABASE_URL, or SUPABASE_URL with SUPABASE_SECRET_KEY, name the "
        "database; without them Turnlog runs a PostgreSQL of its own in DATA_DIR (data, if unset)."
    ),
    examples=[
        ("demo", "Look at it, with example conversations"),
        ("serve", "Run the service"),
        ("keys create --name backend", "Create a key for a backend"),
        ("COMMAND --help", "Read about a command, with examples"),
    ],
    subcommand_metavar="COMMAND …",
)
command = click.version_option(VERSION, message="turnlog %(version)s")(command)


def how_to_call() -> str:
    """Return the command line for `turnlog` on this machine: in a checkout it isn't on the PATH."""
    if which("turnlog"):
        return "turnlog"
    # -P: a stranger's app.py in the working directory isn't imported
    beside = Path(sys.executable).with_name("turnlog")
    return os.path.relpath(beside) if beside.exists() else f"{sys.executable} -P -m {_ROOM}"


def main() -> None:
    """Run the command line of this process."""
    sys.excepthook = print_unexpected
    command(prog_name="turnlog")
