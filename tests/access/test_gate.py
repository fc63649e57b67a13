"""Authentication and authorisation: keys in every state, on every route."""

import re
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient

from app import create_app
from conversation import access
from conversation.keys import api_keys
from conversation.keys.key_registry import KeyRegistry, NewKey
from conversation.settings import Settings
from logging_store import operations as ops
from logging_store.errors import StoreUnavailable
from logging_store.postgres.function_store import FunctionStore
from tests.access.conftest import ORIGIN, Calls
from tests.api.test_problems import FailingStore
from tests.http_calls import KEYLESS, problem, refusal_code, same_problem
from tests.store_calls import ask, record_operations

OPERATOR = "0123456789abcdef0123456789abcdef"
NOBODY = FailingStore(StoreUnavailable("a test that needs no store asked one"))
UNPROVEN = {"missing-key", "missing-bearer", "mistyped-key", "not-a-key"}
OPEN = ["/livez", "/openapi.json", "/docs/", "/static/turnlog.js"]


@pytest.fixture(scope="module")
def operated() -> FlaskClient:
    """Return a client of a service with TURNLOG_API_KEY. Its store is never opened: nobody gets so far."""
    return create_app(Settings.from_mapping({"TURNLOG_API_KEY": OPERATOR}), NOBODY).test_client()


@pytest.fixture(scope="module")
def keyless() -> FlaskClient:
    return create_app(Settings.from_mapping(KEYLESS), NOBODY).test_client()


def guarded_calls(app: Flask, *, pages: bool = False) -> Iterator[tuple[str, str]]:
    """Yield every call, of the API or of the web pages, but those that anyone may make: method and path."""
    for rule in app.url_map.iter_rules():
        stated = access.rule_of(app.view_functions[rule.endpoint])
        if (stated is None or stated.scope is not None) and pages == (stated is not None and stated.page):
            for method in sorted(rule.methods or ()):
                path = rule.rule.replace("<uuid:key>", "00000000-0000-4000-8000-000000000001")
                yield method, re.sub(r"<name:\w+>", "s", path.replace("<int:number>", "1"))


def test_every_route_declares_an_access_rule(keyless: FlaskClient) -> None:
    app = keyless.application
    silent = [rule.rule for rule in app.url_map.iter_rules() if not access.rule_of(app.view_functions[rule.endpoint])]
    assert silent == []


def test_a_route_that_states_nothing_lets_nobody_in() -> None:
    app = create_app(Settings.from_mapping(KEYLESS), NOBODY)
    app.add_url_rule("/forgotten", view_func=lambda: "answer")
    assert app.test_client().get("/forgotten").status_code == 403


@pytest.mark.parametrize(
    "authorization",
    [None, "", OPERATOR, "Bearer", "Bearer ", f"Basic {OPERATOR}", f"Bearer {OPERATOR}x", f"Bearer {OPERATOR[:-1]}",
     f"Bearer {OPERATOR.upper()}", f"Bearer {OPERATOR} {OPERATOR}", f"Bearer Bearer {OPERATOR}", "Bearer null",
     "Bearer é", "Bearer turnlog_sk_", "Bearer turnlog_sk_9SXNAYfTtMB7spSzVNPckDMh4YcTJ9"],
)  # fmt: skip
def test_without_a_key_no_call_is_answered_or_looked_up(operated: FlaskClient, authorization: str | None) -> None:
    headers = {} if authorization is None else {"Authorization": authorization.encode().decode("latin-1")}
    calls = list(guarded_calls(operated.application))
    assert len(calls) > 10
    for method, path in calls:
        answer = operated.open(path, method=method, headers=headers, json={})
        assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, "Bearer"), (method, path)
        assert method == "HEAD" or refusal_code(answer) in UNPROVEN
        assert OPERATOR not in answer.get_data(as_text=True)


