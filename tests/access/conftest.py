"""A service that requires keys, and callers with keys of each kind."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from app import create_app
from conversation.keys.key_registry import KeyRegistry, NewKey
from conversation.settings import Settings
from logging_store.postgres.function_store import FunctionStore

ORIGIN = "https://chat.example.com"


class Calls:
    """Calls of one caller, with the same key each time."""

    def __init__(self, client: FlaskClient, key: str | None, headers: dict[str, str]) -> None:
        self._client = client
        self._key = key
        self._headers = headers | ({"Authorization": f"Bearer {key}"} if key else {})
        self._is_browser = False

    def __call__(self, method: str, path: str, json: Any = None, **headers: str) -> TestResponse:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        body = {"data": json} if self._is_browser else {"json": json}
        return self._client.open(path, method=method, **body, headers=self._headers | named)

    def signed_in(self) -> "Calls":
        """Return the calls of a browser in which the key was typed into the form, as far as that lets it in."""
        browser = Calls(self._client, None, {})
        browser._is_browser = True
        browser("POST", "/sign-in", {"key": self._key or ""}, Sec_Fetch_Site="same-origin")
        elsewhere = {"Sec-Fetch-Site": "cross-site"} if "Origin" in self._headers else {"Sec-Fetch-Site": "same-origin"}
        browser._headers = elsewhere
        return browser

    def open_session(self, claim: str | None = "a claim made at random", **fields: Any) -> TestResponse:
        headers = {"Turnlog_Session_Claim": claim} if claim else {}
        return self("POST", "/v1/sessions", fields, **headers)

    def log(self, token: str | None = None, **fields: Any) -> TestResponse:
        headers = {"Turnlog_Session_Token": token} if token else {}
        return self("POST", "/v1/interactions", fields, **headers)


Caller = Callable[..., Calls]


@pytest.fixture
def guarded(store: FunctionStore, tmp_path: Path) -> Flask:
    """Return a service that requires keys."""
    return create_app(Settings.from_mapping({"DATA_DIR": str(tmp_path)}), store)


@pytest.fixture
def registry(store: FunctionStore) -> KeyRegistry:
    return KeyRegistry(store)


@pytest.fixture
def secret_key(registry: KeyRegistry) -> NewKey:
    return registry.create("default", "secret", {"admin"})


@pytest.fixture
def publishable_key(registry: KeyRegistry) -> NewKey:
    return registry.create("default", "publishable", {"log"}, origins={ORIGIN})


@pytest.fixture
def backend_calls(guarded: Flask, secret_key: NewKey) -> Calls:
    return Calls(guarded.test_client(), secret_key.text, {})


@pytest.fixture
def browser(guarded: Flask, publishable_key: NewKey) -> Calls:
    return Calls(guarded.test_client(), publishable_key.text, {"Origin": ORIGIN})


@pytest.fixture
def expired_key(registry: KeyRegistry) -> NewKey:
    return registry.create("default", "secret", {"admin"}, expires_at=datetime.now(UTC) - timedelta(seconds=1))
