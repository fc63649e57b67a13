"""The health page: the state of the store, the outcomes of all records, and the settings."""

from pathlib import Path
from typing import Any

import pytest
from bs4 import BeautifulSoup
from flask.testing import FlaskClient

from app import create_app
from conversation.pages.health_page import shown
from conversation.settings import Settings
from logging_store import errors
from logging_store.operations import ServerSettings
from logging_store.store import Backlog, Store
from tests.http_calls import KEYLESS, log
from tests.pages.html import page_of, texts


def client_of(store: Any, tmp_path: Path, **settings: str) -> FlaskClient:
    return create_app(Settings.from_mapping({"DATA_DIR": str(tmp_path)} | KEYLESS | settings), store).test_client()


def counted(page: BeautifulSoup, section: str) -> dict[str, str]:
    rows = [row.select("th, td") for row in page.select(f"section[aria-labelledby={section}] tr")]
    return {cells[0].get_text(): cells[1].get_text() for cells in rows}


class Failing:
    """A store that can't be asked; `keeps`: whether its spool has room."""

    def __init__(self, inner: Store, error: Exception, *, keeps: bool) -> None:
        self._inner = inner
        self._error = error
        self._keeps = keeps

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def ping(self) -> ServerSettings:
        raise self._error

    def backlog(self) -> Backlog:
        return Backlog(self._keeps, 3, 1234, 65, 1, None)


def test_a_working_store_is_writable(store: Store, tmp_path: Path) -> None:
    client = client_of(store, tmp_path)
    schema = client.get("/readyz").get_json()["schema_version"]
    page = page_of(client.get("/health"))
    assert texts(page, "[role=status]")[0].startswith("Writable")
    told = dict(zip(texts(page, "dt"), texts(page, "dd"), strict=True))
    assert (told["Schema"], told["fsync"], told["Records waiting"], told["Dead letters"]) == (schema, "on", "0", "0")
    assert not page.select("[role=alert]")


@pytest.mark.parametrize(
    ("error", "keeps", "told"),
    [
        (errors.StoreUnavailable("connection refused"), True, "Degraded"),
        (errors.StoreUnavailable("connection refused"), False, "Full"),
        (errors.Misconfigured("fsync is off"), True, "Degraded"),
    ],
)
def test_an_outage_is_shown_with_its_reason(
    store: Store, tmp_path: Path, error: Exception, keeps: bool, told: str
) -> None:
    page = page_of(client_of(Failing(store, error, keeps=keeps), tmp_path).get("/health"))
    (alert,) = texts(page, "[role=alert]")
    assert alert.startswith(told)
    assert str(error) in alert
    facts = dict(zip(texts(page, "dt"), texts(page, "dd"), strict=True))
    assert facts["Records waiting"] == "3"
    assert facts["Oldest waiting for"] == "1.1 min"
    assert facts["Dead letters"] == "can't be read"


def test_the_outcomes_of_all_records_add_up(store: Store, tmp_path: Path) -> None:
    client = client_of(store, tmp_path)
    log(client, session_id="s", interaction_id="i", prompt="Hi")
    log(client, session_id="s", interaction_id="i", prompt="Hi")
    log(client, session_id="s", interaction_id="i", prompt="Other")
    log(client, session_id="s", promt="typo")
    page = page_of(client.get("/health"))
    told = counted(page, "the-records")
    assert (told["created"], told["duplicate"], told["conflict"], told["rejected"]) == ("1", "1", "1", "1")
    assert "4 received" in page.get_text()


def test_settings_are_shown_and_secrets_are_not(tmp_path: Path) -> None:
    secret = "a-secret-of-32-characters-or-more-x"  # noqa: S105 - of this test
    settings = Settings.from_mapping(
        {
            "DATABASE_URL": f"postgresql://me:{secret}@db.example.com/log", "TURNLOG_API_KEY": secret,
            "TURNLOG_USER_TOKENS": "hs256", "TURNLOG_JWT_SECRET": secret, "TURNLOG_JWT_ISSUER": "https://id.example.com",
            "TURNLOG_LIMITS_STORE": f"redis://:{secret}@cache.example.com/0", "TURNLOG_REDACT": "mail",
            "TURNLOG_USER_ORIGINS": "https://b.example.com,https://a.example.com",
        }
    )  # fmt: skip
    told = dict(shown(settings))
    assert told.keys() == {name.upper() for name in Settings.model_fields}
    assert secret not in str(told)
    for name in ("DATABASE_URL", "TURNLOG_API_KEY", "TURNLOG_JWT_SECRET", "TURNLOG_LIMITS_STORE"):
        assert told[name] == "set; not shown"
    assert told["SUPABASE_SECRET_KEY"] == ""
    assert dict(shown(Settings()))["TURNLOG_LIMITS_STORE"] == "memory"
    assert told["TURNLOG_USER_ORIGINS"] == "https://a.example.com, https://b.example.com"
    assert (told["TURNLOG_REDACT"], told["TURNLOG_KEYLESS"], told["TURNLOG_PROXIES"]) == ("mail", "false", "0")


def test_redactions_are_counted(store: Store, tmp_path: Path) -> None:
    client = client_of(store, tmp_path, TURNLOG_REDACT="mail")
    log(client, session_id="s", prompt="I am ada@example.com")
    page = page_of(client.get("/health"))
    assert counted(page, "the-records")["mail"] == "1"
    assert ("TURNLOG_REDACT", "mail") in counted(page, "the-settings").items()