def test_without_a_sign_in_every_page_leads_to_the_form_and_changes_nothing(operated: FlaskClient) -> None:
    calls = list(guarded_calls(operated.application, pages=True))
    assert len(calls) > 5
    for method, path in calls:
        answer = operated.open(path, method=method, headers={"Authorization": f"Bearer {OPERATOR}"})
        assert answer.status_code == (403 if method not in {"GET", "HEAD", "OPTIONS"} else 303), (method, path)
        answer = operated.open(path, method=method, headers={"Sec-Fetch-Site": "same-origin"})
        assert answer.status_code == 303, (method, path)
        assert answer.location.partition("?")[0] == "/sign-in"


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_with_the_operators_key_a_call_is_validated(operated: FlaskClient, scheme: str) -> None:
    headers = {"Authorization": f"{scheme} {OPERATOR}"}
    elsewhere = {"REMOTE_ADDR": "203.0.113.9"}
    answer = operated.post("/v1/interactions", json={}, headers=headers, environ_base=elsewhere)
    assert answer.status_code == 422


@pytest.mark.parametrize("path", OPEN)
def test_routes_that_show_nothing_of_the_log_are_open(operated: FlaskClient, path: str) -> None:
    assert operated.get(path, environ_base={"REMOTE_ADDR": "203.0.113.9"}).status_code == 200


@pytest.mark.parametrize("address", ["203.0.113.9", "192.168.0.2", "10.0.0.1", "2001:db8::1", "localhost.evil"])
def test_keyless_other_machines_are_refused(keyless: FlaskClient, address: str) -> None:
    of_pages = set(guarded_calls(keyless.application, pages=True))
    for method, path in [*guarded_calls(keyless.application), *of_pages]:
        answer = keyless.open(
            path,
            method=method,
            json={},
            environ_base={"REMOTE_ADDR": address},
            headers={"X-Forwarded-For": "127.0.0.1", "X-Real-IP": "127.0.0.1", "Authorization": "Bearer x"},
        )
        assert answer.status_code == 403, (method, path)
        if (method, path) in of_pages:
            titles = ("<title>Not This Machine", "<title>Forbidden")  # a form of no page of ours is refused before
            assert any(title in answer.text for title in titles) or method == "HEAD"
            continue
        assert method == "HEAD" or refusal_code(answer) == "not-this-machine"


@pytest.mark.parametrize("address", ["127.0.0.1", "127.1.2.3", "::1", ""])
def test_keyless_this_machine_may_call(keyless: FlaskClient, address: str) -> None:
    # an empty address is a Unix socket's
    assert keyless.post("/v1/interactions", json={}, environ_base={"REMOTE_ADDR": address}).status_code == 422


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "evil.example:8000"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://["},
    ],
)
def test_keyless_a_page_of_another_site_is_refused(keyless: FlaskClient, headers: dict[str, str]) -> None:
    # a name that resolves to this machine makes a browser on it call for anyone
    answer = keyless.post("/v1/interactions", json={"prompt": "Hello"}, headers=headers)
    assert answer.status_code == 403
    assert "another site" in problem(answer)["detail"]


