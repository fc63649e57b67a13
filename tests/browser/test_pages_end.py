"""Pages that end, and several tabs on one session."""

from collections.abc import Callable

from tests.browser.conftest import Log, Tab
from tests.browser.road import Road


def test_what_is_said_as_a_page_ends_is_sent_all_the_same(tab: Tab, log: Log, session: str) -> None:
    tab.open(sessionId=session)
    tab.say("before")
    tab.wait_until_delivered()
    tab.run("() => { log.interaction({prompt: 'last words', response: 'Bye'}); location.href = 'about:blank' }")
    transcript = log.wait_for(session, lambda found: len(found) == 2)
    assert transcript[1]["prompt"] == "last words"


def test_a_response_under_way_as_a_page_ends_is_logged_as_abandoned(tab: Tab, log: Log, session: str) -> None:
    tab.open(sessionId=session)
    tab.run("async () => { window.turn = log.begin({prompt: 'Long'}); await turn.logged; turn.append('Once upon') }")
    tab.page.goto("about:blank")
    (stored,) = log.wait_for(session, lambda found: found[0]["status"] != "pending")
    assert (stored["status"], stored["response"]) == ("abandoned", "Once upon")


def test_what_is_said_before_the_session_is_made_is_sent_by_the_next_page(tab: Tab, road: Road, log: Log) -> None:
    session = tab.open()
    road.is_cut()
    tab.say("first")
    tab.run("log.kept()")
    tab.page.goto("about:blank")
    road.is_mended()
    tab.page.go_back()
    tab.wait_until_loaded()
    assert tab.open() == session
    tab.wait_until_delivered()
    assert log.prompts(session) == ["first"]


def test_two_tabs_on_one_session_send_nothing_twice(
    new_tab: Callable[..., Tab], road: Road, log: Log, session: str
) -> None:
    tabs = [new_tab(), new_tab()]
    for tab in tabs:
        tab.open(sessionId=session, countTurns=True)
    script = (
        "(name) => { for (let n = 0; n < 60; n++) setTimeout(() => log.interaction({prompt: `${name} ${n}`}), 5 * n) }"
    )
    for number, tab in enumerate(tabs):
        tab.run(script, f"tab {number}")
    log.wait_for(session, lambda found: len(found) == 120)
    for tab in tabs:
        tab.wait_until_delivered()
    assert sorted(log.prompts(session)) == sorted(f"tab {number} {n}" for number in range(2) for n in range(60))
    assert log.gaps(session)["missing"] == log.gaps(session)["doubled_count"] == 0
    sent = [item["interaction_id"] for call in road.to("/v1/interactions/batch") for item in call.body["interactions"]]
    assert len(sent) == len(set(sent)) == 120
    assert len(road.to("/v1/sessions")) == 1


def test_a_tab_learns_what_another_delivered_for_it(new_tab: Callable[..., Tab], road: Road, session: str) -> None:
    first, second = new_tab(), new_tab()
    road.is_cut()
    for tab in (first, second):
        tab.open(sessionId=session)
    first.run("window.receipt = log.interaction({prompt: 'By either'}).then((r) => r.receipt); 0")
    first.wait_for("log.status.state === 'waiting'")
    first.run("() => { const now = Date.now(); Date.now = () => now }")  # its own next try never comes
    road.is_mended()
    second.say("Mine")
    assert first.run("receipt") == "created"


def test_a_log_that_is_closed_leaves_its_turns_to_the_next(tab: Tab, road: Road, log: Log, session: str) -> None:
    road.is_cut()
    tab.open(sessionId=session)
    tab.say("one")
    tab.wait_for("log.status.state === 'waiting'")
    tab.run("log.close()")
    road.is_mended()
    tab.open(sessionId=session)
    tab.wait_until_delivered()
    assert log.prompts(session) == ["one"]
