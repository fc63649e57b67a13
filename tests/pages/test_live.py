"""The live page."""

import pytest
from flask.testing import FlaskClient

from conversation.pages import live_page as page_module
from tests.http_calls import create, log
from tests.pages.html import link, page_of, texts


@pytest.fixture
def logged(client: FlaskClient) -> FlaskClient:
    create(client, session_id="s", title="A <b>chat</b>", user_id="ada")
    log(client, session_id="s", interaction_id="one", prompt="First?", response="Yes", model="m", latency_ms=1500)
    log(client, session_id="s", interaction_id="two", prompt="مرحبا", error="timed out", model="n")
    log(client, session_id="t", interaction_id="three", prompt="<script>alert(1)</script>", model="m")
    return client


def prompts(client: FlaskClient, address: str) -> list[str]:
    return texts(page_of(client.get(address)), ".arrivals .excerpt:first-of-type")


def test_the_latest_is_on_top(logged: FlaskClient) -> None:
    page = page_of(logged.get("/live"))
    assert texts(page, ".arrivals .excerpt:first-of-type") == ["<script>alert(1)</script>", "مرحبا", "First?"]
    (_, second, first) = texts(page, ".arrivals .facts")
    assert "A <b>chat</b>" in second
    assert "failed" in second
    assert "completed" in first
    assert "1.5 s" in first
    assert {p["dir"] for p in page.select(".excerpt")} == {"auto"}
    assert page.select("#list[data-live]")


def test_each_leads_to_its_turn(logged: FlaskClient) -> None:
    page = page_of(logged.get("/live"))
    (address,) = [str(a["href"]) for a in page.select(".arrivals li:last-child a")]
    turn = page_of(logged.get(address))
    assert texts(turn, ".turn.target .bubble.user .text") == ["First?"]
    assert turn.select(f"#{address.partition('#')[2]}.target")


def test_it_is_filtered_by_a_form(logged: FlaskClient) -> None:
    assert prompts(logged, "/live?model=m") == ["<script>alert(1)</script>", "First?"]
    assert prompts(logged, "/live?model=&has_errors=true") == ["مرحبا"]
    assert "No matching interactions" in page_of(logged.get("/live?model=x")).get_text()


def test_it_is_read_in_pages(logged: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_module, "INTERACTIONS", 2)
    first = page_of(logged.get("/live"))
    second = page_of(logged.get(link(first, "Earlier")))
    assert texts(second, ".arrivals .excerpt:first-of-type") == ["First?"]
    assert link(second, "Latest") == "/live"
    assert not second.select("[data-live]")


def test_those_of_a_time_stand_still(logged: FlaskClient) -> None:
    for name, day in (("old", "2026-11-01"), ("older", "2026-10-31")):
        log(logged, session_id="t", prompt=name, started_at=f"{day}T08:00:00Z")
    address = "/live?from=2026-10-01T00:00&to=2026-11-02T00:00:00"
    assert prompts(logged, address) == ["old", "older"]
    page = page_of(logged.get(address))
    assert texts(page, "h1") == ["Interactions"]
    assert [str(time["datetime"])[:10] for time in page.select(".arrivals time")] == ["2026-11-01", "2026-10-31"]
    assert not page.select("[data-live]")
    assert page.select("#f-to")[0]["value"] == "2026-11-02T00:00:00"


def test_an_empty_log_says_so(client: FlaskClient) -> None:
    assert "No interactions yet" in page_of(client.get("/live")).get_text()


@pytest.mark.parametrize("query", ["has_errors=maybe", "cursor=x", "user=ada"])
def test_a_filter_that_means_nothing_is_named(client: FlaskClient, query: str) -> None:
    assert texts(page_of(client.get(f"/live?{query}"), 422), "main li code") == [f"?{query.partition('=')[0]}"]
