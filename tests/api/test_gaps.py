"""Gaps in the callers' own turn counters: told exactly, of one session and of a whole project."""

import itertools
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from logging_store.records.models import Interaction
from logging_store.repository import ConversationRepository
from logging_store.store import Store
from tests.conftest import PROJECT
from tests.http_calls import create, in_path, log, paths, problem
from tests.store.test_store_conformance import new_id

Told = dict[str, Any]


def gaps_of(client: FlaskClient, name: str, **query: Any) -> Told:
    answer = client.get(f"{in_path(name)}/gaps", query_string=query)
    assert answer.status_code == 200, answer.get_data()
    told: Told = answer.get_json()
    return told


def count(client: FlaskClient, name: str, turns: Sequence[int | None]) -> None:
    items = [{"session_id": name, "prompt": "Hello", "turn": turn} for turn in turns]
    assert client.post("/v1/interactions/batch", json={"interactions": items}).status_code == 200


def test_what_lies_between_the_lowest_and_the_highest_turn_is_missed(client: FlaskClient) -> None:
    count(client, "s", [5, 7, 7, None, 8, 12, 13, 7])
    told = gaps_of(client, "s")
    assert list(told.items())[1:] == [
        ("key", "s"),
        ("first", 5),
        ("last", 13),
        ("counted", 7),
        ("missing", 4),
        ("gap_count", 2),
        ("gaps", [{"from": 6, "to": 6}, {"from": 9, "to": 11}]),
        ("doubled_count", 1),
        ("doubled", [{"turn": 7, "interactions": 3}]),
    ]


@pytest.mark.parametrize("begin", [0, 1, 5])
def test_a_counter_may_begin_anywhere(client: FlaskClient, begin: int) -> None:
    count(client, "s", [begin + 1, begin, begin + 2])
    told = gaps_of(client, "s")
    assert (told["first"], told["last"], told["missing"], told["gaps"]) == (begin, begin + 2, 0, [])


def test_a_session_that_counts_nothing_has_no_gaps(client: FlaskClient) -> None:
    create(client, session_id="empty")
    log(client, session_id="uncounted", prompt="Hello")
    for name in ("empty", "uncounted"):
        told = gaps_of(client, name)
        assert (told["first"], told["last"], told["counted"], told["missing"]) == (None, None, 0, 0)
        assert (told["gaps"], told["doubled"]) == ([], [])


def test_the_widest_gap_costs_nothing(client: FlaskClient) -> None:
    count(client, "s", [0, 2**53])
    told = gaps_of(client, "s")
    assert (told["missing"], told["gaps"]) == (2**53 - 1, [{"from": 1, "to": 2**53 - 1}])


def test_of_very_many_the_lowest_are_listed_and_all_are_counted(client: FlaskClient) -> None:
    count(client, "s", [turn for n in range(30) for turn in (2 * n, 2 * n)])
    told = gaps_of(client, "s", limit=3)
    assert (told["missing"], told["gap_count"], told["doubled_count"]) == (29, 29, 30)
    assert told["gaps"] == [{"from": n, "to": n} for n in (1, 3, 5)]
    assert told["doubled"] == [{"turn": n, "interactions": 2} for n in (0, 2, 4)]


def test_what_is_not_there_has_no_gaps_to_tell(client: FlaskClient) -> None:
    assert problem(client.get(f"{in_path('nobody')}/gaps"))["status"] == 404
    count(client, "s", [1, 3])
    client.delete(in_path("s"))
    assert problem(client.get(f"{in_path('s')}/gaps"))["status"] == 410


@pytest.mark.parametrize("query", [{"limit": 0}, {"limit": 1001}, {"cursor": "x"}, {"ranges": 1}])
def test_a_query_that_means_nothing_is_refused(client: FlaskClient, query: Told) -> None:
    create(client, session_id="s")
    (name,) = query
    assert paths(client.get(f"{in_path('s')}/gaps", query_string=query)) == [f"?{name}"]


def naively(turns: Sequence[int | None]) -> Told:
    used = Counter(turn for turn in turns if turn is not None)
    pairs = [(low, high) for low, high in itertools.pairwise(sorted(used)) if high > low + 1]
    doubled = [{"turn": turn, "interactions": times} for turn, times in sorted(used.items()) if times > 1]
    return {
        "first": min(used, default=None),
        "last": max(used, default=None),
        "counted": used.total(),
        "missing": sum(high - low - 1 for low, high in pairs),
        "gap_count": len(pairs),
        "gaps": [{"from": low + 1, "to": high - 1} for low, high in pairs],
        "doubled_count": len(doubled),
        "doubled": doubled,
    }


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(turns=st.lists(st.none() | st.integers(0, 30) | st.sampled_from([10**6, 2**53]), min_size=1, max_size=40))
def test_whatever_is_counted_is_told_as_a_list_would_tell(
    repository: ConversationRepository, turns: list[int | None]
) -> None:
    session = new_id()
    repository.log([Interaction(session_id=session, prompt="Hello", turn=turn) for turn in turns])
    told: Any = repository.gaps(session, ranges=1000)
    assert {name: told[name] for name in naively(turns)} == naively(turns)


def test_a_project_is_searched_page_by_page(store: Store) -> None:
    here, elsewhere = ConversationRepository(store, PROJECT), ConversationRepository(store, "elsewhere")
    counters: dict[str, list[int | None]] = {
        "whole": [1, 2, 3],
        "gap": [1, 3],
        "doubled": [4, 4],
        "uncounted": [None],
        "erased": [1, 9],
    }
    names = [f"{kind} {n}" for kind in counters for n in range(3)]
    for name in names:
        turns = counters[name.split()[0]]
        here.log([Interaction(session_id=name, prompt="Hello", turn=turn) for turn in turns])
        elsewhere.log([Interaction(session_id=name, prompt="Hello", turn=n) for n in (1, 5)])
    for n in range(3):
        here.erase(f"erased {n}")
    for limit in (1, 4, 12, 1000):
        found: list[Any] = []
        query: Any = {"limit": limit, "ranges": 10}
        looked_at = 0
        while True:
            page = here.sessions_with_gaps(query)
            found += page["sessions"]
            looked_at += limit
            if page["after"] is None:
                break
            query["after"] = page["after"]
        assert looked_at - limit < 12 <= looked_at
        assert sorted(row["key"] for row in found) == sorted(
            f"{kind} {n}" for kind in ("gap", "doubled") for n in range(3)
        )
        assert [row["session_id"] for row in found] == sorted(row["session_id"] for row in found)
        assert {(row["key"].split()[0], row["missing"], row["doubled_count"]) for row in found} == {
            ("gap", 1, 0),
            ("doubled", 0, 1),
        }