@pytest.mark.parametrize("header", ["X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "Forwarded"])
def test_keyless_nobody_calls_through_a_proxy_on_this_machine(keyless: FlaskClient, header: str) -> None:
    for value in ("203.0.113.9", "127.0.0.1", ""):
        answer = keyless.post("/v1/interactions", json={}, headers={header: value, "Host": "127.0.0.1"})
        assert "through a proxy" in problem(answer, 403)["detail"]


@pytest.mark.parametrize("origin", ["http://localhost:3000", "http://127.0.0.1:5173", "http://[::1]:8000"])
def test_keyless_a_frontend_of_this_machine_may_call(keyless: FlaskClient, origin: str) -> None:
    assert keyless.post("/v1/interactions", json={}, headers={"Origin": origin}).status_code == 422


def test_a_key_opens_its_own_project_only(guarded: Flask, registry: KeyRegistry, backend_calls: Calls) -> None:
    other = Calls(guarded.test_client(), registry.create("shop", "secret", {"admin"}).text, {})
    opened = backend_calls("POST", "/v1/sessions", {"session_id": "chat-1"}).get_json()
    folder = backend_calls("POST", "/v1/folders", {"folder_id": "ann"}).get_json()
    reads = [("GET", path) for path in ("", "/interactions", "/gaps", "/participants")]
    for calls, path in (*reads, ("DELETE", "")):
        for name in ("chat-1", opened["session_id"]):
            foreign = other(calls, f"/v1/sessions/{name}{path}")
            unknown = other(calls, f"/v1/sessions/nobody{path}")
            assert same_problem(foreign, 404, name) == same_problem(unknown, 404, "nobody"), path
    assert other("GET", f"/v1/folders/{folder['folder_id']}").status_code == 404
    assert other("GET", "/v1/sessions").get_json()["sessions"] == []
    # the same id is another record there
    assert other("POST", "/v1/sessions", {"session_id": opened["session_id"]}).status_code == 201
    assert backend_calls("GET", "/v1/sessions/chat-1").status_code == 200


@pytest.mark.parametrize(
    ("scope", "allowed"),
    [("log", {"POST"}), ("read", {"GET"}), ("edit", {"PATCH"}), ("erase", {"DELETE"}),
     ("admin", {"POST", "GET", "PATCH", "DELETE"})],
)  # fmt: skip
def test_a_scope_allows_its_routes(
    guarded: Flask, registry: KeyRegistry, backend_calls: Calls, scope: access.Scope, allowed: set[str]
) -> None:
    backend_calls("POST", "/v1/sessions", {"session_id": "chat-1"})
    calls = Calls(guarded.test_client(), registry.create("default", "secret", {scope}).text, {})
    for method, body in (("GET", None), ("PATCH", {"title": "T"}), ("DELETE", None)):
        answer = calls(method, "/v1/sessions/chat-1", body)
        assert answer.status_code == (200 if method in allowed else 403)
        if method not in allowed:
            assert problem(answer)["detail"].startswith("This needs a key with the scope ")
    assert calls("POST", "/v1/sessions", {}).status_code == (201 if "POST" in allowed else 403)


def test_a_secret_key_in_a_web_page_is_refused(guarded: Flask, secret_key: NewKey) -> None:
    answer = Calls(guarded.test_client(), secret_key.text, {"Origin": ORIGIN})("GET", "/v1/sessions")
    assert "web page" in problem(answer, 403)["detail"]


@pytest.mark.parametrize("origin", ["https://evil.example", f"{ORIGIN}:443", f"{ORIGIN}.evil.example", "null", ""])
def test_a_publishable_key_is_held_to_its_exact_origins(guarded: Flask, publishable_key: NewKey, origin: str) -> None:
    answer = Calls(guarded.test_client(), publishable_key.text, {"Origin": origin}).open_session()
    assert answer.status_code == 403
    assert "Access-Control-Allow-Origin" not in answer.headers


def test_an_app_without_an_origin_may_use_a_publishable_key(guarded: Flask, publishable_key: NewKey) -> None:
    assert Calls(guarded.test_client(), publishable_key.text, {}).open_session().status_code == 201


def test_expired_and_revoked_keys_open_nothing(
    guarded: Flask, registry: KeyRegistry, expired_key: NewKey, secret_key: NewKey
) -> None:
    assert Calls(guarded.test_client(), expired_key.text, {})("GET", "/v1/sessions").status_code == 401
    registry.revoke(secret_key.key)
    assert Calls(guarded.test_client(), secret_key.text, {})("GET", "/v1/sessions").status_code == 401


def test_a_preflight_is_answered_for_origins_of_keys(guarded: Flask, publishable_key: NewKey) -> None:
    client = guarded.test_client()
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    known = client.options("/v1/interactions", headers=asked | {"Origin": ORIGIN})
    unknown = client.options("/v1/interactions", headers=asked | {"Origin": "https://evil.example"})
    assert (known.status_code, known.headers["Access-Control-Allow-Origin"]) == (204, ORIGIN)
    assert "Turnlog-Session-Token" in known.headers["Access-Control-Allow-Headers"]
    assert not [name for name, _ in unknown.headers if name.startswith("Access-Control")]
    for answer in (known, unknown):
        assert "Origin" in answer.headers["Vary"]
        assert "Access-Control-Allow-Credentials" not in answer.headers


def test_a_refusal_can_be_read_by_the_page_that_asked(guarded: Flask, registry: KeyRegistry) -> None:
    made = registry.create("default", "publishable", {"log"}, origins={ORIGIN})
    registry.revoke(made.key)
    registry.create("default", "publishable", {"log"}, origins={ORIGIN})
    answer = Calls(guarded.test_client(), made.text, {"Origin": ORIGIN}).open_session()
    assert (answer.status_code, answer.headers["Access-Control-Allow-Origin"]) == (401, ORIGIN)


def test_strangers_make_the_store_answer_once_whatever_pages_they_name(
    store: FunctionStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = record_operations(store, monkeypatch)
    client = create_app(Settings.from_mapping({"DATA_DIR": str(tmp_path)}), store).test_client()
    for n in range(300):
        client.get("/livez", headers={"Origin": f"https://{n}.example"})
    assert asked == []
    question = {"Access-Control-Request-Method": "POST"}
    for n in range(300):
        client.options("/v1/sessions", headers=question | {"Origin": f"https://{n}.example"})
        client.get("/v1/sessions", headers={"Origin": f"https://{n}.example"})
        client.get("/nowhere", headers={"Origin": f"https://{n}.example"})
    assert asked.count("origins") <= 30  # one, and one more for each ten seconds that this takes


def test_the_origins_of_all_active_keys_are_listed(store: FunctionStore, registry: KeyRegistry) -> None:
    assert ask(store, ops.ORIGINS, None)["origins"] == []
    pages = ["https://a.example", "https://b.example", "https://c.example"]
    for project, origins in (("default", pages[:2]), ("shop", pages[1:])):
        made = registry.create(project, "publishable", {"log"}, origins=origins)
    ended = datetime.now(UTC) - timedelta(seconds=1)
    registry.create("default", "publishable", {"log"}, origins={"https://past.example"}, expires_at=ended)
    registry.create("default", "secret", {"admin"})
    assert sorted(ask(store, ops.ORIGINS, None)["origins"]) == pages
    registry.revoke(made.key)
    assert sorted(ask(store, ops.ORIGINS, None)["origins"]) == pages[:2]


def test_only_the_first_start_makes_a_key(store: FunctionStore) -> None:
    registries = [KeyRegistry(store) for _ in range(4)]
    made: list[NewKey | None] = []

    def start(each: KeyRegistry) -> None:
        made.append(each.create_first("default"))

    threads = [threading.Thread(target=start, args=[each]) for each in registries]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len([each for each in made if each]) == 1
    assert len(registries[0].list()) == 1


def test_the_last_use_of_a_key_is_stored(backend_calls: Calls, registry: KeyRegistry, tmp_path: Path) -> None:
    assert [key.last_used_at for key in registry.list()] == [None]
    backend_calls("GET", "/v1/sessions")
    (used,) = registry.list()
    assert used.last_used_at is not None


def test_service_wide_routes_need_a_key_of_the_services_project(guarded: Flask, registry: KeyRegistry) -> None:
    foreign = registry.create("shop", "secret", {"admin"}).text
    answer = Calls(guarded.test_client(), foreign, {})("GET", "/metrics")
    assert "a key of the project default" in problem(answer, 403)["detail"]


def test_no_cache_may_store_a_response(backend_calls: Calls, guarded: Flask) -> None:
    answer = backend_calls("GET", "/v1/sessions")
    assert (answer.headers["Cache-Control"], answer.headers["X-Content-Type-Options"]) == ("no-store", "nosniff")
    assert "no-store" not in guarded.test_client().get("/static/turnlog.js").headers.get("Cache-Control", "")


def mistyped(key: str) -> str:
    return key[:-1] + ("x" if key[-1] != "x" else "y")


def test_a_key_that_opens_nothing_is_told_why(guarded: Flask, registry: KeyRegistry, secret_key: NewKey) -> None:
    text, elsewhere = secret_key.text, api_keys.make("secret")
    revoked = registry.create("default", "secret", {"read"})
    registry.revoke(revoked.key)
    past = datetime.now(UTC) - timedelta(seconds=1)
    expired = registry.create("default", "secret", {"read"}, expires_at=past)
    expected = {
        None: ("missing-key", "turnlog keys create"),
        "": ("missing-key", "turnlog keys create"),
        text: ("missing-bearer", "Put `Bearer ` before the key"),
        f"Basic {text}": ("missing-bearer", "Put `Bearer ` before the key"),
        f"Token {text}": ("missing-bearer", "Put `Bearer ` before the key"),
        f"Bearer {mistyped(text)}": ("mistyped-key", "checksum"),
        f"Bearer {text[:-1]}": ("mistyped-key", "checksum"),
        f"Bearer {text}x": ("mistyped-key", "checksum"),
        f"Bearer {elsewhere}": ("unknown-key", "unknown to this service"),
        f"Bearer {revoked.text}": ("revoked-key", "revoked"),
        f"Bearer {expired.text}": ("expired-key", "expired"),
        "Bearer letmein": ("not-a-key", "no key of this service"),
        "Bearer a.b.c": ("not-a-key", "TURNLOG_USER_TOKENS is not set"),
    }
    for header, (code, sentence) in expected.items():
        headers = {} if header is None else {"Authorization": header}
        answer = problem(guarded.test_client().get("/v1/sessions", headers=headers), 401)
        assert (answer["code"], sentence in answer["detail"]) == (code, True), header
        assert text[:20] not in str(answer)


def test_a_key_of_another_page_is_told_from_which_it_may_call(
    guarded: Flask, registry: KeyRegistry, publishable_key: NewKey
) -> None:
    other = "https://other.example.com"
    refused = Calls(guarded.test_client(), publishable_key.text, {"Origin": other}).open_session()
    answer = problem(refused, 403)
    assert (answer["code"], answer["detail"]) == (
        "wrong-origin",
        f"This key may not be used from {other}. Allowed: {ORIGIN}",
    )
    assert "Access-Control-Allow-Origin" not in refused.headers


def test_a_page_of_another_keys_origin_may_read_why_it_is_refused(
    guarded: Flask, registry: KeyRegistry, publishable_key: NewKey
) -> None:
    other = "https://other.example.com"
    registry.create("default", "publishable", {"log"}, origins={other})
    refused = Calls(guarded.test_client(), publishable_key.text, {"Origin": other}).open_session()
    assert problem(refused, 403)["code"] == "wrong-origin"
    assert refused.headers["Access-Control-Allow-Origin"] == other
    assert "Access-Control-Allow-Credentials" not in refused.headers


def test_a_page_that_no_key_allows_is_named_in_the_log_now_and_then(
    guarded: Flask, publishable_key: NewKey, caplog: pytest.LogCaptureFixture
) -> None:
    client = guarded.test_client()
    asked = {"Access-Control-Request-Method": "POST"}
    for origin in ("null", "http://[", "x" * 5000, "https://A.example", *["http://127.0.0.1:3000"] * 50, ORIGIN):
        client.options("/v1/interactions", headers=asked | {"Origin": origin})
    lines = [record.getMessage() for record in caplog.records if record.name == "turnlog.access"]
    command = "turnlog keys create --kind publishable --origin http://127.0.0.1:3000"
    assert lines == [f"refused a page of http://127.0.0.1:3000: no key allows this origin; to allow it: {command}"]


def test_what_a_key_lacks_has_a_code(guarded: Flask, registry: KeyRegistry, publishable_key: NewKey) -> None:
    reader = registry.create("default", "secret", {"read"})
    refusals = {
        "missing-scope": Calls(guarded.test_client(), reader.text, {}).log(prompt="Hello"),
        "secret-key-in-browser": Calls(guarded.test_client(), reader.text, {"Origin": ORIGIN})("GET", "/v1/sessions"),
        "missing-session-token": Calls(guarded.test_client(), publishable_key.text, {}).log(session_id="s", prompt="x"),
        "invalid-session-token": Calls(guarded.test_client(), publishable_key.text, {}).open_session(claim="short"),
    }
    assert {code: problem(answer)["code"] for code, answer in refusals.items()} == {code: code for code in refusals}
