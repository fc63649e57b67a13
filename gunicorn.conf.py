"""How gunicorn serves Turnlog: `turnlog serve`, or `gunicorn --config gunicorn.conf.py 'app:create_app()'`.

The master prepares the database once (starts the embedded one, applies migrations, checks that acknowledged writes are
durable), then forks the workers. It stops the embedded database when it ends.
"""

import atexit
import gc
import logging
import os
import sys
from typing import Any

# what app.py imports, too: a worker that starts is ready sooner, and at a reload nobody serves until it is
import conversation.api.openapi
import conversation.api.routes
import conversation.archive.user_export
import conversation.pages.menu  # noqa: F401
from conversation.cli.main import how_to_call
from conversation.keys.key_registry import FIRST_KEY, KeyRegistry
from conversation.server import ports
from conversation.server.succession import Succession
from conversation.server.worker import CLIENT_TIMEOUT_S
from conversation.settings import Settings, is_loopback
from conversation.stack import create_database_store
from logging_store.embedded.server import EmbeddedPostgres
from logging_store.errors import StoreUnavailable, TurnlogError
from logging_store.metrics import ledger
from logging_store.postgres import migrations
from logging_store.postgres.function_store import FunctionStore
from logging_store.spool import others
from logging_store.store import Store

try:
    _settings = Settings.from_environment()
except TurnlogError as error:
    sys.exit(f"turnlog: {error}")

_host = f"[{_settings.turnlog_host}]" if ":" in _settings.turnlog_host else _settings.turnlog_host
bind = f"{_host}:{_settings.port}"
worker_class = "conversation.server.worker.Worker"  # gthread, hardened against slow clients
workers = _settings.turnlog_workers
threads = _settings.turnlog_threads
keepalive = 10  # seconds; a stop waits this long for idle connections, and a proxy must close them earlier
timeout = 60  # seconds without a heartbeat until a worker is replaced
sendfile = False  # it would bypass the minimum speed for clients
# a request arrives and is answered within the deadline; then the spool finishes its current delivery
graceful_timeout = int(2 * CLIENT_TIMEOUT_S + _settings.turnlog_deadline_s) + 10
max_requests = 0  # workers don't leak, so none is replaced; with a number, set max_requests_jitter as well
forwarded_allow_ips = "127.0.0.1"
errorlog = "-"
loglevel = "info"
logger_class = "conversation.server.logger.Logger"  # one line per event, without secrets
control_socket_disable = True

# created before the workers, so that each of them can return the sums of all
_ledger = ledger.create_shared(workers * 2 + 16, _settings.redacted)


def on_starting(server: Any) -> None:
    try:
        for address in server.cfg.address:
            _refuse_keyless_exposure(address)
            _require_free(address, server.log)
        _prepare_database(server.log)
    except TurnlogError as error:
        server.log.error("turnlog: %s", error)  # noqa: TRY400 - a sentence, not a traceback
        sys.exit(1)
    server.succession = Succession()


def on_reload(server: Any) -> None:
    server.succession.begin()


def pre_fork(server: Any, worker: Any) -> None:
    worker.ledger, worker.ledger_slot = _ledger, _ledger.take_slot()
    worker.succession, worker.generation = server.succession, server.succession.current


def post_fork(server: Any, worker: Any) -> None:  # noqa: ARG001
    worker.ledger.counters.join(worker.ledger_slot)
    if _settings.turnlog_proxies:
        worker.connections.most = None  # all of them come from the proxy, which bounds its own


def child_exit(server: Any, worker: Any) -> None:  # noqa: ARG001
    worker.ledger.release_slot(worker.ledger_slot)  # its own: a reload of this file makes a new one


def post_worker_init(worker: Any) -> None:
    # imported objects never become garbage, and a batch creates thousands of objects without cycles: collecting less
    # often saved a quarter of the CPU of batches
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    for store in _stores(worker):
        store.start()
    for indexing in _of_turnlog(worker, "turnlog_indexing"):
        indexing.start()
    worker.succession.announce(worker.generation)


def pre_request(worker: Any, request: Any) -> None:  # noqa: ARG001
    # a worker whose master was killed closes each connection after its next response, so that it ends and the next
    # master gets the port, although clients keep calling
    if worker.ppid != os.getppid():
        worker.alive = False


def worker_exit(server: Any, worker: Any) -> None:  # noqa: ARG001
    for indexing in _of_turnlog(worker, "turnlog_indexing"):
        indexing.stop()
    for store in _stores(worker):
        store.close()


def _stores(worker: Any) -> list[Store]:
    return [repository.store for repository in _of_turnlog(worker, "conversation_repository")]


def _of_turnlog(worker: Any, name: str) -> list[Any]:
    # empty if gunicorn serves another application, or if ours failed to load
    extensions = getattr(worker.app.callable, "extensions", {})
    return [extensions[name]] if name in extensions else []


def _refuse_keyless_exposure(address: str | tuple[str, int]) -> None:
    # the bind address may come from gunicorn's command line instead of our settings
    host = address if isinstance(address, str) else address[0]
    if isinstance(address, tuple) and not is_loopback(host) and _settings.turnlog_keyless:
        raise TurnlogError(f"refusing to listen on {host}, where others can reach it, with TURNLOG_KEYLESS")


def _require_free(address: str | tuple[str, int], log: logging.Logger) -> None:
    # a master that replaces another, or is started by systemd, inherits its sockets
    if isinstance(address, tuple) and not {"GUNICORN_FD", "LISTEN_FDS"} & os.environ.keys():
        ports.require_free(*address, log.warning)


def _prepare_database(log: logging.Logger) -> None:
    kind = _settings.store_kind
    if kind == "embedded":
        server, master = EmbeddedPostgres(_settings.data_dir), os.getpid()
        server.start()
        # workers inherit the handler; only the master may stop the server
        atexit.register(lambda: server.stop() if os.getpid() == master else None)
        log.info("PostgreSQL runs in %s", server.directory)
        _migrate(server.conninfo(), log)
    store = create_database_store(_settings)
    try:
        if _settings.database_url:
            _migrate(_settings.database_url.get_secret_value(), log)
        _settings.spool_folders.identify(store.ping()["database_id"])
        _create_first_key(store)
    except StoreUnavailable as error:
        log.warning(
            "the store is not available yet; writes go to the spool in %s until it is: %s", _settings.spool_dir, error
        )
    finally:
        store.close()
    for other in others.find(_settings.spool_folders):
        log.warning("%s; see `turnlog spool status`", other)


def _create_first_key(store: FunctionStore) -> None:
    """Create a first key if calls need one and there is none, and print it on the terminal."""
    if _settings.turnlog_keyless or _settings.turnlog_api_key:
        return
    if key := KeyRegistry(store).create_first(_settings.turnlog_project):
        text = FIRST_KEY.format(key=key.text, url=f"http://{bind}", turnlog=how_to_call())
        print(text, file=sys.stderr, flush=True)  # noqa: T201 - printed, not logged: logs are stored


def _migrate(conninfo: str, log: logging.Logger) -> None:
    applied = migrations.migrate(conninfo)
    for migration in applied.migrations:
        log.info("applied migration %s_%s", migration.version, migration.name)
    if applied.notice:
        log.warning("%s", applied.notice)
