"""Applies `supabase/migrations/*.sql`, one file a release, each made from `supabase/schemas` by `make migration`.

A file is a transaction and records its version in `turnlog.migrations` itself, so this, `supabase db push` and a
person with an SQL editor agree on what is done. One migrator works at a time; a second one waits, and then finds the
work done.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg

from logging_store.errors import Misconfigured

DIRECTORY = Path(__file__).resolve().parents[2] / "supabase" / "migrations"

#: Advisory lock of Turnlog's migrations: the bytes of "turnlog" as a number.
_LOCK = int.from_bytes(b"turnlog")

#: The comment by which a schema `turnlog` is known as ours; supabase/schemas/schema.sql sets it.
MARK = "Turnlog, the AI conversation log. Its migrations make what is in here."

#: How rows of a Turnlog from before the first release come along; it kept them in the schema `public`.
BEFORE_THE_FIRST_RELEASE = (
    "This database also holds the tables of a Turnlog from before 0.1.0, in the schema public; they stay as they are. "
    "To bring their rows along, run `export` with that version and `import --format turnlog` with this one."
)


#: A file's own transaction, which is left out where it runs inside another.
_TRANSACTION = re.compile(r"^(begin|commit);$", re.MULTILINE)

#: What a migration raises about a name that is somebody else's, or a right that is missing, in sentences of its own.
_REFUSALS = (psycopg.errors.DuplicateSchema, psycopg.errors.DuplicateFunction, psycopg.errors.InsufficientPrivilege)


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

    `connection` must be in autocommit mode. Raises `Misconfigured` if a newer Turnlog has been here, or if what is not
    Turnlog's has a name that it needs.
    """
    connection.execute("select pg_advisory_lock(%s)", [_LOCK])
    try:
        applied = _applied(connection)
        for migration in available():
            if migration.version not in applied:
                _run(connection, [migration])
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
        again = [migration for migration in available() if migration.version in applied]
        _run(connection, again)
        return again
    finally:
        connection.execute("select pg_advisory_unlock(%s)", [_LOCK])


def holds_old_tables(connection: psycopg.Connection) -> bool:
    """Tell whether the database holds tables of a Turnlog from before the first release."""
    row = connection.execute("select to_regprocedure('public.turnlog_ping_v1(jsonb)') is not null").fetchone()
    return row == (True,)


def _run(connection: psycopg.Connection, these: list[Migration]) -> None:
    try:
        with connection.transaction():
            for migration in these:
                connection.execute(_TRANSACTION.sub("", migration.sql).encode())
    except _REFUSALS as error:
        raise Misconfigured(_sentence(error.diag)) from error


def _sentence(diag: psycopg.errors.Diagnostic) -> str:
    """Return what a migration says of a name that is taken: what is there, and how to proceed."""
    return ". ".join(
        part.rstrip(".") for part in (diag.message_primary, diag.message_detail, diag.message_hint) if part
    )


def _applied(connection: psycopg.Connection) -> set[str]:
    """Return the versions that the database has. Raises `Misconfigured` if one is newer than this code."""
    ours = connection.execute(
        "select obj_description(to_regnamespace('turnlog'), 'pg_namespace') = %s"
        " and to_regclass('turnlog.migrations') is not null",
        [MARK],
    ).fetchone()
    if ours != (True,):
        return set()
    applied = {version for (version,) in connection.execute("select version from turnlog.migrations").fetchall()}
    if newer := applied - {migration.version for migration in available()}:
        raise Misconfigured(
            f"The database has Turnlog's schema {', '.join(sorted(newer))}, which this version doesn't know: "
            "run the newer version"
        )
    return applied
