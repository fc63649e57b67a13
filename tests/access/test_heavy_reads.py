"""Heavy reads are served a few at a time, and writes wait for none of them."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from app import create_app
from conversation import access
from conversation.access import heavy_reads
from conversation.access.heavy_reads import HeavyReads
from conversation.keys.key_registry import NewKey
from conversation.refusals.codes import Refused
from conversation.settings import Settings
from logging_store import operations as ops
from logging_store.postgres.function_store import FunctionStore
from tests.http_calls import KEYLESS, create, log, problem

PATIENCE_S = 60.0
HEAVY = {
    "/": "always",
    "/search": "/search?q=word",
    "/sessions": "/sessions?tag=t",
    "/sessions/<name:session>/conversation.md": "always",
    "/sessions/<name:session>/turnlog.jsonl": "always",
    "/v1/audit": "always",
    "/v1/interactions": "always",
    "/v1/overview": "always",
    "/v1/sessions": "/v1/sessions?metadata.channel=web",
    "/v1/usage": "always",
    "/v1/users/<name:user>/export": "always",
}


class Held:
    """A store whose searches wait until they are let go."""

    def __init__(self, inner: FunctionStore) -> None:
        self._inner = inner
        self.asked = threading.Semaphore(0)  # released by each search that has begun
        self.go = threading.Event()

    def ask(self, operation: ops.Operation[Any, Any], project: str | None, query: Any) -> Any:
        if operation is ops.SEARCH:
            self.asked.release()
            assert self.go.wait(PATIENCE_S)
        return self._inner.ask(operation, project, query)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


@pytest.fixture
def held(store: FunctionStore) -> Iterator[Held]:
    held = Held(store)
    yield held
    held.go.set()


@pytest.fixture
def app(held: Held, monkeypatch: pytest.MonkeyPatch) -> Flask:
    monkeypatch.setattr(heavy_reads, "WAIT_S", PATIENCE_S)
    app = create_app(Settings.from_mapping(KEYLESS | {"TURNLOG_AUDIT_READS": "true"}), held)
    app.extensions["turnlog_heavy_reads"] = HeavyReads(wait_s=PATIENCE_S)
    return app


def test_these_routes_are_heavy(app: Flask) -> None:
    found = {}
    for rule in app.url_map.iter_rules():
        access_rule = access.rule_of(app.view_functions[rule.endpoint])
        if access_rule and access_rule.heavy and "GET" in (rule.methods or ()):
            found[rule.rule] = "always" if access_rule.heavy is True else HEAVY[rule.rule]
    assert found == HEAVY
    for path, asked in HEAVY.items():
        if asked != "always":
            for url, is_heavy in ((path, False), (f"{path}?limit=5", path == "/search"), (asked, True)):
                with app.test_request_context(url) as context:
                    access_rule = access.rule_of(app.view_functions[str(context.request.endpoint)])
                    assert access_rule is not None
                    assert access_rule.is_heavy(context.request) is is_heavy, url


def test_a_few_are_served_some_wait_the_rest_is_refused_and_writes_go_on(app: Flask, held: Held) -> None:
    def search(_: int) -> TestResponse:
        return app.test_client().get("/v1/interactions?q=word")

    def is_full() -> bool:
        return not app.extensions["turnlog_heavy_reads"]._admitted._value  # noqa: SLF001 - nobody else can tell

    admitted = heavy_reads.AT_ONCE + heavy_reads.WAITING
    with ThreadPoolExecutor(admitted) as pool:
        under_way = [pool.submit(search, n) for n in range(admitted)]
        for _ in range(heavy_reads.AT_ONCE):
            assert held.asked.acquire(timeout=PATIENCE_S)
        waited = threading.Event()
        while not is_full():
            assert not waited.wait(0.01)
        refused = search(0)
        body = problem(refused, 503)
        assert (body["code"], body["retry_after"], refused.headers["Retry-After"]) == ("too-busy", 1, "1")
        assert not held.asked.acquire(blocking=False), "no more than two are served at once"
        client: FlaskClient = app.test_client()
        assert log(client, session_id="s", prompt="Still there?").status_code == 201
        assert client.get("/v1/sessions").status_code == 200
        held.go.set()
        assert [each.result(PATIENCE_S).status_code for each in under_way] == [200] * admitted
    assert search(0).status_code == 200, "every turn was given back"


def test_a_refused_or_failed_read_gives_its_turn_back(app: Flask, held: Held) -> None:
    held.go.set()
    client = app.test_client()
    for _ in range(10):
        assert client.get("/v1/interactions?limit=many").status_code == 422
        assert client.get("/v1/interactions?q=word").status_code == 200


def test_a_read_that_waits_in_vain_is_refused() -> None:
    turns = HeavyReads(at_once=1, waiting=1, wait_s=0.01)
    turns.take()
    for _ in range(3):
        with pytest.raises(Refused) as refused:
            turns.take()
        assert refused.value.more == {"retry_after": 1}
    turns.give_back()
    turns.take()


def test_an_export_that_nobody_reads_holds_no_turn(app: Flask, held: Held) -> None:
    held.go.set()
    client = app.test_client()
    assert create(client, session_id="large", user_id="u").status_code == 201
    for n in range(3):
        assert log(client, session_id="large", interaction_id=str(n), prompt="x" * 70_000).status_code == 201
    exports = [client.get("/v1/users/u/export", buffered=False) for _ in range(heavy_reads.AT_ONCE + 1)]
    begun = [next(iter(each.response)) for each in exports]
    assert all(begun)
    assert client.get("/v1/interactions?q=word").status_code == 200
    for each in exports:
        each.close()


def test_a_key_has_a_rate_of_heavy_reads_and_none_of_writes(
    store: FunctionStore, secret_key: NewKey, tmp_path: Path
) -> None:
    settings = {"DATA_DIR": str(tmp_path), "TURNLOG_HEAVY_READS_PER_KEY": "2/day"}
    client = create_app(Settings.from_mapping(settings), store).test_client()
    headers = {"Authorization": f"Bearer {secret_key.text}"}
    assert [client.get("/v1/interactions", headers=headers).status_code for _ in range(3)] == [200, 200, 429]
    body = problem(client.get("/v1/overview", headers=headers), 429)
    assert body["detail"].startswith("This key may make 2 searches, sums, exports and filtered lists a day")
    assert client.get("/v1/sessions", headers=headers).status_code == 200
    turn = {"session_id": "s", "prompt": "Hello"}
    assert client.post("/v1/interactions", json=turn, headers=headers).status_code == 201
