"""Known callers are authenticated while the store is away; unknown ones get 503."""

from collections.abc import Callable
from pathlib import Path

import pytest
from flask import Flask

from app import create_app
from conversation.access import cached_lookup
from conversation.keys import api_keys
from conversation.keys.key_registry import KeyRegistry, NewKey
from conversation.settings import Settings
from logging_store.errors import StoreUnavailable
from logging_store.postgres.function_store import FunctionStore
from logging_store.spool import Limits, Spool
from tests.access.conftest import ORIGIN, Calls
from tests.http_calls import problem
from tests.spool.conftest import delivered
from tests.spool.flaky_store import FlakyStore

AWAY = StoreUnavailable("nobody answers")
CLAIM = "0123456789abcdef"


@pytest.fixture
def registry(inner: FlakyStore) -> KeyRegistry:
    assert isinstance(inner.inner, FunctionStore)
    return KeyRegistry(inner.inner)


@pytest.fixture
def publishable_key(registry: KeyRegistry) -> NewKey:
    return registry.create("default", "publishable", {"log"}, origins={ORIGIN})


@pytest.fixture
def guarded(spool: Spool, tmp_path: Path) -> Flask:
    return create_app(Settings.from_mapping({"DATA_DIR": str(tmp_path)}), spool)


@pytest.fixture
def browser(guarded: Flask, publishable_key: NewKey) -> Calls:
    return Calls(guarded.test_client(), publishable_key.text, {"Origin": ORIGIN})


@pytest.fixture
def backend(guarded: Flask, registry: KeyRegistry) -> Calls:
    return Calls(guarded.test_client(), registry.create("default", "secret", {"admin"}).text, {})


def opened(browser: Calls, name: str, status: int, claim: str = CLAIM) -> str:
    answer = browser.open_session(claim, session_id=name)
    assert answer.status_code == status, answer.get_json()
    token: str = answer.get_json()["session_token"]
    return token


def test_a_known_caller_is_spooled(browser: Calls, backend: Calls, inner: FlakyStore, spool: Spool) -> None:
    token = opened(browser, "before", 201)
    assert backend("GET", "/v1/sessions").status_code == 200
    inner.away = AWAY
    assert backend.log(session_id="b", prompt="Hello").status_code == 202
    later = browser.log(token, session_id="before", prompt="Hello")
    assert (later.status_code, later.headers["Access-Control-Allow-Origin"]) == (202, ORIGIN)
    new = opened(browser, "meanwhile", 202)
    assert browser.log(new, session_id="meanwhile", prompt="Hello").status_code == 202
    inner.away = None
    delivered(spool)
    for name in ("before", "meanwhile"):
        rows = backend("GET", f"/v1/sessions/{name}/interactions").get_json()["interactions"]
        assert [row["prompt"] for row in rows] == ["Hello"]
    # opened while the store was away, it is theirs all the same
    assert opened(browser, "meanwhile", 200)
    assert browser.open_session("another claim, of 16+", session_id="meanwhile").status_code == 409


def test_an_unknown_caller_gets_503_during_an_outage(browser: Calls, backend: Calls, inner: FlakyStore) -> None:
    inner.away = AWAY
    for answer in (browser.open_session(), backend.log(prompt="Hello")):
        assert problem(answer, 503)["retry_after"] > 0


def test_a_mistyped_key_is_reported_without_the_store(guarded: Flask, inner: FlakyStore) -> None:
    inner.away = AWAY
    mistyped = api_keys.make("secret")[:-1] + "-"
    assert Calls(guarded.test_client(), mistyped, {}).log(prompt="Hello").status_code == 401
    assert inner.asked == 0


def test_a_service_that_starts_during_an_outage_knows_its_callers(
    browser: Calls, inner: FlakyStore, open_spool: Callable[..., Spool], tmp_path: Path, publishable_key: NewKey
) -> None:
    token = opened(browser, "s", 201)
    inner.away = AWAY
    again = create_app(Settings.from_mapping({"DATA_DIR": str(tmp_path)}), open_spool())
    after = Calls(again.test_client(), publishable_key.text, {})
    assert after.log(token, session_id="s", prompt="Hello").status_code == 202
    (known,) = (tmp_path / "keys").glob("*.sqlite3")
    assert known.stat().st_mode & 0o077 == 0
    assert publishable_key.text.encode() not in known.read_bytes()


