"""A service with keys and a small log, and browsers that look at its pages."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, StorageState

from conversation.keys.callers import Scope
from conversation.keys.key_registry import NewKey
from conversation.settings import Settings
from tests.browser.conftest import key_registry
from tests.databases import TestServer
from tests.pages import sample_log, tabs
from tests.pages.tabs import Tab
from tests.service import Service, launch

OPERATOR = "the operator of this service"

#: Opens a tab of a new browser; takes what Playwright's contexts take.
Opener = Callable[..., AbstractContextManager[Tab]]


@contextmanager
def serving(server: TestServer, **settings: str) -> Iterator[Service]:
    """Run a service that asks for keys, over a database of its own."""
    with (
        server.database() as name,
        launch({"DATABASE_URL": server.conninfo(name), "TURNLOG_API_KEY": OPERATOR, **settings}) as service,
    ):
        service.wait_until_ready()
        yield service


def calling(service: Service) -> httpx.Client:
    """Return a client of its API that has the operator's key."""
    return httpx.Client(base_url=service.url, headers={"Authorization": f"Bearer {OPERATOR}"}, timeout=60)


def spool_of(service: Service) -> Path:
    return Settings.from_mapping(service.environment).spool_dir


def make_key(service: Service, *scopes: Scope, **more: Any) -> NewKey:
    with key_registry(service) as registry:
        return registry.create("default", more.pop("kind", "secret"), scopes, **more)


@pytest.fixture(scope="session")
def service(postgres_server: TestServer) -> Iterator[Service]:
    with serving(postgres_server) as service, calling(service) as client:
        sample_log.fill(client)
        sample_log.leave_dead_letters(spool_of(service), "The first that was refused", "The second that was refused")
        yield service


@pytest.fixture
def api(service: Service) -> Iterator[httpx.Client]:
    with calling(service) as client:
        yield client


@pytest.fixture
def open_tab(chromium: Browser, service: Service) -> Opener:
    """Return what opens a tab of a browser that nobody has signed in with."""
    return partial(tabs.opened, chromium, service.url)


@pytest.fixture(scope="session")
def signed_in(chromium: Browser, service: Service) -> StorageState:
    """Return what a browser holds after somebody with all rights signed in."""
    with tabs.opened(chromium, service.url) as tab:
        tab.open("/sign-in?next=/sessions")
        tab.sign_in(OPERATOR)
        return tab.context.storage_state()


@pytest.fixture
def open_pages(open_tab: Opener, signed_in: StorageState) -> Opener:
    """Return what opens a tab of a browser that is signed in."""
    return partial(open_tab, storage_state=signed_in)


@pytest.fixture
def stranger(open_tab: Opener) -> Iterator[Tab]:
    with open_tab() as tab:
        yield tab


@pytest.fixture
def tab(open_pages: Opener) -> Iterator[Tab]:
    with open_pages() as tab:
        yield tab
