"""The pages while the store is away: spooled records, marked, and explanations."""

from flask.testing import FlaskClient

from logging_store.errors import StoreUnavailable
from tests.http_calls import log
from tests.pages.html import page_of, texts
from tests.spool.flaky_store import FlakyStore

AWAY = StoreUnavailable("nobody answers")


def test_a_conversation_shows_spooled_turns_and_says_that_it_is_incomplete(
    client: FlaskClient, inner: FlakyStore
) -> None:
    log(client, session_id="s", interaction_id="1", prompt="stored", turn=1)
    inner.away = AWAY
    log(client, session_id="s", interaction_id="2", prompt="waiting", response="too", turn=2)
    page = page_of(client.get("/sessions/s"))
    assert texts(page, ".bubble .text") == ["waiting", "too"]
    assert texts(page, ".turn .badge") == ["spooled"]
    assert "may be incomplete" in texts(page, "[role=alert]")[0]


def test_a_reader_is_told_what_cannot_be_read_now(client: FlaskClient, inner: FlakyStore) -> None:
    log(client, session_id="s", prompt="stored")
    inner.away = AWAY
    for path in ("/sessions/s", "/sessions", "/search?q=stored", "/live", "/folders"):
        page = page_of(client.get(path), 503)
        assert "can't be read now" in page.get_text()
        assert "send the same call" not in page.get_text()
