"""Runs a PostgreSQL server from a wheel, with its data in `DATA_DIR/postgres`.

One server serves a data directory, however many processes use it. It listens on a Unix socket that only its owner (and
root) can open, never on the network. It survives a killed service, and the next one finds it; the last process that
uses it stops it.
"""

import fcntl
import hashlib
import os
import re
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from logging_store.embedded import binaries
from logging_store.errors import Misconfigured, StoreUnavailable
from logging_store.private_files import sync_directory

_DATABASE = "turnlog"
_SUPERUSER = "postgres"
_PORT = 5432  # only in the name of its socket
_SOCKET_NAME = f".s.PGSQL.{_PORT}"
_LONGEST_SOCKET_PATH = 100  # the kernel's limit is 108 bytes; macOS has 104
# other characters would need quoting on the way to the server and to libpq
_PLAIN_PATH = re.compile(rb"[\w/.+~@ -]+")
_START_S = 60  # crash recovery replays the log first
_NO_PROCESS = 2**31 - 1  # above every kernel's limit
# errors that pass: after a kill -9 of the server its orphaned backends use the shared memory for a while, and a process
# that was killed while it started the server leaves one that is about to listen
_TRANSIENT = re.compile(r'shared memory|lock file ".*" already exists')

# Durability comes before speed: fsync, full_page_writes and synchronous_commit have their safe defaults, and `ping`
# checks that.
_CONFIGURATION = """\
# Written by Turnlog at each start; put changes of your own into postgresql.auto.conf with ALTER SYSTEM.
listen_addresses = ''
unix_socket_directories = '{socket_dir}'
unix_socket_permissions = 0700
max_connections = 100
max_wal_size = '2GB'
timezone = 'UTC'
log_timezone = 'UTC'
log_error_verbosity = terse # otherwise the details of an error quote whole rows, with what people wrote
"""


def _holds_socket(folder: Path) -> bool:
    """Return whether the path of a socket in a folder is short and plain enough."""
    path = os.fsencode(folder / _SOCKET_NAME)
    return len(path) <= _LONGEST_SOCKET_PATH and _PLAIN_PATH.fullmatch(path) is not None


