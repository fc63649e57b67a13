"""Text of every caller is redacted, in every project."""

from pathlib import Path

import pytest
from flask import Flask

from app import create_app
from conversation.keys.key_registry import KeyRegistry, NewKey
from conversation.settings import Settings
from logging_store.postgres.function_store import FunctionStore
from tests.access.conftest import ORIGIN, Calls


@pytest.fixture
def guarded(store: FunctionStore, tmp_path: Path) -> Flask:
    return create_app(Settings.from_mapping({"DATA_DIR": str(tmp_path), "TURNLOG_REDACT": "secrets,mail"}), store)


def test_text_from_browsers_is_redacted(guarded: Flask, browser: Calls, backend_calls: Calls) -> None:
    opened = browser.open_session(session_id="s", title="of ada@example.com").get_json()
    told = browser.log(opened["session_token"], session_id="s", prompt=f"ada@example.com {opened['session_token']}")
    assert told.status_code == 201
    assert backend_calls("GET", "/v1/sessions/s").get_json()["title"] == "of [mail]"
    (turn,) = backend_calls("GET", "/v1/sessions/s/interactions").get_json()["interactions"]
    assert turn["prompt"] == "[mail] [secret]"


def test_in_another_project_it_is_redacted_too(guarded: Flask, registry: KeyRegistry, publishable_key: NewKey) -> None:
    other = Calls(guarded.test_client(), registry.create("other", "secret", {"admin"}).text, {})
    said = f"ada@example.com {publishable_key.text} of {ORIGIN}"
    assert other.log(session_id="s", prompt=said).status_code == 201
    (turn,) = other("GET", "/v1/sessions/s/interactions").get_json()["interactions"]
    assert turn["prompt"] == f"[mail] [secret] of {ORIGIN}"
