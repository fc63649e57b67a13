"""The overview page: the figures of the API, charts with links, and empty states."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from bs4 import BeautifulSoup, Tag
from flask.testing import FlaskClient

from app import create_app
from conversation.pages.jinja_filters import MISSING
from conversation.settings import Settings
from logging_store import errors
from logging_store.spool import Limits, Spool
from tests.api.test_problems import FailingStore
from tests.http_calls import KEYLESS, create, log
from tests.pages.html import link, page_of, texts

DAY = {"from": "2026-11-20", "to": "2026-11-21"}


def at(hour: int) -> str:
    return f"2026-11-20T{hour:02}:00:00Z"


@pytest.fixture
def busy(client: FlaskClient) -> FlaskClient:
    create(client, session_id="s", user_id="ada & <b>bob</b>", started_at=at(1))
    for hour in (1, 1, 3):
        log(
            client, session_id="s", prompt="1", response="2", started_at=at(hour), model="gpt-4o", provider="openai",
            latency_ms=1500, time_to_first_token_ms=200, input_tokens=1_000_000, output_tokens=0,
        )  # fmt: skip
    log(client, session_id="s", prompt="1", error="Timeout <script>", started_at=at(3), model="<i>own</i>")
    return client


def tiles(page: Tag) -> dict[str, str]:
    told = {}
    for tile in page.select(".tile .card-body"):
        name, value, *more = [" ".join(each.get_text(" ").split()) for each in tile.select(":scope > div")]
        told[name] = "; ".join([value, *more])
    return told


def table(page: BeautifulSoup, chart: str) -> list[list[str]]:
    (figure,) = [each for each in page.select("figure.chart") if chart in each.select_one("figcaption").get_text()]  # type: ignore[union-attr]
    return [[cell.get_text().strip() for cell in row.select("td")] for row in figure.select("tbody tr")]


def test_the_tiles_tell_the_figures(busy: FlaskClient) -> None:
    told = tiles(page_of(busy.get("/", query_string=DAY)))
    assert told == {
        "Interactions": "4",
        "Failed": "1; 25 % of all",
        "Sessions started": "1",
        "Latency p50": "1.5 s; p95 1.5 s",
        "First token p50": "200 ms; p95 200 ms",
        "Tokens": "3 M; 3 M in, 0 out",
        "Cost": "≈ $7.50; $7.50 of it estimated, no price for 1",
        "Spooled on this machine": "0; all stored",
        "Dead letters": "0",
    }


def test_each_chart_has_its_numbers_in_a_table_with_the_same_links(busy: FlaskClient) -> None:
    page = page_of(busy.get("/", query_string=DAY))
    assert [row for row in table(page, "Interactions") if row[1] != "0"] == [
        ["11-20 01:00", "2", "0"], ["11-20 03:00", "2", "1"],
    ]  # fmt: skip
    assert [row for row in table(page, "Latency") if row[1] != MISSING] == [
        ["11-20 01:00", "1.5 s", "1.5 s"], ["11-20 03:00", "1.5 s", "1.5 s"],
    ]  # fmt: skip
    assert [row for row in table(page, "Sessions") if row[1] != "0"] == [["11-20 01:00", "1"]]
    for figure in page.select("figure.chart"):
        drawn = [a["href"] for a in figure.select("svg a")]
        assert drawn == [a["href"] for a in figure.select("tbody a")]
        assert len(drawn) == 24


def test_a_bucket_of_a_chart_links_to_what_it_counts(busy: FlaskClient) -> None:
    page = page_of(busy.get("/", query_string=DAY))
    (title,) = [each for each in page.select("svg a title") if "11-20 01:00: all 2, failed 0" in each.get_text()]
    assert title.parent is not None
    where = str(title.parent["href"])
    assert parse_qs(urlsplit(where).query) == {"from": ["2026-11-20T01:00:00Z"], "to": ["2026-11-20T02:00:00Z"]}
    assert urlsplit(where).path == "/search"
    assert len(page_of(busy.get(where)).select("li.hit")) == 2
    (sessions,) = [each for each in page.select("svg a title") if "11-20 01:00: sessions 1" in each.get_text()]
    assert sessions.parent is not None
    assert texts(page_of(busy.get(str(sessions.parent["href"]))), "tbody td:first-child") == ["s"]


def test_days_are_those_of_the_zone_of_the_url_or_of_the_browser(client: FlaskClient) -> None:
    for time in ("22:00", "08:00"):
        log(client, session_id="s", prompt="p", started_at=f"2026-11-10T{time}:00-08:00")
    days = {"from": "2026-11-08", "to": "2026-11-16"}
    in_utc = page_of(client.get("/", query_string=days))
    assert [row[:2] for row in table(in_utc, "Interactions") if row[1] != "0"] == [
        ["11-10 00:00", "1"], ["11-11 00:00", "1"],
    ]  # fmt: skip
    assert "Days and hours are those of UTC." in in_utc.get_text()
    of_url = page_of(client.get("/", query_string=days | {"zone": "America/Los_Angeles"}))
    client.set_cookie("turnlog_zone", "America%2FLos_Angeles")
    of_browser = page_of(client.get("/", query_string=days))
    for page in (of_url, of_browser):
        assert [row[:2] for row in table(page, "Interactions") if row[1] != "0"] == [["11-10 00:00", "2"]]
        (title,) = [each for each in page.select("svg a title") if "2026-11-10 00:00: all 2" in each.get_text()]
        assert title.parent is not None
        linked = parse_qs(urlsplit(str(title.parent["href"])).query)
        assert linked == {"from": ["2026-11-10T08:00:00Z"], "to": ["2026-11-11T08:00:00Z"]}
        assert [page.select_one(f"#{name}")["value"] for name in days] == list(days.values())  # type: ignore[index]
        assert "Days and hours are those of America/Los_Angeles." in page.get_text()
    assert "zone=America" in link(of_url, "7 days")
    assert "zone" not in link(of_browser, "7 days")
    assert of_url.select_one("input[name=zone]") is not None
    assert of_browser.select_one("input[name=zone]") is None


def test_a_zone_that_is_none_is_refused_in_the_url_and_ignored_in_a_cookie(client: FlaskClient) -> None:
    assert "?zone" in page_of(client.get("/?zone=Mars"), 422).get_text()
    client.set_cookie("turnlog_zone", "%00../x")
    assert "those of UTC" in page_of(client.get("/")).get_text()


def test_bars_have_the_height_of_their_values(busy: FlaskClient) -> None:
    page = page_of(busy.get("/", query_string=DAY))
    (interactions, *_) = page.select("figure.chart svg")
    heights = [(str(bar["class"][0]), float(str(bar["height"]))) for bar in interactions.select("g rect")]
    assert heights == [("all", 100), ("all", 50), ("failed", 50)]  # of a scale to 2
    assert page.select("figure.chart .scale span")[0].get_text() == "2"


def test_models_users_and_errors_lead_to_their_interactions(busy: FlaskClient) -> None:
    page = page_of(busy.get("/", query_string=DAY))
    time = {"from": ["2026-11-20T00:00:00Z"], "to": ["2026-11-21T00:00:00Z"]}
    for text, filters in (
        ("gpt-4o", {"model": ["gpt-4o"]}),
        ("<i>own</i>", {"model": ["<i>own</i>"]}),
        ("ada & <b>bob</b>", {"user_id": ["ada & <b>bob</b>"]}),
        ("Timeout <script>", {"error": ["Timeout <script>"], "has_errors": ["true"]}),
    ):
        assert parse_qs(urlsplit(link(page, text)).query) == filters | time
    assert texts(page, "td bdi") == ["gpt-4o", "openai", "<i>own</i>", "ada & <b>bob</b>", "Timeout <script>"]
    failed = page_of(busy.get(link(page, "Timeout <script>")))
    assert texts(failed, "a.chip bdi") == texts(failed, ".arrivals .text-danger-emphasis") == ["Timeout <script>"]
    costs = [row.select("td")[-1].get_text().strip() for row in page.select("section:has(#models) tbody tr")]
    assert costs == ["≈ $7.50", "no price"]
    (user,) = page.select("section:has(#users) tbody tr")
    assert [" ".join(cell.get_text().split()) for cell in user.select("td")][1:] == ["4", "1", "3 M", "≈ $7.50"]


def test_an_address_may_carry_parameters_of_others(busy: FlaskClient) -> None:
    assert texts(page_of(busy.get("/", query_string=DAY | {"utm_source": "mail"})), "h1") == ["Overview"]


def number_of(page: Tag, name: str) -> tuple[str, str]:
    """Return a tile's number and where it leads."""
    (number,) = [each for each in page.select(".tile a") if name in each.find_parent(class_="tile").get_text()]  # type: ignore[union-attr]
    return number.get_text(), str(number["href"])


