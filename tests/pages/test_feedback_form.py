"""A reader gives feedback in a browser, and changes it."""

import uuid
from collections.abc import Iterator

import httpx
import pytest

from tests.pages.conftest import Opener
from tests.pages.tabs import Tab


@pytest.fixture(params=[True, False], ids=["with JavaScript", "without JavaScript"])
def session_tab(request: pytest.FixtureRequest, open_pages: Opener, api: httpx.Client) -> Iterator[Tab]:
    """Yield a tab on a conversation of two turns."""
    session = f"feedback-{uuid.uuid4()}"
    for turn in (1, 2):
        said = {
            "session_id": session,
            "interaction_id": f"{turn}",
            "turn": turn,
            "prompt": "Is it?",
            "response": "It is",
        }
        api.post("/v1/interactions", json=said).raise_for_status()
    with open_pages(java_script_enabled=request.param) as tab:
        tab.open(f"/sessions/{session}")
        yield tab


def test_a_thumb_a_score_and_a_note_are_saved_and_shown(session_tab: Tab) -> None:
    turn = session_tab.page.locator(".turn").nth(1)
    session_tab.send(turn.get_by_role("button", name="Good answer"))
    assert session_tab.page.get_by_role("status").first.inner_text()
    assert turn.get_by_role("list", name="Feedback").get_by_text("good", exact=True).count() == 1
    assert turn.get_by_role("button", name="Good answer").get_attribute("aria-pressed") == "true"
    turn.get_by_text("Score or note").click()
    turn.get_by_label("4").check()
    turn.get_by_label("Note").fill("شكرا <b>very</b> much")
    session_tab.send(turn.get_by_role("button", name="Save"))
    shown = turn.get_by_role("list", name="Feedback").inner_text()
    assert "4 of 5" in shown
    assert "شكرا <b>very</b> much" in shown
    assert session_tab.page.locator(".turn").first.get_by_role("list", name="Feedback").count() == 0


def test_the_other_thumb_replaces_the_first(session_tab: Tab) -> None:
    turn = session_tab.page.locator(".turn").first
    session_tab.send(turn.get_by_role("button", name="Good answer"))
    session_tab.send(turn.get_by_role("button", name="Bad answer"))
    assert turn.get_by_role("list", name="Feedback").get_by_text("bad", exact=True).count() == 1
    assert turn.get_by_role("list", name="Feedback").get_by_text("good", exact=True).count() == 0


def test_a_thumb_that_is_clicked_again_is_taken_back(session_tab: Tab) -> None:
    turn = session_tab.page.locator(".turn").first
    for rated, noun in ((turn, "answer"), (session_tab.page.locator("#feedback"), "session")):
        thumb = rated.get_by_role("button", name=f"Good {noun}")
        session_tab.send(thumb)
        assert thumb.get_attribute("aria-pressed") == "true"
        assert rated.get_by_role("list", name="Feedback").get_by_text("good", exact=True).count() == 1
        session_tab.send(thumb)
        assert thumb.get_attribute("aria-pressed") == "false"
        assert rated.get_by_role("list", name="Feedback").count() == 0
        assert session_tab.page.get_by_role("status").first.inner_text().strip() == "Your feedback was taken back."
        session_tab.send(thumb)
        assert thumb.get_attribute("aria-pressed") == "true"