def test_pages_leave_backends_a_share_of_the_spool(
    open_spool: Callable[..., Spool], inner: FlakyStore, tmp_path: Path, registry: KeyRegistry, publishable_key: NewKey
) -> None:
    spool = open_spool(Limits(max_bytes=8 << 20, min_free_bytes=0))
    client = create_app(Settings.from_mapping({"DATA_DIR": str(tmp_path)}), spool).test_client()
    page = Calls(client, publishable_key.text, {"Origin": ORIGIN})
    backend = Calls(client, registry.create("default", "secret", {"admin"}).text, {})
    token = opened(page, "pages", 201)
    assert backend.log(session_id="backends", prompt="before").status_code == 201
    inner.away = AWAY
    refused = [page.log(token, session_id="pages", prompt="x" * 500_000).status_code for _ in range(20)].index(503)
    assert refused > 5
    assert page.log(token, session_id="pages", prompt="x").status_code == 503
    for n in range(3):
        assert backend.log(session_id="backends", prompt=f"{n}").status_code == 202
    inner.away = None
    delivered(spool)
    rows = backend("GET", "/v1/sessions/backends/interactions").get_json()["interactions"]
    assert [row["prompt"] for row in rows] == ["before", "0", "1", "2"]
    assert len(backend("GET", "/v1/sessions/pages/interactions").get_json()["interactions"]) == refused


def test_a_page_with_a_known_key_may_call_a_service_that_starts_during_an_outage(
    open_spool: Callable[..., Spool], inner: FlakyStore, tmp_path: Path, publishable_key: NewKey
) -> None:
    settings = Settings.from_mapping({"DATA_DIR": str(tmp_path)})
    question = {"Origin": ORIGIN, "Access-Control-Request-Method": "POST"}

    def answers() -> tuple[str | None, int]:
        client = create_app(settings, open_spool()).test_client()
        preflight = client.options("/v1/sessions", headers=question)
        call = Calls(client, publishable_key.text, {"Origin": ORIGIN}).open_session(session_id="s")
        return preflight.headers.get("Access-Control-Allow-Origin"), call.status_code

    assert answers() == (ORIGIN, 201)
    inner.away = AWAY
    assert answers() == (ORIGIN, 202)  # another worker, or the service started again


def test_a_spooled_record_with_a_false_claim_is_rejected_on_delivery(
    browser: Calls, backend: Calls, inner: FlakyStore, spool: Spool
) -> None:
    opened(browser, "warm", 201)
    backend.log(session_id="theirs", prompt="of the backend")
    inner.away = AWAY
    token = opened(browser, "theirs", 202)  # nobody can tell now whose it is
    assert browser.log(token, session_id="theirs", prompt="forged").status_code == 202
    inner.away = None
    delivered(spool)
    rows = backend("GET", "/v1/sessions/theirs/interactions").get_json()["interactions"]
    assert [row["prompt"] for row in rows] == ["of the backend"]
    letters = spool.dead_letters.list()
    assert {letter.receipt["reason"] for letter in letters} == {"The session is somebody else's"}
    assert [row["prompt"] for letter in letters for row in letter.batch.interactions] == ["forged"]


def test_a_revoked_key_stops_when_its_cache_entry_expires(
    browser: Calls, registry: KeyRegistry, publishable_key: NewKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = opened(browser, "s", 201)
    registry.revoke(publishable_key.key)
    assert browser.log(token, session_id="s", prompt="within seconds").status_code == 201
    monkeypatch.setattr(cached_lookup, "FRESH_S", 0)
    assert "revoked" in problem(browser.log(token, session_id="s", prompt="too late"), 401)["detail"]
    assert max(10, cached_lookup.STALE_OK_S) + 5 <= 30  # and a look-up, which a deadline ends


def test_a_revoked_key_stays_revoked_during_an_outage(
    browser: Calls, registry: KeyRegistry, publishable_key: NewKey, inner: FlakyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = opened(browser, "s", 201)
    registry.revoke(publishable_key.key)
    monkeypatch.setattr(cached_lookup, "FRESH_S", 0)
    assert browser.log(token, session_id="s", prompt="no").status_code == 401
    inner.away = AWAY
    assert browser.log(token, session_id="s", prompt="no").status_code == 401
