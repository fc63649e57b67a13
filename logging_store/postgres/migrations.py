"""Applies `supabase/migrations/*.sql`, one file a release, each made from `supabase/schemas` by `make migration`.

A file is a transaction and records its version in `turnlog.migrations` itself, so it can be applied by this module, by
`supabase db push` or in an SQL editor. One migrator runs at a time; a second one waits, then finds the work done.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg

from logging_store.errors import Misconfigured

DIRECTORY = Path(__file__).resolve().parents[2] / "supabase" / "migrations"

#: The advisory lock of migrations: the bytes of "turnlog" as a number.
_LOCK = int.from_bytes(b"turnlog")

#: The comment that marks a schema `turnlog` as ours; supabase/schemas/schema.sql sets it.
MARK = "Turnlog, the AI conversation log. Its migrations make what is in here."

#: Tells how to migrate rows of a version before the first release, which used the schema `public`.
PRERELEASE_HINT = (
    "This database also holds the tables of a Turnlog from before 0.1.0, in the schema public; they stay as they are. "
    "To bring their rows along, run `export` with that version and `import --format turnlog` with this one."
)


#: A file's own transaction, removed where it runs inside another.
_TRANSACTION = re.compile(r"^(begin|commit);$", re.MULTILINE)

#: Raised by migrations, with a sentence for the operator: a name is taken, or a right is missing.
_REFUSALS = (psycopg.errors.DuplicateSchema, psycopg.errors.DuplicateFunction, psycopg.errors.InsufficientPrivilege)


@dataclass(frozen=True, slots=True)
class Migration:
    version: str
    name: str
    sql: str


def available() -> list[Migration]:
    """Return the migrations of this version, in order."""
    return [
        Migration(*_version_and_name(path), path.read_text(encoding="utf-8"))
        for path in sorted(DIRECTORY.glob("*.sql"))
    ]


def _version_and_name(path: Path) -> tuple[str, str]:
    version, _, name = path.stem.partition("_")
    return version, name


#: The schema version that this code needs, as `turnlog.ping` returns it.
SCHEMA_VERSION = max(_version_and_name(path)[0] for path in DIRECTORY.glob("*.sql"))


def apply(connection: psycopg.Connection) -> Iterator[Migration]:
    """Bring the database up to date; yield each migration once it is committed.

    `connection` must be in autocommit mode. Raises `Misconfigured` if the database has a newer version, or if foreign
    objects have names that Turnlog needs.
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


def reapply(connection: psycopg.Connection) -> list[Migration]:
    """Run every applied migration again in one transaction, and return them.

    That restores missing tables, indexes, functions and rights; rows and columns stay as they are.
    """
    connection.execute("select pg_advisory_lock(%s)", [_LOCK])
    try:
        applied = _applied(connection)
        again = [migration for migration in available() if migration.version in applied]
        _run(connection, again)
        return again
    finally:
        connection.execute("select pg_advisory_unlock(%s)", [_LOCK])


def has_prerelease_tables(connection: psycopg.Connection) -> bool:
    """Return whether the database has tables of a version before the first release."""
    row = connection.execute("select to_regprocedure('public.turnlog_ping_v1(jsonb)') is not null").fetchone()
    return row == (True,)


def _run(connection: psycopg.Connection, these: list[Migration]) -> None:
    try:
        with connection.transaction():
            for migration in these:
                connection.execute(_TRANSACTION.sub("", migration.sql).encode())
    except _REFUSALS as error:
        raise Misconfigured(_refusal_message(error.diag)) from error


def _refusal_message(diag: psycopg.errors.Diagnostic) -> str:
    """Return a migration's error in one line: what is in the way, and how to proceed."""
    return ". ".join(
        part.rstrip(".") for part in (diag.message_primary, diag.message_detail, diag.message_hint) if part
    )


def _applied(connection: psycopg.Connection) -> set[str]:
    """Return the applied versions. Raises `Misconfigured` if one is newer than this code."""
    is_ours = connection.execute(
        "select obj_description(to_regnamespace('turnlog'), 'pg_namespace') = %s"
        " and to_regclass('turnlog.migrations') is not null",
        [MARK],
    ).fetchone()
    if is_ours != (True,):
        return set()
    applied = {version for (version,) in connection.execute("select version from turnlog.migrations").fetchall()}
    if newer := applied - {migration.version for migration in available()}:
        raise Misconfigured(
            f"The database has Turnlog's schema {', '.join(sorted(newer))}, which this version doesn't know: "
            "run the newer version"
        )
    return applied
