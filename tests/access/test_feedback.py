"""Restricted callers give feedback only in sessions of their own."""

from typing import Any

import pytest
from werkzeug.test import TestResponse

from tests.access.conftest import Calls
from tests.access.test_users import ada, bob, pair
from tests.access.test_users import guarded as guarded_for_users
from tests.http_calls import paths, problem
from tests.issuers import USER

__all__ = ["ada", "bob", "guarded_for_users", "pair"]


def give_feedback(calls: Calls, session: str, token: str | None = None, **fields: Any) -> TestResponse:
    shown = {"Turnlog_Session_Token": token} if token else {}
    return calls("POST", f"/v1/sessions/{session}/interactions/1/feedback", {"value": True} | fields, **shown)


def feedback_of(calls: Calls, session: str) -> list[tuple[str | None, Any]]:
    found = calls("GET", f"/v1/sessions/{session}/feedback").get_json()["feedback"]
    return [(row["author"], row["value"]) for row in found]


def test_a_page_gives_feedback_only_in_the_session_of_its_token(browser: Calls, backend_calls: Calls) -> None:
    token = browser.open_session(session_id="chat").get_json()["session_token"]
    other = browser.open_session(session_id="other").get_json()["session_token"]
    answer = give_feedback(browser, "chat", token)
    assert (answer.status_code, answer.get_json()["author"]) == (201, "browser")
    for shown in (other, None):
        assert problem(give_feedback(browser, "chat", shown, value=False))["status"] == 403
    assert problem(browser("GET", "/v1/sessions/chat/feedback", Turnlog_Session_Token=token))["status"] == 403
    assert feedback_of(backend_calls, "chat") == [("browser", True)]


def test_a_page_speaks_in_nobodys_name_and_replaces_nobodys_word(browser: Calls, backend_calls: Calls) -> None:
    token = browser.open_session(session_id="chat").get_json()["session_token"]
    for author in ({"author": "QA team"}, {}):
        assert give_feedback(backend_calls, "chat", value=False, comment="Wrong", **author).status_code == 201
    for forged in ({"author": "QA team"}, {"author": "QA team", "given_at": "2099-01-01T00:00:00Z"}):
        refused = problem(give_feedback(browser, "chat", token, **forged), 422)
        assert [field["path"] for field in refused["fields"]] == ["$.author"]
    assert give_feedback(browser, "chat", token).status_code == 201
    assert feedback_of(backend_calls, "chat") == [(None, False), ("QA team", False), ("browser", True)]
    again = give_feedback(backend_calls, "chat", value=True, author="QA team").get_json()
    assert (again["receipt"], again["fields"]) == ("filled", ["value", "comment"])


def test_several_pages_may_give_feedback_at_once(browser: Calls, backend_calls: Calls) -> None:
    tokens = [
        browser.open_session(f"a claim made at random, {n}", session_id=f"chat-{n}").get_json()["session_token"]
        for n in range(3)
    ]
    for n, token in enumerate(tokens):
        assert give_feedback(browser, f"chat-{n}", token, value=n).status_code == 201
    assert [feedback_of(backend_calls, f"chat-{n}") for n in range(3)] == [[("browser", n)] for n in range(3)]


@pytest.fixture
def guarded(guarded_for_users: Any) -> Any:
    return guarded_for_users


def test_a_user_is_the_author_of_their_feedback(ada: Calls, bob: Calls, backend_calls: Calls) -> None:
    answer = give_feedback(ada, "adas")
    assert (answer.status_code, answer.get_json()["author"]) == (201, USER)
    assert give_feedback(ada, "adas", author=USER, name="score", value=5).status_code == 201
    assert paths(give_feedback(ada, "adas", author="bob")) == ["$.author"]
    assert problem(give_feedback(bob, "adas", value=False), 409)["detail"] == "The session is somebody else's"
    assert feedback_of(ada, "adas") == feedback_of(backend_calls, "adas") == [(USER, True), (USER, 5)]
    assert bob("GET", "/v1/sessions/adas/feedback").status_code == 404
    assert backend_calls("GET", "/v1/sessions/adas").get_json()["user_id"] == USER


def test_a_user_reads_their_own_feedback_only(ada: Calls, backend_calls: Calls) -> None:
    ada.log(session_id="adas", interaction_id="1", prompt="Help")
    for author in ("A team", "z team", None):
        note = {"name": "note", "value": "customer is annoying"} | ({"author": author} if author else {})
        assert give_feedback(backend_calls, "adas", **note).status_code == 201
    assert give_feedback(ada, "adas").status_code == 201
    assert len(feedback_of(backend_calls, "adas")) == 4
    page = ada("GET", "/v1/sessions/adas/feedback?limit=1").get_json()
    assert ([row["author"] for row in page["feedback"]], page["next"]) == ([USER], None)
    assert feedback_of(ada, "adas") == [(USER, True)]


def test_a_page_takes_back_its_own_feedback_only(browser: Calls, backend_calls: Calls) -> None:
    token = browser.open_session(session_id="chat").get_json()["session_token"]
    other = browser.open_session(session_id="other").get_json()["session_token"]
    assert give_feedback(browser, "chat", token).status_code == 201
    assert give_feedback(backend_calls, "chat", author="QA team").status_code == 201
    for on in ("/interactions/1", ""):
        path = f"/v1/sessions/chat{on}/feedback"
        browser("POST", path, {"value": True}, Turnlog_Session_Token=token)
        forged = problem(browser("DELETE", f"{path}?author=QA+team", Turnlog_Session_Token=token), 422)
        assert [field["path"] for field in forged["fields"]] == ["$.author"]
        for shown in ({"Turnlog_Session_Token": other}, {}):
            assert problem(browser("DELETE", path, **shown))["status"] == 403
        taken = browser("DELETE", path, Turnlog_Session_Token=token)
        assert (taken.status_code, taken.get_json()["author"]) == (200, "browser")
    assert feedback_of(backend_calls, "chat") == [("browser", None), ("QA team", True), ("browser", None)]


def test_a_user_takes_back_their_own_feedback_only(ada: Calls, bob: Calls, backend_calls: Calls) -> None:
    path = "/v1/sessions/adas/feedback"
    assert ada("POST", path, {"value": True}).get_json()["author"] == USER
    assert problem(bob("DELETE", path), 409)["detail"] == "The session is somebody else's"
    assert paths(ada("DELETE", f"{path}?author=bob")) == ["$.author"]
    assert ada("DELETE", path).get_json()["receipt"] == "filled"
    assert feedback_of(ada, "adas") == feedback_of(backend_calls, "adas") == [(USER, None)]
