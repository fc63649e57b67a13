"""The page of a conversation: messages, gaps, and details of each turn."""

import base64

import httpx
import pytest

from tests.pages import sample_log
from tests.pages.conftest import Opener
from tests.pages.sample_log import SCRIPTS
from tests.pages.tabs import Tab
from tests.pages.test_embedded_files import PNG

TURNS = 50  # of a page


@pytest.mark.walk
def test_it_is_opened_from_the_list(tab: Tab) -> None:
    tab.open("/sessions")
    tab.page.get_by_role("link", name="A table for two").click()
    tab.page.wait_for_url("**/sessions/*")
    assert tab.texts("h1") == ["A table for two"]
    assert tab.texts(".bubble .who")[:2] == ["user", "gpt-4o-mini"]
    assert "Where can two people eat tonight?" in tab.texts(".bubble .text")[0]


def test_markdown_of_a_model_is_shown_as_it_means(tab: Tab) -> None:
    tab.open("/sessions/table")
    answer = tab.page.locator(".bubble.assistant .text").first
    assert answer.locator("strong").inner_text() == "two"
    assert answer.locator("td").all_inner_texts() == ["Sino", "$30", "Sipan", "$25"]
    assert "def book(name: str)" in answer.locator("pre code").inner_text()
    link = answer.get_by_role("link", name="their page")
    assert link.get_attribute("href") == "https://restaurants.example/sino"
    assert link.get_attribute("target") == "_blank"
    assert {"noopener", "noreferrer"} <= set((link.get_attribute("rel") or "").split())


def test_tool_calls_and_long_texts_are_folded_until_asked_for(tab: Tab) -> None:
    tab.open("/sessions/table")
    call = tab.page.locator("details", has=tab.page.get_by_text("tool call: book_table"))
    assert not call.locator("pre").is_visible()
    call.locator("summary").click()
    assert '"place": "Sipan"' in call.locator("pre").inner_text()
    last = tab.page.locator(".text", has_text="Line 199 of a long answer.")
    assert not last.is_visible()
    tab.page.get_by_text("Show all").click()
    assert last.is_visible()


def test_failures_and_gaps_are_shown(tab: Tab) -> None:
    tab.open("/sessions/troubled")
    turns = tab.page.locator(".turn")
    assert [turns.nth(n).locator(".facts .badge").first.inner_text() for n in range(3)] == [
        "failed",
        "abandoned",
        "pending",
    ]
    assert "The provider timed out after 30 s" in turns.first.inner_text()
    assert tab.texts(".gap") == ["Turns 3 to 4 were never logged."]


@pytest.mark.parametrize("script", list(SCRIPTS))
def test_every_script_is_shown_in_its_direction(tab: Tab, script: str) -> None:
    title, prompt, response, _ = SCRIPTS[script]
    tab.open(f"/sessions/{script}")
    assert tab.texts("h1") == [title]
    assert tab.texts(".bubble .text") == [prompt, response]
    direction = "rtl" if script == "arabic" else "ltr"
    for said in tab.page.locator(".bubble .text").all():
        assert said.evaluate("(each) => getComputedStyle(each).direction") == direction


def test_a_link_to_a_turn_leads_to_it_wherever_it_is(tab: Tab) -> None:
    tab.open("/sessions/long?turn=long-77")
    target = tab.page.locator(".turn.target")
    assert "Question 77" in target.inner_text()
    link = target.get_by_title("Link to this turn").get_attribute("href") or ""
    tab.open(link)
    assert tab.page.locator(".turn:target").inner_text() == tab.page.locator(".turn.target").inner_text()
    tab.page.wait_for_function("scrollY > 0 || document.body.scrollHeight <= innerHeight")
    assert tab.page.locator(".turn:target").is_visible()


def test_copying_takes_the_text_as_it_was_logged(open_pages: Opener) -> None:
    with open_pages(permissions=["clipboard-read", "clipboard-write"]) as tab:
        tab.open("/sessions/table")
        bubble = tab.page.locator(".bubble.assistant").first
        bubble.get_by_role("button", name="Copy").click()
        bubble.get_by_role("button", name="Copied").wait_for()
        assert tab.page.evaluate("navigator.clipboard.readText()") == sample_log.MARKDOWN


def test_a_long_conversation_comes_page_by_page(tab: Tab, api: httpx.Client) -> None:
    """Ten thousand turns: a page has fifty of them, whichever is asked for."""
    turns = 10_000
    for start in range(0, turns, 1000):
        rows = [
            {
                "session_id": "endless",
                "interaction_id": f"t-{n}",
                "turn": n,
                "prompt": f"Prompt {n}",
                "response": "Yes",
            }
            for n in range(start + 1, start + 1001)
        ]
        api.post("/v1/interactions/batch", json={"interactions": rows}).raise_for_status()
    tab.open("/sessions/endless")
    assert tab.page.locator(".turn").count() == TURNS
    assert "Showing 1 to 50 of 10,000 interactions" in tab.main.inner_text()
    tab.page.get_by_role("link", name="Later").click()
    tab.page.locator(".text", has_text="Prompt 51").wait_for()
    tab.page.wait_for_load_state()
    assert tab.page.locator(".turn").count() == TURNS
    tab.open("/sessions/endless?turn=t-10000")
    assert tab.page.locator(".turn").count() <= TURNS
    assert "Prompt 10000" in tab.page.locator(".turn.target").inner_text()
    assert tab.page.get_by_role("link", name="Later").count() == 0
    tab.page.get_by_role("link", name="Earlier").click()
    tab.page.locator(".turn.target").wait_for(state="detached")
    tab.page.wait_for_load_state()
    assert tab.page.locator(".turn").count() == TURNS


def test_all_pages_together_are_the_whole_conversation(tab: Tab) -> None:
    tab.open("/sessions/long")
    said = tab.texts(".bubble.user .text")
    while (later := tab.page.locator("a[rel=next]")).count():
        tab.open(later.get_attribute("href") or "")
        said += tab.texts(".bubble.user .text")
    assert said == [f"Question {n}" for n in range(1, sample_log.LONG + 1)]
    back = tab.texts(".bubble.user .text")
    while (earlier := tab.page.locator("a[rel=prev]")).count():
        tab.open(earlier.get_attribute("href") or "")
        back = tab.texts(".bubble.user .text") + back
    assert back == said


def test_an_image_in_a_message_is_loaded_when_it_is_opened(tab: Tab, api: httpx.Client) -> None:
    """The browser asks for nothing before, and shows what it gets."""
    uri = "data:image/png;base64," + base64.b64encode(PNG + bytes(2_500_000)).decode()
    prompt = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": uri}}]}]
    api.post("/v1/interactions", json={"session_id": "photo", "prompt": prompt}).raise_for_status()
    asked: list[str] = []
    tab.page.on("request", lambda request: asked.append(request.url))
    tab.open("/sessions/photo")
    image = tab.page.locator("img.embedded")
    assert not image.is_visible()
    assert [url for url in asked if "/images/" in url] == []
    with tab.page.expect_response("**/images/0") as answered:
        tab.page.locator("summary", has_text="image/png, 2.5 MB").click()
    assert answered.value.status == httpx.codes.OK
    assert image.evaluate("(image) => image.decode().then(() => image.naturalWidth)") == 1
    assert image.is_visible()
