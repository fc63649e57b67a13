"""Limits for callers with keys: guessing, too many calls, and the quotas of publishable keys."""

import gzip
import json
from pathlib import Path

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from app import create_app
from conversation.keys.key_registry import KeyRegistry, NewKey
from conversation.settings import Settings
from logging_store import operations as ops
from logging_store.postgres.function_store import FunctionStore
from logging_store.records import identity
from tests.access.conftest import ORIGIN, Calls
from tests.http_calls import problem
from tests.issuers import ISSUER, SigningPair, publishing
from tests.store_calls import ask

ELSEWHERE = {"REMOTE_ADDR": "203.0.113.9"}
GUESSES = ["turnlog_sk_9SXNAYfTtMB7spSzVNPckDMh4YcTJ9", "turnlog_pk_", "turnlog_nothing", "guess", "a.b.c"]


@pytest.fixture
def guarded(store: FunctionStore, tmp_path: Path) -> Flask:
    settings = {
        "DATA_DIR": str(tmp_path), "TURNLOG_REFUSALS_PER_ADDRESS": "5/day", "TURNLOG_RATE_PER_KEY": "3/day",
        "TURNLOG_PUBLISHABLE_SESSIONS_PER_DAY": "2", "TURNLOG_RATE_PER_PUBLISHABLE_KEY": "8/day",
    }  # fmt: skip
    return create_app(Settings.from_mapping(settings), store)


def status(app: Flask, key: str | None, address: dict[str, str]) -> int:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return app.test_client().get("/v1/sessions", headers=headers, environ_base=address).status_code


def test_guessing_keys_blocks_the_address_and_nobody_else(guarded: Flask, secret_key: NewKey) -> None:
    assert [status(guarded, guess, ELSEWHERE) for guess in GUESSES] == [401] * 5
    assert status(guarded, GUESSES[0], ELSEWHERE) == 429
    assert status(guarded, secret_key.text, ELSEWHERE) == 429
    assert status(guarded, secret_key.text, {"REMOTE_ADDR": "203.0.113.10"}) == 200
    assert guarded.test_client().get("/livez", environ_base=ELSEWHERE).status_code == 200


def test_a_missing_or_expired_key_is_no_guess(guarded: Flask, registry: KeyRegistry, secret_key: NewKey) -> None:
    revoked = registry.create("default", "secret", {"read"})
    registry.revoke(revoked.key)
    assert [status(guarded, revoked.text, ELSEWHERE) for _ in range(10)] == [401] * 10
    assert [status(guarded, None, ELSEWHERE) for _ in range(10)] == [401] * 10
    assert status(guarded, secret_key.text, ELSEWHERE) == 200


def test_bytes_of_pages_are_counted_after_decompression(
    store: FunctionStore, publishable_key: NewKey, tmp_path: Path
) -> None:
    settings = {"DATA_DIR": str(tmp_path), "TURNLOG_PUBLISHABLE_MB_PER_DAY": "1"}
    client = create_app(Settings.from_mapping(settings), store).test_client()
    browser = Calls(client, publishable_key.text, {"Origin": ORIGIN})
    token = browser.open_session(session_id="s").get_json()["session_token"]
    headers = {
        "Authorization": f"Bearer {publishable_key.text}", "Origin": ORIGIN, "Turnlog-Session-Token": token,
        "Content-Encoding": "gzip", "Content-Type": "application/json",
    }  # fmt: skip

    def send(size: int) -> TestResponse:
        body = gzip.compress(json.dumps({"session_id": "s", "prompt": "x" * size}).encode())
        assert len(body) < 5000
        return client.post("/v1/interactions", data=body, headers=headers)

    assert send(900_000).status_code == 201
    for _ in range(2):
        assert problem(send(900_000), 429)["detail"].startswith("This key may send 1 MB in a day")
    assert send(90_000).status_code == 201, "what was refused took next to nothing away"
    query = {"session_id": identity.session("default", "s").id, "limit": 10}
    (row, other) = ask(store, ops.TRANSCRIPT, "default", query)["interactions"]
    assert len(row["prompt"]) + len(other["prompt"]) == 990_000


def test_a_users_old_token_is_no_guess_and_a_forged_one_is(store: FunctionStore, tmp_path: Path) -> None:
    pair, stranger = SigningPair.es256("one"), SigningPair.es256("one")
    with publishing(pair) as publisher:
        settings = {
            "DATA_DIR": str(tmp_path), "TURNLOG_USER_TOKENS": "jwks", "TURNLOG_JWKS_URL": publisher.url,
            "TURNLOG_JWT_ISSUER": ISSUER, "TURNLOG_REFUSALS_PER_ADDRESS": "2/day",
        }  # fmt: skip
        app = create_app(Settings.from_mapping(settings), store)
        assert [status(app, pair.sign(exp=1), ELSEWHERE) for _ in range(5)] == [401] * 5
        assert status(app, pair.sign(), ELSEWHERE) == 200
        assert [status(app, stranger.sign(), ELSEWHERE) for _ in range(3)] == [401, 401, 429]


def test_a_key_has_its_rate_and_another_key_its_own(guarded: Flask, registry: KeyRegistry) -> None:
    one, two = (registry.create("default", "secret", {"read"}).text for _ in range(2))
    assert [status(guarded, one, {}) for _ in range(4)] == [200, 200, 200, 429]
    assert status(guarded, two, {}) == 200


def test_a_session_counts_also_when_its_records_are_rejected(browser: Calls) -> None:
    wrong = [{"message_id": "1", "role": "user", "content": "one", "created_at": "2999-01-01T00:00:00Z"}]
    started = [
        browser("POST", "/conversation/start", {"conversation_id": f"c{n}", "messages": wrong}).status_code
        for n in range(4)
    ]
    assert started == [422, 422, 429, 429]


def test_sessions_of_a_key_in_browsers_are_counted_when_they_are_new(guarded: Flask, browser: Calls) -> None:
    answers = [browser.open_session(session_id="one") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [201, 200, 200]
    assert browser.open_session(session_id="two").status_code == 201
    refused = browser.open_session(session_id="three")
    told = problem(refused, 429)
    assert told["detail"].startswith("This key may create 2 sessions in a day")
    assert refused.headers["Retry-After"] == str(told["retry_after"])
    assert refused.headers["Access-Control-Allow-Origin"] == ORIGIN, "the page can read when to come again"
    assert refused.headers["Access-Control-Expose-Headers"] == "Retry-After, Location, X-Request-Id"
    token = answers[0].get_json()["session_token"]
    renewed = browser("POST", "/v1/sessions", {"session_id": "one"}, Turnlog_Session_Token=token)
    assert (renewed.status_code, "session_token" in renewed.get_json()) == (200, True), "who has it goes on with it"
    assert browser.log(token, session_id="one", prompt="Hello").status_code == 201
