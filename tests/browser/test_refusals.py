"""What the service or the browser refuses is told, and harms nothing else."""

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Error

from tests.browser.conftest import Log, Site, Tab, make_key
from tests.browser.road import Road
from tests.service import Service

NO_DATABASE = (
    "Object.defineProperty(window, 'indexedDB', {get() { throw new DOMException('Denied', 'SecurityError') }})"
)

MISTYPED = "turnlog_pk_" + "0" * 30


def test_a_page_of_another_origin_is_refused_by_the_browser(
    new_tab: Callable[..., Tab], road: Road, log: Log, session: str
) -> None:
    tab = new_tab("localhost")
    said: list[str] = []
    tab.page.on("console", lambda message: said.append(message.text))
    tab.open(sessionId=session)
    tab.say("from elsewhere")
    tab.wait_for("log.status.state === 'waiting'")
    assert any("blocked by CORS policy" in line for line in said)
    assert "can't be reached from this page" in tab.run("log.status.error.message")
    assert tab.run("log.status.records") == 1
    assert road.calls == []
    assert log.transcript(session) == []


def test_turns_that_a_key_of_other_pages_could_not_send_wait_for_the_right_one(
    tab: Tab, service: Service, log: Log, session: str
) -> None:
    tab.open(sessionId=session, project="chat", key=make_key(service, "https://elsewhere.example").text)
    assert refused(tab, "one") == [403, True, "one"]
    tab.wait_for("log.status.state === 'refused'")
    assert tab.run("errors[0].problem.code") == "wrong-origin"
    assert log.transcript(session) == []
    tab.run("log.close()")
    tab.open(sessionId=session, project="chat")
    tab.wait_until_delivered()
    assert log.prompts(session) == ["one"]


def test_a_wrong_key_is_told_and_not_tried_again_and_again(tab: Tab, road: Road, log: Log, session: str) -> None:
    tab.open(sessionId=session, project="chat", key=MISTYPED)
    assert refused(tab, "one") == [401, True, "one"]
    tab.wait_for("log.status.state === 'refused'")  # the promise settles first
    assert tab.run("[log.status.records, errors.length]") == [1, 1]
    assert len(road.calls) == 1
    tab.open(sessionId=session, project="chat")
    tab.wait_until_delivered()
    assert log.prompts(session) == ["one"]


def test_what_is_added_while_others_are_looked_for_is_tried_once(tab: Tab, road: Road, session: str) -> None:
    tab.open(sessionId=session, project="chat", key=MISTYPED)
    tab.wait_for("log.status.state === 'idle'")
    tab.run(
        """async () => {
            const database = await new Promise((done) => {
                indexedDB.open("turnlog").onsuccess = ({target}) => done(target.result);
            });
            const records = database.transaction("records", "readwrite").objectStore("records");
            let busy = true;
            const goOn = () => { if (busy) records.count().onsuccess = goOn };  // nobody else comes to a turn
            goOn();
            log.interaction({prompt: "one"});
            await new Promise((done) => setTimeout(done, 50));  // waits for its turn
            dispatchEvent(new Event("online"));
            await new Promise((done) => setTimeout(done, 50));  // and so does who looks for it
            busy = false;
        }"""
    )
    tab.wait_for("log.status.state === 'refused'")
    tab.run("log.flush()")  # which waits until all is over
    assert tab.run("errors.length") == len(road.calls) == 2


def test_a_session_of_a_dead_key_stops_no_other(tab: Tab, log: Log, road: Road, session: str) -> None:
    tab.open(sessionId=f"{session}-old", project="chat", key=MISTYPED)
    refused(tab, "old")
    tab.run("log.close()")
    tab.open(sessionId=session, project="chat")
    tab.say("one")
    log.wait_for(session, lambda found: len(found) == 1)
    tab.say("two")
    log.wait_for(session, lambda found: len(found) == 2)
    assert [call.status for call in road.calls].count(401) == 2
    tab.wait_for("log.status.records === 1")  # stored is sooner than told
    assert tab.run("log.discard()")[0]["prompt"] == "old"
    tab.wait_until_delivered()


