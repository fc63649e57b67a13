"""The client as the service serves it: any site may import it, and nobody reloads it needlessly."""

import gzip
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from app import create_app
from conversation.settings import Settings
from tests.browser.conftest import Tab

PATH = "/static/turnlog.js"
SOURCE = Path(__file__).parents[2] / "conversation" / "api" / "static" / "turnlog.js"


@pytest.fixture
def visitor() -> FlaskClient:
    return create_app(Settings.from_mapping({})).test_client()


def test_any_site_may_import_it(visitor: FlaskClient) -> None:
    answer = visitor.get(PATH, headers={"Origin": "https://anywhere.example"})
    assert answer.status_code == 200
    assert answer.data == SOURCE.read_bytes()
    assert answer.headers["Content-Type"] == "text/javascript; charset=utf-8"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert "Access-Control-Allow-Credentials" not in answer.headers
    assert answer.headers["Cross-Origin-Resource-Policy"] == "cross-origin"


def test_it_is_sent_again_only_when_it_has_changed(visitor: FlaskClient) -> None:
    answer = visitor.get(PATH)
    assert answer.headers["Cache-Control"] == "public, max-age=300"
    same = visitor.get(PATH, headers={"If-None-Match": answer.headers["ETag"]})
    assert (same.status_code, same.data) == (304, b"")
    assert same.headers["Access-Control-Allow-Origin"] == "*"
    assert visitor.get(PATH, headers={"If-None-Match": '"another"'}).status_code == 200


def test_it_is_small_and_needs_nothing_else() -> None:
    source = SOURCE.read_text(encoding="utf-8")
    assert len(gzip.compress(source.encode())) < 15_000
    assert "\nimport " not in source


def test_it_works_under_a_strict_policy(tab: Tab) -> None:
    # neither eval nor a style or script of its own: a page's Content-Security-Policy needs the service's address alone
    host = tab.options["url"]
    policy = f"<meta http-equiv=Content-Security-Policy content=\"default-src 'none'; connect-src {host}\">"
    tab.run("(policy) => { document.head.insertAdjacentHTML('afterbegin', policy) }", policy)
    tab.open()
    assert tab.run("log.interaction({prompt: 'one'}).then((receipt) => receipt.receipt)") == "created"
