"""The spool at its edges: how long a pause gets, what a lock blocks, and what is left of what was removed."""

import os
import threading
from pathlib import Path

import pytest
from pydantic_core import to_json

from logging_store import operations as ops
from logging_store.batches import Batch, Receipt
from logging_store.errors import StoreBusy, StoreUnavailable
from logging_store.spool import CircuitBreaker, DeadLetters, Spool
from logging_store.spool.files import SpoolFile
from tests.spool.conftest import eventually
from tests.spool.flaky_store import PROJECT, FlakyStore, batch_of
from tests.store_calls import ask

AWAY = StoreUnavailable("nobody answers")


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def fail_a_probe(breaker: CircuitBreaker, clock: Clock) -> float:
    """Wait for a probe, let it fail, and return how long the next pause lasts."""
    clock.now += breaker.seconds_to_probe()
    assert breaker.try_probe()
    assert not breaker.record_failure(AWAY)
    return breaker.seconds_to_probe()


def test_pauses_between_probes_double_up_to_the_longest_however_long_an_outage_lasts(clock: Clock) -> None:
    breaker = CircuitBreaker(shortest_s=1, longest_s=10, clock=clock, chance=lambda: 1.0)
    breaker.record_failure(AWAY)
    pauses = [breaker.seconds_to_probe(), *(fail_a_probe(breaker, clock) for _ in range(3))]
    assert pauses == [2, 4, 8, 10]
    assert {fail_a_probe(breaker, clock) for _ in range(2000)} == {10}  # 2.0 ** 1024 is too large for a float


def test_a_breaker_says_once_that_it_opened(clock: Clock) -> None:
    changes: list[int] = []
    breaker = CircuitBreaker(clock=clock, on_change=changes.append)
    assert [breaker.record_failure(AWAY) for _ in range(3)] == [True, False, False]
    assert changes == [1]
    breaker.record_success()
    breaker.record_success()
    assert changes == [1, -1]
    assert breaker.record_failure(AWAY)


def test_one_caller_probes_and_calls_that_began_before_prolong_nothing(clock: Clock) -> None:
    breaker = CircuitBreaker(shortest_s=1, longest_s=10, clock=clock, chance=lambda: 0.5)
    assert not breaker.try_probe(), "a closed one needs none"
    breaker.record_failure(AWAY)
    breaker.record_failure(AWAY)
    assert breaker.seconds_to_probe() == 1
    assert not breaker.try_probe(), "its pause isn't over"
    clock.now += 1
    assert breaker.seconds_to_probe() == 0
    assert [breaker.try_probe(), breaker.try_probe()] == [True, False]
    breaker.record_success()
    assert breaker.is_closed
    assert not breaker.try_probe()


def test_an_outage_is_logged_once(spool: Spool, inner: FlakyStore, caplog: pytest.LogCaptureFixture) -> None:
    inner.away = AWAY
    for n in range(3):
        spool.write(batch_of(f"Said {n}"))
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [
        "spool: the store is away, writes are spooled: nobody answers"
    ]


def test_what_a_lock_blocks_is_tried_by_the_drain_alone(spool: Spool, inner: FlakyStore) -> None:
    """Each write to a blocked session would wait for the lock anew, and hold a worker meanwhile."""
    blocked = "00000000-0000-0000-0000-00000000000b"
    callers: list[str] = []

    def refuse(batch: Batch) -> Exception | None:
        if blocked not in batch.parent_ids():
            return None
        callers.append(threading.current_thread().name)
        return StoreBusy("a lock of another transaction")

    inner.refuses = refuse
    own = threading.current_thread().name
    for n in range(3):
        written = spool.write(batch_of(f"Said {n}", session_id=blocked))
        assert {receipt.receipt for receipt in written} == {"spooled"}
    assert callers.count(own) == 1
    assert {receipt.receipt for receipt in spool.write(batch_of("elsewhere"))} == {"created"}
    assert spool.breaker.is_closed, "the store answers"


