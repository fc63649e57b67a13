"""Pages of a list while others write: by activity and by id, each session that was there is on one page."""

import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from flask.testing import FlaskClient

from tests.http_calls import create, in_path, log

pytestmark = pytest.mark.every_store


def paged(client: FlaskClient, between: Callable[[int], None] | None = None, **query: Any) -> list[str]:
    """Return the keys of all pages; `between` is called with the number of the page that was read."""
    keys: list[str] = []
    page = 0
    while True:
        body = client.get("/v1/sessions", query_string={"limit": 3, **query}).get_json()
        keys += [session["key"] for session in body["sessions"]]
        if body["next"] is None:
            return keys
        query["cursor"] = body["next"]
        if between:
            between(page)
        page += 1


@pytest.fixture
def nine(client: FlaskClient) -> list[str]:
    names = [f"pg-{n:02}" for n in range(9)]
    for name in names:
        create(client, session_id=name, user_id="ada", tags=["rare"])
        log(client, session_id=name, interaction_id="1", prompt="p")
    return names


# without a filter, with one that is checked for each session, and with one that finds all matches at once
@pytest.mark.parametrize("query", [{}, {"user_id": "ada"}, {"tag": "rare"}, {"has_errors": "false"}])
@pytest.mark.parametrize("sort", ["activity", "id"])
def test_a_session_that_gains_a_turn_while_paging_is_on_one_page(
    client: FlaskClient, nine: list[str], sort: str, query: dict[str, str]
) -> None:
    def write(page: int) -> None:
        for name in (nine[0], nine[4], nine[8], f"new-{page}"):
            log(client, session_id=name, interaction_id=f"later {page}", prompt="p")

    keys = paged(client, write, sort=sort, **query)
    of_before = [key for key in keys if key in nine]
    assert sorted(of_before) == nine
    if sort == "activity":
        assert keys == nine[::-1], "in the order in which they were"
        assert paged(client, sort=sort, user_id="ada")[:3] == [nine[8], nine[4], nine[0]], "at the front, next time"


def test_an_answer_that_is_filled_in_moves_nothing(client: FlaskClient, nine: list[str]) -> None:
    def write(page: int) -> None:
        for name in nine:
            log(client, session_id=name, interaction_id="1", response="r")

    assert paged(client, write, sort="activity") == nine[::-1]


def test_what_is_erased_while_paging_is_left_out(client: FlaskClient, nine: list[str]) -> None:
    def erase(page: int) -> None:
        client.delete(in_path(nine[2]))

    for sort in ("activity", "id"):
        assert sorted(paged(client, erase, sort=sort)) == [name for name in nine if name != nine[2]]


def test_a_cursor_of_an_older_release_goes_on(client: FlaskClient, nine: list[str]) -> None:
    body = client.get("/v1/sessions?sort=activity&limit=3").get_json()
    assert len(body["next"]) == 15 + 15 + 32
    older = body["next"][:15] + body["next"][30:]
    assert paged(client, sort="activity", cursor=older) == nine[5::-1]


def test_pages_read_while_several_write(client: FlaskClient, nine: list[str]) -> None:
    finished = threading.Event()
    written: Counter[str] = Counter()

    def write(offset: int) -> None:
        own = client.application.test_client()
        n = 0
        while not finished.is_set():
            name = nine[(n * 2 + offset) % len(nine)]
            written[name] += log(own, session_id=name, prompt="p").status_code == 201
            n += 1

    threads = [threading.Thread(target=write, args=(n,)) for n in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(10):
            assert sorted(paged(client, sort="id", limit=1)) == nine
            seen = Counter(paged(client, sort="activity", limit=1))
            assert seen.keys() <= set(nine)
            assert set(seen.values()) == {1}
    finally:
        finished.set()
        for thread in threads:
            thread.join()
    assert sum(written.values()) > len(nine)


def test_by_id_a_list_has_the_filters_of_every_list(client: FlaskClient, nine: list[str]) -> None:
    create(client, session_id="other", user_id="bob", title="Find me", folder_id="shelf")
    log(client, session_id="other", prompt="p", error="Timeout")
    queries: list[dict[str, Any]] = [{"name": "find"}, {"folder": "shelf"}, {"has_errors": "true"}, {"user_id": "bob"}]
    for query in queries:
        assert paged(client, sort="id", **query) == ["other"]
    assert len(paged(client, sort="id", begun="true")) == 10
    page = client.get("/v1/sessions?sort=id&limit=1&count=true").get_json()
    assert page["matching"] == {"sessions": 10, "complete": True}
