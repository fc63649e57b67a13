"""Who may call: with a key whoever carries it, without one this machine alone."""

import re

import pytest
from flask import Flask
from flask.testing import FlaskClient

from app import create_app
from conversation.settings import Settings
from tests.api import problem

KEY = "0123456789abcdef0123456789abcdef"
OPEN = ["/livez", "/openapi.json", "/docs/"]


@pytest.fixture(scope="module")
def guarded() -> FlaskClient:
    """Return a client of a service with a key. Its store is never opened: nobody gets so far."""
    return create_app(Settings.from_mapping({"TURNLOG_API_KEY": KEY})).test_client()


@pytest.fixture(scope="module")
def unguarded() -> FlaskClient:
    return create_app(Settings.from_mapping({})).test_client()


def calls_of_the_log(app: Flask) -> list[tuple[str, str]]:
    """Return every call but those that anyone may make: method and path."""
    return [
        (method, re.sub(r"<name:\w+>", "s", rule.rule))
        for rule in app.url_map.iter_rules()
        for method in sorted(rule.methods or ())
        if rule.endpoint.partition(".")[0] not in {"health", "openapi", "swagger_ui"}
    ]


@pytest.mark.parametrize(
    "authorization",
    [None, "", KEY, "Bearer", "Bearer ", f"Basic {KEY}", f"Bearer {KEY}x", f"Bearer {KEY[:-1]}",
     f"Bearer {KEY.upper()}", f"Bearer {KEY} {KEY}", f"Bearer Bearer {KEY}", "Bearer null", "Bearer é"],
)  # fmt: skip
def test_without_the_key_no_call_is_answered(guarded: FlaskClient, authorization: str | None) -> None:
    headers = {} if authorization is None else {"Authorization": authorization.encode().decode("latin-1")}
    calls = calls_of_the_log(guarded.application)
    assert len(calls) > 10
    for method, path in calls:
        answer = guarded.open(path, method=method, headers=headers, json={})
        assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, "Bearer"), (method, path)
        assert method == "HEAD" or problem(answer)["type"] == "urn:turnlog:problem:unauthorized"
        assert KEY not in answer.get_data(as_text=True)


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_with_the_key_a_call_is_judged_by_its_content(guarded: FlaskClient, scheme: str) -> None:
    headers = {"Authorization": f"{scheme} {KEY}"}
    elsewhere = {"REMOTE_ADDR": "203.0.113.9"}
    answer = guarded.post("/v1/interactions", json={}, headers=headers, environ_base=elsewhere)
    assert answer.status_code == 422


@pytest.mark.parametrize("path", OPEN)
def test_what_tells_nothing_of_the_log_is_open(guarded: FlaskClient, path: str) -> None:
    assert guarded.get(path, environ_base={"REMOTE_ADDR": "203.0.113.9"}).status_code == 200


@pytest.mark.parametrize("address", ["203.0.113.9", "192.168.0.2", "10.0.0.1", "2001:db8::1", "localhost.evil"])
def test_without_a_key_other_machines_are_refused(unguarded: FlaskClient, address: str) -> None:
    for method, path in calls_of_the_log(unguarded.application):
        answer = unguarded.open(
            path,
            method=method,
            json={},
            environ_base={"REMOTE_ADDR": address},
            headers={"X-Forwarded-For": "127.0.0.1", "X-Real-IP": "127.0.0.1", "Authorization": "Bearer x"},
        )
        assert answer.status_code == 403, (method, path)
        assert method == "HEAD" or problem(answer)["type"] == "urn:turnlog:problem:forbidden"


@pytest.mark.parametrize("address", ["127.0.0.1", "127.1.2.3", "::1", ""])
def test_without_a_key_this_machine_may_call(unguarded: FlaskClient, address: str) -> None:
    # an empty address is a Unix socket's
    assert unguarded.post("/v1/interactions", json={}, environ_base={"REMOTE_ADDR": address}).status_code == 422


@pytest.mark.parametrize(
    "headers",
    [{"Host": "evil.example"}, {"Host": "evil.example:8000"}, {"Origin": "https://evil.example"}, {"Origin": "null"}],
)
def test_without_a_key_a_page_of_another_site_is_refused(unguarded: FlaskClient, headers: dict[str, str]) -> None:
    # a name that resolves to this machine makes a browser on it call for anyone
    answer = unguarded.post("/v1/interactions", json={"prompt": "Hello"}, headers=headers)
    assert answer.status_code == 403
    assert "another site" in problem(answer)["detail"]


@pytest.mark.parametrize("origin", ["http://localhost:3000", "http://127.0.0.1:5173", "http://[::1]:8000"])
def test_without_a_key_a_frontend_of_this_machine_may_call(unguarded: FlaskClient, origin: str) -> None:
    assert unguarded.post("/v1/interactions", json={}, headers={"Origin": origin}).status_code == 422
