"""The pages of folders: the list, and a folder with its plan, its numbers and its sessions."""

from typing import Any

import pytest
from bs4 import BeautifulSoup
from flask.testing import FlaskClient

from conversation.pages.folders_page import Week, weeks
from conversation.pages.jinja_filters import MISSING
from logging_store.records import identity
from tests.http_calls import log
from tests.pages.html import link, page_of, texts

PLAN = {"sessions_per_week": 2, "total_weeks": 3, "starts_on": "2026-11-02"}


def make(client: FlaskClient, folder: str, /, **fields: Any) -> str:
    answer = client.post("/v1/folders", json={"folder_id": folder, **fields})
    assert answer.status_code == 201
    made: str = answer.get_json()["folder_id"]
    return made


@pytest.fixture
def course(client: FlaskClient) -> str:
    folder = make(client, "course", name="Ann: the sound S", user_id="ann", plan=PLAN, metadata={"sound": "s"})
    first = client.post("/v1/folders/course/sessions", json={"session_number": 1, "title": "First"}).get_json()
    log(client, session_id=first["session_id"], prompt="Hi", response="Hello")
    client.patch(f"/v1/sessions/{first['session_id']}", json={"status": "closed"})
    return folder


def facts(page: BeautifulSoup) -> dict[str, str]:
    return dict(zip(texts(page, "aside dt"), texts(page, "aside dd"), strict=True))


def test_the_list_tells_how_far_each_folder_is(client: FlaskClient, course: str) -> None:
    make(client, "loose", name="No plan")
    page = page_of(client.get("/folders"))
    rows = {row.split()[0]: row for row in texts(page, "tbody tr")}
    assert "2 a week for 3 weeks" in rows["Ann:"]
    assert "1 of 6" in rows["Ann:"]
    assert [(bar["value"], bar["max"]) for bar in page.select("progress")] == [("1", "6")]
    assert rows["No"].split()[2:4] == [MISSING, MISSING]  # user and plan
    assert link(page, "Ann: the sound S") == f"/folders/{course}"


def test_the_list_is_filtered_by_user(client: FlaskClient, course: str) -> None:
    make(client, "other", name="Bob's", user_id="bob")
    assert texts(page_of(client.get("/folders?user_id=bob")), "tbody td:first-child") == ["Bob's"]
    assert len(texts(page_of(client.get("/folders?user_id=")), "tbody tr")) == 2
    assert "This user has no folders" in page_of(client.get("/folders?user_id=eve")).get_text()


def test_without_folders_it_says_how_to_make_one(client: FlaskClient) -> None:
    assert "POST /v1/folders" in page_of(client.get("/folders")).get_text()


def test_a_long_list_goes_on_and_keeps_its_filter(client: FlaskClient) -> None:
    for n in range(5):
        make(client, f"f{n}", name=f"F{n}", user_id="ann")
    make(client, "other", user_id="bob")
    seen: list[str] = []
    where: str | None = "/folders?user_id=ann&limit=2"
    while where:
        page = page_of(client.get(where))
        seen += texts(page, "tbody td:first-child")
        where = link(page, "Next") if page.select("a[rel=next]") else None
    assert sorted(seen) == ["F0", "F1", "F2", "F3", "F4"]


def test_a_folder_shows_its_plan_by_weeks(client: FlaskClient, course: str) -> None:
    page = page_of(client.get(f"/folders/{course}"))
    assert texts(page, "h1") == ["Ann: the sound S"]
    assert texts(page, ".plan .week") == ["Week 1 2026-11-02", "Week 2 2026-11-09", "Week 3 2026-11-16"]
    assert [text.split()[:2] for text in texts(page, ".planned")] == [
        ["1", "closed"], ["2", "locked"], ["3", "locked"], ["4", "locked"], ["5", "locked"], ["6", "locked"],
    ]  # fmt: skip
    first = page.select(".planned")[0]
    assert "closed" in first["class"]
    assert first["href"] == f"/sessions/{identity.numbered_session('default', course, 1).id}"
    assert page_of(client.get(str(first["href"])))


def test_a_folder_tells_its_numbers_and_its_sessions(client: FlaskClient, course: str) -> None:
    page = page_of(client.get("/folders/course"))
    told = facts(page)
    assert {name: told[name] for name in ("User", "Planned", "Sessions", "Opened", "Closed", "Interactions")} == {
        "User": "ann", "Planned": "6", "Sessions": "6, show in Sessions", "Opened": "1", "Closed": "1",
        "Interactions": "1",
    }  # fmt: skip
    assert '"sound": "s"' in told["Metadata"]
    assert len(texts(page_of(client.get(link(page, "show in Sessions"))), "tbody tr")) == 6
    assert link(page, "ann") == "/sessions?user_id=ann"
    assert texts(page, "tbody td:nth-child(1)") == ["1", "2", "3", "4", "5", "6"]
    assert texts(page, "tbody td:nth-child(2)") == ["First", *(f"Session {number}" for number in range(2, 7))]
    assert texts(page, "tbody td:nth-child(3)") == ["closed", *["locked"] * 5]


def test_a_large_folder_is_read_in_pages(client: FlaskClient, course: str) -> None:
    first = page_of(client.get("/folders/course?limit=4"))
    second = page_of(client.get(link(first, "More sessions")))
    assert texts(first, ".plan .week")[-1].startswith("Week 2")
    assert texts(second, "tbody td:nth-child(1)") == ["5", "6"]
    assert not second.select("a[rel=next]")


def test_a_folder_without_plan_or_sessions(client: FlaskClient) -> None:
    make(client, "empty")
    page = page_of(client.get("/folders/empty"))
    assert not page.select(".plan")
    assert "No sessions in this folder yet" in page.get_text()


def test_a_folder_that_is_not_there(client: FlaskClient) -> None:
    assert texts(page_of(client.get("/folders/nothing"), 404), "h1") == ["Folder Not Found"]
    assert "?cursor" in page_of(client.get("/folders?cursor=x"), 422).get_text()


def test_a_folders_name_is_escaped(client: FlaskClient) -> None:
    evil = "<script>alert(1)</script>"
    make(client, "evil", name=evil, user_id=evil, metadata={"a": evil})
    for path in ("/folders", "/folders/evil", "/folders?user_id=%3Cscript%3E"):
        page = page_of(client.get(path))
        assert not page.select("script:not([src])")
    assert texts(page_of(client.get("/folders/evil")), "h1") == [evil]


def test_numbers_past_the_plan_are_in_weeks_past_it_without_dates() -> None:
    sessions: Any = [{"session_number": number} for number in (1, 3, 7, None)]
    plan: Any = PLAN
    found = weeks(plan, sessions)
    assert [(week.number, str(week.begins_on)) for week in found] == [(1, "2026-11-02"), (2, "2026-11-09"), (4, "None")]
    assert weeks(plan | {"starts_on": None}, sessions[:1]) == [Week(1, None, sessions[:1])]
