"""A user with a token appends to and reads their own sessions, and nothing else."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask

from app import create_app
from conversation.settings import Settings
from logging_store.postgres.function_store import FunctionStore
from tests.access.conftest import Calls
from tests.http_calls import problem, same_problem
from tests.issuers import ISSUER, USER, SigningPair, publishing

PAGE = "https://app.example.com"


@pytest.fixture(scope="module")
def pair() -> SigningPair:
    return SigningPair.es256("one")


@pytest.fixture
def guarded(store: FunctionStore, tmp_path: Path, pair: SigningPair) -> Iterator[Flask]:
    with publishing(pair) as publisher:
        settings = {
            "DATA_DIR": str(tmp_path), "TURNLOG_USER_TOKENS": "jwks", "TURNLOG_JWKS_URL": publisher.url,
            "TURNLOG_JWT_ISSUER": ISSUER, "TURNLOG_USER_ORIGINS": PAGE,
        }  # fmt: skip
        yield create_app(Settings.from_mapping(settings), store)


@pytest.fixture
def ada(guarded: Flask, pair: SigningPair) -> Calls:
    return Calls(guarded.test_client(), pair.sign(), {"Origin": PAGE})


@pytest.fixture
def bob(guarded: Flask, pair: SigningPair) -> Calls:
    return Calls(guarded.test_client(), pair.sign(sub="bob"), {"Origin": PAGE})


def test_a_user_logs_and_reads_their_own(ada: Calls, backend_calls: Calls) -> None:
    opened = ada.open_session(None, session_id="chat-1", title="Mine")
    assert (opened.status_code, opened.get_json()["session"]["user_id"]) == (201, USER)
    assert ada.log(session_id="chat-1", prompt="Hello").status_code == 201
    assert ada.log(session_id="chat-2", prompt="A session comes along").status_code == 201
    listed = ada("GET", "/v1/sessions").get_json()["sessions"]
    assert {(row["key"], row["user_id"]) for row in listed} == {("chat-1", USER), ("chat-2", USER)}
    rows = ada("GET", "/v1/sessions/chat-1/interactions").get_json()["interactions"]
    assert [row["prompt"] for row in rows] == ["Hello"]
    assert ada("GET", "/v1/sessions/chat-1").headers["Access-Control-Allow-Origin"] == PAGE
    assert backend_calls("GET", f"/v1/sessions?user_id={USER}").get_json()["sessions"] == listed


@pytest.mark.parametrize("path", ["", "/interactions", "/gaps", "/participants"])
def test_sessions_of_others_look_missing(ada: Calls, bob: Calls, path: str) -> None:
    ada.log(session_id="adas", prompt="Secret")
    assert ada("GET", f"/v1/sessions/adas{path}").status_code == 200
    foreign, unknown = (bob("GET", f"/v1/sessions/{name}{path}") for name in ("adas", "nobodys"))
    assert same_problem(foreign, 404, "adas") == same_problem(unknown, 404, "nobodys")
    assert bob("GET", "/v1/sessions").get_json()["sessions"] == []
    assert bob("GET", f"/v1/sessions?user_id={USER}").get_json()["sessions"] == []


def test_a_search_never_finds_sessions_of_others(ada: Calls, bob: Calls) -> None:
    for n in range(5):
        ada.log(session_id="adas", prompt=f"Secret {n}")
    for query in ("", "q=secret", "q=x", "q=secret&from=2026-01-01T00:00:00Z"):
        foreign, unknown = (bob("GET", f"/v1/interactions?{query}&session={name}") for name in ("adas", "nobodys"))
        assert (foreign.status_code, foreign.get_json()) == (200, unknown.get_json())
        assert (foreign.get_json()["searched"], foreign.get_json()["searched_to"]) == (0, None)
    assert ada("GET", "/v1/interactions?q=secret&session=adas").get_json()["searched"] == 5


def test_nobody_appends_to_sessions_of_others(ada: Calls, bob: Calls, backend_calls: Calls) -> None:
    ada.log(session_id="adas", prompt="Secret")
    refused = bob.log(session_id="adas", prompt="forged")
    assert (problem(refused, 409)["detail"], "held_by" in refused.get_json()) == (
        "The session is somebody else's",
        False,
    )
    assert bob.open_session(None, session_id="adas").status_code == 409
    batch = {"interactions": [{"session_id": "adas", "prompt": "forged"}, {"session_id": "bobs", "prompt": "ok"}]}
    answer = bob("POST", "/v1/interactions/batch", batch)
    assert (answer.status_code, answer.get_json()["counts"]) == (207, {"conflict": 1, "created": 1})
    assert backend_calls("GET", "/v1/sessions/adas").get_json()["interaction_count"] == 1


def test_a_session_that_a_backend_created_for_a_user_is_theirs(ada: Calls, bob: Calls, backend_calls: Calls) -> None:
    backend_calls("POST", "/v1/sessions", {"session_id": "made", "user_id": USER})
    assert ada.log(session_id="made", prompt="Hello").status_code == 201
    assert bob.log(session_id="made", prompt="Hello").status_code == 409
    backend_calls.log(session_id="of nobody", prompt="Hello")
    assert ada("GET", "/v1/sessions/of%20nobody").status_code == 404


def test_a_user_speaks_for_nobody_else(ada: Calls) -> None:
    answer = ada.open_session(None, session_id="x", user_id="bob")
    assert problem(answer, 422)["fields"] == [
        {"path": "$.user_id", "detail": "Must be the signed-in user, or left out"}
    ]
    assert ada.open_session(None, session_id="x", user_id=USER).status_code == 201


@pytest.mark.parametrize(
    ("method", "path"),
    [("PATCH", "/v1/sessions/mine"), ("DELETE", "/v1/sessions/mine"), ("POST", "/v1/folders"), ("GET", "/v1/folders"),
     ("GET", "/metrics")],
)  # fmt: skip
def test_a_user_neither_edits_nor_erases_nor_sees_folders(ada: Calls, method: str, path: str) -> None:
    ada.log(session_id="mine", prompt="Hello")
    assert ada(method, path, {"title": "T"}).status_code == 403


def test_a_session_planted_with_a_publishable_key_is_not_the_users(
    ada: Calls, guarded: Flask, backend_calls: Calls, browser: Calls
) -> None:
    # a browser may send any user_id, which proves nothing
    assert browser.open_session(session_id="planted", user_id=USER).status_code == 201
    assert ada("GET", "/v1/sessions/planted").status_code == 404
    assert ada("GET", "/v1/sessions").get_json()["sessions"] == []


def test_a_page_of_another_origin_may_not_call(guarded: Flask, pair: SigningPair) -> None:
    answer = Calls(guarded.test_client(), pair.sign(), {"Origin": "https://evil.example"}).log(prompt="Hello")
    assert (answer.status_code, answer.headers.get("Access-Control-Allow-Origin")) == (403, None)


@pytest.mark.parametrize("changes", [{"exp": 1}, {"iss": "https://evil.example"}, {"aud": "other"}, {"role": "anon"}])
def test_a_token_that_proves_nothing_is_refused_with_the_reason(
    guarded: Flask, pair: SigningPair, changes: dict[str, object]
) -> None:
    answer = Calls(guarded.test_client(), pair.sign(**changes), {}).log(prompt="Hello")
    assert problem(answer, 401)["detail"].startswith("The token")


def test_without_the_issuers_keys_nobody_can_tell(store: FunctionStore, tmp_path: Path, pair: SigningPair) -> None:
    settings = {"DATA_DIR": str(tmp_path), "TURNLOG_USER_TOKENS": "jwks", "TURNLOG_JWT_ISSUER": ISSUER}
    with publishing(pair) as gone:
        settings["TURNLOG_JWKS_URL"] = gone.url
    app = create_app(Settings.from_mapping(settings), store)
    answer = Calls(app.test_client(), pair.sign(), {}).log(prompt="Hello")
    assert problem(answer, 503)["retry_after"] > 0


def test_where_users_tokens_are_off_they_are_no_key(store: FunctionStore, tmp_path: Path, pair: SigningPair) -> None:
    app = create_app(Settings.from_mapping({"DATA_DIR": str(tmp_path)}), store)
    assert Calls(app.test_client(), pair.sign(), {}).log(prompt="Hello").status_code == 401
