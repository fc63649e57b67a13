"""A page whose user is signed in elsewhere logs in that user's name, and in nobody else's."""

import time
from collections.abc import Callable

import jwt
import pytest
from playwright.sync_api import BrowserContext, Error

from tests.browser.conftest import ISSUER, SIGNED_WITH, Log, Tab
from tests.browser.road import Road

OPEN = """async (options) => {
    window.log = await Turnlog.open({...options, getUserToken: () => window.token, onerror: (e) => errors.push(e)});
}"""


def token_of(user: str, lifetime_s: float = 3600) -> str:
    claims = {"iss": ISSUER, "aud": "authenticated", "role": "authenticated", "sub": user}
    return jwt.encode(claims | {"exp": time.time() + lifetime_s}, SIGNED_WITH, "HS256")


def sign_in(tab: Tab, user: str, session: str, lifetime_s: float = 3600) -> None:
    """Let a user's page open a log."""
    tab.run("(token) => { window.token = token }", token_of(user, lifetime_s))
    tab.run(OPEN, {"url": tab.options["url"], "sessionId": session})


def test_a_user_logs_in_their_own_name(tab: Tab, log: Log, session: str) -> None:
    sign_in(tab, "ada", session)
    tab.say("one", "two")
    tab.wait_until_delivered()
    assert log.prompts(session) == ["one", "two"]
    assert log.session(session)["user_id"] == "ada"


def test_a_token_that_was_renewed_is_used(tab: Tab, log: Log, session: str) -> None:
    sign_in(tab, "ada", session, lifetime_s=-3600)
    refusal = tab.run("log.interaction({prompt: 'one'}).catch((e) => [e.status, e.kept])")
    assert refusal == [401, True]
    tab.run("(token) => { window.token = token }", token_of("ada"))
    tab.say("two")
    tab.wait_until_delivered()
    assert log.prompts(session) == ["one", "two"]


def test_what_one_user_said_is_never_sent_in_anothers_name(
    tab: Tab, context: BrowserContext, road: Road, log: Log, session: str
) -> None:
    sign_in(tab, "ada", session)
    context.set_offline(True)
    tab.say("Ada's")
    tab.wait_for("log.status.state === 'waiting'")
    tab.run("(token) => { window.token = token }", token_of("bob"))
    context.set_offline(False)
    tab.wait_for("log.status.state === 'refused'")
    assert tab.run("errors.map((e) => [e.message, e.kept])") == [["No user is signed in, or another one", True]]
    sign_in(tab, "bob", f"{session}-of-bob")
    tab.say("Bob's")
    tab.wait_until_delivered()
    assert log.prompts(f"{session}-of-bob") == ["Bob's"]
    assert log.transcript(session) == []
    assert "Ada" not in str([call.body for call in road.calls])
    sign_in(tab, "ada", session)
    tab.wait_until_delivered()
    assert log.prompts(session) == ["Ada's"]


def test_a_session_of_another_user_takes_nothing(new_tab: Callable[..., Tab], log: Log, session: str) -> None:
    ada, bob = new_tab(), new_tab()
    sign_in(ada, "ada", session)
    ada.say("Ada's")
    ada.wait_until_delivered()
    sign_in(bob, "bob", session)
    assert bob.run("log.interaction({prompt: 'Bob'}).catch((e) => [e.status, e.kept])") == [409, False]
    assert log.prompts(session) == ["Ada's"]


@pytest.mark.parametrize("token", ["null", "'nonsense'", "Promise.resolve('a.b.c')"])
def test_nobody_signed_in_is_told_at_once(tab: Tab, session: str, token: str) -> None:
    with pytest.raises(Error, match="open the log after the user has signed in"):
        tab.run(
            f"async (options) => Turnlog.open({{...options, getUserToken: () => {token}}})", {"url": tab.options["url"]}
        )
