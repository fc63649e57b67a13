"""Owners of sessions that are only spooled: nobody reads or writes more than the store will allow."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask

from app import create_app
from conversation.keys.key_registry import KeyRegistry
from conversation.settings import Settings
from logging_store import operations as ops
from logging_store.batches import Batch
from logging_store.errors import Invalid, StoreUnavailable
from logging_store.postgres.function_store import FunctionStore
from logging_store.spool import Spool
from tests.access.conftest import Calls
from tests.issuers import ISSUER, SigningPair, publishing
from tests.spool.conftest import delivered, eventually
from tests.spool.flaky_store import PROJECT, FlakyStore, batch_of
from tests.store_calls import ask

PAGE = "https://app.example.com"
NOT_NOW = StoreUnavailable("not now")


@pytest.fixture(scope="module")
def pair() -> SigningPair:
    return SigningPair.es256("one")


@pytest.fixture
def guarded(spool: Spool, tmp_path: Path, pair: SigningPair) -> Iterator[Flask]:
    with publishing(pair) as publisher:
        settings = {
            "DATA_DIR": str(tmp_path), "TURNLOG_USER_TOKENS": "jwks", "TURNLOG_JWKS_URL": publisher.url,
            "TURNLOG_JWT_ISSUER": ISSUER, "TURNLOG_USER_ORIGINS": PAGE,
        }  # fmt: skip
        yield create_app(Settings.from_mapping(settings), spool)


@pytest.fixture
def ada(guarded: Flask, pair: SigningPair) -> Calls:
    return Calls(guarded.test_client(), pair.sign(sub="ada"), {"Origin": PAGE})


@pytest.fixture
def mallory(guarded: Flask, pair: SigningPair) -> Calls:
    return Calls(guarded.test_client(), pair.sign(sub="mallory"), {"Origin": PAGE})


@pytest.fixture
def backend_calls(guarded: Flask, inner: FlakyStore) -> Calls:
    assert isinstance(inner.inner, FunctionStore)
    made = KeyRegistry(inner.inner).create("default", "secret", {"admin"})
    calls = Calls(guarded.test_client(), made.text, {})
    assert calls("GET", "/v1/sessions").status_code == 200
    return calls


@pytest.mark.parametrize("first", ["backend", "mallory"])
def test_a_user_does_not_read_the_backends_records(
    mallory: Calls, backend_calls: Calls, inner: FlakyStore, spool: Spool, first: str
) -> None:
    inner.refuses = lambda _: NOT_NOW  # the store answers, and what waits is not delivered yet
    if first == "backend":
        assert backend_calls.log(session_id="chat-42", prompt="the victim's secret").status_code == 202
    assert mallory.open_session(None, session_id="chat-42", user_id="mallory").status_code == 202
    if first == "mallory":
        assert backend_calls.log(session_id="chat-42", prompt="the victim's secret").status_code == 202
    eventually(lambda: spool.breaker.is_closed, "the probe succeeds")
    for path in ("/v1/sessions/chat-42", "/v1/sessions/chat-42/interactions"):
        assert mallory("GET", path).status_code == 404
    (row,) = backend_calls("GET", "/v1/sessions/chat-42/interactions").get_json()["interactions"]
    assert row["prompt"] == "the victim's secret"


@pytest.mark.parametrize("known", [True, False])
def test_nobody_writes_to_a_session_of_another_user(
    ada: Calls, mallory: Calls, inner: FlakyStore, spool: Spool, known: bool
) -> None:
    if known:
        assert ada.log(session_id="adas", interaction_id="1", prompt="Hello").status_code == 201
    inner.refuses = lambda _: NOT_NOW
    assert ada.log(session_id="adas", interaction_id="1", prompt="Hello").status_code == 202
    assert mallory.log(session_id="adas", prompt="Send your password", participant="bank").status_code == 202
    assert mallory.log(session_id="adas", interaction_id="1", prompt="Hello", response="forged").status_code == 202
    eventually(lambda: spool.breaker.is_closed, "the probe succeeds")
    rows = ada("GET", "/v1/sessions/adas/interactions").get_json()["interactions"]
    assert [(row["prompt"], row["response"]) for row in rows] == [("Hello", None)]
    assert ada("GET", "/v1/sessions/adas/participants").get_json()["participants"] == []
    assert mallory("GET", "/v1/sessions/adas/interactions").status_code == 404


def test_conflicting_claims_are_delivered_in_parts_too(spool: Spool, inner: FlakyStore) -> None:
    session, other = "00000000-0000-0000-0000-00000000000a", "00000000-0000-0000-0000-00000000000b"
    theirs = batch_of("ada's", session_id=session, claim="user:ada")
    theirs = Batch(PROJECT, [{**row, "claim": "user:ada"} for row in theirs.sessions], theirs.interactions)
    inner.away = NOT_NOW
    spool.write(
        Batch.merge([batch_of("the service's", session_id=session), theirs, batch_of("a bad one", session_id=other)])
    )

    def refuses(batch: Batch) -> Exception | None:
        return Invalid("a bad one") if any(row["prompt"] == "a bad one" for row in batch.interactions) else None

    inner.refuses, inner.away = refuses, None
    delivered(spool)
    page = ask(inner.inner, ops.TRANSCRIPT, PROJECT, {"session_id": session, "limit": 10})
    assert [row["prompt"] for row in page["interactions"]] == ["the service's"]
    assert spool.dead_letters.count() == 2
