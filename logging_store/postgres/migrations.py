"""Applies `supabase/migrations/*.sql`, one file a release, each made from `supabase/schemas` by `make migration`.

A file is a transaction and records its version in `turnlog.migrations` itself, so it can be applied by this module, by
`supabase db push` or in an SQL editor. One migrator runs at a time; a second one waits, then finds the work done.

Whoever waits for the lock of a table holds up everybody who comes after. So behind a long transaction, as a backup is
one, a migration waits briefly, again and again, and service goes on.
"""

import random
import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg

from logging_store.errors import Misconfigured, StoreBusy, StoreUnavailable, TurnlogError

#: Inside this package in a wheel, at the top of a checkout.
DIRECTORY = next(
    folder
    for folder in (
        Path(__file__).resolve().parent / "migrations_sql",
        Path(__file__).resolve().parents[2] / "supabase" / "migrations",
    )
    if folder.is_dir()
)

#: The advisory lock of migrations: the bytes of "turnlog" as a number.
_LOCK = int.from_bytes(b"turnlog")

_LOCK_WAIT_S = 1  # a third of what a write waits for a lock
_PAUSES_S = (1.0, 3.0)  # between two attempts; random, so that two programs don't keep meeting
_PATIENCE_S = 60.0  # then a service starts all the same, and spools until its tables are free

#: The comment that marks a schema `turnlog` as ours; supabase/schemas/schema.sql sets it.
MARK = "Turnlog, the AI conversation log. Its migrations make what is in here."

#: Explains how to migrate rows of a version before the first release, which used the schema `public`.
PRERELEASE_HINT = (
    "This database also holds the tables of a Turnlog from before 0.1.0, in the schema public; they stay as they are. "
    "To bring their rows along, run `export` with that version and `import --format turnlog` with this one."
)


#: A file's own transaction, removed where it runs inside another.
_TRANSACTION = re.compile(r"^(begin|commit);$", re.MULTILINE)

#: Raised by migrations, with a sentence for the operator: a name is taken, or a right is missing.
_REFUSALS = (psycopg.errors.DuplicateSchema, psycopg.errors.DuplicateFunction, psycopg.errors.InsufficientPrivilege)


# a failed log-in has no SQLSTATE in libpq, only words
_REFUSED = re.compile(r"authentication failed|does not exist|no pg_hba\.conf entry|no password supplied|not permitted")


@dataclass(frozen=True, slots=True)
class Migration:
    version: str
    name: str
    sql: str


@dataclass(frozen=True, slots=True)
class Applied:
    """The migrations that were applied. `notice`: a warning for the operator, shown once."""

    migrations: list[Migration]
    notice: str | None = None


def migrate(conninfo: str, *, again: bool = False) -> Applied:
    """Bring a database up to date and return what was applied; or apply `again` what was already.

    Raises `StoreUnavailable` if it can't be reached now, another `TurnlogError` if a person has to change something.
    """
    try:
        with psycopg.connect(conninfo, autocommit=True, connect_timeout=10) as connection:
            if again:
                return Applied(reapply(connection))
            applied = list(apply(connection))
            is_news = bool(applied) and has_prerelease_tables(connection)
            return Applied(applied, PRERELEASE_HINT if is_news else None)
    except psycopg.OperationalError as error:
        if _REFUSED.search(str(error)):
            raise TurnlogError(f"The database refuses us, check DATABASE_URL: {error}") from error
        raise StoreUnavailable(f"The database can't be reached: {error}") from error
    except psycopg.Error as error:
        raise TurnlogError(f"The migration failed and was rolled back: {error}") from error


def is_foreign(conninfo: str) -> bool:
    """Return whether another program's schema has the name of ours. Raises `StoreUnavailable`."""
    try:
        with psycopg.connect(conninfo, autocommit=True, connect_timeout=10) as connection:
            row = connection.execute(
                "select to_regnamespace('turnlog') is not null"
                " and obj_description(to_regnamespace('turnlog'), 'pg_namespace') is distinct from %s",
                [MARK],
            ).fetchone()
            return row == (True,)
    except psycopg.Error as error:
        raise StoreUnavailable(f"The database can't be reached: {error}") from error


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
        applied = recorded(connection)
        for migration in available():
            if migration.version not in applied:
                _run_when_free(connection, [migration])
                yield migration
    finally:
        connection.execute("select pg_advisory_unlock(%s)", [_LOCK])


