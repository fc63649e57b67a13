"""The pages accept only signed-in browsers, and no form that another site submits."""

import time
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from app import create_app
from conversation.access import cached_lookup, limits, page_cookie
from conversation.keys import api_keys
from conversation.keys.key_registry import KeyRegistry, NewKey
from conversation.settings import Settings
from logging_store.postgres.function_store import FunctionStore
from tests.http_calls import KEYLESS

OWN = {"Sec-Fetch-Site": "same-origin"}
COOKIE = "turnlog-80"
PUBLIC = "https://log.example.com"


@pytest.fixture
def client(guarded: Flask) -> FlaskClient:
    return guarded.test_client()


def sign_in(client: FlaskClient, key: str, *, base_url: str = "http://localhost", **fields: str) -> TestResponse:
    return client.post("/sign-in", data={"key": key, **fields}, headers=OWN, base_url=base_url)


def led_to(client: FlaskClient, answer: TestResponse) -> str:
    """Return where a browser is after it signed in: it shows that it kept the cookie, and goes on."""
    assert answer.status_code == HTTPStatus.SEE_OTHER
    return client.get(answer.location).location


def cookie(answer: TestResponse) -> str:
    return answer.headers["Set-Cookie"]


@pytest.mark.parametrize(
    ("later_s", "holds"),
    [(0, True), (-2, True), (-59, True), (-3600, False), (12 * 3600 - 1, True), (12 * 3600 + 1, False), (1e9, False)],
)
def test_a_clock_that_is_set_a_little_ends_no_sign_in(
    later_s: float, holds: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    signed = page_cookie.sign(page_cookie.OPERATOR, "secret").partition(":")[2]
    now = int(time.time())
    monkeypatch.setattr(time, "time", lambda: now + later_s)
    cookie = page_cookie.PageCookie("key", page_cookie.OPERATOR, signed)
    assert cookie.is_signed_with("secret") is holds
    assert not cookie.is_signed_with("another secret")


def test_a_visitor_is_redirected_to_sign_in_and_back(client: FlaskClient, secret_key: NewKey) -> None:
    asked = client.get("/sessions?status=open")
    assert asked.status_code == HTTPStatus.SEE_OTHER
    assert asked.location == "/sign-in?next=/sessions?status%3Dopen"
    assert client.get(asked.location).status_code == HTTPStatus.OK
    answer = sign_in(client, secret_key.text, next="/sessions?status=open")
    assert led_to(client, answer) == "/sessions?status=open"
    assert client.get("/sessions?status=open").status_code == HTTPStatus.OK


@pytest.mark.parametrize(
    "elsewhere", ["//evil.example", "https://evil.example/", "/\\evil.example", "javascript:alert(1)", "/a\r\nX: y", ""]
)
def test_sign_in_never_redirects_to_another_site(client: FlaskClient, secret_key: NewKey, elsewhere: str) -> None:
    assert led_to(client, sign_in(client, secret_key.text, next=elsewhere)) == "/"
    assert client.get("/sign-in", query_string={"check": 1, "next": elsewhere}).location == "/"


def test_a_wrong_key_is_an_error_and_sets_no_cookie(client: FlaskClient, secret_key: NewKey) -> None:
    mistyped = secret_key.text[:-1] + ("x" if secret_key.text[-1] != "x" else "y")
    answer = sign_in(client, mistyped)
    assert answer.status_code == HTTPStatus.UNAUTHORIZED
    assert "mistyped" in answer.text
    assert "Set-Cookie" not in answer.headers
    assert secret_key.text[:-1] not in answer.text


def test_a_publishable_key_opens_no_pages(client: FlaskClient, publishable_key: NewKey) -> None:
    answer = sign_in(client, publishable_key.text)
    assert answer.status_code == HTTPStatus.FORBIDDEN
    assert "Set-Cookie" not in answer.headers


def test_a_key_without_the_scope_signs_in_but_is_forbidden(client: FlaskClient, registry: KeyRegistry) -> None:
    assert sign_in(client, registry.create("default", "secret", {"log"}).text).status_code == HTTPStatus.SEE_OTHER
    answer = client.get("/sessions")
    assert answer.status_code == HTTPStatus.FORBIDDEN
    assert "scope read" in answer.text
    assert answer.mimetype == "text/html"


def test_scripts_other_sites_and_other_hosts_never_get_the_cookie(client: FlaskClient, secret_key: NewKey) -> None:
    given = cookie(sign_in(client, secret_key.text, base_url=PUBLIC))
    assert given.startswith("__Host-turnlog=")
    assert {"Secure", "HttpOnly", "Path=/", "SameSite=Lax"} <= {part.strip() for part in given.split(";")}
    assert "Domain" not in given
    assert secret_key.text not in given


def test_on_another_host_the_cookie_needs_tls(client: FlaskClient, secret_key: NewKey) -> None:
    given = cookie(sign_in(client, secret_key.text, base_url="http://log.example.com"))
    assert given.startswith("__Host-turnlog=")
    assert "Secure" in given


def test_on_this_machine_a_cookie_needs_no_tls(client: FlaskClient, secret_key: NewKey) -> None:
    given = cookie(sign_in(client, secret_key.text))
    assert given.startswith(f"{COOKIE}=")
    assert "Secure" not in given
    assert "HttpOnly" in given


def test_a_cookie_of_this_machine_counts_nowhere_else(client: FlaskClient, secret_key: NewKey) -> None:
    value = cookie(sign_in(client, secret_key.text)).partition("=")[2].partition(";")[0]
    headers = {"Cookie": f"{COOKIE}={value}"}
    assert client.get("/sessions", base_url=PUBLIC, headers=headers).status_code == HTTPStatus.SEE_OTHER


def test_a_cookie_that_was_changed_anywhere_is_none(
    guarded: Flask, client: FlaskClient, secret_key: NewKey, registry: KeyRegistry
) -> None:
    value = cookie(sign_in(client, secret_key.text)).partition("=")[2].partition(";")[0]
    other = registry.create("shop", "secret", {"admin"})
    # the last bits of base64 may be nobody's: what is put in differs in the others as well
    forged = [value[:n] + ("Q" if value[n] in "ABCD" else "A") + value[n + 1 :] for n in range(len(value))]
    forged += ["key:", "user:", "key:operator", "key:" + "x" * 4050]
    forged.append(value.replace(value[4:68], str(api_keys.digest_of(other.text))))
    for each in forged:
        stranger = guarded.test_client()
        stranger.set_cookie(COOKIE, each)
        assert stranger.get("/sessions").status_code == HTTPStatus.SEE_OTHER, each


def test_a_sign_in_ends_after_half_a_day(
    client: FlaskClient, secret_key: NewKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign_in(client, secret_key.text)
    monkeypatch.setattr(page_cookie, "LIFETIME_S", -1)
    assert client.get("/sessions").status_code == HTTPStatus.SEE_OTHER


def test_a_sign_in_ends_with_its_key(
    client: FlaskClient, secret_key: NewKey, registry: KeyRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cached_lookup, "FRESH_S", 0)
    sign_in(client, secret_key.text)
    assert client.get("/sessions").status_code == HTTPStatus.OK
    registry.revoke(secret_key.key)
    assert client.get("/sessions").status_code == HTTPStatus.SEE_OTHER


def test_signing_out_takes_the_cookie_away(client: FlaskClient, secret_key: NewKey) -> None:
    sign_in(client, secret_key.text)
    assert client.post("/sign-out", headers=OWN).location == "/sign-in?message=signed-out"
    assert "signed out" in client.get("/sign-in?message=signed-out").text
    assert client.get("/sessions").status_code == HTTPStatus.SEE_OTHER


def test_a_copy_of_a_cookie_ends_with_its_sign_out_on_every_worker(
    guarded: Flask, store: FunctionStore, tmp_path: Path, secret_key: NewKey
) -> None:
    another_worker = create_app(Settings.from_mapping({"DATA_DIR": str(tmp_path)}), store)
    client, other = guarded.test_client(), guarded.test_client()
    sign_in(client, secret_key.text)
    sign_in(other, secret_key.text)
    copied = value_of(client)
    thief = another_worker.test_client()
    thief.set_cookie(COOKIE, copied)
    assert thief.get("/sessions").status_code == HTTPStatus.OK
    client.post("/sign-out", headers=OWN)
    thief.set_cookie(COOKIE, copied)
    assert thief.get("/sessions").status_code == HTTPStatus.SEE_OTHER
    assert other.get("/sessions").status_code == HTTPStatus.OK  # signed in at the same time
    sign_in(client, secret_key.text)
    assert client.get("/sessions").status_code == HTTPStatus.OK


def test_only_a_valid_cookie_is_remembered_when_it_signs_out(
    client: FlaskClient, secret_key: NewKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    remembered: list[str] = []
    monkeypatch.setattr(limits, "sign_out", remembered.append)
    client.set_cookie(COOKIE, "key:" + "0" * 64 + ".made.up")
    client.post("/sign-out", headers=OWN)
    assert remembered == []
    sign_in(client, secret_key.text)
    client.post("/sign-out", headers=OWN)
    assert len(remembered) == 1


def test_the_operators_key_signs_in_too(store: FunctionStore, tmp_path: Path) -> None:
    key = "the operator of this service"
    settings = Settings.from_mapping({"DATA_DIR": str(tmp_path), "TURNLOG_API_KEY": key})
    client = create_app(settings, store).test_client()
    sign_in(client, key)
    assert client.get("/sessions").status_code == HTTPStatus.OK
    changed = settings.model_copy(update={"turnlog_api_key": None})
    stranger = create_app(changed, store).test_client()
    stranger.set_cookie(COOKIE, value_of(client))
    assert stranger.get("/sessions").status_code == HTTPStatus.SEE_OTHER


def value_of(client: FlaskClient) -> str:
    kept = client.get_cookie(COOKIE)
    assert kept is not None
    return kept.value


def test_a_project_sees_its_own_sessions_only(client: FlaskClient, secret_key: NewKey, registry: KeyRegistry) -> None:
    bearer = {"Authorization": f"Bearer {secret_key.text}"}
    client.post("/v1/sessions", json={"session_id": "ours"}, headers=bearer)
    sign_in(client, registry.create("shop", "secret", {"read"}).text)
    assert "ours" not in client.get("/sessions").text
    assert client.get("/sessions/ours").status_code == HTTPStatus.NOT_FOUND


@pytest.mark.parametrize(
    ("headers", "is_taken"),
    [
        ({"Sec-Fetch-Site": "same-origin"}, True),
        ({"Sec-Fetch-Site": "same-site", "Origin": "http://localhost"}, False),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "http://localhost"}, False),
        ({"Sec-Fetch-Site": "none"}, False),
        ({"Origin": "http://localhost"}, True),
        ({"Origin": "http://localhost.evil.example"}, False),
        ({"Origin": "http://localhost:8001"}, False),
        ({"Origin": "null"}, False),
        ({}, False),
    ],
)
def test_only_a_page_of_ours_may_change_something(
    client: FlaskClient, secret_key: NewKey, headers: dict[str, str], *, is_taken: bool
) -> None:
    answer = client.post("/sign-in", data={"key": secret_key.text}, headers=headers)
    assert answer.status_code == (HTTPStatus.SEE_OTHER if is_taken else HTTPStatus.FORBIDDEN)
    assert ("Set-Cookie" in answer.headers) == is_taken


def test_a_key_does_not_open_a_page_and_a_cookie_not_the_api(client: FlaskClient, secret_key: NewKey) -> None:
    bearer = {"Authorization": f"Bearer {secret_key.text}"}
    assert client.get("/sessions", headers=bearer).status_code == HTTPStatus.SEE_OTHER
    sign_in(client, secret_key.text)
    assert client.get("/v1/sessions").status_code == HTTPStatus.UNAUTHORIZED


def test_guessing_keys_in_the_form_is_slowed_down(store: FunctionStore, tmp_path: Path) -> None:
    settings = {"DATA_DIR": str(tmp_path), "TURNLOG_REFUSALS_PER_ADDRESS": "3/minute"}
    client = create_app(Settings.from_mapping(settings), store).test_client()

    def guess() -> int:
        elsewhere: dict[str, Any] = {"environ_base": {"REMOTE_ADDR": "203.0.113.7"}}
        return client.post("/sign-in", data={"key": "letmein"}, headers=OWN, **elsewhere).status_code

    assert [guess() for _ in range(5)] == [401, 401, 401, 429, 429]


def test_every_page_has_a_content_security_policy(client: FlaskClient, secret_key: NewKey) -> None:
    sign_in(client, secret_key.text)
    for path in ("/sessions", "/sign-in", "/sessions/nobody"):
        headers = client.get(path).headers
        policy = headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert headers["Cache-Control"] == "no-store"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "same-origin"


def test_where_no_key_is_asked_for_the_pages_of_this_machine_are_open(store: FunctionStore) -> None:
    client = create_app(Settings.from_mapping(KEYLESS), store).test_client()
    assert client.get("/sessions").status_code == HTTPStatus.OK
    assert client.get("/sessions", base_url="http://evil.example").status_code == HTTPStatus.FORBIDDEN
    elsewhere: dict[str, Any] = {"environ_base": {"REMOTE_ADDR": "203.0.113.7"}}
    assert client.get("/sessions", **elsewhere).status_code == HTTPStatus.FORBIDDEN


def test_errors_of_pages_are_rendered_as_pages(client: FlaskClient, secret_key: NewKey) -> None:
    sign_in(client, secret_key.text)
    answer = client.get("/sessions/nobody")
    assert (answer.status_code, answer.mimetype) == (HTTPStatus.NOT_FOUND, "text/html")
    assert client.get("/v1/nothing").mimetype == "application/problem+json"
    assert client.get("/nothing", headers={"Accept": "text/html"}).mimetype == "text/html"


def test_a_browser_without_cookies_gets_an_explanation(guarded: Flask, secret_key: NewKey) -> None:
    forgetful = guarded.test_client(use_cookies=False)
    answer = forgetful.get(sign_in(forgetful, secret_key.text).location)
    assert answer.status_code == HTTPStatus.UNAUTHORIZED
    assert "rejected the sign-in cookie" in answer.text


def test_services_on_one_machine_sign_nobody_out_of_each_other(client: FlaskClient, secret_key: NewKey) -> None:
    names = {cookie(sign_in(client, secret_key.text, base_url=f"http://localhost:{n}")).split("=")[0] for n in (1, 2)}
    assert names == {"turnlog-1", "turnlog-2"}


@pytest.mark.parametrize("old", ["key:operator.x.y", "user:x.y.z", "key:" + "0" * 64 + ".x.y"])
def test_where_no_key_is_asked_for_an_old_cookie_is_in_nobodys_way(store: FunctionStore, old: str) -> None:
    client = create_app(Settings.from_mapping(KEYLESS), store).test_client()
    client.set_cookie(COOKIE, old)
    assert client.get("/sessions").status_code == HTTPStatus.OK


def test_a_page_that_is_not_there_has_the_policy_of_those_that_are(client: FlaskClient) -> None:
    answer = client.get("/nothing", headers={"Accept": "text/html"})
    assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'")


@pytest.mark.parametrize("host", ["localhost", "localhost:99999", "localhost:", "[::1]", "[::1]:8000", "127.0.0.1:x"])
def test_no_name_of_this_machine_breaks_a_page(client: FlaskClient, host: str) -> None:
    assert client.get("/sessions", headers={"Host": host}).status_code in {HTTPStatus.SEE_OTHER, HTTPStatus.BAD_REQUEST}
