"""Builds the stores that the settings name, and opens the database below them for what needs its address."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Self, cast
from urllib.parse import urlsplit

from conversation.interrupts import sigterm_as_interrupt
from conversation.settings import Settings
from logging_store.arrival_clock import ArrivalClock
from logging_store.embedded.server import EmbeddedPostgres
from logging_store.errors import Misconfigured, SchemaMissing
from logging_store.group_commit import GroupCommit
from logging_store.metrics import ledger
from logging_store.metrics.ledger import Ledger
from logging_store.postgres import conninfo as connection_strings
from logging_store.postgres import migrations
from logging_store.postgres.function_store import FunctionStore, longest_ping
from logging_store.postgres.postgres_store import PostgresStore
from logging_store.redaction import Redaction
from logging_store.repository import ConversationRepository
from logging_store.spool import CircuitBreaker, Limits, Spool
from logging_store.store import Store


@dataclass(frozen=True, slots=True)
class Stack:
    """The stores of one process. `database`: the store itself; `repository`: the log, over spool and group commit.

    A store connects at its first call, in the process that makes it.
    """

    settings: Settings
    database: FunctionStore
    repository: ConversationRepository

    @classmethod
    def build(cls, settings: Settings, store: Store | None = None) -> Self:
        """Return the stores that the settings name; or only `store`, without spool and group commit."""
        counts = ledger.process_ledger(settings.redacted)
        # a test's store of another kind has only reads and writes
        database = cast("FunctionStore", store) if store else create_database_store(settings)
        log = store or create_store(settings, database, counts)

        def database_time() -> datetime:
            return datetime.fromisoformat(log.ping()["now"])

        repository = ConversationRepository(
            log,
            settings.turnlog_project,
            ArrivalClock(database_time),
            ledger=counts,
            redaction=create_redaction(settings),
        )
        return cls(settings, database, repository)


def create_store(settings: Settings, database: Store, counts: Ledger) -> Store:
    """Return the store of the log: group commit over a spool over a database."""
    spool = Spool(
        database,
        settings.spool_folders.root / settings.address,
        Limits(settings.turnlog_spool_max_mb << 20, settings.turnlog_spool_min_free_mb << 20),
        revive=_reviver(settings, database),
        breaker=CircuitBreaker(on_change=counts.breaker),
        on_delivered=counts.delivered,
    )
    # half of the deadline is for the write and half for its turn, and for the ping that follows a failed write
    max_wait_s = settings.turnlog_deadline_s / 2 - longest_ping(settings.turnlog_deadline_s / 2)
    return GroupCommit(spool, max_wait_s=max_wait_s, overflow=spool.enqueue, on_written=counts.written)


def create_database_store(settings: Settings) -> FunctionStore:
    """Return the store of the database that the settings name, not connected yet, without spool and group commit."""
    # half of the deadline is for the write, see `create_store`
    size, deadline_s = settings.turnlog_pool_size, settings.turnlog_deadline_s / 2
    if settings.supabase_url and settings.supabase_key:
        from logging_store.postgres.supabase_store import SupabaseStore  # noqa: PLC0415 - its libraries take long to import

        key = settings.supabase_key.get_secret_value()
        return SupabaseStore(settings.supabase_url, key, pool_size=size, deadline_s=deadline_s)
    if settings.database_url:
        conninfo = settings.database_url.get_secret_value()
    else:
        conninfo = EmbeddedPostgres(settings.data_dir).conninfo()
    return PostgresStore(conninfo, pool_size=size, deadline_s=deadline_s)


def create_redaction(settings: Settings) -> Redaction | None:
    """Return the redaction of the settings; None if they name nothing. Raises `Misconfigured` for an invalid file."""
    if not settings.redacted:
        return None
    from logging_store.redaction import finder_factory  # noqa: PLC0415 - finders take memory and time to load

    try:
        finders = finder_factory.create_finders(
            settings.turnlog_redact,
            settings.turnlog_redact_patterns,
            phone_regions=settings.turnlog_redact_phone_regions,
            gitleaks=settings.turnlog_redact_gitleaks,
        )
        return Redaction(list(finders), fail_open=settings.turnlog_redact_failure == "open")
    except ValueError as error:
        raise Misconfigured(f"TURNLOG_REDACT_GITLEAKS: {error}") from None


def describe(settings: Settings) -> str:
    """Return a description of the settings' database for people, without secrets."""
    match settings.store_kind:
        case "supabase":
            return f"Supabase project at {urlsplit(settings.supabase_url or '').netloc.rpartition('@')[2]}"
        case "postgres":
            assert settings.database_url is not None  # noqa: S101 - what store_kind says
            return f"PostgreSQL at {connection_strings.describe(settings.database_url.get_secret_value())}"
        case "embedded":
            return f"embedded, {_short(EmbeddedPostgres(settings.data_dir).directory)}"


def require_log(settings: Settings) -> None:
    """Raise `SchemaMissing` if there is no embedded database yet: commands that only read don't create one."""
    if settings.store_kind != "embedded" or EmbeddedPostgres(settings.data_dir).exists():
        return
    raise SchemaMissing(
        f"No Turnlog log in {_short(settings.data_dir.resolve())}. If yours is elsewhere, set DATA_DIR to its folder; "
        "`turnlog serve` creates a new one here"
    )


@contextmanager
def running_database(settings: Settings) -> Iterator[str]:
    """Yield the connection string of the database itself; the embedded one runs meanwhile.

    SIGTERM raises `KeyboardInterrupt` meanwhile. Raises `Misconfigured` for Supabase's API, which has no such address.
    """
    if settings.store_kind == "supabase":
        raise Misconfigured(
            "Supabase's API can't change the schema. Run `supabase db push`, paste the output of "
            "`turnlog migrate --print` into the SQL editor, or set DATABASE_URL to the project's "
            "connection string instead of SUPABASE_URL"
        )
    with sigterm_as_interrupt():  # else the server, or a psql, would outlive the command
        if settings.database_url is not None:
            yield settings.database_url.get_secret_value()
            return
        server = EmbeddedPostgres(settings.data_dir)
        server.start()
        try:
            yield server.conninfo()
        finally:
            server.stop()


def _reviver(settings: Settings, database: Store) -> Callable[[], None] | None:
    """Return what to do before probing a database that was unavailable: restart it, or migrate it; None for nothing."""
    if settings.store_kind == "embedded":
        return EmbeddedPostgres(settings.data_dir).revive
    if settings.database_url is None:
        return None
    conninfo = settings.database_url.get_secret_value()

    def bring_up_to_date() -> None:
        # it was unavailable when this service started, so it may not be migrated yet
        try:
            database.ping()
        except Misconfigured:
            migrations.migrate(conninfo)

    return bring_up_to_date


def _short(path: Path) -> str:
    """Return a path relative to the working directory, if it is below that."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)
