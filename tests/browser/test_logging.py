"""A page of another site logs its conversation, and can do nothing else."""

from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from playwright.sync_api import BrowserContext

from tests.browser.conftest import Log, Site, Tab, key_registry, make_key
from tests.browser.road import Road
from tests.service import Service

EXAMPLE = Path(__file__).parents[2] / "docs" / "chat.html"


@pytest.mark.walk
def test_an_interaction_is_stored_and_its_receipt_says_so(tab: Tab, log: Log, session: str) -> None:
    assert (
        tab.open(sessionId=session, userId="ada", title="First steps", tags=["demo"], metadata={"a": {"aB": 1}})
        == session
    )
    receipt = tab.run(
        "log.interaction({prompt: 'What?', response: 'This.', model: 'm', inputTokens: 3, metadata: {callId: 'x'}})"
    )
    (stored,) = log.transcript(session)
    assert receipt == {
        "sessionId": log.session(session)["session_id"],
        "interactionId": stored["interaction_id"],
        "receipt": "created",
        "fields": [],
    }
    assert (stored["prompt"], stored["response"], stored["status"]) == ("What?", "This.", "completed")
    assert (stored["model"], stored["input_tokens"], stored["metadata"]) == ("m", 3, {"callId": "x"})
    assert stored["started_at"] is not None
    found = log.session(session)
    assert (found["user_id"], found["title"], found["tags"]) == ("ada", "First steps", ["demo"])
    assert found["metadata"] == {"a": {"aB": 1}}
    assert tab.run("log.status") == {"state": "idle", "records": 0, "durable": True, "retryAt": None, "error": None}
    assert tab.run("errors.length") == 0


def test_a_regenerated_answer_and_a_reply_are_branches(tab: Tab, log: Log, session: str) -> None:
    tab.open(sessionId=session)
    tab.run(
        """async () => {
            await log.interaction({interactionId: "q1", prompt: "Name a tree.", response: "Oak."});
            await log.interaction({interactionId: "q2", prompt: "Why?", response: "It is old.", replyTo: "q1"});
            const again = log.begin({interactionId: "q1-2", prompt: "Name a tree.", alternativeTo: "q1"});
            again.append("Lime.");
            await again.complete();
            await log.interaction({interactionId: "q3", prompt: "Thanks", response: "!", replyTo: "q1-2"});
        }"""
    )
    shown = log.transcript(session)
    assert [row["key"] for row in shown] == ["q1-2", "q3"]
    assert [each["key"] for each in shown[0]["alternatives"]] == ["q1", "q1-2"]
    assert shown[1]["reply_to"] == shown[0]["interaction_id"]


def test_a_response_that_streams_is_logged_as_it_came(tab: Tab, log: Log, session: str) -> None:
    tab.open(sessionId=session)
    tab.run("window.turn = log.begin({prompt: 'Count', model: 'm'}); turn.logged.then((r) => window.logged = r)")
    tab.wait_for("window.logged")
    (begun,) = log.transcript(session)
    assert (begun["prompt"], begun["response"], begun["status"]) == ("Count", None, "pending")
    receipt = tab.run(
        """async () => {
            for (const token of ["One", ", two", ", 🙂"]) {
                await new Promise((resolve) => setTimeout(resolve, 20));
                turn.append(token);
            }
            return turn.complete({finishReason: "stop", outputTokens: 3});
        }"""
    )
    assert receipt["receipt"] == "filled"
    (stored,) = log.transcript(session)
    assert (
        stored["interaction_id"] == begun["interaction_id"] == receipt["interactionId"] == tab.run("turn.interactionId")
    )
    assert (stored["response"], stored["status"]) == ("One, two, 🙂", "completed")
    assert (stored["finish_reason"], stored["output_tokens"]) == ("stop", 3)
    assert 20 <= stored["time_to_first_token_ms"] < stored["latency_ms"]
    assert stored["completed_at"] > stored["started_at"]


def test_a_response_that_fails_says_why_and_how_far_it_came(tab: Tab, log: Log, session: str) -> None:
    tab.open(sessionId=session)
    tab.run(
        "async () => { const turn = log.begin({prompt: 'Go'}); turn.append('So'); await turn.fail(new Error('Cut')) }"
    )
    (stored,) = log.transcript(session)
    assert (stored["status"], stored["error"], stored["response"]) == ("failed", "Cut", "So")


def test_an_interaction_that_is_over_takes_nothing_more(tab: Tab, session: str) -> None:
    tab.open(sessionId=session)
    said = tab.run(
        """async () => {
            const turn = log.begin({prompt: 'Go'});
            await turn.complete({response: ''});
            try { await turn.fail('late') } catch (error) { return error.message }
        }"""
    )
    assert said == "This interaction has ended already"


def test_the_same_interaction_twice_is_stored_once(tab: Tab, log: Log, session: str) -> None:
    tab.open(sessionId=session)
    script = "log.interaction({interactionId: 'turn-1', prompt: 'Again', response: 'Yes'})"
    assert [tab.run(script)["receipt"], tab.run(script)["receipt"]] == ["created", "duplicate"]
    assert log.prompts(session) == ["Again"]


def test_turns_are_kept_in_the_order_in_which_they_were_said(tab: Tab, log: Log, session: str) -> None:
    tab.open(sessionId=session)
    said = [f"{n}" for n in range(250)]
    tab.say(*said)
    tab.wait_until_delivered()
    assert log.prompts(session) == said


def test_a_reloaded_page_goes_on_with_the_session_of_its_tab(tab: Tab, new_tab: Callable[..., Tab], log: Log) -> None:
    session = tab.open()
    tab.say("before")
    tab.wait_until_delivered()
    tab.reload()
    assert tab.open() == session
    tab.say("after")
    tab.wait_until_delivered()
    assert log.prompts(session) == ["before", "after"]
    assert new_tab().open() != session
    assert tab.open(fresh=True) != session


