"""A page says what its user thinks of an interaction: through the same queue, and in any order with it."""

import time
from datetime import UTC, datetime

from tests.browser.conftest import Log, Tab
from tests.browser.road import Road


def test_feedback_goes_with_the_interaction_that_it_is_of(tab: Tab, log: Log, session: str) -> None:
    tab.open(sessionId=session)
    receipts = tab.run(
        """async () => {
            const turn = log.begin({prompt: "What?"});
            const early = turn.feedback({value: true});
            turn.complete({response: "This."});
            const changed = turn.feedback({value: false, comment: "No"});
            const score = log.feedback({interactionId: "another", name: "score", value: 4});
            return (await Promise.all([early, changed, score])).map(({receipt, fields}) => [receipt, fields]);
        }"""
    )
    assert receipts == [["created", []], ["filled", ["value", "comment"]], ["created", []]]
    (stored,) = log.transcript(session)
    said = {row["name"]: row for row in log.feedback(session)}
    assert {name: (row["author"], row["value"], row["comment"]) for name, row in said.items()} == {
        "rating": ("browser", False, "No"),
        "score": ("browser", 4, None),
    }
    assert said["rating"]["interaction_id"] == stored["interaction_id"]
    assert said["score"]["interaction_key"] is None
    assert log.prompts(session) == ["What?"]


def test_it_waits_while_the_service_is_away_and_is_sent_once(tab: Tab, road: Road, log: Log, session: str) -> None:
    tab.open(sessionId=session)
    tab.say("before")
    tab.wait_until_delivered()
    road.is_cut()
    tab.run(
        "() => { window.said = log.feedback({interactionId: 'turn-1', value: 1}); log.interaction({prompt: 'after'}) }"
    )
    tab.wait_for("log.status.state === 'waiting'")
    tab.reload()
    road.is_mended()
    tab.open(sessionId=session)
    tab.wait_until_delivered()
    assert [row["value"] for row in log.feedback(session)] == [1]
    assert log.prompts(session) == ["before", "after"]


def test_what_is_said_as_a_page_ends_is_sent_all_the_same(tab: Tab, log: Log, session: str) -> None:
    tab.open(sessionId=session)
    tab.say("before")
    tab.wait_until_delivered()
    tab.run(
        """() => {
            log.interaction({prompt: "last words"});
            log.feedback({interactionId: "turn-1", value: true});
            location.href = "about:blank";
        }"""
    )
    log.wait_for(session, lambda found: len(found) == 2)
    give_up = time.monotonic() + 30
    while not (said := log.feedback(session)):
        assert time.monotonic() < give_up
        time.sleep(0.05)
    assert [row["value"] for row in said] == [True]


def test_a_browser_whose_clock_is_ahead_is_heard_at_the_services_time(tab: Tab, log: Log, session: str) -> None:
    tab.open(sessionId=session, userId="ada")
    tab.run("() => { const now = Date.now; window.ahead = 3_600_000; Date.now = () => now() + window.ahead; }")
    judge = "(value) => log.feedback({interactionId: 'turn-1', value})"
    receipts = [tab.run(judge, value)["receipt"] for value in (1, 2)]
    tab.run("window.ahead = 0")  # somebody set it right
    receipts.append(tab.run(judge, 3)["receipt"])
    assert receipts == ["created", "filled", "filled"]
    (said,) = log.feedback(session)
    assert said["value"] == 3
    assert datetime.fromisoformat(said["given_at"]) < datetime.now(UTC)
    ahead = "{interactionId: '1', value: 1, givenAt: '2099-01-01T00:00:00Z'}"
    told = tab.run(f"log.feedback({ahead}).catch(({{message}}) => message)")
    assert "$.given_at: Must not be in the future" in told


def test_a_page_speaks_in_nobodys_name(tab: Tab, log: Log, session: str) -> None:
    tab.open(sessionId=session, userId="ada")
    told = tab.run("log.feedback({interactionId: '1', value: 1, author: 'QA team'}).catch(({message}) => message)")
    assert "$.author: Must be left out" in told
    assert tab.run("log.feedback({interactionId: '1', value: 1})")["receipt"] == "created"
    assert [row["author"] for row in log.feedback(session)] == ["browser"]


def test_what_is_refused_is_told(tab: Tab, log: Log, session: str) -> None:
    tab.open(sessionId=session)
    told = tab.run("log.feedback({interactionId: 'turn-1', value: ''}).catch((error) => error.message)")
    assert told.startswith("The feedback was refused: ")
    assert "$.value: Must not be blank" in told
    tab.say("and on")
    tab.wait_until_delivered()
    assert log.prompts(session) == ["and on"]


def test_feedback_is_taken_back_and_a_session_is_rated(tab: Tab, log: Log, session: str) -> None:
    tab.open(sessionId=session)
    receipts = tab.run(
        """async () => {
            const turn = log.begin({prompt: "What?"});
            turn.complete({response: "This."});
            const given = [
                turn.feedback({value: true}), turn.feedback({value: null}),
                log.feedback({value: 4}), log.feedback({value: null}), log.feedback({name: "solved", value: true}),
            ];
            return (await Promise.all(given)).map(({receipt, fields}) => [receipt, fields]);
        }"""
    )
    assert receipts == [
        ["created", []], ["filled", ["value"]], ["created", []], ["filled", ["value"]], ["created", []]
    ]  # fmt: skip
    (stored,) = log.transcript(session)
    assert [(row["interaction_id"], row["name"], row["value"]) for row in log.feedback(session)] == [
        (None, "rating", None), (None, "solved", True), (stored["interaction_id"], "rating", None)
    ]  # fmt: skip


def test_an_id_that_got_lost_rates_no_session(tab: Tab, log: Log, session: str) -> None:
    tab.open(sessionId=session)
    tab.say("before")
    told = tab.run("log.feedback({interactionId: undefined, value: true}).catch(({message}) => message)")
    assert told == "interactionId is undefined: leave it out to rate the session"
    tab.wait_until_delivered()
    assert log.feedback(session) == []
