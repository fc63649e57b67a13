"""Fixtures shared by all tests, and which tests run when.

`make test` runs the tests that have none of the marks below; `make test-all`, which CI runs, runs all. Marks of a test,
a class, a module or (in `TIERS`) a folder:

- browser: drives a real browser. Given to whatever asks for `chromium`, but to a test marked `walk`.
- faults: kills, stops or starves processes of its own and waits for what comes of it.
- slow: takes seconds, because it waits for real deadlines, races processes or tries thousands of examples.
- every_store: runs on each kind of store; other tests run on PostgreSQL, or on the one that `--store` names.
- own_database: changes more than rows, so it is given a fresh database instead of the shared one.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import psycopg
import pytest
from flask.testing import FlaskClient
from hypothesis import settings
from playwright.sync_api import Browser

from app import create_app
from conversation.settings import Settings
from logging_store.embedded.server import EmbeddedPostgres
from logging_store.postgres.postgres_store import PostgresStore
from logging_store.postgres.supabase_store import SupabaseStore
from logging_store.repository import ConversationRepository
from logging_store.store import Store
from tests import guardian, leaks, outside
from tests.browser import chromium
from tests.databases import TestServer, running_server, server_folder
from tests.doctor.operator import Operator
from tests.http_calls import KEYLESS
from tests.postgrest import PostgrestStandIn

pytest_plugins = ["tests.durations"]

# A busy machine fails no example, and a change is blamed for no example that it didn't meet: the same ones every time.
# `pytest --hypothesis-profile random` tries others.
settings.register_profile("turnlog", deadline=None, derandomize=True)
settings.register_profile("random", deadline=None)
settings.load_profile("turnlog")

PROJECT = "default"
STORES = ("postgres", "supabase")
#: Folders whose every test has a mark.
TIERS = {"faults": "faults", "races": "slow"}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--store", choices=[*STORES, "both"], default=STORES[0], help="the store of tests that need one")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test on each store where stores can differ, else on one."""
    if "store_kind" in metafunc.fixturenames:
        option = metafunc.config.getoption("--store")
        every = option == "both" or metafunc.definition.get_closest_marker("every_store")
        metafunc.parametrize("store_kind", STORES if every else [option])


@pytest.hookimpl(tryfirst=True)  # before `-m` selects
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        folder = item.path.parent.name
        if folder in TIERS:
            item.add_marker(TIERS[folder])
        if "chromium" in getattr(item, "fixturenames", ()) and not item.get_closest_marker("walk"):
            item.add_marker("browser")


def pytest_configure(config: pytest.Config) -> None:
    """Hide from the tests what this run was given, once all its processes have it.

    Keep `tmp_path` in a folder of the guardian, which ends the servers in it. Each pytest also closes the folder that
    all runs share to the user that servers have where root runs the tests.
    """
    if hasattr(config, "workerinput") or not getattr(config.option, "numprocesses", None):
        outside.hide()
    if not config.option.basetemp and not config.option.collectonly:
        closing = ExitStack()
        config.add_cleanup(closing.close)
        config.option.basetemp = str(closing.enter_context(guardian.folder()) / "pytest")


@pytest.fixture(scope="session", autouse=True)
def _watched() -> Iterator[None]:
    guardian.start()
    with leaks.watching():
        yield


@pytest.fixture(autouse=True)
def _nothing_leaks() -> Iterator[None]:
    """Fail whichever test makes a log or a refusal tell what it may not."""
    yield
    assert leaks.WATCH.take() == []


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[TestServer]:
    with running_server() as server:
        yield server


@pytest.fixture(scope="session")
def bare_server() -> Iterator[TestServer]:
    """Yield a server of its own that knows none of Supabase's roles."""
    with server_folder() as folder:
        embedded = EmbeddedPostgres(folder)
        embedded.start()
        try:
            yield TestServer(embedded.conninfo(), as_supabase=False)
        finally:
            embedded.stop()


@pytest.fixture(scope="session", name="chromium")
def _chromium() -> Iterator[Browser]:
    """Yield the one browser of the run: Playwright drives one at a time."""
    with chromium.running(f"--host-resolver-rules=MAP {chromium.FOREIGN_NAME} 127.0.0.1") as browser:
        yield browser


@pytest.fixture
def needs_own_database(request: pytest.FixtureRequest) -> bool:
    return request.node.get_closest_marker("own_database") is not None


@pytest.fixture
def database(postgres_server: TestServer, needs_own_database: bool) -> Iterator[str]:
    """Yield how to connect to a migrated database without rows: the shared one, or one of the test's own."""
    with postgres_server.database() if needs_own_database else postgres_server.shared_database() as name:
        yield postgres_server.conninfo(name)


