"""Where faults happen: a server of the test's own, and services with a database on it."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import pytest

from logging_store.embedded.server import EmbeddedPostgres
from tests.databases import TestServer, server_folder
from tests.faults import sizes
from tests.faults.scene import Scene, scene
from tests.faults.server import OwnServer

collect_ignore = [] if sizes.SOAK else ["test_soak.py", "test_kernel_errors.py"]

OpenScene = Callable[..., AbstractContextManager[Scene]]


@dataclass(frozen=True)
class Postgres:
    """A server that may be killed, and fresh databases on it."""

    faults: OwnServer
    databases: TestServer

    @contextmanager
    def limited_to(self, connections: int) -> Iterator[None]:
        """Let it have only so many connections meanwhile; it is restarted before and after."""
        self._restart_with(f"max_connections = {connections}\n")
        try:
            yield
        finally:
            self._restart_with("")

    def _restart_with(self, settings: str) -> None:
        self.faults.stop()
        (self.faults.embedded.cluster / "postgresql.auto.conf").write_text(settings)
        self.faults.start()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    with server_folder(on_disk=True) as folder:
        embedded = EmbeddedPostgres(folder)
        embedded.start()
        try:
            yield Postgres(OwnServer(embedded), TestServer(embedded.conninfo()))
        finally:
            embedded.stop()


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> str:
    """Return what decides every choice of a test; FAULT_SEED repeats one that was printed."""
    print(f"FAULT_SEED={sizes.SEED}")  # noqa: T201 - pytest shows it when the test fails
    return f"{sizes.SEED} {request.node.name}"


@pytest.fixture
def on_own_server(postgres: Postgres, seed: str) -> OpenScene:
    """Return a way to run a service on a fresh database of the server."""

    @contextmanager
    def open_(**settings: str) -> Iterator[Scene]:
        with postgres.databases.database() as name, scene(seed, postgres.databases.conninfo(name), **settings) as one:
            yield one

    return open_


@pytest.fixture
def on_embedded(seed: str) -> OpenScene:
    """Return a way to run a service on an embedded server of its own."""
    return lambda **settings: scene(seed, **settings)
