"""The list of sessions: filters, orders, pages."""

import re
from urllib.parse import parse_qsl, urlsplit

import pytest
from bs4 import BeautifulSoup
from flask.testing import FlaskClient

from conversation.pages import sessions_page as page_module
from logging_store.repository import ConversationRepository
from tests.http_calls import create, in_path, log
from tests.pages.html import link, page_of, texts


@pytest.fixture
def logged(client: FlaskClient) -> FlaskClient:
    for n in range(5):
        create(
            client,
            session_id=f"s{n}",
            title=f"Chat {n}",
            user_id="ada" if n % 2 else "bob & <co>",
            tags=["beta"] if n == 3 else None,
            started_at=f"2026-11-0{n + 1}T10:00:00Z",
        )
    log(client, session_id="s1", prompt="Hello", model="m")
    log(client, session_id="s3", prompt="Hello", model="n", error="timed out")
    log(client, session_id="stray", prompt="Hello", model="n")
    return client


def shown(page: BeautifulSoup) -> list[str]:
    return [each.get_text(strip=True) for each in page.select("tbody td:first-child > a:first-child")]


def fields(page: BeautifulSoup) -> dict[str, str]:
    """Return what the form would send, as a browser does."""
    sent = {str(field["name"]): str(field.get("value", "")) for field in page.select("form[method=get] input")}
    for select in page.select("form[method=get] select"):
        (chosen,) = select.select("option[selected]") or select.select("option")[:1]
        sent[str(select["name"])] = str(chosen.get("value", chosen.get_text(strip=True)))
    return sent


def asked(address: str) -> dict[str, str]:
    return dict(parse_qsl(urlsplit(address).query))


def test_it_lists_the_newest_first_with_counts(logged: FlaskClient) -> None:
    page = page_of(logged.get("/sessions"))
    assert shown(page) == ["stray", "Chat 4", "Chat 3", "Chat 2", "Chat 1", "Chat 0"]
    assert texts(page, "#matching") == ["6 sessions"]
    (row,) = [row for row in texts(page, "tbody tr") if "Chat 3" in row]
    assert row.startswith("Chat 3 beta ada open 1 1 2026-11-04 10:00:00 ")
    (stray,) = [row for row in texts(page, "tbody tr") if "stray" in row]
    assert "open auto-created 1 0" in stray


def test_further_filters_are_folded_and_keep_what_is_chosen(logged: FlaskClient) -> None:
    create(logged, session_id="web", title="Of the web", metadata={"channel": "web", "tier": "=&ü"}, tags=["beta"])
    log(logged, session_id="web", interaction_id="1", prompt="p")
    logged.post(f"{in_path('web')}/interactions/1/feedback", json={"value": False})
    page = page_of(logged.get("/sessions?user_id=ada"))
    (folded,) = page.select("form details")
    assert not folded.has_attr("open")
    wanted = {"metadata": " channel = web ", "rating": "false", "untagged": "false", "min_turns": "1", "max_turns": "9"}
    page = page_of(logged.get("/sessions", query_string=fields(page_of(logged.get("/sessions"))) | wanted))
    assert shown(page) == ["Of the web"]
    assert page.select_one("form details[open]") is not None
    chosen = {name: value for name, value in fields(page).items() if value}
    assert chosen == wanted | {"metadata": "channel=web"}
    assert shown(page_of(logged.get("/sessions", query_string=chosen))) == ["Of the web"]
    assert any("channel: web" in " ".join(text.split()) for text in texts(page, "a.chip"))
    two = page_of(logged.get("/sessions", query_string={"metadata.channel": "web", "metadata.tier": "=&ü"}))
    assert shown(two) == ["Of the web"]
    assert {name: value for name, value in fields(two).items() if value} == {
        "metadata": "channel=web", "metadata.tier": "=&ü",
    }  # fmt: skip
    unrated = page_of(logged.get("/sessions?rating=none"))
    assert "Of the web" not in shown(unrated)
    assert fields(unrated)["rating"] == "none"


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({"metadata": "web"}, "Write a key and its value, such as channel=web."),
        ({"metadata": "=web"}, "Write a key and its value, such as channel=web."),
        ({"min_turns": "few"}, "Use a whole number from 0 to 1000."),
    ],
)
def test_a_field_that_is_wrong_says_so_beside_it(logged: FlaskClient, query: dict[str, str], message: str) -> None:
    page = page_of(logged.get("/sessions", query_string=query), 422)
    assert texts(page, "form details[open] .invalid-feedback") == [message]
    assert len(shown(page)) == 6


