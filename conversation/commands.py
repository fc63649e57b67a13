"""`flask --app app …`: what operators run."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import click
import psycopg
from flask import Blueprint, current_app
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from conversation.settings import Settings
from logging_store.embedded import binaries
from logging_store.embedded.server import EmbeddedPostgres
from logging_store.errors import StoreUnavailable, TurnlogError
from logging_store.postgres import migrations

# a failed log-in has no SQLSTATE in libpq, only words
_REFUSED = re.compile(r"authentication failed|does not exist|no pg_hba\.conf entry|no password supplied|not permitted")

blueprint = Blueprint("commands", __name__, cli_group=None)


@blueprint.cli.command("migrate")
@click.option("--print", "print_only", is_flag=True, help="Show the SQL and connect to nothing.")
@click.option("--again", is_flag=True, help="Run what was applied once more: functions, indexes and rights come back.")
def migrate(*, print_only: bool, again: bool) -> None:
    """Bring the database's schema up to date."""
    if print_only:
        for migration in migrations.available():
            click.echo(f"-- {migration.version}_{migration.name}\n{migration.sql}")
        return
    settings: Settings = current_app.extensions["turnlog_settings"]
    try:
        with database(settings) as conninfo:
            applied = apply_migrations(conninfo)
            restored = apply_migrations(conninfo, again=True).migrations if again else []
    except TurnlogError as error:
        raise click.ClickException(str(error)) from error
    for migration in applied.migrations:
        click.echo(f"applied {migration.version}_{migration.name}")
    for migration in restored:
        click.echo(f"applied again {migration.version}_{migration.name}")
    if applied.notice:
        click.echo(applied.notice)
    click.echo(f"The schema is up to date: {migrations.SCHEMA_VERSION}.")


@blueprint.cli.command("psql", context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def psql(*, arguments: Sequence[str]) -> None:
    """Open the database in psql, as in `psql -c 'select 1'`; the embedded one runs meanwhile."""
    settings: Settings = current_app.extensions["turnlog_settings"]
    try:
        with database(settings) as conninfo:
            parts = conninfo_to_dict(conninfo)
            # whoever lists processes reads their arguments
            secret = {"PGPASSWORD": str(password)} if (password := parts.pop("password", None)) else {}
            program: list[str | Path] = [binaries.folder() / "psql", "--dbname", make_conninfo("", **parts), *arguments]
            interrupted = signal.signal(signal.SIGINT, signal.SIG_IGN)  # it ends a statement, not psql
            try:
                status = subprocess.run(program, env=os.environ | secret, check=False).returncode
            finally:
                signal.signal(signal.SIGINT, interrupted)
    except TurnlogError as error:
        raise click.ClickException(str(error)) from error
    sys.exit(status)


@dataclass(frozen=True, slots=True)
class Applied:
    """What was done to a database. `notice`: what whoever did it should know about it, once."""

    migrations: list[migrations.Migration]
    notice: str | None = None


def apply_migrations(conninfo: str, *, again: bool = False) -> Applied:
    """Bring a database up to date and return what was applied; or apply `again` what was already.

    Raises `StoreUnavailable` if it can't be reached now, another `TurnlogError` if somebody has to mend something.
    """
    try:
        with psycopg.connect(conninfo, autocommit=True, connect_timeout=10) as connection:
            if again:
                return Applied(migrations.reapply(connection))
            applied = list(migrations.apply(connection))
            is_news = bool(applied) and migrations.has_prerelease_tables(connection)
            return Applied(applied, migrations.PRERELEASE_HINT if is_news else None)
    except psycopg.OperationalError as error:
        if _REFUSED.search(str(error)):
            raise TurnlogError(f"The database refuses us, check DATABASE_URL: {error}") from error
        raise StoreUnavailable(f"The database can't be reached: {error}") from error
    except psycopg.Error as error:
        raise TurnlogError(f"The migration failed and was rolled back: {error}") from error


@contextmanager
def database(settings: Settings) -> Iterator[str]:
    """Yield how to connect to the database itself; the embedded one runs meanwhile."""
    match settings.store_kind:
        case "supabase":
            raise TurnlogError(
                "Supabase's API can't change the schema. Run `supabase db push`, paste the output of "
                "`flask --app app migrate --print` into the SQL editor, or set DATABASE_URL to the project's "
                "connection string instead of SUPABASE_URL"
            )
        case "postgres":
            assert settings.database_url is not None  # noqa: S101 - what store_kind says
            yield settings.database_url.get_secret_value()
        case "embedded":
            server = EmbeddedPostgres(settings.data_dir)
            server.start()
            try:
                yield server.conninfo()
            finally:
                server.stop()