@pytest.mark.parametrize(
    "bad",
    ["{prompt: 'bad', replyTo: ' '}", r"{prompt: 'bad', interactionId: '\ud800'}", "{prompt: 'bad', response: []}"],
)
def test_an_interaction_that_is_refused_harms_no_other(tab: Tab, road: Road, log: Log, session: str, bad: str) -> None:
    road.is_cut()
    tab.open(sessionId=session)
    tab.say("one")
    tab.run(f"window.bad = log.interaction({bad}).catch((e) => [e.kept, e.record.prompt, e.message]); 0")
    tab.say("two")
    tab.wait_for("log.status.records === 3 && log.status.state === 'waiting'")
    road.is_mended()
    tab.run("log.flush()")
    kept, prompt, message = tab.run("bad")
    assert (kept, prompt) == (False, "bad")
    assert message.startswith("The interaction was refused: ")
    tab.wait_until_delivered()
    assert log.prompts(session) == ["one", "two"]
    assert tab.run("errors.map((e) => e.message)") == [message]


@pytest.mark.parametrize(
    ("wrong", "name"),
    [
        ("turn: -1", "turn"),
        (r"model: '\ud800'", "model"),
        ("nosuch: 1", "nosuch"),
        (f"metadata: {{a: 1, deep: {'[' * 70 + ']' * 70}}}", "metadata.deep"),
    ],
)
def test_a_field_that_is_refused_costs_only_itself(tab: Tab, log: Log, session: str, wrong: str, name: str) -> None:
    tab.open(sessionId=session)
    tab.say("one")
    receipt = tab.run(f"log.interaction({{prompt: 'two', latencyMs: 7, {wrong}}}).then((r) => r.receipt)")
    assert receipt == "created"
    tab.wait_until_delivered()
    assert [(each["prompt"], each["latency_ms"]) for each in log.transcript(session)] == [("one", None), ("two", 7)]
    (message,) = tab.run("errors.map((e) => e.message)")
    assert message.startswith(f"Logged without {name}. The interaction was refused: ")


def test_a_conflict_names_the_field(tab: Tab, log: Log, session: str) -> None:
    tab.open(sessionId=session)
    tab.run("log.interaction({interactionId: 't', prompt: 'One', response: 'Yes'})")
    problem = tab.run("log.interaction({interactionId: 't', response: 'No'}).catch((e) => e.problem)")
    assert (problem["receipt"], [field["path"] for field in problem["fields"]]) == (
        "conflict",
        ["$.interactions[0].response"],
    )
    assert [each["response"] for each in log.transcript(session)] == ["Yes"]


@pytest.mark.parametrize("wrong", [{"title": "Another"}, {"tags": ["twice", "twice"]}, {"nosuch": 1}])
def test_a_session_whose_fields_are_refused_is_logged_without_them(
    tab: Tab, log: Log, session: str, wrong: dict[str, Any]
) -> None:
    (name,) = wrong
    if "title" in wrong:
        tab.open(sessionId=session, title="The first")
        tab.run("log.interaction({prompt: 'zero'})")
        tab.run("() => new Promise((done) => { log.close(); indexedDB.deleteDatabase('x').onsuccess = done })")
        forget_what_was_stated(tab)
    tab.open(sessionId=session, **wrong)
    tab.run("log.interaction({prompt: 'one'})")
    assert log.prompts(session)[-1] == "one"
    (message,) = tab.run("errors.map((e) => e.message)")
    assert message.startswith(f"The session is logged without its {name}: ")