def test_new_activity_of_an_old_session_is_behind_its_numbers(client: FlaskClient) -> None:
    create(client, session_id="old", user_id="ada", started_at="2026-11-01T00:00:00Z")
    log(client, session_id="old", prompt="1", error="Timeout", started_at=at(2), model="gpt", provider="p")
    log(client, session_id="old", prompt="2", response="3", started_at=at(2), model="gpt", provider="p")
    log(client, session_id="old", prompt="4", error="Timeout", started_at="2026-11-19T23:59:59Z", model="gpt")
    page = page_of(client.get("/", query_string=DAY))
    number, where = number_of(page, "Failed")
    assert (number, len(page_of(client.get(where)).select(".arrivals li"))) == ("1", 1)
    number, where = number_of(page, "Interactions")
    assert (number, len(page_of(client.get(where)).select("li.hit"))) == ("2", 2)
    for name in ("gpt", "ada"):
        assert len(page_of(client.get(link(page, name))).select("li.hit")) == 2


def test_sessions_that_a_plan_holds_are_neither_counted_nor_listed(client: FlaskClient) -> None:
    create(client, session_id="s")
    plan = {"sessions_per_week": 1, "total_weeks": 2}
    assert client.post("/v1/folders", json={"folder_id": "f", "plan": plan}).status_code == 201
    number, where = number_of(page_of(client.get("/")), "Sessions started")
    assert number == "1"
    assert texts(page_of(client.get(where)), "tbody td:first-child") == ["s"]
    assert len(page_of(client.get(where.replace("begun=true", "begun=false"))).select("tbody tr")) == 2


