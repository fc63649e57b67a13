"""What arrived last: in order, with the beginnings of its texts."""

from typing import Any

import pytest

from logging_store import operations as ops
from logging_store.errors import NotOwner
from logging_store.records.models import Interaction
from logging_store.repository import ConversationRepository
from tests.conftest import PROJECT, Backend


class SomebodysOwn:
    user_id: str | None = "ada"
    author = "ada"

    def owner_of(self, session_id: str) -> str:  # noqa: ARG002 - nobody asks for one
        return "user:ada"


def stated(**fields: Any) -> Interaction:
    return Interaction.model_validate(fields)


def walked(log: ConversationRepository, limit: int, **query: Any) -> list[ops.RecentInteraction]:
    asked: Any = {"limit": limit, **query}
    return [row for page in ops.pages(log.recent, asked) for row in page["interactions"]]


@pytest.mark.parametrize("limit", [1, 3, 100])
def test_the_latest_comes_first_and_nothing_twice(repository: ConversationRepository, limit: int) -> None:
    for n in range(3):
        # what arrives at once is in some order, which is the same on each page
        repository.log([stated(session_id=f"s{k % 2}", interaction_id=f"{n}-{k}", prompt=f"{n}") for k in range(4)])
    found = walked(repository, limit)
    assert [row["prompt"] for row in found] == [*"2222", *"1111", *"0000"]
    assert len({row["interaction_id"] for row in found}) == 12
    assert [row["interaction_id"] for row in found] == [row["interaction_id"] for row in walked(repository, 5)]


def test_it_is_filtered(repository: ConversationRepository) -> None:
    repository.log(
        [
            stated(session_id="s", prompt="1", model="m"),
            stated(session_id="s", prompt="2", model="n", error="timed out"),
            stated(session_id="t", prompt="3", model="m", status="failed"),
        ]
    )
    assert {row["prompt"] for row in walked(repository, 1, model="m")} == {"1", "3"}
    assert {row["prompt"] for row in walked(repository, 1, has_errors=True)} == {"2", "3"}
    assert [row["prompt"] for row in walked(repository, 1, has_errors=True, model="n")] == ["2"]
    assert walked(repository, 1, model="other") == []


def test_errors_of_a_kind_are_told_by_what_they_have_in_common(repository: ConversationRepository) -> None:
    errors = ["Timeout after 30012 ms", "Timeout\n  after 29990 ms\n", "Timeout", None, "Timeout after … ms"]
    repository.log([stated(session_id="s", prompt=str(n), error=error) for n, error in enumerate(errors)])
    found = walked(repository, 1, error="Timeout after … ms", has_errors=True)
    assert {row["prompt"] for row in found} == {"0", "1", "4"}


def test_those_of_a_time_are_told_by_when_they_began(repository: ConversationRepository) -> None:
    day = "2026-11-20T{:02}:00:00Z".format
    repository.log(
        [
            stated(session_id="s", prompt="1", started_at=day(3), error="timed out"),
            stated(session_id="t", prompt="2", started_at=day(4), model="m", error="timed out"),
            stated(session_id="t", prompt="3", started_at=day(2), model="m"),
            stated(session_id="t", prompt="4", started_at=day(2), model="m", status="failed"),
            stated(session_id="t", prompt="5", started_at=day(5), error="timed out"),
            stated(session_id="t", prompt="6", started_at=day(1), error="timed out"),
            stated(session_id="t", prompt="7", error="timed out"),
        ]
    )
    span = {"from": day(2), "to": day(5)}
    for limit in (1, 2, 10):
        assert [row["prompt"] for row in walked(repository, limit, **span, has_errors=True)] == ["2", "1", "4"]
    found = [row["prompt"] for row in walked(repository, 1, **span)]
    assert found[:2] == ["2", "1"]
    assert sorted(map(str, found[2:])) == ["3", "4"]
    assert [row["prompt"] for row in walked(repository, 1, **span, has_errors=True, model="m")] == ["2", "4"]
    assert [row["prompt"] for row in walked(repository, 1, to=day(2))] == ["6"]


def test_a_session_that_is_being_erased_is_gone_at_once(repository: ConversationRepository, backend: Backend) -> None:
    repository.log([stated(session_id=name, prompt=f"{name} {n}") for name in ("s", "cut") for n in range(4)])
    backend.cut_erasing("cut")
    assert {row["prompt"] for row in walked(repository, 3)} == {f"s {n}" for n in range(4)}


SAID: list[tuple[Any, str | None]] = [
    ("Hello", "Hello"),
    ("x" * 1000, "x" * 300),
    ("日本語 🙂", "日本語 🙂"),
    ([{"role": "system", "content": "Be kind"}, {"role": "user", "content": "Hi"}], "Hi"),
    ([{"role": "user", "content": "Hi"}, {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}], "Hi"),
    ([{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image"}, {"text": "b"}]}], "a b"),
    ([{"role": "user", "content": {"text": "not said so"}}], None),
    ([{"role": "user", "content": [{"text": 5}, "x"]}], None),
]


@pytest.mark.parametrize(("said", "beginning"), SAID)
def test_texts_are_told_by_their_beginnings(
    repository: ConversationRepository, said: Any, beginning: str | None
) -> None:
    repository.log([stated(session_id="s", prompt="Well", response=said)])
    (row,) = walked(repository, 10)
    assert row["response"] == beginning


def test_an_interaction_tells_of_its_session(repository: ConversationRepository) -> None:
    repository.log([stated(session_id="my chat", interaction_id="one", prompt="Hi", model="m", latency_ms=2, turn=3)])
    (row,) = walked(repository, 10)
    told = {name: row[name] for name in ("session_key", "title", "user_id", "model", "status", "turn", "latency_ms")}
    assert told == {
        "session_key": "my chat", "title": None, "user_id": None, "model": "m", "status": "pending", "turn": 3,
        "latency_ms": 2,
    }  # fmt: skip


def test_who_reaches_only_their_own_sees_nothing_arrive(repository: ConversationRepository) -> None:
    with pytest.raises(NotOwner):
        repository.for_caller(PROJECT, SomebodysOwn()).recent({"limit": 1})
