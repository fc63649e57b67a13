"""Every route for every caller: the exact status of each, in one table, matrix.txt.

Its rows come from the application's routes and its cells from calls. Each call is valid, and is made about a session or
a folder that is there and that no other call is about. A web page is asked for by a browser: its caller signs in with
what they have, if they can (303 leads to the form), and asks from the service's own page, or from another site's. A
route that the table lacks, or one that answers anybody otherwise than the table says, fails.
"""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest
from flask import Flask

from app import create_app
from conversation import access
from conversation.keys import api_keys
from conversation.keys.callers import ALL_SCOPES
from conversation.keys.key_registry import KeyRegistry
from conversation.settings import Settings
from logging_store.postgres.function_store import FunctionStore
from tests.access.conftest import ORIGIN, Calls
from tests.issuers import ISSUER, USER, SigningPair, claims, publishing, signed_with_text

# who calls, in the order of the columns
#   none      nobody: no key
#   garbage   a Bearer token that looks like nothing of ours
#   unknown   a well-formed key that was never made
#   expired   a key for everything that has ended
#   revoked   one that was revoked
#   foreign   a key for everything in another project, where nothing is
#   unscoped  a secret key with all scopes but the one that is asked for, and admin
#   scoped    a secret key with that scope alone
#   leaked    an admin key in a web page
#   admin     an admin key
#   page      a publishable key in its web page, with the session's token
#   stranger  the same with the token of another session
#   tokenless the same without a token
#   elsewhere the same with the session's token, in a page of another site
#   user      the session's user, with a token of the project's sign-in
#   other     another user
#   lapsed    the session's user with a token that has expired
#   unsigned  the same with the algorithm `none`
#   hs256     the same signed by HMAC with the text of the public key
#   newkid    the same signed with a key that the sign-in never published
COLUMNS = (
    "none garbage unknown expired revoked foreign unscoped scoped leaked admin page stranger tokenless elsewhere "
    "user other lapsed unsigned hs256 newkid"
)

TABLE = Path(__file__).with_name("matrix.txt")

_TRACES: dict[str, Any] = {
    "resourceSpans": [
        {
            "scopeSpans": [
                {
                    "spans": [
                        {
                            "traceId": "0af7651916cd43dd8448eb211c80319c",
                            "spanId": "b7ad6b7169203331",
                            "name": "chat",
                            "attributes": [
                                {"key": "gen_ai.operation.name", "value": {"stringValue": "chat"}},
                                {"key": "gen_ai.usage.output_tokens", "value": {"intValue": "3"}},
                                {"key": "session.id", "value": {"stringValue": "{}"}},
                            ],
                        }
                    ]
                }
            ]
        }
    ]
}
#: What each route is sent; `{}` is the name of the cell's own session or folder.
BODIES: dict[str, Any] = {
    "POST /v1/sessions": {"session_id": "{}"},
    "PATCH /v1/sessions/<name:session>": {"title": "Another"},
    "PATCH /v1/sessions/<name:session>/interactions/<name:interaction>": {"current": True},
    "POST /v1/folders": {"folder_id": "{}"},
    "POST /v1/folders/<name:folder>/sessions": {"session_number": 1},
    "PUT /v1/sessions/<name:session>/participants/<name:participant>": {"state": "joined"},
    "POST /v1/interactions": {"session_id": "{}", "prompt": "Hello"},
    "POST /v1/interactions/batch": {"interactions": [{"session_id": "{}", "prompt": "Hello"}]},
    "POST /v1/feedback": {"session_id": "{}", "interaction_id": "turn-1", "value": True},
    "POST /v1/sessions/<name:session>/interactions/<name:interaction>/feedback": {"value": True},
    "POST /v1/sessions/<name:session>/feedback": {"value": True},
    "POST /sessions/<name:session>/interactions/<name:interaction>/feedback": {"rating": "up"},
    "POST /sessions/<name:session>/feedback": {"rating": "up"},
    "POST /v1/users/<name:user>/merge": {"into": "somebody"},
    "POST /session/create": {"session_id": "{}"},
    "POST /interaction/log": {"session_id": "{}", "prompt": "Hello"},
    "POST /conversation/start": {"conversation_id": "{}", "messages": [{"role": "user", "content": "Hello"}]},
    "POST /keys": {"kind": "secret", "scope": ["read"], "days": "7"},
    "POST /conversation/<name:session>/message": {"role": "user", "content": "Hello again"},
    "POST /v1/sessions/<name:session>/messages": {"messages": [{"role": "user", "content": "Hello again"}]},
    "POST /v1/traces": _TRACES,
    "POST /api/public/otel/v1/traces": _TRACES,
    "POST /v1/logs": {"resourceLogs": []},
}


