"""What is measured: a PostgreSQL server of the benchmark's own and the services on it, and what CPU they use."""

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import psutil
import psycopg

from bench import handwritten, handwritten_supabase
from logging_store.embedded.server import EmbeddedPostgres
from tests import guardian
from tests.databases import TestServer
from tests.postgrest import sign
from tests.postgrest.standin import DEFAULT_SECRET
from tests.service import launch

WORKERS = 2
TURNLOG, HANDWRITTEN, CEILING = "Turnlog", "hand-written", "no database"
TABLE = "turnlog.ai_interactions"
COUNTING = f"select count(*) from {TABLE}"  # noqa: S608 - a name of our own
_ROOT = Path(__file__).resolve().parent.parent
_SETTLE_S = 30
_KEY_LIFETIME_S = 86_400


@dataclass(frozen=True, slots=True)
class Database:
    """One database of the benchmark's server; `counting` tells how many interactions were logged into it."""

    conninfo: str
    counting: str = COUNTING

    def rows(self, at_least: int = 0) -> int:
        """Return how many interactions are stored, once nobody writes and there are as many as expected.

        What was spooled is written by and by; after half a minute it counts as lost.
        """
        give_up = time.monotonic() + _SETTLE_S
        with psycopg.connect(self.conninfo, autocommit=True) as connection:
            while True:
                while _one(connection, _BUSY) and time.monotonic() < give_up:
                    time.sleep(0.02)
                rows = _one(connection, self.counting)
                if rows >= at_least or time.monotonic() > give_up:
                    return rows
                time.sleep(0.2)


_BUSY = """select count(*) from pg_stat_activity
 where datname = current_database() and state <> 'idle' and pid <> pg_backend_pid()"""


@dataclass(frozen=True, slots=True)
class Contender:
    """A running service, where it takes what, the database behind it, and the API between (None: there is none)."""

    name: str
    process: psutil.Process
    url: str
    database: Database | None = None
    api: psutil.Process | None = None

    def workers(self) -> list[psutil.Process]:
        """Return the workers in the order in which they were started."""
        return sorted(self.process.children(), key=lambda worker: worker.pid)


@dataclass(frozen=True, slots=True)
class Machine:
    """A PostgreSQL server and what is started on it."""

    postgres: psutil.Process
    version: str
    _server: TestServer
    _stack: ExitStack

    def checkpoint(self) -> None:
        """Write out what earlier rounds left, so that no round pays for another's."""
        with self._server.connect("postgres") as connection:
            connection.execute("checkpoint")

    def database(self, counting: str = COUNTING, schema: str = "") -> Database:
        """Create a database with Turnlog's tables, and with a schema beside them."""
        name = self._stack.enter_context(self._server.database())
        if schema:
            with self._server.connect(name) as connection:
                connection.execute(schema.encode())
        return Database(self._server.conninfo(name), counting)

    def turnlog(self, database: Database | None = None, name: str = TURNLOG) -> Contender:
        database = database or self.database()
        return self._serve(name, "app:create_app()", "/v1/interactions", {"DATABASE_URL": database.conninfo}, database)

    def handwritten(self) -> Contender:
        database = self.database(handwritten.COUNTING, handwritten.SCHEMA)
        environment = {"DATABASE_URL": database.conninfo}
        return self._serve(HANDWRITTEN, "bench.handwritten:create_app()", "/log", environment, database)

    def ceiling(self) -> Contender:
        environment = {"DATABASE_URL": self.database().conninfo}  # for gunicorn.conf.py; no request uses it
        return self._serve(CEILING, "bench.ceiling:create_app()", "/log", environment)

    def turnlog_on_supabase(self, latency_ms: float) -> Contender:
        database = self.database()
        environment, api = self._supabase(database, latency_ms)
        return self._serve(TURNLOG, "app:create_app()", "/v1/interactions", environment, database, api)

    def handwritten_on_supabase(self, latency_ms: float) -> Contender:
        database = self.database(handwritten.COUNTING, handwritten.SCHEMA + handwritten_supabase.FUNCTIONS)
        environment, api = self._supabase(database, latency_ms)
        return self._serve(HANDWRITTEN, "bench.handwritten_supabase:create_app()", "/log", environment, database, api)

    def _supabase(self, database: Database, latency_ms: float) -> tuple[dict[str, str], psutil.Process]:
        """Start a stand-in for Supabase's API and return the settings that lead there."""
        name = psycopg.conninfo.conninfo_to_dict(database.conninfo)["dbname"]
        login = self._server.conninfo(str(name), user="authenticator")
        options = ["--dsn", login, "--latency-ms", str(latency_ms), "--pool-size", str(WORKERS * 8)]
        process = self._stack.enter_context(
            subprocess.Popen(
                [sys.executable, "-m", "tests.postgrest", *options], cwd=_ROOT, stdout=subprocess.PIPE, text=True
            )
        )
        self._stack.callback(process.terminate)
        assert process.stdout is not None  # noqa: S101 - it is piped
        key = sign(DEFAULT_SECRET, "service_role", lifetime_s=_KEY_LIFETIME_S)
        environment = {"SUPABASE_URL": process.stdout.readline().strip(), "SUPABASE_SECRET_KEY": key}
        return environment, psutil.Process(process.pid)

    def _serve(  # noqa: PLR0917 - they are a contender's
        self,
        name: str,
        application: str,
        path: str,
        environment: dict[str, str],
        database: Database | None = None,
        api: psutil.Process | None = None,
    ) -> Contender:
        # the same settings for all: gunicorn.conf.py as it is, and as many workers
        service = self._stack.enter_context(launch(environment, WORKERS, application))
        service.wait_until_ready()
        return Contender(name, psutil.Process(service.pid), service.url + path, database, api)


@contextlib.contextmanager
def running() -> Iterator[Machine]:
    """Start a server with nothing in it, and leave nothing behind."""
    with guardian.folder() as folder:
        embedded = EmbeddedPostgres(folder)
        embedded.start()
        try:
            with psycopg.connect(embedded.conninfo()) as connection:
                version = f"PostgreSQL {connection.info.parameter_status('server_version')}"
            pid = int((embedded.cluster / "postmaster.pid").read_text().split("\n", 1)[0])
            with ExitStack() as stack:
                yield Machine(psutil.Process(pid), version, TestServer(embedded.conninfo()), stack)
        finally:
            embedded.stop()


def cpu_s(root: psutil.Process | None) -> float:
    """Return the CPU seconds that a process and its living descendants have used, in user and system mode."""
    used = 0.0
    for process in [root, *root.children(recursive=True)] if root else []:
        with contextlib.suppress(psutil.NoSuchProcess):  # it ended just now
            times = process.cpu_times()
            used += times.user + times.system
    return used


def _one(connection: psycopg.Connection, query: str) -> int:
    row = connection.execute(query.encode()).fetchone()
    return int(row[0]) if row else 0
