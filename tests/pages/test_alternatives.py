"""Walking from alternative to alternative on a session's page, and choosing one."""

import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from flask.testing import FlaskClient

from tests.http_calls import log
from tests.pages.conftest import Opener, make_key
from tests.pages.html import link, page_of, texts
from tests.pages.tabs import Tab
from tests.service import Service

AT = "2026-11-21T10:{:02}:00Z"


def turn(session: str, name: str, minute: int, **fields: Any) -> dict[str, Any]:
    said = {"prompt": f"Question {name}", "response": f"Answer {name}", "started_at": AT.format(minute)}
    return {"session_id": session, "interaction_id": name, **said, **fields}


def forked(session: str) -> list[dict[str, Any]]:
    """Return a session of two questions; the answer to the second was given three times, and the last one went on."""
    return [
        turn(session, "one", 1),
        turn(session, "two", 2),
        turn(session, "after two", 3),
        turn(session, "two again", 4, alternative_to="two"),
        turn(session, "two at last", 5, alternative_to="two"),
        turn(session, "after all", 6),
    ]


@pytest.fixture(params=[True, False], ids=["with JavaScript", "without JavaScript"])
def any_tab(request: pytest.FixtureRequest, open_pages: Opener) -> Iterator[Tab]:
    with open_pages(java_script_enabled=request.param) as tab:
        yield tab


def shown(tab: Tab) -> list[str]:
    return [text.removeprefix("Answer ") for text in tab.texts(".bubble.assistant .text")]


def follow(tab: Tab, name: str) -> None:
    with tab.page.expect_navigation():
        tab.page.get_by_role("link", name=name).click()


def test_links_lead_from_alternative_to_alternative(any_tab: Tab, api: httpx.Client) -> None:
    session = str(uuid.uuid4())
    api.post("/v1/interactions/batch", json={"interactions": forked(session)}).raise_for_status()
    any_tab.open(f"/sessions/{session}")
    assert shown(any_tab) == ["one", "two at last", "after all"]
    assert any_tab.texts(".alternatives nav > span:not(.end)") == ["Alternative 3/ of 3"]
    assert any_tab.page.get_by_role("button", name="Make current").count() == 0
    follow(any_tab, "Previous alternative")
    assert shown(any_tab) == ["one", "two again"]
    follow(any_tab, "Previous alternative")
    assert shown(any_tab) == ["one", "two", "after two"]
    assert any_tab.texts(".alternatives nav > span:not(.end)") == ["Alternative 1/ of 3"]
    assert "?branch=" in any_tab.path
    assert any_tab.page.get_by_role("link", name="Previous alternative").count() == 0
    assert any_tab.texts(".turn.target .text") == ["Question two", "Answer two"]

    any_tab.send("Make current")
    assert "This is the current branch" in any_tab.page.locator("body").inner_text()
    assert any_tab.page.get_by_role("button", name="Make current").count() == 0
    any_tab.open(f"/sessions/{session}")
    assert shown(any_tab) == ["one", "two", "after two"]
    follow(any_tab, "Next alternative")
    assert shown(any_tab) == ["one", "two again"]


def test_only_who_may_edit_can_choose(open_tab: Opener, api: httpx.Client, service: Service) -> None:
    session = str(uuid.uuid4())
    api.post("/v1/interactions/batch", json={"interactions": forked(session)}).raise_for_status()
    with open_tab() as tab:
        tab.open(f"/sign-in?next=/sessions/{session}%3Fbranch%3Dtwo")
        tab.sign_in(make_key(service, "read").text)
        assert shown(tab) == ["one", "two", "after two"]
        assert tab.page.get_by_role("link", name="Next alternative").count() == 1
        assert tab.page.get_by_role("button", name="Make current").count() == 0


def answers(client: FlaskClient, path: str) -> list[str]:
    return [text.removeprefix("Answer ") for text in texts(page_of(client.get(path)), ".bubble.assistant .text")]


