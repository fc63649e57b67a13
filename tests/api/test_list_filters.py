"""Lists by metadata, tags, ratings and the number of interactions, with pages of any size and in any order."""

from typing import Any

import pytest
from flask.testing import FlaskClient

from tests.http_calls import create, in_path, log, paths, problem

pytestmark = pytest.mark.every_store


def listed(client: FlaskClient, **query: Any) -> str:
    """Return the keys that a query finds, each one character, sorted; by each order and page size the same."""
    found = set()
    for sort in ("newest", "oldest", "activity", "id"):
        for limit in (1, 100):
            keys, following = "", dict(query, sort=sort, limit=limit)
            while True:
                answer = client.get("/v1/sessions", query_string=following)
                assert answer.status_code == 200, answer.text
                keys += "".join(session["key"] for session in answer.get_json()["sessions"])
                if answer.get_json()["next"] is None:
                    break
                following["cursor"] = answer.get_json()["next"]
            found.add("".join(sorted(keys)))
    (names,) = found
    counted = client.get("/v1/sessions", query_string={**query, "count": "true"}).get_json()["matching"]
    assert counted == {"sessions": len(names), "complete": True}
    return names


@pytest.fixture
def filled(client: FlaskClient) -> FlaskClient:
    """Return a client of a log with the sessions a to f, which have 1 to 6 interactions."""
    facts: dict[str, dict[str, Any]] = {
        "a": {"metadata": {"channel": "web", "n": 5, "vip": True}, "tags": ["x"]},
        "b": {"metadata": {"channel": "web", "n": "5", "vip": "true", "deep": {"channel": "app"}}},
        "c": {"metadata": {"channel": "app", "n": 5.5, "vip": False, "a.b": "dotted"}, "user_id": "ada"},
        "d": {"metadata": {"channel": "Web", "x ü%": "ä & b=c"}, "tags": ["x", "y"]},
        "e": {"user_id": "ada"},
        "f": {"metadata": {"channels": ["web"], "n": None}},
    }
    for n, (key, fields) in enumerate(facts.items(), 1):
        create(client, session_id=key, **fields)
        for turn in range(n):
            log(client, session_id=key, interaction_id=str(turn), prompt="p", response="r")
    for key, value, author in (("a", True, "bob"), ("b", False, "bob"), ("c", True, None), ("c", False, "bob")):
        rate(client, key, value=value, author=author)
    rate(client, "d", name="score", value=5)
    rate(client, "e", name="note", value="fine")
    return client


def rate(client: FlaskClient, session: str, interaction: str = "0", **feedback: Any) -> None:
    given = {name: value for name, value in feedback.items() if value is not None}
    answer = client.post(f"{in_path(session)}/interactions/{interaction}/feedback", json=given)
    assert answer.status_code in {200, 201}, answer.text


@pytest.mark.parametrize(
    ("query", "keys"),
    [
        ({"metadata.channel": "web"}, "ab"),
        ({"metadata.channel": "we"}, ""),
        ({"metadata.channel": "web", "metadata.n": "5"}, "ab"),
        ({"metadata.n": "5.0"}, "a"),
        ({"metadata.n": "5.5"}, "c"),
        ({"metadata.vip": "true"}, "ab"),
        ({"metadata.vip": "false"}, "c"),
        ({"metadata.a.b": "dotted"}, "c"),
        ({"metadata.x ü%": "ä & b=c"}, "d"),
        ({"metadata.channel": "app", "metadata.vip": "false", "user_id": "ada"}, "c"),
        ({"metadata.constructor": "x'; drop table turnlog.ai_sessions; --"}, ""),
        ({"metadata.n": "null"}, ""),
        ({"untagged": "true"}, "bcef"),
        ({"untagged": "false"}, "ad"),
        ({"untagged": "true", "user_id": "ada"}, "ce"),
        ({"rating": "true"}, "ac"),
        ({"rating": "false"}, "bc"),
        ({"unrated": "true"}, "def"),
        ({"unrated": "false"}, "abc"),
        ({"rating": "true", "untagged": "true"}, "c"),
        ({"min_turns": "4"}, "def"),
        ({"max_turns": "2"}, "ab"),
        ({"min_turns": "2", "max_turns": "3"}, "bc"),
        ({"min_turns": "3", "max_turns": "2"}, ""),
        ({"min_turns": "0", "max_turns": "1000"}, "abcdef"),
        ({"min_turns": "2", "metadata.channel": "web", "rating": "false"}, "b"),
    ],
)
def test_each_filter_finds_its_sessions(filled: FlaskClient, query: dict[str, str], keys: str) -> None:
    assert listed(filled, **query) == keys


def test_a_change_of_mind_counts(filled: FlaskClient) -> None:
    rate(filled, "a", value=False, author="bob")
    assert (listed(filled, rating="true"), listed(filled, rating="false")) == ("c", "abc")


def test_an_empty_list_of_tags_is_no_tag(filled: FlaskClient) -> None:
    filled.patch(in_path("a"), json={"tags": []})
    assert listed(filled, untagged="true") == "abcef"


def test_an_erased_session_is_found_by_no_filter(filled: FlaskClient) -> None:
    filled.delete(in_path("b"))
    assert listed(filled, rating="false") == "c"
    assert listed(filled, **{"metadata.channel": "web"}) == "a"
    assert listed(filled, untagged="true") == "cef"


@pytest.mark.parametrize(
    "query",
    [
        {"metadata.": "x"},
        {"metadata.k": "x" * 1001},
        {"metadata." + "k" * 201: "x"},
        {"untagged": "yes"},
        {"rating": "up"},
        {"unrated": "1"},
        {"min_turns": "-1"},
        {"min_turns": "1001"},
        {"max_turns": "many"},
        {"metadata": "channel=web"},
    ],
)
def test_a_filter_that_makes_no_sense_is_refused_by_name(client: FlaskClient, query: dict[str, str]) -> None:
    assert paths(client.get("/v1/sessions", query_string=query)) == [f"?{next(iter(query))}"]


def test_metadata_is_filtered_by_a_few_keys(client: FlaskClient) -> None:
    answer = client.get("/v1/sessions", query_string={f"metadata.{n}": "x" for n in range(6)})
    (field,) = problem(answer, 422)["fields"]
    assert field["path"] == "?metadata.{key}"
    assert "5" in field["detail"]
