"""Concurrent writes are merged into one, and each call gets its own receipts."""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from logging_store import errors
from logging_store import operations as ops
from logging_store.batches import Batch, BatchReceipts, Receipt
from logging_store.group_commit import MAX_RECORDS, MAX_TEXT, GroupCommit
from tests.conftest import PROJECT, Backend
from tests.store.test_store_conformance import interaction_row, new_id
from tests.store_calls import ask


class GatedStore:
    """Keeps what it is given; each write waits until it is let through, and fails for rows marked as bad."""

    def __init__(self) -> None:
        self.groups: list[list[str]] = []
        self.fail: Exception | None = None
        self._arrived = threading.Semaphore(0)
        self._gate = threading.Semaphore(0)

    def write(self, batch: Batch) -> BatchReceipts:
        self.groups.append([row["prompt"] for row in batch.interactions])
        self._arrived.release()
        assert self._gate.acquire(timeout=10)
        if self.fail:
            raise self.fail
        if any(row["prompt"] == "bad" for row in batch.interactions):
            raise errors.Invalid("bad data", field="prompt")
        if batch.is_claimed:
            raise errors.SpoolFull("not for pages")
        return BatchReceipts([], [Receipt(receipt="created", reason=row["prompt"]) for row in batch.interactions])

    def wait_for_a_write(self) -> None:
        assert self._arrived.acquire(timeout=10)

    def let_through(self, writes: int) -> None:
        self._gate.release(writes)

    def close(self) -> None:
        """Hold nothing."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"{name} is not of this test")


def saying(*prompts: str, project: str = PROJECT) -> Batch:
    return Batch(project, interactions=[{"prompt": prompt} for prompt in prompts])


def behind_a_first_write(
    inner: GatedStore, batches: Sequence[Batch], then: Callable[[], None]
) -> list[Future[BatchReceipts]]:
    """Write `batches` at once, in their order, while a first write is under way; then let everything through."""
    group = GroupCommit(inner, max_wait_s=10)
    with ThreadPoolExecutor(len(batches) + 1) as threads:
        first = threads.submit(group.write, saying("first"))
        inner.wait_for_a_write()
        others = []
        for n, batch in enumerate(batches):
            others.append(threads.submit(group.write, batch))
            give_up = time.monotonic() + 10
            while len(group._lanes[False].queue) <= n:  # noqa: SLF001 - there is no other way to see that a caller waits
                assert time.monotonic() < give_up
        then()
        inner.let_through(100)
        assert [receipt.reason for receipt in first.result(10)] == ["first"]
    return others


def test_queued_writes_become_one_group() -> None:
    inner = GatedStore()
    others = behind_a_first_write(inner, [saying("a", "b"), saying("c"), saying("d")], lambda: None)
    assert inner.groups == [["first"], ["a", "b", "c", "d"]]
    assert [[receipt.reason for receipt in other.result(10)] for other in others] == [["a", "b"], ["c"], ["d"]]


def test_an_idle_store_adds_no_delay() -> None:
    inner = GatedStore()
    inner.let_through(2)
    group = GroupCommit(inner, max_wait_s=10)
    group.write(saying("a"))
    group.write(saying("b"))
    assert inner.groups == [["a"], ["b"]]


def test_a_group_is_bounded() -> None:
    inner = GatedStore()
    large = saying(*["x"] * MAX_RECORDS)
    behind_a_first_write(inner, [saying("a"), large, saying("b")], lambda: None)
    assert [len(group) for group in inner.groups] == [1, 1, MAX_RECORDS, 1]


def test_a_group_is_bounded_by_text_size_too() -> None:
    inner = GatedStore()
    half = "x" * (MAX_TEXT // 2)
    behind_a_first_write(inner, [saying("a"), saying(half), saying(half), saying("b")], lambda: None)
    assert [[len(prompt) for prompt in group] for group in inner.groups] == [[5], [1, len(half)], [len(half), 1]]


def test_projects_are_not_mixed() -> None:
    inner = GatedStore()
    behind_a_first_write(inner, [saying("a"), saying("b", project="other"), saying("c")], lambda: None)
    assert inner.groups == [["first"], ["a"], ["b"], ["c"]]


def test_invalid_data_only_fails_its_own_call() -> None:
    inner = GatedStore()
    a, bad, c = behind_a_first_write(inner, [saying("a"), saying("bad"), saying("c")], lambda: None)
    assert [receipt.receipt for other in (a, c) for receipt in other.result(10)] == ["created", "created"]
    with pytest.raises(errors.Invalid, match="bad data") as caught:
        bad.result(10)
    assert caught.value.field == "prompt"


def test_a_page_holds_up_no_backend() -> None:
    inner = GatedStore()
    page = Batch(PROJECT, interactions=[{"prompt": "page", "claim": "user:ada"}])
    group = GroupCommit(inner, max_wait_s=10)
    with ThreadPoolExecutor(2) as threads:
        slow = threads.submit(group.write, page)
        inner.wait_for_a_write()
        backend = threads.submit(group.write, saying("a"))
        inner.wait_for_a_write()  # although the page's write is still under way
        inner.let_through(2)
        assert [receipt.reason for receipt in backend.result(10)] == ["a"]
        with pytest.raises(errors.SpoolFull, match="not for pages"):
            slow.result(10)
    assert inner.groups == [["page"], ["a"]]


def test_an_outage_fails_every_call_of_the_group() -> None:
    inner = GatedStore()
    group = GroupCommit(inner, max_wait_s=10)
    inner.fail = errors.StoreUnavailable("away")
    with ThreadPoolExecutor(9) as threads:
        writes = [threads.submit(group.write, saying(str(n))) for n in range(9)]
        inner.let_through(9)
        for write in writes:
            with pytest.raises(errors.StoreUnavailable, match="away"):
                write.result(10)
    inner.fail = None
    inner.let_through(1)
    assert [receipt.receipt for receipt in group.write(saying("after"))] == ["created"]


def test_no_call_waits_longer_than_max_wait() -> None:
    inner = GatedStore()
    group = GroupCommit(inner, max_wait_s=0.1)
    with ThreadPoolExecutor(2) as threads:
        slow = threads.submit(group.write, saying("slow"))
        inner.wait_for_a_write()
        with pytest.raises(errors.StoreUnavailable, match="busy with earlier writes"):
            threads.submit(group.write, saying("impatient")).result(10)
        inner.let_through(2)
        assert [receipt.reason for receipt in slow.result(10)] == ["slow"]
        assert [receipt.reason for receipt in group.write(saying("next"))] == ["next"]
    assert inner.groups == [["slow"], ["next"]]


def test_a_call_that_gives_up_goes_to_the_overflow() -> None:
    inner = GatedStore()
    elsewhere: list[Batch] = []

    def keep(batch: Batch) -> BatchReceipts:
        elsewhere.append(batch)
        return BatchReceipts([], [Receipt(receipt="spooled")])

    group = GroupCommit(inner, max_wait_s=0.1, overflow=keep)
    with ThreadPoolExecutor(2) as threads:
        slow = threads.submit(group.write, saying("slow"))
        inner.wait_for_a_write()
        kept = threads.submit(group.write, saying("impatient")).result(10)
        inner.let_through(1)
        slow.result(10)
    assert [receipt.receipt for receipt in kept] == ["spooled"]
    assert elsewhere == [saying("impatient")]
    assert inner.groups == [["slow"]]


def test_bisecting_a_group_keeps_one_deadline() -> None:
    class Slow(GatedStore):
        def write(self, batch: Batch) -> BatchReceipts:
            receipts = super().write(batch)
            time.sleep(0.1)
            return receipts

    inner = Slow()
    kept: list[str] = []

    def keep(batch: Batch) -> BatchReceipts:
        kept.extend(row["prompt"] for row in batch.interactions)
        return BatchReceipts([], [Receipt(receipt="spooled")])

    group = GroupCommit(inner, max_wait_s=0.25, overflow=keep)
    inner.let_through(100)
    with ThreadPoolExecutor(32) as threads:
        writes = {n: threads.submit(group.write, saying("bad" if n % 4 == 0 else str(n))) for n in range(32)}
        for n, write in writes.items():
            if n % 4:
                assert {receipt.receipt for receipt in write.result(10)} <= {"created", "spooled"}
    assert kept, "the time of a group is over before all of its bad data is found"


def test_contradicting_calls_of_a_group_get_their_own_receipts(backend: Backend) -> None:
    group = GroupCommit(backend.open(), max_wait_s=10)
    session, one = new_id(), new_id()
    with ThreadPoolExecutor(32) as threads:
        writes = [
            threads.submit(group.write, Batch(PROJECT, interactions=[interaction_row(session, one, prompt=str(n % 2))]))
            for n in range(64)
        ]
        outcomes = [(n % 2, write.result(30).interactions[0].receipt) for n, write in enumerate(writes)]
    (kept,) = ask(group, ops.TRANSCRIPT, PROJECT, {"session_id": session, "limit": 1})["interactions"]
    winner = int(kept["prompt"])
    assert sorted(receipt for side, receipt in outcomes if side == winner) == ["created"] + ["duplicate"] * 31
    assert {receipt for side, receipt in outcomes if side != winner} == {"conflict"}