def test_pages_of_a_branch_stay_on_it(client: FlaskClient) -> None:
    log(client, **turn("s", "first", 0))
    log(client, **turn("s", "other", 50, alternative_to="first"))
    for n in range(120):
        at = f"2026-11-21T10:{n // 60:02}:{n % 60:02}.5Z"
        before = f"t{n - 1}" if n else "first"
        log(client, **turn("s", f"t{n}", 0, started_at=at, reply_to=before))
    client.patch("/v1/sessions/s/interactions/other", json={"current": True})
    assert answers(client, "/sessions/s") == ["other"]
    page = page_of(client.get("/sessions/s?branch=first"))
    assert "Showing 1 to 50 of 121 interactions, 1 more on other branches" in texts(page, "h1 + p")[0]
    found, path = texts(page, ".bubble.assistant .text"), link(page, "Later")
    assert "?branch=" in path
    while path:
        page = page_of(client.get(path))
        found += texts(page, ".bubble.assistant .text")
        last, path = path, (link(page, "Later") if "Later" in page.text else "")
    assert [text.removeprefix("Answer ") for text in found] == ["first", *(f"t{n}" for n in range(120))]
    earlier = link(page_of(client.get(last)), "Earlier")
    assert answers(client, earlier) == [f"t{n}" for n in range(49, 99)]


def test_a_turn_of_another_branch_is_shown_on_its_branch(client: FlaskClient) -> None:
    for each in forked("s"):
        log(client, **each)
    assert answers(client, "/sessions/s?turn=after+two") == ["one", "two", "after two"]
    assert answers(client, "/sessions/s?turn=one") == ["one", "two at last", "after all"]
    assert answers(client, "/sessions/s?branch=two+again&turn=one") == ["one", "two again"]
    page = page_of(client.get("/sessions/s?branch=nowhere"))
    assert "no such branch" in page.text
    assert len(page.select(".turn")) == 3


def test_turns_of_other_branches_are_no_gap(client: FlaskClient) -> None:
    log(client, **turn("s", "one", 1, turn=1))
    log(client, **turn("s", "two", 2, turn=2))
    log(client, **turn("s", "four", 3, turn=4))
    log(client, **turn("s", "two again", 4, turn=5, alternative_to="two"))
    log(client, **turn("s", "seven", 5, turn=7))
    page = page_of(client.get("/sessions/s"))
    assert len(page.select(".turn")) == 3
    assert texts(page, ".gap") == ["Turn 3 was never logged.", "Turn 6 was never logged."]


def test_another_answer_is_shown_with_its_question(client: FlaskClient) -> None:
    log(client, **turn("s", "one", 1))
    log(client, **turn("s", "two", 2, prompt=None, reply_to="one"))
    log(client, **turn("s", "three", 3, prompt=None, alternative_to="two"))
    for path in ("/sessions/s", "/sessions/s?branch=two"):
        assert texts(page_of(client.get(path)), ".bubble.user .text") == ["Question one"]


def test_answers_to_a_question_that_is_not_stored_have_none(client: FlaskClient) -> None:
    for n in (1, 2):
        log(client, **turn("s", str(n), n, prompt=None, reply_to="unknown"))
    page = page_of(client.get("/sessions/s"))
    assert texts(page, ".bubble .text") == ["Answer 2"]


def test_markdown_is_the_current_branch_and_says_that_there_are_others(client: FlaskClient) -> None:
    for each in forked("s"):
        log(client, **each)
    log(client, **turn("s", "once more", 7, prompt=None, alternative_to="after all"))
    text = client.get("/sessions/s/conversation.md").text
    said = [line for line in text.splitlines() if line.startswith(("Question", "Answer", "*"))]
    assert said == [
        "Question one",
        "Answer one",
        "Question two at last",
        "Answer two at last",
        "*Alternative 3 of 3; the others are on other branches, which this file leaves out*",
        "Question after all",
        "Answer once more",
        "*Alternative 2 of 2; the others are on other branches, which this file leaves out*",
    ]
