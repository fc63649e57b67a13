"""A publishable key may open sessions, and append to those whose token the caller has."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from flask import Flask

from conversation.keys.key_registry import KeyRegistry, NewKey
from tests.access.conftest import ORIGIN, Calls
from tests.http_calls import problem

CLAIM = "0123456789abcdef"


def token_of(calls: Calls, name: str, claim: str = CLAIM) -> str:
    answer = calls.open_session(claim, session_id=name)
    assert answer.status_code in {200, 201}, answer.get_json()
    token: str = answer.get_json()["session_token"]
    return token


def test_opening_a_session_gives_its_token_and_nothing_that_is_stored(browser: Calls) -> None:
    opened = browser.open_session(CLAIM, session_id="chat-1", title="Mine")
    assert opened.status_code == 201
    assert opened.get_json().keys() >= {"session_token", "session_token_expires_at"}
    assert "session" not in opened.get_json()
    assert opened.headers["Access-Control-Allow-Origin"] == ORIGIN


def test_the_token_appends(browser: Calls, backend_calls: Calls) -> None:
    token = token_of(browser, "chat-1")
    assert browser.log(token, session_id="chat-1", prompt="Hello").status_code == 201
    rows = backend_calls("GET", "/v1/sessions/chat-1/interactions").get_json()["interactions"]
    assert [row["prompt"] for row in rows] == ["Hello"]


def test_a_browser_revises_nothing_that_is_logged(browser: Calls, backend_calls: Calls) -> None:
    token = token_of(browser, "chat-1")
    said = {"session_id": "chat-1", "interaction_id": "turn", "prompt": "Hello"}
    backend_calls("POST", "/v1/interactions", said | {"response": "Real"})
    forged = {"response": "Forged", "completed_at": "2026-01-01T00:00:00Z"}
    assert browser.log(token, **said, **forged, on_conflict="revise").status_code == 409
    batch = {"interactions": [said | forged], "on_conflict": "revise"}
    headers = {"Turnlog_Session_Token": token}
    planned = browser("POST", "/v1/interactions/batch?dry_run=true", batch, **headers).get_json()["plan"]
    written = browser("POST", "/v1/interactions/batch", batch, **headers).get_json()["receipts"]
    assert (planned[0]["would"], written[0]["receipt"]) == ("conflict", "conflict")
    (row,) = backend_calls("GET", "/v1/sessions/chat-1/interactions").get_json()["interactions"]
    assert row["response"] == "Real"
    assert (
        backend_calls("POST", "/v1/interactions", said | {"response": "Better", "on_conflict": "revise"}).get_json()[
            "receipt"
        ]
        == "revised"
    )


def test_a_retry_with_the_same_claim_gets_a_token_again(browser: Calls) -> None:
    first = browser.open_session(CLAIM, session_id="chat-1")
    again = browser.open_session(CLAIM, session_id="chat-1")
    assert (first.status_code, again.status_code) == (201, 200)
    assert browser.log(again.get_json()["session_token"], session_id="chat-1", prompt="Hello").status_code == 201


def test_a_token_is_renewed_by_itself(browser: Calls) -> None:
    token = token_of(browser, "chat-1")
    renewed = browser("POST", "/v1/sessions", {"session_id": "chat-1"}, Turnlog_Session_Token=token)
    assert renewed.status_code == 200
    assert browser.log(renewed.get_json()["session_token"], session_id="chat-1", prompt="Hello").status_code == 201


@pytest.mark.parametrize("claim", ["another claim, of 16+", None])
def test_a_session_of_somebody_else_is_a_conflict_and_never_a_token(browser: Calls, claim: str | None) -> None:
    token_of(browser, "chat-1")
    answer = browser.open_session(claim, session_id="chat-1", title="Stolen")
    assert problem(answer, 409)["detail"] == "The session is somebody else's"
    assert "turnlog_st_" not in answer.get_data(as_text=True)


def test_a_session_of_the_backend_is_nobody_elses(browser: Calls, backend_calls: Calls) -> None:
    backend_calls("POST", "/v1/sessions", {"session_id": "chat-1", "user_id": "ada"})
    assert browser.open_session(CLAIM, session_id="chat-1").status_code == 409
    backend_calls.log(session_id="chat-2", prompt="Hello")
    assert browser.open_session(CLAIM, session_id="chat-2").status_code == 409


def test_without_the_sessions_token_nothing_is_revealed(browser: Calls, backend_calls: Calls) -> None:
    backend_calls.log(session_id="there", prompt="Secret")
    other = token_of(browser, "mine")
    for token in (None, other, other[:-2], "turnlog_st_x"):
        answers = [
            problem(browser.log(token, session_id=name, prompt="Hello"), 403)["detail"] for name in ("there", "missing")
        ]
        assert answers[0] == answers[1]
    assert browser.log(None, prompt="Hello").status_code == 403  # of a new session, which it couldn't go on with


def test_a_token_of_another_key_is_none(browser: Calls, guarded: Flask, registry: KeyRegistry) -> None:
    other = registry.create("default", "publishable", {"log"}, origins={ORIGIN})
    token = token_of(browser, "chat-1")
    stranger = Calls(guarded.test_client(), other.text, {"Origin": ORIGIN})
    assert stranger.log(token, session_id="chat-1", prompt="Hello").status_code == 403
    assert stranger.open_session(CLAIM, session_id="chat-1").status_code == 409  # the same claim is another's, there


def test_a_rotated_key_goes_on_with_the_tokens_of_the_old_one(
    browser: Calls, guarded: Flask, registry: KeyRegistry, publishable_key: NewKey
) -> None:
    token = token_of(browser, "chat-1")
    made = registry.rotate(publishable_key.key, 3600)
    assert made is not None
    newer = Calls(guarded.test_client(), made.text, {"Origin": ORIGIN})
    for calls in (browser, newer):
        assert calls.log(token, session_id="chat-1", prompt="Hello").status_code == 201


def test_nothing_can_be_read(browser: Calls) -> None:
    token = token_of(browser, "chat-1")
    for path in ("/v1/sessions", "/v1/sessions/chat-1", "/v1/sessions/chat-1/interactions", "/conversation/chat-1"):
        assert browser("GET", path, Turnlog_Session_Token=token).status_code == 403


def test_a_batch_needs_the_tokens_of_all_its_sessions(browser: Calls, backend_calls: Calls) -> None:
    tokens = [token_of(browser, name) for name in ("one", "two")]
    batch = {"interactions": [{"session_id": name, "prompt": "Hello"} for name in ("one", "two", "one")]}
    refused = browser("POST", "/v1/interactions/batch", batch, Turnlog_Session_Token=tokens[0])
    assert refused.status_code == 403
    kept = browser("POST", "/v1/interactions/batch", batch, Turnlog_Session_Token=", ".join(tokens))
    assert (kept.status_code, kept.get_json()["counts"]) == (200, {"created": 3})
    assert backend_calls("GET", "/v1/sessions/one").get_json()["interaction_count"] == 2


def test_the_older_spellings_give_tokens_as_well(browser: Calls) -> None:
    created = browser("POST", "/session/create", {"session_id": "old"}, Turnlog_Session_Claim=CLAIM)
    token = created.get_json()["session_token"]
    logged = browser("POST", "/interaction/log", {"session_id": "old", "prompt": "Hi"}, Turnlog_Session_Token=token)
    assert (created.status_code, logged.status_code) == (201, 201)
    body = {"conversationId": "talk", "messages": [{"role": "user", "content": "Hi", "messageId": "m1"}]}
    started = browser("POST", "/conversation/start", body, Turnlog_Session_Claim=CLAIM)
    assert started.status_code == 201
    message = {"role": "assistant", "content": "Hello", "reply_to": "m1"}
    token = started.get_json()["sessionToken"]
    assert browser("POST", "/conversation/talk/message", message).status_code == 403
    assert browser("POST", "/conversation/talk/message", message, Turnlog_Session_Token=token).status_code == 200


def test_folders_are_the_backends(browser: Calls) -> None:
    assert browser("POST", "/v1/folders", {"folder_id": "f"}).status_code == 403
    assert browser.open_session(CLAIM, folder_id="f", session_number=1).status_code == 403


def test_of_many_concurrent_claims_on_a_session_one_wins(browser: Calls, backend_calls: Calls) -> None:
    start = threading.Barrier(16)

    def open_it(n: int) -> int:
        start.wait()
        return browser.open_session(f"the claim of number {n:02}", session_id="raced").status_code

    with ThreadPoolExecutor(16) as threads:
        statuses = sorted(threads.map(open_it, range(16)))
    assert statuses == [201] + [409] * 15
    assert backend_calls("GET", "/v1/sessions/raced").status_code == 200


def test_a_stored_interaction_is_compared_only_with_the_token(browser: Calls) -> None:
    token = token_of(browser, "chat-1")
    browser.log(token, session_id="chat-1", interaction_id="t", prompt="Hello")
    answer = browser.log(token, session_id="chat-1", interaction_id="t", prompt="Bye")
    assert problem(answer, 409)["fields"] == [{"path": "$.prompt", "detail": "Another value is stored"}]


def test_a_page_logs_messages_of_its_own_session_only(browser: Calls, backend_calls: Calls) -> None:
    token = token_of(browser, "chat-1")
    chat = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    path = "/v1/sessions/chat-1/messages"
    assert browser("POST", path, {"messages": chat}).status_code == 403
    for end, status in ((1, 201), (2, 200), (2, 200)):
        sent = browser("POST", path, {"messages": chat[:end]}, Turnlog_Session_Token=token)
        assert sent.status_code == status
    (row,) = backend_calls("GET", "/v1/sessions/chat-1/interactions").get_json()["interactions"]
    assert (row["prompt"], row["response"]) == ("Hi", "Hello")
    # what is in another session shows nowhere, not even as a duplicate
    backend_calls("POST", "/v1/sessions/chat-2/messages", {"messages": chat})
    for token_sent in ({}, {"Turnlog_Session_Token": token}):
        assert browser("POST", "/v1/sessions/chat-2/messages", {"messages": chat}, **token_sent).status_code == 403