def test_a_form_that_is_sent_empty_filters_nothing(logged: FlaskClient) -> None:
    page = page_of(logged.get("/sessions"))
    sent = fields(page)
    assert set(sent) == {
        "name", "user_id", "folder", "tag", "model", "status", "has_errors", "implicit", "begun", "from", "to",
        "metadata", "rating", "untagged", "min_turns", "max_turns",
    }  # fmt: skip
    assert set(sent.values()) == {""}
    assert shown(page_of(logged.get("/sessions", query_string=sent))) == shown(page)


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ({"user_id": "ada"}, ["Chat 3", "Chat 1"]),
        ({"user_id": "bob & <co>", "status": "open"}, ["Chat 4", "Chat 2", "Chat 0"]),
        ({"model": "n"}, ["stray", "Chat 3"]),
        ({"has_errors": "true"}, ["Chat 3"]),
        ({"implicit": "true"}, ["stray"]),
        ({"name": "CHAT 2"}, ["Chat 2"]),
        ({"tag": "beta", "sort": "activity"}, ["Chat 3"]),
        ({"from": "2026-11-02T10:00", "to": "2026-11-03T10:00:01"}, ["Chat 2", "Chat 1"]),
        ({"from": "2026-11-02T11:00:00+01:00", "to": "2026-11-03T10:00:00Z"}, ["Chat 1"]),
    ],
)
def test_filters_stay_in_the_form_and_can_be_removed(
    logged: FlaskClient, filters: dict[str, str], found: list[str]
) -> None:
    page = page_of(logged.get("/sessions", query_string=filters))
    assert shown(page) == found
    sent = fields(page)
    assert shown(page_of(logged.get("/sessions", query_string=sent))) == found
    for name in filters.keys() - {"from", "to"}:
        assert sent[name] == filters[name]
    chips = page.select("a.chip")
    without = [asked(str(chip["href"])) for chip in chips]
    set_ = {name: value for name, value in filters.items() if name != "sort"}
    assert len(chips) == len(set_)
    for name in set_:
        assert any(name not in others and len(others) == len(filters) - 1 for others in without)


def test_text_in_urls_is_escaped(logged: FlaskClient) -> None:
    page = page_of(logged.get("/sessions"))
    (users,) = {str(a["href"]) for a in page.select("td a") if "bob" in a.get_text()}
    assert shown(page_of(logged.get(users))) == ["Chat 4", "Chat 2", "Chat 0"]


def test_the_order_is_chosen_by_links_that_keep_the_filters(logged: FlaskClient) -> None:
    page = page_of(logged.get("/sessions?user_id=ada"))
    oldest = page_of(logged.get(link(page, "Oldest")))
    assert shown(oldest) == ["Chat 1", "Chat 3"]
    assert texts(oldest, "nav a[aria-current=true]") == ["Oldest"]
    assert fields(oldest)["sort"] == "oldest"
    active = page_of(logged.get(link(page, "Last active")))
    assert shown(active) == ["Chat 3", "Chat 1"]
    assert asked(link(active, "Newest")) == {"user_id": "ada"}