@dataclass
class Route:
    method: str
    path: str  # as it was registered
    scope: access.Scope | None
    is_page: bool = False

    def __str__(self) -> str:
        return f"{self.method} {self.path}"

    def filled(self, name: str) -> tuple[str, Any]:
        """Return the path and the body of a call about one session or folder."""
        path = self.path.replace("<name:participant>", "ada").replace("<path:path>", "swagger-ui.css")
        path = path.replace("<path:filename>", "turnlog.css" if "pages" in path else "css/bootstrap.min.css")
        path = path.replace("<name:interaction>", "turn-1").replace("<code>", "conflict")
        # neither the key nor the dead letter is there
        path = path.replace("<uuid:key>", "00000000-0000-4000-8000-000000000001").replace("<int:number>", "1")
        for own in ("<name:session>", "<name:folder>", "<name:user>"):
            path = path.replace(own, name)
        assert "<" not in path, "say here what this part of the path shall be"
        return path, _with_name(BODIES.get(str(self)), name)


def _with_name(value: Any, name: str) -> Any:
    match value:
        case dict():
            return {key: _with_name(each, name) for key, each in value.items()}
        case list():
            return [_with_name(each, name) for each in value]
        case "{}":
            return name
        case _:
            return value


def routes(app: Flask) -> Iterator[Route]:
    for rule in sorted(app.url_map.iter_rules(), key=lambda rule: rule.rule):
        stated = access.rule_of(app.view_functions[rule.endpoint])
        for method in sorted((rule.methods or set()) - {"OPTIONS", "HEAD"}):
            yield Route(method, rule.rule, stated.scope if stated else None, bool(stated and stated.page))


