"""A service, the road to it, a site of another origin, and a browser whose tabs open that site's pages."""

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, Page

from conversation.keys.key_registry import KeyRegistry, NewKey
from logging_store.postgres.postgres_store import PostgresStore
from tests.browser.chromium import FOREIGN_NAME
from tests.browser.road import Road
from tests.databases import TestServer
from tests.service import Service, launch

OPERATOR = "the operator of this service"
SIGNED_WITH = "the secret that users' tokens are signed with"
ISSUER = "https://sign-in.example"

PAGE = """<!doctype html><meta charset="utf-8"><title>A chat</title>
<script type="module">
import {Turnlog} from "SERVICE/static/turnlog.js";
window.errors = [];
window.open_log = async (options) => {
    window.log = await Turnlog.open({onerror: (error) => errors.push(error), ...options});
    return log.sessionId;
};
window.Turnlog = Turnlog;
</script>"""


class Site:
    """Serves a page to any name of this machine, and others by their paths."""

    def __init__(self) -> None:
        self.page = ""
        self.others: dict[str, str] = {}
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "text/html; charset=utf-8")
                self.end_headers()
                self.wfile.write(site.others.get(self.path, site.page).encode())

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def origin(self, name: str = "127.0.0.1") -> str:
        return f"http://{name}:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@dataclass
class Log:
    """The log as its operator reads it."""

    service: Service

    def transcript(self, session: str) -> list[dict[str, Any]]:
        answer = self._get(f"/v1/sessions/{session}/interactions?limit=1000")
        if answer.status_code == httpx.codes.NOT_FOUND:
            return []
        interactions: list[dict[str, Any]] = answer.raise_for_status().json()["interactions"]
        return interactions

    def prompts(self, session: str) -> list[str]:
        return [each["prompt"] for each in self.transcript(session)]

    def session(self, session: str) -> dict[str, Any]:
        found: dict[str, Any] = self._get(f"/v1/sessions/{session}").raise_for_status().json()
        return found

    def feedback(self, session: str) -> list[dict[str, Any]]:
        answer = self._get(f"/v1/sessions/{session}/feedback?limit=1000")
        rows: list[dict[str, Any]] = [] if answer.status_code == httpx.codes.NOT_FOUND else answer.json()["feedback"]
        return rows

    def gaps(self, session: str) -> dict[str, Any]:
        found: dict[str, Any] = self._get(f"/v1/sessions/{session}/gaps").raise_for_status().json()
        return found

    def wait_for(self, session: str, seen: Callable[[list[dict[str, Any]]], bool]) -> list[dict[str, Any]]:
        """Return the transcript once it is as hoped; fail after half a minute."""
        give_up = time.monotonic() + 30
        while not seen(transcript := self.transcript(session)):
            assert time.monotonic() < give_up, transcript
            time.sleep(0.05)
        return transcript

    def erase(self, session: str) -> None:
        headers = {"Authorization": f"Bearer {OPERATOR}"}
        httpx.delete(f"{self.service.url}/v1/sessions/{session}", headers=headers, timeout=30).raise_for_status()

    def _get(self, path: str) -> httpx.Response:
        return httpx.get(self.service.url + path, headers={"Authorization": f"Bearer {OPERATOR}"}, timeout=30)


@pytest.fixture(scope="session")
def site() -> Iterator[Site]:
    site = Site()
    yield site
    site.close()


@pytest.fixture(scope="session")
def service(site: Site, postgres_server: TestServer) -> Iterator[Service]:
    with serving(postgres_server, site) as service:
        yield service


@contextmanager
def serving(server: TestServer, site: Site) -> Iterator[Service]:
    """Run a service over a database of its own, and let the site's pages import its client."""
    with server.database() as name:
        environment = {
            "DATABASE_URL": server.conninfo(name),
            "TURNLOG_API_KEY": OPERATOR,
            "TURNLOG_USER_TOKENS": "hs256",
            "TURNLOG_JWT_SECRET": SIGNED_WITH,
            "TURNLOG_JWT_ISSUER": ISSUER,
            "TURNLOG_USER_ORIGINS": site.origin(),
        }
        with launch(environment) as service:
            service.wait_until_ready()
            site.page = PAGE.replace("SERVICE", service.url)
            yield service


def make_key(service: Service, *origins: str, project: str = "default") -> NewKey:
    """Make a publishable key for pages of these origins."""
    with key_registry(service) as registry:
        return registry.create(project, "publishable", {"log"}, origins=origins)


@contextmanager
def key_registry(service: Service) -> Iterator[KeyRegistry]:
    store = PostgresStore(service.environment["DATABASE_URL"])
    try:
        yield KeyRegistry(store)
    finally:
        store.close()


@pytest.fixture
def road(service: Service) -> Iterator[Road]:
    road = Road(service.url)
    yield road
    road.close()


@pytest.fixture(scope="session")
def key(service: Service, site: Site) -> str:
    """Return a key that the site's pages may use."""
    return make_key(service, site.origin(), site.origin(FOREIGN_NAME)).text


@pytest.fixture
def log(service: Service) -> Log:
    return Log(service)


@pytest.fixture
def context(chromium: Browser) -> Iterator[BrowserContext]:
    context = chromium.new_context()
    context.set_default_timeout(30_000)
    yield context
    context.close()


@pytest.fixture
def other_context(chromium: Browser) -> Iterator[BrowserContext]:
    """Another person's browser."""
    context = chromium.new_context()
    yield context
    context.close()


@dataclass
class Tab:
    """A page of the site, and what it does with the client."""

    page: Page
    options: dict[str, Any]

    def open(self, **options: Any) -> str:
        """Open a log, as the page's `log`; return the session."""
        session: str = self.run("(options) => open_log(options)", self.options | options)
        return session

    def say(self, *prompts: str) -> None:
        """Log complete interactions, without waiting for their receipts."""
        self.run(
            "(all) => { for (const prompt of all) log.interaction({prompt, response: `Re: ${prompt}`}) }", list(prompts)
        )

    def run(self, script: str, argument: Any = None) -> Any:
        return self.page.evaluate(script, argument)

    def reload(self) -> None:
        self.page.reload()
        self.wait_until_loaded()

    def wait_until_loaded(self) -> None:
        self.wait_for("window.open_log !== undefined")

    def wait_for(self, condition: str) -> None:
        self.page.wait_for_function(condition, polling=20)

    def wait_until_delivered(self) -> None:
        self.wait_for("log.status.state === 'idle' && log.status.records === 0")


@pytest.fixture
def tab(new_tab: Callable[..., Tab]) -> Tab:
    return new_tab()


@pytest.fixture
def new_tab(context: BrowserContext, site: Site, road: Road, key: str) -> Callable[..., Tab]:
    def new_tab(name: str = "127.0.0.1", within: BrowserContext = context) -> Tab:
        page = within.new_page()
        page.goto(site.origin(name))
        tab = Tab(page, {"url": road.url, "key": key})
        tab.wait_until_loaded()
        return tab

    return new_tab


@pytest.fixture
def session() -> str:
    return f"chat-{uuid.uuid4()}"