def test_nothing_of_the_page_is_inline(busy: FlaskClient) -> None:
    page = page_of(busy.get("/", query_string=DAY))
    assert page.select("[style], style, script:not([src])") == []
    assert [each for each in page.select("*") if any(name.startswith("on") for name in each.attrs)] == []


def test_the_span_can_be_chosen(busy: FlaskClient) -> None:
    page = page_of(busy.get("/"))
    assert texts(page, "[aria-label=Span] .active") == ["24 hours"]
    week = page_of(busy.get(link(page, "7 days")))
    assert texts(week, "[aria-label=Span] .active") == ["7 days"]
    assert len(table(week, "Interactions")) == 7
    own = page_of(busy.get("/", query_string={"from": "2026-11-01", "to": ""}))
    assert texts(own, "[aria-label=Span] .active") == []
    assert own.select("#from")[0]["value"] == "2026-11-01"
    refused = page_of(busy.get("/", query_string={"from": "2026-11-20", "to": "2026-11-19"}), 422)
    assert "?to" in texts(refused, "code")


def test_an_invalid_date_is_explained_beside_its_field(busy: FlaskClient) -> None:
    page = page_of(busy.get("/", query_string={"from": "yesterday"}), 422)
    assert texts(page, "#e-from") == ["That date isn't valid. Use 2026-11-21."]
    assert texts(page, "[aria-label=Span] .active") == ["24 hours"]


