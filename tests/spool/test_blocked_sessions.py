"""A blocked session is tried by the drain after a pause, and by callers once nothing was heard of it for a minute."""

import pytest

from logging_store.batches import Batch
from logging_store.spool.blocked_sessions import BLOCK_S, BlockedSessions
from tests.spool.flaky_store import PROJECT

ONE = "00000000-0000-0000-0000-00000000000a"
TWO = "00000000-0000-0000-0000-00000000000b"


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def of(*sessions: str, project: str = PROJECT) -> Batch:
    return Batch(project, [{"id": each} for each in sessions])


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def blocked(clock: Clock) -> BlockedSessions:
    return BlockedSessions(clock)


def test_sessions_are_blocked_until_they_are_unblocked(blocked: BlockedSessions) -> None:
    assert blocked.blocked_in(of(ONE)) == set()
    blocked.block(of(ONE))
    assert blocked.blocked_in(of(ONE, TWO)) == {ONE}
    assert blocked.blocked_in(of(ONE, project="other")) == set()
    blocked.unblock(of(TWO))
    assert blocked.blocked_in(of(ONE)) == {ONE}
    blocked.unblock(of(ONE, TWO))
    assert blocked.blocked_in(of(ONE)) == set()


def test_the_drain_waits_for_the_pause(blocked: BlockedSessions, clock: Clock) -> None:
    blocked.block(of(ONE), pause_s=2)
    blocked.block(of(TWO))
    assert blocked.retry_delays() == {ONE: 2}, "the other one at once"
    clock.now += 1.5
    assert blocked.retry_delays() == {ONE: 0.5}
    clock.now += 0.5
    assert blocked.retry_delays() == {}
    assert blocked.blocked_in(of(ONE, TWO)) == {ONE, TWO}


def test_a_block_ends_by_itself(blocked: BlockedSessions, clock: Clock) -> None:
    blocked.block(of(ONE), pause_s=2)
    blocked.block(of(TWO))
    clock.now += BLOCK_S
    assert blocked.blocked_in(of(ONE, TWO)) == {ONE}, "it lasts for the pause, too"
    clock.now += 2
    assert blocked.blocked_in(of(ONE, TWO)) == set()
