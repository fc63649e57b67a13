"""Whatever becomes of the network, the service or an answer: each turn is stored once."""

import random
from collections.abc import Callable
from itertools import pairwise

import pytest
from playwright.sync_api import BrowserContext

from tests.browser.conftest import Log, Site, Tab, make_key, serving
from tests.browser.road import Answer, Call, Fault, LoseAnswer, LoseCall, Road
from tests.databases import TestServer


def test_what_is_said_while_the_network_is_cut_arrives_when_it_is_back(
    tab: Tab, context: BrowserContext, log: Log, session: str
) -> None:
    tab.open(sessionId=session)
    tab.say("before")
    tab.wait_until_delivered()
    context.set_offline(True)
    tab.say("cut 1", "cut 2")
    tab.wait_for("log.status.state === 'waiting' && log.status.records === 2")
    assert log.prompts(session) == ["before"]
    context.set_offline(False)
    tab.wait_until_delivered()
    assert log.prompts(session) == ["before", "cut 1", "cut 2"]
    assert tab.run("errors.length") == 0


def test_a_log_is_opened_and_written_without_a_network(
    tab: Tab, context: BrowserContext, log: Log, session: str
) -> None:
    context.set_offline(True)
    tab.open(sessionId=session)
    tab.run("window.turn = log.begin({prompt: 'Offline'}); turn.append('Yes'); window.receipt = turn.complete(); 0")
    tab.wait_for("log.status.records === 2")
    context.set_offline(False)
    assert tab.run("receipt.then((r) => r.receipt)") == "filled"
    (stored,) = log.transcript(session)
    assert (stored["prompt"], stored["response"], stored["status"]) == ("Offline", "Yes", "completed")


def test_a_page_that_ends_while_the_network_is_cut_leaves_its_turns_to_the_next(
    tab: Tab, new_tab: Callable[..., Tab], context: BrowserContext, log: Log, session: str
) -> None:
    tab.open(sessionId=session)
    context.set_offline(True)
    tab.say("one", "two")
    tab.run("log.kept()")
    tab.page.close()
    context.set_offline(False)
    # another conversation of the same site: whoever comes first delivers for all
    next_tab = new_tab()
    assert next_tab.open() != session
    next_tab.wait_until_delivered()
    assert log.prompts(session) == ["one", "two"]


def test_a_reload_while_the_service_is_away_loses_nothing(tab: Tab, road: Road, log: Log) -> None:
    session = tab.open()
    tab.say("before")
    tab.wait_until_delivered()
    road.is_cut()
    tab.say("cut 1")
    tab.wait_for("log.status.state === 'waiting'")
    tab.reload()
    assert tab.open() == session
    tab.say("cut 2")
    tab.wait_for("log.status.state === 'waiting' && log.status.records === 2")
    road.is_mended()
    tab.run("log.flush()")
    tab.wait_until_delivered()
    assert log.prompts(session) == ["before", "cut 1", "cut 2"]


def test_a_service_that_dies_and_comes_back_has_every_turn(
    new_tab: Callable[..., Tab], context: BrowserContext, postgres_server: TestServer, site: Site, session: str
) -> None:
    page = site.page
    try:
        with serving(postgres_server, site) as service:
            tab = new_tab()
            tab.open(url=service.url, key=make_key(service, site.origin()).text, sessionId=session)
            tab.say("before")
            tab.wait_until_delivered()
            service.kill()
            tab.say("away 1", "away 2")
            tab.wait_for("log.status.state === 'waiting'")
            service.start_again()
            service.wait_until_ready()
            tab.run("log.flush()")
            tab.wait_until_delivered()
            assert Log(service).prompts(session) == ["before", "away 1", "away 2"]
            context.close()  # a service that stops waits for open connections
    finally:
        site.page = page


@pytest.mark.parametrize("path", ["/v1/sessions", "/v1/interactions/batch"])
@pytest.mark.parametrize("fault", [LoseAnswer(), LoseCall(), Answer(200, body=b"<html>Sign in to this network</html>")])
def test_a_call_whose_answer_is_lost_is_repeated_and_stored_once(  # noqa: PLR0917 - so many fixtures
    tab: Tab, road: Road, log: Log, session: str, path: str, fault: Fault
) -> None:
    # twice, as a browser repeats the first by itself where its connection was an old one
    road.next_are(fault, fault, path=path)
    tab.open(sessionId=session, title="Kept")
    tab.say("one", "two")
    tab.wait_until_delivered()
    assert log.prompts(session) == ["one", "two"]
    assert log.session(session)["title"] == "Kept"
    assert tab.run("errors.length") == 0
    ids = [[item["interaction_id"] for item in call.body["interactions"]] for call in road.to("/v1/interactions/batch")]
    assert {each for batch in ids for each in batch} == {each["interaction_id"] for each in log.transcript(session)}