def test_it_is_read_in_pages(logged: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_module, "SESSIONS", 2)
    first = page_of(logged.get("/sessions?status=open"))
    second = page_of(logged.get(link(first, "Next")))
    third = page_of(logged.get(link(second, "Next")))
    assert [shown(page) for page in (first, second, third)] == [
        ["stray", "Chat 4"], ["Chat 3", "Chat 2"], ["Chat 1", "Chat 0"],
    ]  # fmt: skip
    assert not third.select("a[rel=next]")
    assert asked(link(third, "First page")) == {"status": "open"}
    assert first.select("#list[data-live]")
    assert not second.select("#list[data-live]")


def test_a_short_page_says_how_far_it_looked(logged: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    class Short:
        def __init__(self) -> None:
            self.calls = 0

        def sessions(self, query: dict[str, object]) -> dict[str, object]:  # noqa: ARG002
            self.calls += 1
            at = f"2026-10-0{9 - self.calls}T00:00:00+00:00"
            return {
                "sessions": [],
                "after": {"at": at, "session_id": "00000000-0000-4000-8000-000000000000"},
            }

        def count_sessions(self, query: dict[str, object]) -> dict[str, object]:  # noqa: ARG002
            return {"sessions": 0, "complete": False}

    looking = Short()
    monkeypatch.setattr("conversation.api.caller.repository", lambda: looking)
    page = page_of(logged.get("/sessions?model=gone"))
    assert looking.calls == 4
    assert texts(page, "#searched") == ["No session found so far. Searched up to 2026-10-05 00:00:00 ."]
    assert texts(page, "#matching") == [], "nobody knows how many"
    assert asked(link(page, "Search further"))["model"] == "gone"


def test_a_count_that_was_cut_short_is_no_less_than_what_is_listed(
    logged: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def few(log: ConversationRepository, query: dict[str, object]) -> dict[str, object]:
        return {"sessions": 1, "complete": False}

    monkeypatch.setattr(ConversationRepository, "count_sessions", few)
    assert texts(page_of(logged.get("/sessions")), "#matching") == ["At least 6 sessions"]


def test_an_empty_list_differs_from_no_matches(client: FlaskClient) -> None:
    assert "No sessions yet" in page_of(client.get("/sessions")).get_text()
    assert "No matching sessions" in page_of(client.get("/sessions?tag=x")).get_text()
    assert link(page_of(client.get("/sessions?tag=x")), "All sessions") == "/sessions"


def test_an_invalid_date_is_explained_beside_its_field_and_the_list_stays(logged: FlaskClient) -> None:
    page = page_of(logged.get("/sessions?from=yesterday&user_id=ada"), 422)
    assert texts(page, "#e-from") == ["That date isn't valid. Use 2026-11-21."]
    assert page.select("#f-from")[0]["aria-describedby"] == "e-from"
    assert page.select("details.filters[open]")
    assert shown(page) == ["Chat 3", "Chat 1"]
    assert [asked(str(chip["href"])) for chip in page.select("a.chip")] == [{}]


@pytest.mark.parametrize("query", ["status=gone", "cursor=x", "sort=most", "tag=a&tag=b", "user=ada"])
def test_a_filter_that_means_nothing_is_named(client: FlaskClient, query: str) -> None:
    (name,) = {pair.partition("=")[0] for pair in query.split("&")}
    assert texts(page_of(client.get(f"/sessions?{query}"), 422), "main li code") == [f"?{name}"]


def test_an_erased_session_is_gone_from_the_page(logged: FlaskClient) -> None:
    logged.delete(in_path("s3"))
    assert "Chat 3" not in logged.get("/sessions").text


def test_a_row_has_a_name_of_its_own_for_the_script(logged: FlaskClient) -> None:
    page = page_of(logged.get("/sessions"))
    names = [str(row["id"]) for row in page.select("tbody tr")]
    assert len(set(names)) == 6
    assert all(re.fullmatch(r"s-[0-9a-f-]{36}", name) for name in names)
