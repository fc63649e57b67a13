"""What a merge or a hand-over means for those who reach only sessions of their own."""

from typing import Any

import pytest

from tests.access.conftest import Calls
from tests.access.test_users import ada, bob, pair
from tests.access.test_users import guarded as guarded_for_users
from tests.http_calls import problem
from tests.issuers import USER

__all__ = ["ada", "bob", "guarded_for_users", "pair"]

GUEST = "bob"  # a guest with a token of their own, as sign-ins hand to anonymous users


@pytest.fixture
def guarded(guarded_for_users: Any) -> Any:
    return guarded_for_users


def prompts(calls: Calls, session: str) -> list[str]:
    rows = calls("GET", f"/v1/sessions/{session}/interactions").get_json()["interactions"]
    return [row["prompt"] for row in rows]


def listed(calls: Calls) -> set[str]:
    return {row["key"] for row in calls("GET", "/v1/sessions").get_json()["sessions"]}


def test_the_user_reaches_what_was_the_guests_and_the_guest_only_goes_on_to_append(
    ada: Calls, bob: Calls, backend_calls: Calls
) -> None:
    bob.open_session(None, session_id="chat")
    bob.log(session_id="chat", interaction_id="1", prompt="one")
    assert problem(ada.log(session_id="chat", prompt="not yet"), 409)
    assert backend_calls("POST", f"/v1/users/{GUEST}/merge", {"into": USER}).get_json()["sessions"] == 1
    assert prompts(ada, "chat") == ["one"]
    assert ada.log(session_id="chat", interaction_id="2", prompt="two").status_code == 201
    # what the guest's page had queued isn't lost
    assert bob.log(session_id="chat", interaction_id="3", prompt="three").status_code == 201
    assert bob.log(session_id="late", interaction_id="1", prompt="four").status_code == 201
    given = bob("POST", "/v1/sessions/chat/interactions/1/feedback", {"value": True})
    assert given.status_code == 201
    assert prompts(ada, "chat") == ["one", "two", "three"]
    assert listed(ada) == {"chat", "late"}
    assert [row["author"] for row in ada("GET", "/v1/sessions/chat/feedback").get_json()["feedback"]] == [USER]
    assert (listed(bob), bob("GET", "/v1/sessions/chat").status_code) == (set(), 404)


def test_a_session_that_is_handed_over_is_the_new_users_alone(ada: Calls, bob: Calls, backend_calls: Calls) -> None:
    bob.log(session_id="chat", interaction_id="1", prompt="one")
    bob.log(session_id="other", interaction_id="1", prompt="one")
    assert backend_calls("PATCH", "/v1/sessions/chat", {"user_id": USER}).status_code == 200
    assert (listed(ada), listed(bob)) == ({"chat"}, {"other"})
    assert ada.log(session_id="chat", interaction_id="2", prompt="two").status_code == 201
    assert problem(bob.log(session_id="chat", prompt="three"), 409)["detail"] == "The session is somebody else's"
    assert bob.log(session_id="other", interaction_id="2", prompt="two").status_code == 201


@pytest.mark.parametrize("way", ["merge", "hand-over"])
def test_a_page_goes_on_with_its_token_and_the_user_reaches_the_session_too(
    ada: Calls, browser: Calls, backend_calls: Calls, way: str
) -> None:
    token = browser.open_session(session_id="chat", user_id="anon-7f").get_json()["session_token"]
    browser.log(token, session_id="chat", interaction_id="1", prompt="one")
    assert ada("GET", "/v1/sessions/chat").status_code == 404
    if way == "merge":
        assert backend_calls("POST", "/v1/users/anon-7f/merge", {"into": USER}).get_json()["sessions"] == 1
    else:
        backend_calls("PATCH", "/v1/sessions/chat", {"user_id": USER})
    assert browser.log(token, session_id="chat", interaction_id="2", prompt="two").status_code == 201
    assert ada.log(session_id="chat", interaction_id="3", prompt="three").status_code == 201
    assert prompts(ada, "chat") == ["one", "two", "three"]
    assert listed(ada) == {"chat"}
    assert [each["session_key"] for each in ada("GET", "/v1/interactions?q=one").get_json()["interactions"]] == ["chat"]


def test_only_the_service_merges_and_hands_over(ada: Calls, browser: Calls) -> None:
    ada.open_session(None, session_id="chat")
    token = browser.open_session(session_id="other").get_json()["session_token"]
    for calls, headers in ((ada, {}), (browser, {"Turnlog_Session_Token": token})):
        assert problem(calls("POST", f"/v1/users/{GUEST}/merge", {"into": USER}, **headers), 403)
        assert problem(calls("PATCH", "/v1/sessions/chat", {"user_id": GUEST}, **headers), 403)