@pytest.mark.parametrize("status", [429, 503])
def test_a_service_that_asks_for_patience_gets_it(tab: Tab, road: Road, log: Log, session: str, status: int) -> None:
    tab.open(sessionId=session)
    tab.say("before")
    tab.wait_until_delivered()
    road.next_are(Answer(status, {"Retry-After": "2"}), path="/v1/interactions")
    tab.say("one")
    tab.wait_for("log.status.state === 'waiting'")
    tab.say("two")
    tab.run("log.flush()")  # nor does an impatient page change it
    tab.run("dispatchEvent(new Event('online'))")
    tab.wait_until_delivered()
    first, refused, *later = road.to("/v1/interactions/batch")
    assert (first.status, refused.status) == (200, status)
    assert later[0].at - refused.at >= 2
    assert log.prompts(session) == ["before", "one", "two"]


@pytest.mark.parametrize("status", [500, 502, 503, 504, 520])
def test_a_failure_that_passes_is_waited_for_longer_each_time(
    tab: Tab, road: Road, log: Log, session: str, status: int
) -> None:
    tab.open(sessionId=session)
    road.next_are(*[Answer(status)] * 3)
    tab.say("one")
    tab.wait_until_delivered()
    pauses = [later.at - earlier.at for earlier, later in pairwise(road.to("/v1/sessions"))]
    assert [call.status for call in road.calls] == [status] * 3 + [201, 200]
    # half of 0.5, 1 and 2 seconds at least, the rest is chance
    assert [pause >= least for pause, least in zip(pauses, [0.25, 0.5, 1], strict=True)] == [True] * 3
    assert log.prompts(session) == ["one"]


def test_a_call_that_took_too_long_is_repeated(tab: Tab, road: Road, log: Log, session: str) -> None:
    # Chromium repeats the first by itself
    road.next_are(*[Answer(408)] * 3)
    tab.open(sessionId=session)
    tab.say("one")
    tab.wait_until_delivered()
    assert log.prompts(session) == ["one"]


def test_a_token_that_is_over_is_renewed(tab: Tab, road: Road, log: Log, session: str) -> None:
    tab.open(sessionId=session)
    tab.say("before")
    tab.wait_until_delivered()
    road.next_are(Answer(403), path="/v1/interactions")
    tab.say("one")
    tab.wait_until_delivered()
    assert [call.path for call in road.calls[2:]] == [
        "/v1/interactions/batch",
        "/v1/sessions",
        "/v1/interactions/batch",
    ]
    assert log.prompts(session) == ["before", "one"]
    assert tab.run("errors.length") == 0


def test_a_token_is_renewed_before_it_is_over(tab: Tab, road: Road, session: str) -> None:
    tab.open(sessionId=session)
    tab.say("before")
    tab.wait_until_delivered()
    tab.run("() => { const now = Date.now; Date.now = () => now() + 24 * 3600_000 - 60_000 }")  # its last minute
    tab.say("one")
    tab.wait_until_delivered()
    assert [call.status for call in road.to("/v1/sessions")] == [201, 200]
    assert [call.status for call in road.to("/v1/interactions/batch")] == [200, 200]


@pytest.mark.parametrize("seed", range(3))
def test_tabs_that_reload_over_a_road_that_fails_lose_and_double_nothing(
    new_tab: Callable[..., Tab], road: Road, log: Log, session: str, seed: int
) -> None:
    chance = random.Random(seed)
    faults: list[Fault | None] = [
        LoseAnswer(),
        LoseCall(),
        Answer(503),
        Answer(429, {"Retry-After": "1"}),
        None,
        None,
        None,
    ]

    def choose(_: Call) -> Fault | None:
        return chance.choice(faults)

    road.choose = choose
    tabs = [new_tab() for _ in range(3)]
    said: list[str] = []
    for tab in tabs:
        tab.open(sessionId=session, countTurns=True)
    for step in range(30):
        number = chance.randrange(3)
        tab = tabs[number]
        if chance.random() < 0.2:
            tab.reload()
            tab.open(sessionId=session, countTurns=True)
        prompts = [f"{step}.{n} in tab {number}" for n in range(chance.randrange(1, 4))]
        tab.say(*prompts)
        said += prompts
        tab.run("log.kept()")  # so that a reload takes none of them away before it is in the queue
    road.is_mended()
    for tab in tabs:
        tab.run("log.flush()")
        tab.wait_until_delivered()
    assert sorted(log.prompts(session)) == sorted(said)
    gaps = log.gaps(session)
    assert (gaps["first"], gaps["last"], gaps["missing"], gaps["doubled_count"]) == (1, len(said), 0, 0)
    assert [tab.run("errors.map(String)") for tab in tabs] == [[], [], []]