def reapply(connection: psycopg.Connection) -> list[Migration]:
    """Run every applied migration again in one transaction, and return them.

    That restores missing tables, indexes, functions and rights; rows and columns stay as they are.
    """
    connection.execute("select pg_advisory_lock(%s)", [_LOCK])
    try:
        applied = recorded(connection)
        again = [migration for migration in available() if migration.version in applied]
        _run_when_free(connection, again)
        return again
    finally:
        connection.execute("select pg_advisory_unlock(%s)", [_LOCK])


def has_prerelease_tables(connection: psycopg.Connection) -> bool:
    """Return whether the database has tables of a version before the first release."""
    row = connection.execute("select to_regprocedure('public.turnlog_ping_v1(jsonb)') is not null").fetchone()
    return row == (True,)


def lock(connection: psycopg.Connection) -> None:
    """Wait for other migrators, and keep them waiting until the end of the transaction."""
    connection.execute("select pg_advisory_xact_lock(%s)", [_LOCK])


def run(connection: psycopg.Connection, these: list[Migration]) -> None:
    """Run these migrations in one transaction, or in the one that is open.

    Raises `Misconfigured` if a name that they need belongs to somebody else, or a right is missing.
    """
    try:
        with connection.transaction():
            for migration in these:
                connection.execute(_TRANSACTION.sub("", migration.sql).encode())
    except _REFUSALS as error:
        raise Misconfigured(_refusal_message(error.diag)) from error


def _run_when_free(connection: psycopg.Connection, these: list[Migration]) -> None:
    """Run these migrations in a transaction of their own, once no other transaction's lock is in the way.

    Raises `StoreBusy` after a minute, and what `run` raises.
    """
    give_up = time.monotonic() + _PATIENCE_S
    while True:
        try:
            with connection.transaction():
                connection.execute(f"set local lock_timeout = '{_LOCK_WAIT_S}s'".encode())
                run(connection, these)
        except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected) as error:
            if time.monotonic() > give_up:
                raise StoreBusy(
                    "Another transaction keeps the tables of Turnlog locked, and nothing was migrated: try again. "
                    "`turnlog psql -c 'table pg_stat_activity'` shows whose it is"
                ) from error
            time.sleep(random.uniform(*_PAUSES_S))  # noqa: S311 - jitter, not a secret
        else:
            return


def _refusal_message(diag: psycopg.errors.Diagnostic) -> str:
    """Return a migration's error in one line: what is in the way, and how to proceed."""
    return ". ".join(
        part.rstrip(".") for part in (diag.message_primary, diag.message_detail, diag.message_hint) if part
    )


def is_ours(connection: psycopg.Connection) -> bool:
    """Return whether the database has a schema `turnlog` that is marked as ours and records its migrations."""
    row = connection.execute(
        "select obj_description(to_regnamespace('turnlog'), 'pg_namespace') = %s"
        " and to_regclass('turnlog.migrations') is not null",
        [MARK],
    ).fetchone()
    return row == (True,)


def recorded(connection: psycopg.Connection) -> set[str]:
    """Return the versions that the database has. Raises `Misconfigured` if one is newer than this code."""
    if not is_ours(connection):
        return set()
    versions = {version for (version,) in connection.execute("select version from turnlog.migrations").fetchall()}
    if newer := unknown(versions):
        raise Misconfigured(
            f"The database has Turnlog's schema {', '.join(newer)}, which this version doesn't know: "
            "run the newer version"
        )
    return versions


def unknown(versions: Iterable[str]) -> list[str]:
    """Return which of these versions are newer than this code."""
    return sorted(set(versions) - {migration.version for migration in available()})
