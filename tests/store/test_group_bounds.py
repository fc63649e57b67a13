"""A group may be exactly as large as its bounds, and not one record or character larger."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from logging_store.group_commit import MAX_RECORDS, MAX_TEXT, GroupCommit
from tests.store.test_group_commit import GatedStore, behind_a_first_write, saying

_ABSENT = 2 * 8  # what the lacking context and response of an interaction count


@pytest.mark.parametrize(("beyond", "groups"), [(0, [1, MAX_RECORDS, 1]), (1, [1, 1, MAX_RECORDS, 1])])
def test_a_group_has_as_many_records_as_one_call_may_have(beyond: int, groups: list[int]) -> None:
    inner = GatedStore()
    others = saying(*["x"] * (MAX_RECORDS - 1 + beyond))
    behind_a_first_write(inner, [saying("a"), others, saying("b")], lambda: None)
    assert [len(group) for group in inner.groups] == groups


@pytest.mark.parametrize(("beyond", "groups"), [(0, [1, 2]), (1, [1, 1, 1])])
def test_a_group_has_as_much_text_as_its_bound(beyond: int, groups: list[int]) -> None:
    inner = GatedStore()
    long = "x" * (MAX_TEXT - 2 * _ABSENT - 1 + beyond)
    behind_a_first_write(inner, [saying("a"), saying(long)], lambda: None)
    assert [len(group) for group in inner.groups] == groups


def test_a_dry_run_joins_no_group() -> None:
    """It would make the writes of others a dry run, or wait behind them."""
    inner = GatedStore()
    group = GroupCommit(inner, max_wait_s=10)
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(group.write, saying("first"))
        inner.wait_for_a_write()
        asked = threads.submit(group.write, replace(saying("what if"), dry_run=True))
        inner.wait_for_a_write()
        inner.let_through(2)
        assert [receipt.reason for receipt in asked.result(10)] == ["what if"]
        assert [receipt.reason for receipt in first.result(10)] == ["first"]
    assert inner.groups == [["first"], ["what if"]]