@dataclass
class Backend:
    """A database and one way to call it; what it opens is closed with it."""

    name: str
    database: str
    _open: Callable[[], Store]
    environment: dict[str, str]
    stores: list[Store] = field(default_factory=list)
    kept: Store | None = None  # stays open when this is closed

    def open(self) -> Store:
        """Return a store of its own, as another process would have."""
        self.stores.append(self._open())
        return self.stores[-1]

    def close(self) -> None:
        while self.stores:
            self.stores.pop().close()

    def cut_erasing(self, key: str) -> None:
        """Begin to erase a session, with one of its interactions, as a service does that ends meanwhile."""
        with psycopg.connect(self.database) as connection:
            connection.execute(
                "select turnlog.erase(jsonb_build_object('project', project, 'session_id', id, 'most', 1))"
                " from turnlog.ai_sessions where project = %s and key = %s",
                [PROJECT, key],
            )


@contextmanager
def open_backend(name: str, server: TestServer) -> Iterator[Backend]:
    """Yield one way to call the functions, over a fresh database."""
    with server.database() as database, backend_over(database, name, server) as backend:
        yield backend


@contextmanager
def backend_over(database: str, name: str, server: TestServer) -> Iterator[Backend]:
    """Yield one way to call the functions of a database."""
    with ExitStack() as closing:
        conninfo = server.conninfo(database)
        if name == "postgres":
            backend = Backend(name, conninfo, lambda: PostgresStore(conninfo), {"DATABASE_URL": conninfo})
        else:
            login = server.conninfo(database, user="authenticator")
            standin = closing.enter_context(PostgrestStandIn(login, pool_size=16))
            key = standin.key("service_role")
            environment = {"SUPABASE_URL": standin.url, "SUPABASE_SECRET_KEY": key}
            backend = Backend(name, conninfo, lambda: SupabaseStore(standin.url, key), environment)
        closing.callback(backend.close)
        yield backend


@contextmanager
def _of_project(project: outside.Project, database: str) -> Iterator[Backend]:
    environment = {"SUPABASE_URL": project.url, "SUPABASE_SECRET_KEY": project.key}
    with closing(Backend("supabase", database, project.open, environment)) as backend:
        yield backend


class SharedBackends:
    """Each way to call the shared database, opened when it is first asked for, with a store that stays open.

    Supabase's API is that of the run's project, if it has one, over the project's own database.
    """

    def __init__(self, server: TestServer, closing: ExitStack) -> None:
        self._server = server
        self._closing = closing
        self._backends: dict[str, Backend] = {}

    @contextmanager
    def lend(self, name: str) -> Iterator[Backend]:
        project = outside.PROJECT if name == "supabase" and outside.PROJECT and outside.PROJECT.database else None
        lending = project.lent(self._server.emptied_tables()) if project else self._server.shared_database()
        with lending as database:
            if name not in self._backends:
                opened = _of_project(project, database) if project else backend_over(database, name, self._server)
                self._backends[name] = self._closing.enter_context(opened)
                self._backends[name].open()
            shared = self._backends[name]
            lent = replace(shared, stores=[], environment=dict(shared.environment), kept=shared.stores[0])
            yield lent
            lent.close()


@pytest.fixture(scope="session")
def shared_backends(postgres_server: TestServer) -> Iterator[SharedBackends]:
    with ExitStack() as closing:
        yield SharedBackends(postgres_server, closing)


@pytest.fixture
def backend(
    store_kind: str, postgres_server: TestServer, shared_backends: SharedBackends, needs_own_database: bool
) -> Iterator[Backend]:
    if needs_own_database:
        with open_backend(store_kind, postgres_server) as backend:
            yield backend
    else:
        with shared_backends.lend(store_kind) as backend:
            yield backend


@pytest.fixture
def operator(backend: Backend, tmp_path: Path) -> Operator:
    """Return somebody who has the database's address, or the project's key, and an empty data directory."""
    return Operator(backend.environment | {"DATA_DIR": str(tmp_path)}, backend.database)


@pytest.fixture
def owner(database: str, tmp_path: Path) -> Operator:
    """Return somebody who has the database's address: for what Supabase's API can't do."""
    return Operator({"DATABASE_URL": database, "DATA_DIR": str(tmp_path)}, database)


@pytest.fixture
def store(backend: Backend) -> Store:
    return backend.kept or backend.open()


@pytest.fixture
def repository(store: Store) -> ConversationRepository:
    return ConversationRepository(store, PROJECT)


@pytest.fixture
def client(store: Store) -> FlaskClient:
    """Return a client of the whole application over each kind of store."""
    return create_app(Settings.from_mapping(KEYLESS), store).test_client()
