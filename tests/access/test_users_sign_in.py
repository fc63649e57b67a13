"""Users of the Supabase project sign in to the pages: users see their own sessions, team members see all."""

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from app import create_app
from conversation.settings import Settings
from logging_store.postgres.function_store import FunctionStore
from tests.issuers import USER, claims, signed_with_text
from tests.store_calls import record_operations

OWN = {"Sec-Fetch-Site": "same-origin"}
SIGNED_WITH = "the secret that users' tokens are signed with"
MAIL, PASSWORD = "ada@example.com", "correct horse"


@dataclass
class SupabaseAuth:
    """Answers as Supabase Auth does when a password is shown."""

    port: int = 0
    status: int = 200
    body: dict[str, Any] | None = None  # instead of a token
    stated: dict[str, Any] = field(default_factory=dict)  # in the token
    asked: list[tuple[str, str | None, dict[str, Any]]] = field(default_factory=list)

    def answer(self, path: str, apikey: str | None, sent: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        self.asked.append((path, apikey, sent))
        if self.status != HTTPStatus.OK:
            return self.status, {"code": self.status, "msg": "no"}
        if (sent["email"], sent["password"]) != (MAIL, PASSWORD):
            return 400, {"code": 400, "error_code": "invalid_credentials", "msg": "Invalid login credentials"}
        header = {"alg": "HS256", "typ": "JWT"}
        token = signed_with_text(
            SIGNED_WITH.encode(), header, claims(iss=f"http://127.0.0.1:{self.port}/auth/v1", **self.stated)
        )
        return 200, self.body or {"access_token": token, "token_type": "bearer", "expires_in": 3600}


@pytest.fixture
def auth() -> Iterator[SupabaseAuth]:
    auth = SupabaseAuth()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            sent = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            status, body = auth.answer(self.path, self.headers.get("apikey"), sent)
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

        def log_message(self, *_: object) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        auth.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield auth
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def client(auth: SupabaseAuth, store: FunctionStore, tmp_path: Path) -> FlaskClient:
    settings = {
        "DATA_DIR": str(tmp_path), "SUPABASE_URL": f"http://127.0.0.1:{auth.port}",
        "SUPABASE_SECRET_KEY": "sb_secret_x", "TURNLOG_USER_TOKENS": "hs256", "TURNLOG_JWT_SECRET": SIGNED_WITH,
        "TURNLOG_API_KEY": "the operator of this service",
    }  # fmt: skip
    client = create_app(Settings.from_mapping(settings), store).test_client()
    bearer = {"Authorization": "Bearer the operator of this service"}
    for name, user in (("hers", USER), ("his", "bob")):
        client.post("/v1/sessions", json={"session_id": name, "user_id": user}, headers=bearer)
    return client


def sign_in(client: FlaskClient, mail: str = MAIL, password: str = PASSWORD) -> TestResponse:
    return client.post("/sign-in/user", data={"mail": mail, "password": password}, headers=OWN)


def test_a_user_sees_her_own_sessions_and_no_others(
    client: FlaskClient, auth: SupabaseAuth, store: FunctionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert sign_in(client).status_code == HTTPStatus.SEE_OTHER
    assert auth.asked == [("/auth/v1/token?grant_type=password", "sb_secret_x", {"email": MAIL, "password": PASSWORD})]
    listed = client.get("/sessions").text
    assert "hers" in listed
    assert "his" not in listed.replace("this", "")
    asked = record_operations(store, monkeypatch)
    assert client.get("/sessions/hers").status_code == HTTPStatus.OK
    assert client.get("/sessions/his").status_code == HTTPStatus.NOT_FOUND
    assert asked == ["conversation"] * 2


def test_a_user_sees_only_their_own_feedback(client: FlaskClient, auth: SupabaseAuth) -> None:
    turn = {"session_id": "hers", "interaction_id": "1", "prompt": "Help"}
    bearer = {"Authorization": "Bearer the operator of this service"}
    client.post("/v1/interactions", json=turn, headers=bearer)
    for author, name, said in (("QA team", "note", "customer is annoying"), (USER, "note", "It helped")):
        feedback = {"session_id": "hers", "interaction_id": "1", "author": author, "name": name, "value": said}
        client.post("/v1/feedback", json=feedback, headers=bearer)
    sign_in(client)
    for page in ("/sessions/hers", "/sessions/hers/turnlog.jsonl"):
        shown = client.get(page).text
        assert ("It helped" in shown, "annoying" in shown, "QA team" in shown) == (True, False, False)
    client.post("/sign-out", headers=OWN)
    auth.stated = {"app_metadata": {"turnlog": ["read", "everything"]}}
    sign_in(client)
    assert "customer is annoying" in client.get("/sessions/hers").text


def test_a_users_sign_out_ends_the_sign_in_for_copies_too(client: FlaskClient, auth: SupabaseAuth) -> None:
    assert auth
    sign_in(client)
    cookie = client.get_cookie("turnlog-80")
    assert cookie
    client.post("/sign-out", headers=OWN)
    client.set_cookie("turnlog-80", cookie.value)
    assert client.get("/sessions").status_code == HTTPStatus.SEE_OTHER


def test_a_team_member_has_the_scopes_of_the_token(client: FlaskClient, auth: SupabaseAuth) -> None:
    auth.stated = {"app_metadata": {"turnlog": ["read", "everything"]}}
    sign_in(client)
    assert client.get("/sessions/his").status_code == HTTPStatus.OK
    assert client.get("/sessions/hers").status_code == HTTPStatus.OK


@pytest.mark.parametrize("stated", [{"user_metadata": {"turnlog": ["read"]}}, {"app_metadata": {"turnlog": "read"}}])
def test_users_cannot_make_themselves_team_members(
    client: FlaskClient, auth: SupabaseAuth, stated: dict[str, Any]
) -> None:
    auth.stated = stated
    sign_in(client)
    assert client.get("/sessions/his").status_code == HTTPStatus.NOT_FOUND


def test_a_wrong_password_is_an_error(client: FlaskClient) -> None:
    answer = sign_in(client, MAIL, "wrong horse")
    assert answer.status_code == HTTPStatus.UNAUTHORIZED
    assert "No user of this project" in answer.text
    assert "wrong horse" not in answer.text
    assert "Set-Cookie" not in answer.headers


@pytest.mark.parametrize(("mail", "password"), [("", PASSWORD), (MAIL, ""), ("a" * 2000, PASSWORD)])
def test_impossible_credentials_are_refused_without_a_request(
    client: FlaskClient, auth: SupabaseAuth, mail: str, password: str
) -> None:
    assert sign_in(client, mail, password).status_code == HTTPStatus.UNAUTHORIZED
    assert auth.asked == []


@pytest.mark.parametrize(("status", "told"), [(429, 429), (500, 503), (502, 503)])
def test_an_outage_of_supabase_is_reported_as_such(
    client: FlaskClient, auth: SupabaseAuth, status: int, told: int
) -> None:
    auth.status = status
    assert sign_in(client).status_code == told


def test_an_answer_that_is_no_token_signs_nobody_in(client: FlaskClient, auth: SupabaseAuth) -> None:
    auth.body = {"access_token": "x"}
    assert sign_in(client).status_code == HTTPStatus.SERVICE_UNAVAILABLE
    auth.body = {"access_token": "x.y.z", "expires_in": 60}
    sign_in(client)
    assert client.get("/sessions").status_code == HTTPStatus.SEE_OTHER


def test_a_sign_in_ends_with_its_token(client: FlaskClient, auth: SupabaseAuth) -> None:
    auth.stated = {"exp": 1_700_000_000}
    sign_in(client)
    assert client.get("/sessions").status_code == HTTPStatus.SEE_OTHER


def test_the_form_is_there_only_where_users_can_sign_in(client: FlaskClient, guarded: Any) -> None:
    assert 'name="password"' in client.get("/sign-in").text
    elsewhere = guarded.test_client()
    assert 'name="password"' not in elsewhere.get("/sign-in").text
    assert sign_in(elsewhere).status_code == HTTPStatus.FORBIDDEN


def test_a_user_begins_with_their_sessions(client: FlaskClient) -> None:
    landed = client.get(sign_in(client).location, follow_redirects=True)
    assert landed.request.path == "/sessions"
    assert landed.status_code == HTTPStatus.OK


def test_a_token_too_long_for_a_cookie_is_an_error(client: FlaskClient, auth: SupabaseAuth) -> None:
    auth.stated = {"user_metadata": {"about": "x" * 4000}}
    answer = sign_in(client)
    assert answer.status_code == HTTPStatus.FORBIDDEN
    assert "too long for a cookie" in answer.text
