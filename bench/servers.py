"""What is measured: a PostgreSQL server of the benchmark's own and the services on it, and what CPU they use."""

import contextlib
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import psycopg

from bench import handwritten
from conversation.commands import apply_migrations
from logging_store.embedded import EmbeddedPostgres
from tests.service import Service, launch

WORKERS = 2
TURNLOG, HANDWRITTEN, CEILING = "Turnlog", "hand-written", "no database"
_SETTLE_S = 10


@dataclass(frozen=True, slots=True)
class Database:
    """One database of the benchmark's server; `table` holds the interactions."""

    conninfo: str
    table: str

    def rows(self) -> int:
        """Return how many interactions are stored, once nobody writes any more."""
        give_up = time.monotonic() + _SETTLE_S
        with psycopg.connect(self.conninfo, autocommit=True) as connection:
            while _one(connection, _BUSY) and time.monotonic() < give_up:
                time.sleep(0.02)
            return _one(connection, f"select count(*) from {self.table}")  # noqa: S608 - a name of our own


_BUSY = """select count(*) from pg_stat_activity
 where datname = current_database() and state <> 'idle' and pid <> pg_backend_pid()"""


@dataclass(frozen=True, slots=True)
class Contender:
    """A running service, where it takes what, and the database behind it (None: there is none)."""

    name: str
    service: Service
    path: str
    database: Database | None

    @property
    def url(self) -> str:
        return self.service.url + self.path


@dataclass(frozen=True, slots=True)
class Machine:
    """Everything that runs during a benchmark."""

    postgres: psutil.Process
    version: str
    turnlog: Contender
    handwritten: Contender
    ceiling: Contender
    copied: Database

    def checkpoint(self) -> None:
        """Write out what earlier rounds left, so that no round pays for another's."""
        with psycopg.connect(self.copied.conninfo, autocommit=True) as connection:
            connection.execute("checkpoint")


@contextlib.contextmanager
def running() -> Iterator[Machine]:
    """Start all of it, over databases with nothing in them, and leave nothing behind."""
    with tempfile.TemporaryDirectory(prefix="turnlog-bench-") as folder, contextlib.ExitStack() as stack:
        server = EmbeddedPostgres(Path(folder))
        server.start()
        stack.callback(server.stop)
        with psycopg.connect(server.conninfo(), autocommit=True) as connection:
            connection.execute("create database handwritten")
            connection.execute("create database copied")
            version = f"PostgreSQL {connection.info.parameter_status('server_version')}"
        turnlog, by_hand, copied = (server.conninfo(name) for name in ("turnlog", "handwritten", "copied"))
        apply_migrations(copied)
        with psycopg.connect(by_hand) as connection:
            connection.execute(handwritten.SCHEMA)

        def serve(application: str, database: str) -> Service:
            # the same settings for all: gunicorn.conf.py as it is, and as many workers
            service = stack.enter_context(launch({"DATABASE_URL": database}, WORKERS, application))
            service.wait_until_ready()
            return service

        pid = int((server.cluster / "postmaster.pid").read_text().split("\n", 1)[0])
        yield Machine(
            postgres=psutil.Process(pid),
            version=version,
            turnlog=Contender(
                TURNLOG,
                serve("app:create_app()", turnlog),
                "/v1/interactions",
                Database(turnlog, "public.ai_interactions"),
            ),
            handwritten=Contender(
                HANDWRITTEN,
                serve("bench.handwritten:create_app()", by_hand),
                "/log",
                Database(by_hand, "interactions"),
            ),
            ceiling=Contender(CEILING, serve("bench.ceiling:create_app()", by_hand), "/log", None),
            copied=Database(copied, "public.ai_interactions"),
        )


def cpu_s(root: psutil.Process) -> float:
    """Return the CPU seconds that a process and its living descendants have used, in user and system mode."""
    used = 0.0
    for process in [root, *root.children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):  # it ended just now
            times = process.cpu_times()
            used += times.user + times.system
    return used


def _one(connection: psycopg.Connection, query: str) -> int:
    row = connection.execute(query.encode()).fetchone()
    return int(row[0]) if row else 0
