"""Fixtures shared by all tests. A store fixture is one parameter: a new kind of store is one more."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest
from flask.testing import FlaskClient
from playwright.sync_api import Browser

from app import create_app
from conversation.settings import Settings
from logging_store.embedded import EmbeddedPostgres
from logging_store.postgres import PostgresStore
from logging_store.repository import ConversationRepository
from logging_store.store import Store
from logging_store.supabase import SupabaseStore
from tests import leaks
from tests.api import KEYLESS
from tests.browser import chromium
from tests.databases import TestServer, running_server, server_folder
from tests.doctor import Operator
from tests.postgrest import PostgrestStandIn

PROJECT = "default"


@pytest.fixture(scope="session", autouse=True)
def _watched() -> Iterator[None]:
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


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Yield the one browser of the run: Playwright drives one at a time."""
    with chromium.running(f"--host-resolver-rules=MAP {chromium.FOREIGN_NAME} 127.0.0.1") as browser:
        yield browser


@pytest.fixture
def database(postgres_server: TestServer) -> Iterator[str]:
    """Yield how to connect to a fresh, migrated database."""
    with postgres_server.database() as name:
        yield postgres_server.conninfo(name)


@dataclass
class Backend:
    """A database and one way to call it; what it opens is closed with it."""

    name: str
    database: str
    _open: Callable[[], Store]
    environment: dict[str, str]
    stores: list[Store] = field(default_factory=list)

    def open(self) -> Store:
        """Return a store of its own, as another process would have."""
        self.stores.append(self._open())
        return self.stores[-1]

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
    with server.database() as database, ExitStack() as closing:
        conninfo = server.conninfo(database)
        if name == "postgres":
            backend = Backend(name, conninfo, lambda: PostgresStore(conninfo), {"DATABASE_URL": conninfo})
        else:
            login = server.conninfo(database, user="authenticator")
            standin = closing.enter_context(PostgrestStandIn(login, pool_size=16))
            key = standin.key("service_role")
            environment = {"SUPABASE_URL": standin.url, "SUPABASE_SECRET_KEY": key}
            backend = Backend(name, conninfo, lambda: SupabaseStore(standin.url, key), environment)
        yield backend
        for store in backend.stores:
            store.close()


@pytest.fixture(params=["postgres", "supabase"])
def backend(request: pytest.FixtureRequest, postgres_server: TestServer) -> Iterator[Backend]:
    with open_backend(request.param, postgres_server) as backend:
        yield backend


@pytest.fixture
def operator(backend: Backend, tmp_path: Path) -> Operator:
    """Return somebody who has the database's address, or the project's key, and an empty data directory."""
    return Operator(backend.environment | {"DATA_DIR": str(tmp_path)}, backend.database)


@pytest.fixture
def store(backend: Backend) -> Store:
    return backend.open()


@pytest.fixture
def repository(store: Store) -> ConversationRepository:
    return ConversationRepository(store, PROJECT)


@pytest.fixture
def client(store: Store) -> FlaskClient:
    """Return a client of the whole application over each kind of store."""
    return create_app(Settings.from_mapping(KEYLESS), store).test_client()
