"""A storage that fails is asked again after a pause, by one call at a time, and what passed meanwhile is counted."""

import logging
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from limits import RateLimitItemPerMinute
from limits.errors import StorageError

from conversation.access import window_counter
from conversation.access.window_counter import PAUSE_S, WindowCounter

RATE = RateLimitItemPerMinute(2)


class FailingStorage:
    """Fails while `failing` is set; `during` is called within each answer."""

    def __init__(self) -> None:
        self.failing = True
        self.asked = 0
        self.counted = 0
        self.during: Callable[[], Any] = lambda: None

    def incr(self, _key: str, _expiry: int, amount: int = 1) -> int:
        self.asked += 1
        self.during()
        if self.failing:
            raise StorageError(OSError("no storage"))
        self.counted += amount
        return self.counted

    def get(self, _key: str) -> int:
        return self.counted

    def get_expiry(self, _key: str) -> float:
        return 1030.5


class Ledger:
    def __init__(self) -> None:
        self.calls: list[str] = []

    def call(self, outcome: str) -> None:
        self.calls.append(outcome)


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(window_counter, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


@pytest.fixture
def storage() -> FailingStorage:
    return FailingStorage()


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


@pytest.fixture
def counter(storage: Any, ledger: Any, now: SimpleNamespace) -> WindowCounter:
    return WindowCounter("a test", lambda: storage, ledger, clock=lambda: 1000.0)


def test_a_storage_that_fails_is_asked_again_after_the_pause(
    counter: WindowCounter,
    storage: FailingStorage,
    ledger: Ledger,
    now: SimpleNamespace,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING)
    assert [counter.hit(RATE, "a") for _ in range(3)] == [None] * 3
    assert storage.asked == 1
    now.now += PAUSE_S - 0.01
    counter.hit(RATE, "a")
    assert storage.asked == 1
    now.now += 0.01
    counter.hit(RATE, "a")
    assert storage.asked == 2
    now.now += PAUSE_S - 0.01
    counter.hit(RATE, "a")
    assert storage.asked == 2, "a failed probe begins a pause of its own"
    assert ledger.calls == ["uncounted"] * 6

    storage.failing = False
    now.now += 0.01
    assert [counter.hit(RATE, "a") for _ in range(3)] == [None, None, 31]
    said = [record.getMessage() for record in caplog.records]
    assert [each.partition(";")[0] for each in said] == ["can't count in a test", "counting in a test again"]
    assert said[1].endswith("; 6 calls passed uncounted")
    assert ledger.calls == ["uncounted"] * 6


def test_one_call_at_a_time_tries_a_storage_that_failed(
    counter: WindowCounter, storage: FailingStorage, now: SimpleNamespace
) -> None:
    counter.hit(RATE, "a")
    now.now += PAUSE_S
    others: list[int | None] = []
    storage.during = lambda: others.append(counter.hit(RATE, "b"))
    counter.hit(RATE, "a")
    assert others == [None]
    assert storage.asked == 2


def test_a_call_too_large_for_the_rest_is_not_counted(counter: WindowCounter, storage: FailingStorage) -> None:
    storage.failing = False
    assert counter.hit(RATE, "a", cost=3) == 31
    assert storage.counted == 0
    assert counter.hit(RATE, "a", cost=2) is None
    assert counter.peek(RATE, "a") == 31
    assert counter.hit(RATE, "a") == 31
    storage.counted = 1
    assert counter.peek(RATE, "a") is None
    assert counter.hit(RATE, "a", cost=2) == 31


def test_a_wait_is_at_least_a_second(storage: Any, ledger: Any) -> None:
    counter = WindowCounter("a test", lambda: storage, ledger, clock=lambda: 1030.5)
    storage.failing = False
    assert counter.hit(RATE, "a", cost=3) == 1