def test_a_title_that_is_too_long_costs_only_the_title(tab: Tab, log: Log) -> None:
    session = tab.open(fresh=True, userId="zoe", tags=["beta"], title="t" * 1200)
    assert tab.run("log.interaction({prompt: 'hi', response: 'ho'}).then((r) => r.receipt)") == "created"
    stored = log.session(session)
    assert (stored["title"], stored["user_id"], stored["tags"]) == (None, "zoe", ["beta"])
    (message,) = tab.run("errors.map((e) => e.message)")
    assert message == (
        "The session is logged without its title: `title` may have 1,000 characters at most; it has 1,200"
    )


def test_several_wrong_fields_cost_only_themselves(tab: Tab, log: Log) -> None:
    wrong = {"title": "t" * 1200, "tags": ["a", "a"], "metadata": {"plan": "pro", "deep": nested(70)}}
    session = tab.open(fresh=True, userId="zoe", **wrong)
    tab.run("log.interaction({prompt: 'hi'})")
    stored = log.session(session)
    assert (stored["title"], stored["tags"], stored["user_id"]) == (None, [], "zoe")
    assert stored["metadata"] == {"plan": "pro"}
    (message,) = tab.run("errors.map((e) => e.message)")
    assert message.startswith("The session is logged without its title, tags, metadata.deep: ")


def test_half_an_emoji_is_replaced_before_it_is_queued(tab: Tab, log: Log) -> None:
    open_cut = r"(options) => open_log({...options, fresh: true, userId: 'zoe', tags: ['beta'], title: 'cut \ud83d'})"
    session = tab.run(open_cut, tab.options)
    altered = tab.run(
        r"""log.interaction({
            prompt: [{role: "user", content: ["half \ud83d", "whole \ud83d\ude00", "C:\\ud83d\\u0000"], "k\0": 1}],
            response: "a\0b", model: "m", metadata: {path: "\\u0000"},
        }).then((receipt) => receipt.altered)"""
    )
    assert altered == ["$.prompt", "$.response"]
    (stored,) = log.transcript(session)
    assert stored["prompt"] == [
        {"role": "user", "content": ["half \ufffd", "whole \U0001f600", r"C:\ud83d\u0000"], "k\u2400": 1}
    ]
    assert (stored["response"], stored["metadata"]) == ("a\u2400b", {"path": r"\u0000"})
    named = log.session(session)
    assert (named["title"], named["user_id"], named["tags"]) == ("cut \ufffd", "zoe", ["beta"])
    assert tab.run("errors.length") == 0


def test_a_photo_of_5_mb_is_delivered(tab: Tab, log: Log, session: str) -> None:
    tab.open(sessionId=session)
    receipt = tab.run(
        """log.interaction({
            prompt: [{role: "user", content: [{type: "image_url",
                image_url: {url: "data:image/png;base64," + "A".repeat(5_000_000)}}]}],
            response: "ho",
        }).then((receipt) => receipt.receipt)"""
    )
    assert receipt == "created"
    (stored,) = log.transcript(session)
    assert len(stored["prompt"][0]["content"][0]["image_url"]["url"]) == 5_000_022


def nested(levels: int) -> dict[str, Any]:
    return {"a": nested(levels - 1)} if levels else {}


def test_an_erased_session_takes_nothing_and_its_turns_leave_the_browser(tab: Tab, log: Log, session: str) -> None:
    tab.open(sessionId=session)
    tab.say("one")
    tab.wait_until_delivered()
    log.erase(session)
    assert refused(tab, "two")[1:] == [False, "two"]
    tab.wait_until_delivered()


def test_a_full_queue_is_told_and_loses_nothing_of_what_it_has(tab: Tab, road: Road, log: Log, session: str) -> None:
    road.is_cut()
    tab.open(sessionId=session, maxRecords=2)
    tab.say("one", "two")
    tab.wait_for("log.status.records === 2")
    assert refused(tab, "three") == [None, False, "three"]
    assert "queue is full" in tab.run("errors[0].message")
    road.is_mended()
    tab.run("log.flush()")
    tab.wait_until_delivered()
    assert log.prompts(session) == ["one", "two"]
    tab.say("four")
    tab.wait_until_delivered()
    assert log.prompts(session) == ["one", "two", "four"]


