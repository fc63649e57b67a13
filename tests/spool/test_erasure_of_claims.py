"""Erasing a user who claimed another user's session, while all of it is spooled, costs its owner nothing."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from app import create_app
from conversation.keys.key_registry import KeyRegistry
from conversation.settings import Settings
from logging_store import operations as ops
from logging_store.batches import Batch
from logging_store.errors import StoreUnavailable
from logging_store.postgres.function_store import FunctionStore
from logging_store.spool import Spool
from tests.access.conftest import ORIGIN, Calls
from tests.issuers import ISSUER, SigningPair, publishing
from tests.spool.conftest import delivered, eventually
from tests.spool.flaky_store import PROJECT, FlakyStore, batch_of
from tests.store_calls import ask

NOT_NOW = StoreUnavailable("not now")
SESSION, OTHER = "00000000-0000-0000-0000-00000000000a", "00000000-0000-0000-0000-00000000000b"
AT = "2026-11-21T10:00:00+00:00"
TOKEN = "token:" + "0" * 64


@pytest.fixture
def served(inner: FlakyStore, spool: Spool, tmp_path: Path) -> Iterator[tuple[Calls, Calls]]:
    """Return the calls of a backend, and of a user by a token of their own."""
    assert isinstance(inner.inner, FunctionStore)
    pair = SigningPair.es256("one")
    with publishing(pair) as publisher:
        settings = {
            "DATA_DIR": str(tmp_path), "TURNLOG_USER_TOKENS": "jwks", "TURNLOG_JWKS_URL": publisher.url,
            "TURNLOG_JWT_ISSUER": ISSUER, "TURNLOG_USER_ORIGINS": ORIGIN,
        }  # fmt: skip
        app = create_app(Settings.from_mapping(settings), spool)
        key = KeyRegistry(inner.inner).create(PROJECT, "secret", {"admin"}).text
        yield Calls(app.test_client(), key, {}), Calls(app.test_client(), pair.sign(sub="mallory"), {"Origin": ORIGIN})


@pytest.fixture
def come_back(spool: Spool, inner: FlakyStore) -> Callable[[], None]:
    """Return a way to let what waits be delivered."""

    def deliver() -> None:
        inner.refuses = lambda _: None
        delivered(spool)

    return deliver


def test_a_users_records_in_another_session_are_erased_and_the_session_stays(
    served: tuple[Calls, Calls], inner: FlakyStore, spool: Spool, come_back: Callable[[], None]
) -> None:
    backend, mallory = served
    assert backend("GET", "/v1/sessions").status_code == 200
    inner.refuses = lambda _: NOT_NOW
    assert backend("POST", "/v1/sessions", {"session_id": "chat-42", "user_id": "victim"}).status_code == 202
    assert backend.log(session_id="chat-42", prompt="the victim's").status_code == 202
    assert mallory.log(session_id="chat-42", prompt="mallory was here").status_code == 202
    eventually(lambda: spool.breaker.is_closed, "the probe succeeds")
    assert backend("DELETE", "/v1/users/mallory").status_code == 200
    come_back()
    answer = backend("GET", "/v1/sessions/chat-42/interactions")
    assert answer.status_code == 200, answer.get_json()
    assert [row["prompt"] for row in answer.get_json()["interactions"]] == ["the victim's"]


def waits(spool: Spool, session_id: str, claim: str) -> None:
    """Keep what a page says: a session under a claim, and whose it is."""
    turn = batch_of(f"of {claim}", session_id=session_id, claim=claim).interactions
    session = {"id": session_id, "user_id": "mallory", "created_at": AT, "claim": claim}
    spool.write(Batch(PROJECT, [session], turn))


@pytest.mark.parametrize("claim", ["user:mallory", TOKEN])
def test_a_claim_only_counts_if_all_spooled_records_of_the_session_share_it(
    client: FlaskClient, spool: Spool, inner: FlakyStore, come_back: Callable[[], None], claim: str
) -> None:
    inner.refuses = lambda _: NOT_NOW
    for id_ in (SESSION, OTHER):
        waits(spool, id_, claim)
    spool.write(batch_of("the victim's", session_id=SESSION))
    eventually(lambda: spool.breaker.is_closed, "the probe succeeds")
    assert client.delete("/v1/users/mallory").status_code == 200
    come_back()
    rows = ask(inner.inner, ops.TRANSCRIPT, PROJECT, {"session_id": SESSION, "limit": 10})["interactions"]
    assert "the victim's" in [row["prompt"] for row in rows]
    assert f"of {claim}" not in [row["prompt"] for row in rows if claim.startswith("user:")]
    # of the other one only that claim spoke: what else comes of it with a token is refused, as it names nobody
    other = ask(inner.inner, ops.SESSION, PROJECT, {"session_id": OTHER})
    assert (other is not None and other["erased_at"] is not None) == (claim == TOKEN)