@dataclass
class Cast:
    """All callers of one service. Each makes a call about a session that is their own, or, of strangers, isn't."""

    app: Flask
    registry: KeyRegistry
    sign_in: SigningPair

    def __post_init__(self) -> None:
        self._numbers = itertools.count()
        make = self.registry.create
        past = datetime.now(UTC) - timedelta(seconds=1)
        revoked = make("default", "secret", ALL_SCOPES)
        self.registry.revoke(revoked.key)
        self._keys = {
            "garbage": "letmein",
            "unknown": api_keys.make("secret"),
            "expired": make("default", "secret", ALL_SCOPES, expires_at=past).text,
            "revoked": revoked.text,
            "foreign": make("shop", "secret", ALL_SCOPES).text,
            "admin": make("default", "secret", {"admin"}).text,
        }
        public, stated = self.sign_in.public_pem(), {"kid": self.sign_in.kid, "typ": "JWT"}
        self._users = {
            "user": self.sign_in.sign(),
            "other": self.sign_in.sign(sub="bob"),
            "lapsed": self.sign_in.sign(exp=int(past.timestamp()) - 60),
            "unsigned": jwt.encode(claims(), "", "none", headers=stated),
            "hs256": signed_with_text(public, stated | {"alg": "HS256"}, claims()),
            "newkid": SigningPair.es256("never published").sign(),
        }
        self._page = make("default", "publishable", {"log"}, origins={ORIGIN}).text
        self._only = {scope: make("default", "secret", {scope}).text for scope in ALL_SCOPES}
        others = {scope: ALL_SCOPES - {scope, "admin"} for scope in ALL_SCOPES}
        self._but = {scope: make("default", "secret", rest).text for scope, rest in others.items()}

    def call(self, column: str, route: Route) -> int:
        """Return the status that a caller gets; HEAD gives the same as GET, and OPTIONS tells no more."""
        name = f"cell-{next(self._numbers)}"
        path, body = route.filled(name)
        self._prepare(route, name)
        calls, headers = self._caller(column, name, route.scope or "admin")
        if route.is_page:
            calls, headers = calls.signed_in(), {}
        with calls(route.method, path, body, **headers) as answer:
            status = answer.status_code
        with calls("OPTIONS", path, **headers) as options:
            if status == 401 and not route.is_page:
                assert options.status_code == 401
            else:
                assert options.status_code in {200, 303, 403}
        if route.method == "GET":
            with calls("HEAD", path, **headers) as head:
                assert head.status_code == status
        return status

    def _prepare(self, route: Route, name: str) -> None:
        if "/folders" in route.path:
            made = self._calls(self._keys["admin"])("POST", "/v1/folders", {"folder_id": name})
            assert made.status_code == 201

    def _caller(self, column: str, name: str, scope: access.Scope) -> tuple[Calls, dict[str, str]]:
        if column in {"page", "stranger", "tokenless", "elsewhere"}:
            page = self._calls(self._page, ORIGIN)
            own, other = (page.open_session(f"the claim of {each}", session_id=each) for each in (name, f"not-{name}"))
            tokens = {"page": own, "stranger": other, "elsewhere": own}
            shown = {"Turnlog_Session_Token": tokens[column].get_json()["session_token"]} if column in tokens else {}
            return (self._calls(self._page, "https://evil.example") if column == "elsewhere" else page), shown
        admin = self._calls(self._keys["admin"])
        of_user = {"user_id": USER} if column in self._users else {}
        assert admin("POST", "/v1/sessions", {"session_id": name} | of_user).status_code == 201
        turn = {"session_id": name, "interaction_id": "turn-1", "prompt": "Hello"}
        assert admin("POST", "/v1/interactions", turn).status_code == 201
        if column in self._users:
            return self._calls(self._users[column], ORIGIN), {}
        match column:
            case "none":
                return self._calls(None), {}
            case "unscoped":
                return self._calls(self._but[scope]), {}
            case "scoped":
                return self._calls(self._only[scope]), {}
            case "leaked":
                return self._calls(self._keys["admin"], ORIGIN), {}
            case _:
                return self._calls(self._keys[column]), {}

    def _calls(self, key: str | None, origin: str | None = None) -> Calls:
        return Calls(self.app.test_client(), key, {"Origin": origin} if origin else {})


@pytest.fixture
def cast(store: FunctionStore, registry: KeyRegistry, tmp_path: Path) -> Iterator[Cast]:
    pair = SigningPair.es256("one")
    with publishing(pair) as publisher:
        settings = {
            "DATA_DIR": str(tmp_path), "TURNLOG_USER_TOKENS": "jwks", "TURNLOG_JWKS_URL": publisher.url,
            "TURNLOG_JWT_ISSUER": ISSUER, "TURNLOG_USER_ORIGINS": ORIGIN,
        }  # fmt: skip
        yield Cast(create_app(Settings.from_mapping(settings), store), registry, pair)


def table(cast: Cast, status: Callable[[str, Route], int]) -> str:
    columns = COLUMNS.split()
    lines = [f"{'':64}{' '.join(columns)}"]
    for route in routes(cast.app):
        cells = " ".join(f"{status(column, route):<{len(column)}}" for column in columns)
        lines.append(f"{f'{route} ':64}{cells}".rstrip())
    return "\n".join(lines) + "\n"


def test_every_caller_gets_the_status_of_the_table_on_every_route(cast: Cast) -> None:
    found = table(cast, cast.call)
    assert found == TABLE.read_text(encoding="utf-8"), f"the table would be\n{found}"
