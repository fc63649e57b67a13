"""Applies `supabase/migrations/*.sql`, the only copy of the schema.

Each file runs in a transaction with its record in `supabase_migrations.schema_migrations`, where the Supabase CLI
looks too, so `supabase db push` and this agree on what is done. One migrator works at a time; a second one waits
and then finds the work done.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg

from logging_store.errors import Misconfigured

DIRECTORY = Path(__file__).resolve().parent.parent / "supabase" / "migrations"

#: Advisory lock of Turnlog's migrations: the bytes of "turnlog" as a number.
_LOCK = int.from_bytes(b"turnlog")

# What the Supabase CLI makes, word for word, so that either may come first.
_LEDGER = """
create schema if not exists supabase_migrations;
create table if not exists supabase_migrations.schema_migrations (version text not null primary key);
alter table supabase_migrations.schema_migrations add column if not exists statements text[];
alter table supabase_migrations.schema_migrations add column if not exists name text;
"""


@dataclass(frozen=True, slots=True)
class Migration:
    version: str
    name: str
    sql: str


def available() -> list[Migration]:
    """Return the migrations that this code brings, in order."""
    return [
        Migration(*_version_and_name(path), path.read_text(encoding="utf-8"))
        for path in sorted(DIRECTORY.glob("*.sql"))
    ]


def _version_and_name(path: Path) -> tuple[str, str]:
    version, _, name = path.stem.partition("_")
    return version, name


#: What `turnlog.ping` answers on a database that this code fits.
SCHEMA_VERSION = max(_version_and_name(path)[0] for path in DIRECTORY.glob("*.sql"))


def apply(connection: psycopg.Connection) -> Iterator[Migration]:
    """Bring the database up to date; yield each migration once it is committed.

    `connection` must be in autocommit mode. Raises `Misconfigured` if a newer Turnlog has been here.
    """
    connection.execute("select pg_advisory_lock(%s)", [_LOCK])
    try:
        with connection.transaction():
            connection.execute(_LEDGER)
        applied = _applied(connection)
        _refuse_newer(applied)
        for migration in available():
            if migration.version in applied:
                continue
            with connection.transaction():
                connection.execute(
                    "insert into supabase_migrations.schema_migrations (version, name, statements) values (%s, %s, %s)",
                    [migration.version, migration.name, [migration.sql]],
                )
                connection.execute(migration.sql.encode())
            yield migration
    finally:
        connection.execute("select pg_advisory_unlock(%s)", [_LOCK])


def apply_again(connection: psycopg.Connection) -> list[Migration]:
    """Run every migration that is recorded once more, all in one transaction, and return them.

    What is missing of tables, indexes, functions and rights comes back; rows and columns stay as they are.
    """
    connection.execute("select pg_advisory_lock(%s)", [_LOCK])
    try:
        applied = _applied(connection)
        _refuse_newer(applied)
        again = [migration for migration in available() if migration.version in applied]
        # in one transaction: between two of them an older function would answer
        with connection.transaction():
            for migration in again:
                connection.execute(migration.sql.encode())
        return again
    finally:
        connection.execute("select pg_advisory_unlock(%s)", [_LOCK])


def _applied(connection: psycopg.Connection) -> dict[str, str]:
    """Return the recorded migrations: version to name. A project's own are among them."""
    return {
        version: name or ""
        for version, name in connection.execute("select version, name from supabase_migrations.schema_migrations")
    }


def _refuse_newer(applied: dict[str, str]) -> None:
    known = {migration.version for migration in available()}
    newer = [
        f"{version}_{name}"
        for version, name in sorted(applied.items())
        if name.startswith("turnlog_") and version not in known
    ]
    if newer:
        raise Misconfigured(
            f"the database has {', '.join(newer)}, which this version of Turnlog doesn't know: run the newer version"
        )