def test_a_spool_has_the_breaker_that_it_was_given(inner: FlakyStore, tmp_path: Path) -> None:
    breaker = CircuitBreaker()
    assert Spool(inner, tmp_path, breaker=breaker).breaker is breaker


def test_a_forked_process_starts_a_drain_of_its_own(spool: Spool) -> None:
    spool.start()
    assert spool._drain_thread is not None  # noqa: SLF001
    owner, thread = spool._drain_thread  # noqa: SLF001
    spool._drain.stop()  # noqa: SLF001
    thread.join(10)
    spool._drain_thread = (owner + 1, thread)  # noqa: SLF001 - as a child of a fork finds it
    spool.start()
    own = spool._drain_thread  # noqa: SLF001
    assert own[0] == os.getpid()
    assert own[1].is_alive()


def test_spooled_feedback_on_a_session_that_was_erased_is_not_shown(spool: Spool, inner: FlakyStore) -> None:
    batch = batch_of("Hello")
    session_id = batch.sessions[0]["id"]
    spool.write(batch)
    inner.refuses = lambda _: StoreUnavailable("not now")
    row = {"session_id": session_id, "name": "thumb", "value": 1, "given_at": "2026-11-21T10:00:00+00:00",
           "created_at": "2026-11-21T10:00:00+00:00"}  # fmt: skip
    spool.write(Batch(PROJECT, [{"id": session_id, "implicit": True}], feedback=[row]))
    eventually(lambda: spool.breaker.is_closed, "the probe succeeds")
    query = {"session_id": session_id, "limit": 10}
    assert [each["value"] for each in ask(spool, ops.FEEDBACK, PROJECT, query)["feedback"]] == [1]

    ask(inner.inner, ops.ERASE, PROJECT, {"session_id": session_id})  # as another machine does
    page = ask(spool, ops.FEEDBACK, PROJECT, query)
    assert page["session"]["erased_at"]
    assert page["feedback"] == []


def test_an_entry_that_is_removed_leaves_nothing_beside_those_that_stay(tmp_path: Path) -> None:
    """Small entries share a page of the file, so removing one doesn't free its page."""
    file = SpoolFile.create(tmp_path)
    for n in range(4):
        file.append([batch_of(f"a secret {n}")])
    one, *others = file.oldest(10, 1 << 20)
    assert b"a secret 0" in file.path.read_bytes()
    file.remove([one])
    assert b"a secret 0" not in file.path.read_bytes()
    file.split(others[0], [batch_of("a part")])
    assert b"a secret 1" not in file.path.read_bytes()
    assert b"a secret 2" in file.path.read_bytes()
    file.close()


def test_a_dead_letter_that_is_removed_leaves_nothing_beside_those_that_stay(tmp_path: Path) -> None:
    letters = DeadLetters(tmp_path)
    for n in range(4):
        letters.add(batch_of(f"a secret {n}"), Receipt(receipt="rejected"), 0.0)
    (file,) = tmp_path.glob("*.sqlite3")
    assert b"a secret 1" in file.read_bytes()
    letters.remove(letters.list()[1].number)
    assert b"a secret 1" not in file.read_bytes()
    assert b"a secret 2" in file.read_bytes()


@pytest.mark.parametrize("entries", [1, 2])
def test_the_oldest_entries_are_taken_up_to_both_limits(tmp_path: Path, entries: int) -> None:
    file = SpoolFile.create(tmp_path)
    batches = [batch_of(f"Said {n}") for n in range(3)]
    for batch in batches:
        file.append([batch])
    exactly = sum(len(to_json(batch.to_json())) for batch in batches[:entries])
    assert len(file.oldest(100, exactly)) == entries
    assert len(file.oldest(100, exactly - 1)) == max(entries - 1, 1), "at least one"
    assert len(file.oldest(entries, 1 << 20)) == entries
    file.close()