class EmbeddedPostgres:
    """The PostgreSQL server of one data directory."""

    def __init__(self, data_dir: Path) -> None:
        self.directory = data_dir.resolve() / "postgres"
        self.cluster = self.directory / "cluster"
        self.log = self.directory / "server.log"
        self._holder_fd: int | None = None

    @property
    def socket_dir(self) -> Path:
        digest = hashlib.sha256(os.fsencode(self.directory)).hexdigest()[:16]
        elsewhere = Path(tempfile.gettempdir()) / f"turnlog-{digest}"
        candidates = (self.directory, elsewhere, Path("/tmp") / elsewhere.name)  # noqa: S108 - made for its owner alone
        return next((folder for folder in candidates if _holds_socket(folder)), candidates[-1])

    def conninfo(self, database: str = _DATABASE) -> str:
        # explicit port and hostaddr, since PGPORT and PGHOSTADDR may be set for another server
        return psycopg.conninfo.make_conninfo(
            host=str(self.socket_dir), hostaddr="", port=_PORT, dbname=database, user=_SUPERUSER
        )

    def exists(self) -> bool:
        """Return whether the directory holds a database, of any version."""
        return (self.cluster / "PG_VERSION").exists()

    def start(self) -> None:
        """Start the server unless it runs, and use it until `stop`. Raises `Misconfigured` or `StoreUnavailable`."""
        try:
            self._prepare_directories()
        except (OSError, subprocess.CalledProcessError) as error:
            raise Misconfigured(f"DATA_DIR can't be used: {error}") from error
        with self._start_lock():
            if not self.exists():
                self._initialise()
            self._check_version()
            if not self.is_running():
                self._launch()
            self._ensure_database()
            if self._holder_fd is None:
                self._holder_fd = os.open(self.directory / "holders.lock", os.O_RDWR | os.O_CREAT, 0o600)
                fcntl.flock(self._holder_fd, fcntl.LOCK_SH)

    def revive(self) -> None:
        """Start the server again if it has died."""
        if not self.is_running():
            self.start()

    def stop(self) -> None:
        """Stop using the server; stop it if no other process uses it."""
        if self._holder_fd is None:
            return
        with self._start_lock():
            try:
                fcntl.flock(self._holder_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                pass  # another process holds it and will stop it
            else:
                if self.is_running():
                    self._run("pg_ctl", "stop", "-D", self.cluster.name, "-m", "fast", "-w", "-t", str(_START_S))
            os.close(self._holder_fd)
            self._holder_fd = None

    def is_running(self) -> bool:
        """Ask its socket: when a container starts again, another process may have the number in the pid file."""
        with socket.socket(socket.AF_UNIX) as caller:
            caller.setblocking(False)
            try:
                caller.connect(str(self.socket_dir / _SOCKET_NAME))
            except BlockingIOError:
                return True  # so many callers are waiting already
            except OSError:
                return False
        return True

    def _prepare_directories(self) -> None:
        self.directory.parent.mkdir(parents=True, exist_ok=True)
        self.directory.mkdir(mode=0o700, exist_ok=True)
        self.socket_dir.mkdir(mode=0o700, exist_ok=True)
        if self.socket_dir != self.directory:
            binaries.require_own_directory(self.socket_dir)
        binaries.grant_access({self.directory, self.socket_dir})

    def _initialise(self) -> None:
        if (self.cluster / "global" / "pg_control").exists():
            raise Misconfigured(
                f"{self.cluster} holds a database but has lost its PG_VERSION: restore it from a backup"
            )
        # interrupted attempts; an initdb that outlived its caller writes to a name of its own
        for attempt in (self.cluster, *self.directory.glob("new-*")):
            shutil.rmtree(attempt, ignore_errors=True)
        new = self.directory / f"new-{secrets.token_hex(4)}"
        self._run(
            "initdb", "-D", new.name, "-U", _SUPERUSER, "--auth=trust", "--encoding=UTF8",
            "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C",
        )  # fmt: skip
        with (new / "postgresql.conf").open("a", encoding="utf-8") as configuration:
            configuration.write("\ninclude_if_exists = 'turnlog.conf'\n")
            configuration.flush()
            os.fsync(configuration.fileno())
        new.rename(self.cluster)
        sync_directory(self.directory)

    def _check_version(self) -> None:
        ours = subprocess.run(
            [binaries.folder() / "postgres", "--version"],
            capture_output=True, text=True, check=True, env=binaries.environment(),
        )  # fmt: skip
        theirs = (self.cluster / "PG_VERSION").read_text().strip()
        if f" {theirs}." not in ours.stdout:
            raise Misconfigured(
                f"{self.directory} holds a database of PostgreSQL {theirs}, and this version of Turnlog runs "
                f"PostgreSQL {ours.stdout.split()[2]}. Back it up with the version of Turnlog that used it last "
                f"(turnlog backup FILE), move {self.directory} away, and restore it with this one "
                "(turnlog restore FILE). docs/backup.md shows each step"
            )

    def _launch(self) -> None:
        quoted = str(self.socket_dir).replace("'", "''")
        (self.cluster / "turnlog.conf").write_text(_CONFIGURATION.format(socket_dir=quoted), encoding="utf-8")
        give_up = time.monotonic() + _START_S
        while not self.is_running():
            for lock_file in (self.cluster / "postmaster.pid", self.socket_dir / f"{_SOCKET_NAME}.lock"):
                _clear_recycled_pid(lock_file)
            # names without folders, since pg_ctl passes them to a shell
            arguments = ("-D", self.cluster.name, "-l", self.log.name, "-w", "-t", str(_START_S))
            if binaries.run("pg_ctl", "start", *arguments, folder=self.directory).returncode == 0:
                return
            if time.monotonic() > give_up or not _TRANSIENT.search(self._log_tail()):
                raise StoreUnavailable(f"PostgreSQL didn't start. Its log, {self.log}, ends with:\n{self._log_tail()}")
            time.sleep(0.2)

    def _log_tail(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-5:]) if self.log.exists() else ""

    def _ensure_database(self) -> None:
        give_up = time.monotonic() + _START_S
        while True:
            try:
                with psycopg.connect(self.conninfo("postgres"), autocommit=True, connect_timeout=5) as connection:
                    if not connection.execute("select 1 from pg_database where datname = %s", [_DATABASE]).fetchone():
                        connection.execute(f"create database {_DATABASE}".encode())
                    return
            except psycopg.OperationalError as error:
                # it may still be recovering from a crash: then it listens but rejects connections
                if time.monotonic() > give_up:
                    raise StoreUnavailable(f"PostgreSQL runs, but can't be used: {error}") from error
                time.sleep(0.2)

    @contextmanager
    def _start_lock(self) -> Iterator[None]:
        """Serialise starts and stops across processes."""
        descriptor = os.open(self.directory / "start.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _run(self, program: str, *arguments: str) -> None:
        done = binaries.run(program, *arguments, folder=self.directory)
        if done.returncode != 0:
            raise StoreUnavailable(f"{program} failed ({done.returncode}): {done.stdout.strip()}")


def _clear_recycled_pid(lock_file: Path) -> None:
    """Replace the pid of a dead server in a lock file if /proc shows that it isn't PostgreSQL's any more."""
    try:
        pid, rest = lock_file.read_text().split("\n", 1)
        program = Path(f"/proc/{int(pid)}/cmdline").read_bytes().split(b"\0")[0]
    except (OSError, ValueError):
        return
    if b"postgres" not in program:
        # PostgreSQL needs the other lines to find backends that outlived their server
        lock_file.write_text(f"{_NO_PROCESS}\n{rest}")