def test_the_queue_is_bounded_by_size_too(tab: Tab, road: Road, session: str) -> None:
    road.is_cut()
    tab.open(sessionId=session, maxCharacters=1000)
    tab.run("log.interaction({prompt: 'x'.repeat(600)}); 0")
    assert refused(tab, "y" * 600)[1] is False


def test_without_a_database_the_page_logs_and_says_what_it_risks(
    context: BrowserContext, new_tab: Callable[..., Tab], road: Road, log: Log, session: str
) -> None:
    context.add_init_script(NO_DATABASE)
    tab = new_tab()
    tab.open(sessionId=session, countTurns=True)
    assert tab.run("log.status.durable") is False
    assert "lost when the page ends" in tab.run("errors[0].message")
    road.is_cut()
    tab.say("one", "two")
    tab.wait_for("log.status.state === 'waiting' && log.status.records === 2")
    road.is_mended()
    tab.run("log.flush()")
    tab.wait_until_delivered()
    assert [(each["prompt"], each["turn"]) for each in log.transcript(session)] == [("one", 1), ("two", 2)]
    assert tab.run("errors.length") == 1


def test_what_waits_can_be_taken_back(tab: Tab, road: Road, log: Log, session: str) -> None:
    road.is_cut()
    tab.open(sessionId=session)
    tab.say("secret")
    tab.wait_for("log.status.state === 'waiting'")
    assert [record["prompt"] for record in tab.run("log.discard()")] == ["secret"]
    road.is_mended()
    tab.wait_until_delivered()
    assert log.transcript(session) == []


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"key": "turnlog_sk_abc"}, "This is a secret key"),
        ({"key": "turnlog_pk_nonsense"}, "is not a publishable key"),
        ({"key": "turnlog_pk_…"}, "is not a publishable key"),
        ({"userId": 5}, "`userId` must be a text"),
        ({"key": None}, "takes either `key` or `getUserToken`"),
        ({"url": "nowhere"}, "Invalid URL"),
    ],
)
def test_an_option_that_cannot_be_is_refused_at_once(tab: Tab, options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(Error, match=sentence):
        tab.open(**options)


def test_errors_of_the_page_itself_stop_nothing(tab: Tab, log: Log, session: str, site: Site) -> None:
    tab.open(sessionId=session)
    tab.run(
        """async (options) => {
            const fail = () => { throw Error("The page's own") };
            window.log = await Turnlog.open({...options, onerror: fail, onstatus: fail});
            log.interaction({prompt: 'bad', replyTo: ' '});
        }""",
        tab.options | {"sessionId": session},
    )
    tab.say("good")
    tab.wait_until_delivered()
    assert log.prompts(session) == ["good"]


def refused(tab: Tab, prompt: str) -> list[Any]:
    """Log an interaction and return how it was refused: status, whether it is kept, its prompt."""
    answer: list[Any] = tab.run(
        "(prompt) => log.interaction({prompt}).catch((e) => [e.status ?? null, e.kept, e.record.prompt])", prompt
    )
    return answer


def forget_what_was_stated(tab: Tab) -> None:
    """Let the browser forget which fields it has stated, as one does whose data is older."""
    tab.run(
        """() => new Promise((done) => {
            indexedDB.open('turnlog').onsuccess = ({target: {result: database}}) => {
                const transaction = database.transaction('sessions', 'readwrite');
                const sessions = transaction.objectStore('sessions');
                sessions.getAll().onsuccess = ({target}) => {
                    for (const each of target.result) sessions.put({...each, fields: {}, stated: false});
                };
                transaction.oncomplete = () => { database.close(); done() };
            };
        })"""
    )