def test_a_span_without_anything_is_shown_as_empty(busy: FlaskClient) -> None:
    page = page_of(busy.get("/", query_string={"from": "2020-01-01", "to": "2020-01-02"}))
    assert tiles(page)["Interactions"] == "0"
    assert len(table(page, "Interactions")) == 24
    assert "Nothing logged yet" not in page.get_text()


def test_missing_values_differ_from_zero(client: FlaskClient) -> None:
    log(client, session_id="s", prompt="1", response="2", started_at=at(1))
    page = page_of(client.get("/", query_string=DAY))
    told = tiles(page)
    assert [told[name] for name in ("Latency p50", "First token p50", "Tokens")] == [f"{MISSING}; not logged"] * 3
    assert told["Cost"] == f"{MISSING}; no price for 1"
    assert texts(page, ".unknown") == ["No data in this span"]
    log(client, session_id="s", prompt="1", response="2", started_at=at(1), cost_usd=0)
    log(client, session_id="s", prompt="1", response="2", started_at=at(1), cost_usd=0.5)
    assert tiles(page_of(client.get("/", query_string=DAY)))["Cost"] == "$0.50; as logged, no price for 1"


def test_cached_tokens_are_beside_the_input(client: FlaskClient) -> None:
    log(
        client, session_id="s", prompt="1", started_at=at(1), model="m", input_tokens=1000, output_tokens=10,
        cached_input_tokens=800,
    )  # fmt: skip
    page = page_of(client.get("/", query_string=DAY))
    assert tiles(page)["Tokens"].endswith("1,000 in, 800 of it cached, 10 out")
    (row,) = page.select("section:has(#models) tbody tr")
    assert [cell.get_text().strip() for cell in row.select("td.text-end")] == ["1", "1,000", "800", "10", "no price"]


def test_an_empty_log_says_how_to_begin(client: FlaskClient) -> None:
    page = page_of(client.get("/"))
    assert "Nothing logged yet" in page.get_text()
    command = page.select_one("pre")
    assert command is not None
    assert "curl -sS" in command.get_text()
    assert "http://localhost/v1/interactions" in command.get_text()
    assert page.select("figure") == []


def test_of_a_sample_the_page_says_so(busy: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "estimates" not in page_of(busy.get("/", query_string=DAY)).get_text()
    store = busy.application.extensions["conversation_repository"].store

    def of_a_half(*query: Any, answer: Callable[..., Any] = store.ask) -> Any:
        found = answer(*query)
        return found | {"interactions": found["interactions"] | {"share": 0.5}}

    monkeypatch.setattr(store, "ask", of_a_half)
    page = page_of(busy.get("/", query_string=DAY))
    assert "only 50 % of it was examined" in " ".join(page.get_text().split())
    assert tiles(page)["Interactions"] == "≈ 8"
    assert tiles(page)["Failed"].startswith("1;")


@pytest.fixture
def away(tmp_path: Path) -> Iterator[FlaskClient]:
    spool = Spool(FailingStore(errors.StoreUnavailable("away")), tmp_path / "spool", Limits(min_free_bytes=0))
    yield create_app(Settings.from_mapping(KEYLESS), spool).test_client()
    spool.close()


def test_without_the_store_the_page_shows_the_spool(away: FlaskClient) -> None:
    log(away, session_id="s", prompt="1")
    page = page_of(away.get("/"), 503)
    assert "can't be read now" in texts(page, "[role=alert]")[0]
    assert tiles(page)["Spooled on this machine"].startswith("1; oldest: ")


def test_a_look_that_takes_too_long_says_so() -> None:
    client = create_app(Settings.from_mapping(KEYLESS), FailingStore(errors.StoreBusy("57014"))).test_client()
    assert "took too long" in texts(page_of(client.get("/"), 503), "[role=alert]")[0]
