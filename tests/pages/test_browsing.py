"""Finding a conversation: by filters, by text in any script, and live."""

import re
import uuid
from collections.abc import Iterator

import httpx
import pytest

from tests.pages.conftest import Opener
from tests.pages.sample_log import SCRIPTS
from tests.pages.tabs import Tab


@pytest.fixture(params=[True, False], ids=["with JavaScript", "without JavaScript"])
def any_tab(request: pytest.FixtureRequest, open_pages: Opener) -> Iterator[Tab]:
    with open_pages(java_script_enabled=request.param) as tab:
        yield tab


def test_filters_narrow_the_list_and_can_be_removed(any_tab: Tab) -> None:
    any_tab.open("/sessions")
    any_tab.page.get_by_text("Filters", exact=True).click()
    any_tab.page.get_by_label("User").fill("ben")
    any_tab.page.get_by_label("Tag", exact=True).fill("support")
    any_tab.send("Show")
    assert {"Lost luggage", "Nothing works"} <= set(any_tab.texts("#list td a"))
    assert "A table for two" not in any_tab.main.inner_text()
    any_tab.page.get_by_label("Failed interactions").select_option("some")
    any_tab.send("Show")
    assert "Nothing works" in any_tab.texts("#list td a")
    assert "Lost luggage" not in any_tab.texts("#list td a")
    for chip in ("failed interactions", "tag", "user"):
        with any_tab.page.expect_navigation():
            any_tab.page.get_by_role("link", name=f"Remove filter: {chip}").click()
    assert any_tab.path == "/sessions"
    assert "A table for two" in any_tab.texts("#list td a")


def test_a_filter_that_cannot_be_is_refused_by_name(tab: Tab) -> None:
    tab.open("/sessions?status=asleep", 422)
    assert "status" in tab.main.inner_text()


@pytest.mark.parametrize("script", list(SCRIPTS))
def test_text_in_any_script_is_found_and_opened(any_tab: Tab, script: str) -> None:
    title, _, response, part = SCRIPTS[script]
    any_tab.open("/search")
    any_tab.page.get_by_label("Search text").fill(part)
    any_tab.send("Search")
    assert any_tab.texts(".hit a") == [title]
    assert any_tab.texts(".hit mark") == [part]
    assert response in any_tab.texts(".hit p")[0]
    with any_tab.page.expect_navigation():
        any_tab.page.get_by_role("link", name=title).click()
    assert any_tab.texts("h1") == [title]
    assert response in any_tab.texts(".turn.target .text")
    assert any_tab.page.locator(".turn:target").count() == 1


def test_a_search_without_hits_finds_nothing(any_tab: Tab) -> None:
    any_tab.open("/search")
    any_tab.page.get_by_label("Search text").fill("zebra crossing")
    any_tab.send("Search")
    assert "No results" in any_tab.main.inner_text()
    assert any_tab.page.get_by_label("Search text").input_value() == "zebra crossing"


def test_a_session_that_begins_appears_by_itself(tab: Tab, api: httpx.Client) -> None:
    title = f"Just begun {uuid.uuid4()}"
    tab.open("/sessions")
    link = tab.page.get_by_role("link", name="A table for two")
    link.focus()
    say(api, str(uuid.uuid4()), "Hello", title)
    tab.page.get_by_role("link", name=title).wait_for()
    assert link.evaluate("(each) => each === document.activeElement")  # the focus stays where it was
    assert re.fullmatch(r"\d+ new sessions?", tab.page.locator("#live-announcement").inner_text())


def test_new_interactions_appear_live_until_paused(tab: Tab, api: httpx.Client) -> None:
    session = str(uuid.uuid4())
    tab.open("/live")
    say(api, session, "The first of them")
    tab.page.locator(".excerpt", has_text="The first of them").wait_for()
    tab.page.get_by_role("button", name="Live").click()
    assert tab.page.locator("#live-state").inner_text() == "Paused"
    say(api, session, "The second of them")
    with tab.page.expect_response("**/live"):
        tab.page.get_by_role("button", name="Live").click()
    tab.page.locator(".excerpt", has_text="The second of them").wait_for()


def say(api: httpx.Client, session: str, prompt: str, title: str | None = None) -> None:
    if title:
        api.post("/v1/sessions", json={"session_id": session, "title": title}).raise_for_status()
    api.post("/v1/interactions", json={"session_id": session, "prompt": prompt}).raise_for_status()