def test_a_token_is_asked_for_once_and_outlives_the_page(tab: Tab, road: Road, session: str) -> None:
    tab.open(sessionId=session, title="Only once")
    tab.say("one")
    tab.wait_until_delivered()
    tab.reload()
    tab.open(sessionId=session, title="Only once")
    tab.say("two")
    tab.wait_until_delivered()
    assert len(road.to("/v1/sessions")) == 1
    assert len(road.to("/v1/interactions/batch")) == 2


def test_what_a_later_page_adds_to_a_session_is_filled_in(tab: Tab, log: Log, session: str) -> None:
    tab.open(sessionId=session, title="First")
    tab.say("one")
    tab.wait_until_delivered()
    tab.open(sessionId=session, title="First", userId="ada")
    tab.say("two")
    tab.wait_until_delivered()
    assert (log.session(session)["title"], log.session(session)["user_id"]) == ("First", "ada")


def test_a_session_is_made_with_its_first_interaction(tab: Tab, road: Road, session: str) -> None:
    tab.open(sessionId=session)
    tab.run("log.flush()")
    assert road.calls == []


def test_no_other_browser_gets_into_a_session(
    tab: Tab, new_tab: Callable[..., Tab], log: Log, session: str, other_context: BrowserContext
) -> None:
    tab.open(sessionId=session)
    tab.say("mine")
    tab.wait_until_delivered()
    stranger = new_tab(within=other_context)
    stranger.open(sessionId=session)
    refusal = stranger.run("log.interaction({prompt: 'theirs'}).catch((e) => [e.status, e.kept, e.record.prompt])")
    assert refusal == [409, False, "theirs"]
    assert stranger.run("errors.map((e) => e.status)") == [409]
    stranger.wait_until_delivered()  # nothing waits for what can never be
    assert log.prompts(session) == ["mine"]


def test_what_was_logged_for_one_project_is_not_sent_to_another(
    tab: Tab, context: BrowserContext, service: Service, site: Site
) -> None:
    other = make_key(service, site.origin(), project="shop").text
    first = tab.open()  # with the key of the project default
    context.set_offline(True)
    tab.say("said to the project default")
    tab.wait_for("log.status.state === 'waiting'")
    tab.run("log.close()")
    second = tab.open(key=other)  # another chat of this site, in the same tab
    context.set_offline(False)
    tab.say("said to the project shop")
    tab.wait_until_delivered()
    assert second != first
    assert said_to(service) == [("shop", "said to the project shop")]
    tab.run("log.close()")
    assert tab.open() == first
    tab.wait_until_delivered()
    assert said_to(service) == [("default", "said to the project default"), ("shop", "said to the project shop")]


@pytest.mark.parametrize("named", [True, False], ids=["named beforehand", "by the old key"])
def test_a_new_key_goes_on_where_the_old_one_was(
    tab: Tab, service: Service, site: Site, road: Road, log: Log, *, named: bool
) -> None:
    old = make_key(service, site.origin())
    project = "support" if named else old.text
    session = tab.open(key=old.text, **({"project": project} if named else {}))
    tab.say("with the old key")
    tab.wait_until_delivered()
    road.is_cut()
    tab.say("waits")
    tab.wait_for("log.status.state === 'waiting'")
    tab.run("log.close()")
    with key_registry(service) as registry:
        new = registry.rotate(old.key, overlap_s=0)
    assert new is not None
    road.is_mended()
    before = len(road.calls)
    assert tab.open(key=new.text, project=project) == session
    tab.say("with the new key")
    tab.wait_until_delivered()
    assert log.prompts(session) == ["with the old key", "waits", "with the new key"]
    assert {call.headers["authorization"] for call in road.calls[before:]} == {f"Bearer {new.text}"}


def test_a_page_without_tls_logs_too(new_tab: Callable[..., Tab], log: Log, session: str) -> None:
    tab = new_tab("chat.test")
    assert tab.run("[isSecureContext, navigator.locks === undefined]") == [False, True]
    tab.open(sessionId=session)
    tab.say("one", "two")
    tab.wait_until_delivered()
    assert log.prompts(session) == ["one", "two"]


def test_the_example_page_logs_itself(
    context: BrowserContext, site: Site, service: Service, key: str, log: Log
) -> None:
    example = EXAMPLE.read_text(encoding="utf-8")
    for right, here in (("http://127.0.0.1:8000", service.url), ("turnlog_pk_…", key)):
        assert example.count(right) == 1
        example = example.replace(right, here)
    page = context.new_page()
    site.others["/chat.html"] = example
    page.goto(f"{site.origin()}/chat.html")
    page.fill("input", "Hello, who are you?")
    page.click("button")
    page.wait_for_function("document.querySelector('#status').value === 'all delivered'")
    page.wait_for_function("document.querySelector('#turns').textContent.endsWith('Echo: Hello, who are you?')")
    (name,) = page.evaluate("Object.values(sessionStorage)")
    (stored,) = log.wait_for(name, lambda found: bool(found) and found[0]["status"] == "completed")
    assert (stored["prompt"], stored["response"], stored["model"]) == ("Hello, who are you?",) * 2 + ("echo",)


def said_to(service: Service) -> list[tuple[str, str]]:
    """Return project and prompt of what was said to a project by its name."""
    with psycopg.connect(service.environment["DATABASE_URL"]) as connection:
        return connection.execute(
            "select project, prompt #>> '{}' from turnlog.ai_interactions"
            " where prompt #>> '{}' like 'said to%' order by 2"
        ).fetchall()
