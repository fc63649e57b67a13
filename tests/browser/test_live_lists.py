"""The first page of a list keeps itself up to date, and disturbs nobody who reads it."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from playwright.sync_api import BrowserContext, Page, expect

from tests.databases import TestServer
from tests.http_calls import KEYLESS
from tests.service import Service, launch

A_LOOK_MS = 5_100  # by the page's own clock, which these tests turn


@pytest.fixture(scope="module")
def open_service(postgres_server: TestServer) -> Iterator[Service]:
    """Return a service that asks for no key, over a database of its own."""
    with (
        postgres_server.database() as name,
        launch({"DATABASE_URL": postgres_server.conninfo(name)} | KEYLESS) as service,
    ):
        service.wait_until_ready()
        yield service


def say(service: Service, session: str, **fields: Any) -> None:
    body = {"session_id": session, "prompt": "Hello", **fields}
    httpx.post(f"{service.url}/v1/interactions", json=body, timeout=30).raise_for_status()


@pytest.fixture
def page(context: BrowserContext, open_service: Service) -> Page:
    say(open_service, "first")
    page = context.new_page()
    page.clock.install()
    return page


def look(page: Page, path: str, service: Service) -> None:
    page.goto(service.url + path)
    expect(page.get_by_role("button", name="Live")).to_be_visible()


def time_passes(page: Page) -> None:
    """Let the page ask once more, and wait until it has put in the answer."""
    with page.expect_response(lambda answer: answer.request.resource_type == "fetch"):
        page.clock.run_for(A_LOOK_MS)


def test_a_new_session_appears_and_is_told_politely(page: Page, open_service: Service) -> None:
    look(page, "/sessions", open_service)
    say(open_service, "a new one")
    time_passes(page)
    expect(page.locator("tbody tr").first).to_contain_text("a new one")
    expect(page.locator("#live-announcement")).to_have_text("1 new session")
    expect(page.locator("#live-state")).to_contain_text("Updated at")


def test_what_has_the_focus_keeps_it_and_a_changed_row_is_renewed(page: Page, open_service: Service) -> None:
    say(open_service, "watched")
    look(page, "/sessions", open_service)
    link = page.get_by_role("link", name="watched", exact=True)
    link.focus()
    for n in range(3):
        say(open_service, "watched", prompt=f"{n}")
    say(open_service, "above it")
    time_passes(page)
    expect(page.locator("tbody tr", has_text="watched").locator("td").nth(3)).to_have_text("4")
    expect(link).to_be_focused()


def test_it_waits_while_something_in_it_is_selected(page: Page, open_service: Service) -> None:
    look(page, "/sessions", open_service)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.evaluate("getSelection().selectAllChildren(document.querySelector('tbody tr'))")
    say(open_service, "while it was selected")
    page.clock.run_for(4 * A_LOOK_MS)
    assert asked == []
    page.evaluate("getSelection().removeAllRanges()")
    time_passes(page)
    expect(page.locator("tbody")).to_contain_text("while it was selected")


def test_it_stops_at_the_button_and_goes_on_at_it(page: Page, open_service: Service) -> None:
    look(page, "/live", open_service)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    button = page.get_by_role("button", name="Live")
    button.click()
    expect(button).to_have_attribute("aria-pressed", "false")
    say(open_service, "paused", prompt="while it was stopped")
    page.clock.run_for(4 * A_LOOK_MS)
    assert asked == []
    button.click()
    expect(page.locator(".arrivals li").first).to_contain_text("while it was stopped")
    expect(button).to_have_attribute("aria-pressed", "true")


def test_an_outage_is_told_and_gone_when_it_is_over(page: Page, open_service: Service) -> None:
    look(page, "/live", open_service)
    page.route("**/live", lambda route: route.abort())
    page.clock.run_for(A_LOOK_MS)
    expect(page.locator("#live-state")).to_contain_text("Not up to date")
    page.unroute("**/live")
    say(open_service, "after", prompt="when it was back")
    with page.expect_response("**/live"):
        page.clock.run_for(30_100)
    expect(page.locator(".arrivals li").first).to_contain_text("when it was back")
    expect(page.locator("#live-state")).to_contain_text("Updated at")


def test_what_somebody_reads_further_down_stays_where_it_is(page: Page, open_service: Service) -> None:
    for n in range(40):
        say(open_service, f"read {n}")
    look(page, "/live", open_service)
    row = page.locator(".arrivals li").nth(20)
    row.scroll_into_view_if_needed()
    before = row.evaluate("(row) => [row.id, row.getBoundingClientRect().top, scrollY]")
    assert before[2] > 0
    for n in range(5):
        say(open_service, "above", prompt=f"{n}")
    time_passes(page)
    expect(page.locator(".arrivals li").first).to_contain_text("above")
    after = page.evaluate("(id) => document.getElementById(id).getBoundingClientRect().top", before[0])
    assert abs(after - before[1]) < 2


def test_a_later_page_stays_as_it_is(page: Page, open_service: Service) -> None:
    for n in range(55):
        say(open_service, f"many {n}")
    page.goto(open_service.url + "/sessions")
    page.get_by_role("link", name="Next").click()
    expect(page.get_by_role("link", name="First page")).to_be_visible()
    assert page.locator("#live").count() == 0
