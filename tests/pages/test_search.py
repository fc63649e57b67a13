"""The search page: hits are marked and escaped, with their details and how far the search reached."""

from typing import Any

import pytest
from flask.testing import FlaskClient

from conversation.settings import Settings
from logging_store import operations as ops
from logging_store.repository import ConversationRepository
from logging_store.store import Store
from tests.conftest import PROJECT
from tests.http_calls import create, log
from tests.pages.html import link, page_of, texts
from tests.pages.test_session import id_of
from tests.store_calls import ask

HOSTILE = '<script>alert(1)</script> <img src=x onerror="alert(2)"> needle </p></mark>'


@pytest.fixture
def logged(client: FlaskClient) -> FlaskClient:
    create(client, session_id="s", title="Trips", user_id="ada")
    for n, text in enumerate(["A bus to Oslo", "東京都に行くバス", "The BUS, again"]):
        at = f"2026-11-0{n + 1}T10:00:00Z"
        log(client, session_id="s", interaction_id=str(n), prompt="Well", response=text, model="m-1", started_at=at)
    return client


def find(client: FlaskClient, **query: Any) -> Any:
    return page_of(client.get("/search", query_string=query))


def test_before_anything_is_asked_it_says_how_to(client: FlaskClient) -> None:
    page = find(client)
    assert texts(page, "h1") == ["Search"]
    assert texts(page, ".h5") == ["What are you looking for?"]
    assert page.select("mark") == []


def test_hits_are_marked_and_lead_to_their_turn(logged: FlaskClient) -> None:
    page = find(logged, q="bus")
    assert texts(page, ".hit p") == ["The BUS , again", "A bus to Oslo"]
    assert texts(page, ".hit mark") == ["BUS", "bus"]
    first = id_of("2")
    assert link(page.select(".hit")[0], "Trips") == f"/sessions/{page_session(page)}?turn={first}#i-{first}"
    assert logged.get(link(page.select(".hit")[0], "Trips")).status_code == 200
    facts = texts(page, ".hit .small")[0]
    for fact in ("2026-11-03 10:00:00", "response", "m-1", "ada"):
        assert fact in facts


def page_session(page: Any) -> str:
    return str(page.select_one(".hit a")["href"]).split("/")[2].split("?")[0]


def test_any_script_is_found(logged: FlaskClient) -> None:
    assert texts(find(logged, q="東京"), "mark") == ["東京"]
    assert texts(find(logged, q="ﾊﾞｽ"), "mark") == ["バス"]


def test_the_form_keeps_the_query_and_ignores_empty_fields(logged: FlaskClient) -> None:
    page = find(
        logged, q='"bus to"', user_id="", session=" ", model="m-1", order="match", words="true", to="2026-11-02"
    )
    assert texts(page, ".hit mark") == ["bus to"]
    assert page.select_one("input[name=q]")["value"] == '"bus to"'
    assert page.select_one("input[name=model]")["value"] == "m-1"
    assert page.select_one("input[name=to]")["value"] == "2026-11-02T00:00:00"
    assert page.select_one("option[selected]")["value"] == "match"
    assert page.select("input[name=words][checked]") != []
    assert page.select("details[open]") != []


def test_a_day_is_the_time_at_which_it_begins(logged: FlaskClient) -> None:
    assert texts(find(logged, q="bus", **{"from": "2026-11-02"}), ".hit mark") == ["BUS"]
    assert texts(find(logged, q="bus", to="2026-11-03"), ".hit mark") == ["bus"]


def test_the_form_keeps_the_exact_time_of_a_link(logged: FlaskClient) -> None:
    hour = {"from": "2026-11-02T10:00:00Z", "to": "2026-11-02T11:00:00Z"}
    page = find(logged, **hour)
    assert len(page.select(".hit")) == 1
    fields = {name: page.select_one(f"input[name={name}]")["value"] for name in hour}
    assert fields == {"from": "2026-11-02T10:00:00", "to": "2026-11-02T11:00:00"}
    assert texts(find(logged, q="バス", **fields), ".hit mark") == ["バス"]


def test_a_text_that_looks_like_a_time_is_searched_for_as_it_is(client: FlaskClient) -> None:
    log(client, session_id="s", prompt="from 2026-11-02T10:00 on")
    assert texts(find(client, q="2026-11-02T10:00"), ".hit mark") == ["2026-11-02T10:00"]


def test_the_next_page_asks_for_the_same(logged: FlaskClient) -> None:
    page = find(logged, q="bus", limit=1, model="m-1")
    older = link(page, "More results")
    assert "q=bus" in older
    assert "model=m-1" in older
    assert texts(page_of(logged.get(older)), ".hit mark") == ["bus"]


def test_no_results_are_explained(logged: FlaskClient) -> None:
    page = find(logged, q="zebra")
    assert texts(page, ".h5") == ['No results for "zebra"']
    assert texts(page, "[role=status]") == [""]


def test_a_search_that_was_cut_short_says_so_and_goes_on(logged: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = ConversationRepository.search
    monkeypatch.setattr(ConversationRepository, "search", lambda log, query: whole(log, query | {"rows": 2}))
    page = find(logged, q="oslo")
    assert texts(page, ".h5") == []
    assert "there is more to search" in texts(page, "[role=status]")[0]
    assert texts(page_of(logged.get(link(page, "Search further back"))), ".hit mark") == ["Oslo"]


def test_search_results_are_escaped(client: FlaskClient) -> None:
    create(client, session_id="s", title=HOSTILE, user_id=HOSTILE)
    log(client, session_id="s", prompt=HOSTILE, model=HOSTILE)
    page = find(client, q="needle </p>")
    assert texts(page, ".hit mark") == ["needle", "</p>"]
    assert page.select(".hit img, .hit script") == []
    assert texts(page, ".hit p")[0].replace(" ", "") == HOSTILE.replace(" ", "")
    hostile = find(client, q=HOSTILE, user_id=HOSTILE)
    assert hostile.select_one("input[name=q]")["value"] == HOSTILE
    assert hostile.select("img, #main script") == []


def test_invalid_parameters_are_named_on_a_page(client: FlaskClient) -> None:
    page = page_of(client.get("/search", query_string={"q": '""', "order": "oldest"}), 422)
    assert "?q" in page.get_text()
    assert "?order" in page.get_text()


def test_it_says_for_how_long_texts_are_kept(logged: FlaskClient, store: Store) -> None:
    assert "expired" not in find(logged, q="bus").get_text()
    ask(store, ops.SET_PROJECT, PROJECT, {"keep_text_days": 30})
    assert "idle for more than 30 days have expired" in find(logged, q="bus").get_text()
    ask(store, ops.SET_PROJECT, PROJECT, {"keep_text_days": None})
    logged.application.extensions["turnlog_settings"] = Settings.from_mapping({"TURNLOG_KEEP_TEXT_DAYS": "1"})
    assert "idle for more than 1 day have expired" in find(logged, q="nothing").get_text()
