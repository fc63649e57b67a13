"""The page of dead letters: why each was rejected, resending and discarding."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from bs4 import BeautifulSoup
from flask import Flask
from flask.testing import FlaskClient

from app import create_app
from conversation.settings import Settings
from logging_store.batches import Receipt
from logging_store.records.models import Interaction
from logging_store.row_builder import RowBuilder
from logging_store.spool import DeadLetters
from logging_store.store import Store
from tests.http_calls import KEYLESS, create, log, transcript
from tests.pages.html import link, page_of, texts

OURS = {"Sec-Fetch-Site": "same-origin"}


@pytest.fixture
def app(store: Store, tmp_path: Path) -> Flask:
    return create_app(Settings.from_mapping({"DATA_DIR": str(tmp_path)} | KEYLESS), store)


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


@pytest.fixture
def letters(app: Flask) -> DeadLetters:
    settings: Settings = app.extensions["turnlog_settings"]
    settings.spool_dir.mkdir(parents=True)
    return DeadLetters(settings.spool_dir)


def refused(letters: DeadLetters, name: str, project: str = "default", **fields: str) -> None:
    builder = RowBuilder(project, datetime(2026, 11, 20, tzinfo=UTC))
    record = Interaction.model_validate({"session_id": "s", "interaction_id": name, "prompt": f"Said {name}"} | fields)
    receipt = Receipt(receipt="rejected", reason="no good", fields=("prompt",))
    letters.add(builder.batch(builder.build([record])), receipt, spooled_at=1_795_000_000)


def shown(page: BeautifulSoup) -> list[str]:
    return [str(each["id"]) for each in page.select("article")]


def test_each_letter_tells_why_and_what(client: FlaskClient, letters: DeadLetters) -> None:
    refused(letters, "one")
    refused(letters, "two", "shop")
    page = page_of(client.get("/dead-letters"))
    assert shown(page) == ["letter-1", "letter-2"]
    assert texts(page, ".reason") == ["rejected: no good"] * 2
    assert '"prompt": "Said one"' in texts(page, "pre")[0]
    first, second = page.select("article")
    assert "accepted 2026-11-18" in texts(first, "p")[0]
    assert link(first, "session").startswith("/sessions/")
    assert not second.select("a"), "another project's sessions can't be opened from here"


def test_without_letters_it_says_so(client: FlaskClient) -> None:
    assert "No dead letters on this machine" in page_of(client.get("/dead-letters")).get_text()


def test_a_letter_that_is_stored_now_is_gone(client: FlaskClient, letters: DeadLetters) -> None:
    refused(letters, "one")
    answer = client.post("/dead-letters/1/retry", headers=OURS)
    assert (answer.status_code, answer.headers["Location"]) == (303, "/dead-letters?message=letter-stored")
    page = page_of(client.get(answer.headers["Location"]))
    assert texts(page, "[role=status]") == ["The dead letter was resent and stored."]
    assert shown(page) == []
    assert [row["prompt"] for row in transcript(client, "s")] == ["Said one"]


def test_a_letter_that_is_refused_again_stays_and_tells_why(client: FlaskClient, letters: DeadLetters) -> None:
    log(client, session_id="s", interaction_id="one", prompt="Said otherwise")
    refused(letters, "one")
    page = page_of(client.post("/dead-letters/1/retry", headers=OURS), 409)
    assert texts(page, "[role=alert]") == ["Dead letter 1 was resent and rejected again: conflict: prompt"]
    assert shown(page) == ["letter-1"]
    assert letters.count() == 1


def test_a_letter_of_an_erased_session_is_forgotten(client: FlaskClient, letters: DeadLetters) -> None:
    create(client, session_id="s")
    client.delete("/v1/sessions/s")
    refused(letters, "one")
    answer = client.post("/dead-letters/1/retry", headers=OURS)
    assert answer.headers["Location"] == "/dead-letters?message=letter-erased"
    assert letters.count() == 0


def test_a_letter_is_discarded_after_it_was_asked_once_more(client: FlaskClient, letters: DeadLetters) -> None:
    refused(letters, "one")
    refused(letters, "two")
    page = page_of(client.get("/dead-letters"))
    (form,) = page.select("#letter-1 details.confirm form")
    assert "permanently" in form.get_text()
    answer = client.post(str(form["action"]), headers=OURS)
    assert answer.headers["Location"] == "/dead-letters?message=letter-discarded"
    assert [letter.number for letter in letters.list()] == [2]


@pytest.mark.parametrize("what", ["retry", "discard"])
def test_only_a_page_of_ours_decides(client: FlaskClient, letters: DeadLetters, what: str) -> None:
    refused(letters, "one")
    for headers in ({"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}, {}):
        assert client.post(f"/dead-letters/1/{what}", headers=headers).status_code == 403
    assert letters.count() == 1
    assert texts(page_of(client.post(f"/dead-letters/7/{what}", headers=OURS), 404), "h1") == ["Not Found"]


def test_many_letters_are_read_in_pages(client: FlaskClient, letters: DeadLetters) -> None:
    for n in range(53):
        refused(letters, f"i{n}")
    first = page_of(client.get("/dead-letters"))
    assert len(shown(first)) == 50
    second = page_of(client.get(link(first, "Next")))
    assert shown(second) == ["letter-51", "letter-52", "letter-53"]
    assert not second.select("a[rel=next]")


def test_an_unreadable_file_is_reported(
    client: FlaskClient, letters: DeadLetters, app: Flask, caplog: pytest.LogCaptureFixture
) -> None:
    settings: Settings = app.extensions["turnlog_settings"]
    (settings.spool_dir / "dead-letters.sqlite3").write_bytes(b"no database" * 100)
    page = page_of(client.get("/dead-letters"))
    assert "Can't read the dead letters" in texts(page, "[role=alert]")[0]
    assert letters.count() is None
    caplog.clear()


def test_the_content_of_a_letter_is_escaped(client: FlaskClient, letters: DeadLetters) -> None:
    refused(letters, "<script>alert(1)</script>", prompt="</pre><script>alert(2)</script>")
    page = page_of(client.get("/dead-letters"))
    assert not page.select("script:not([src])")
    assert "</pre><script>alert(2)</script>" in page.select("pre")[0].get_text()
