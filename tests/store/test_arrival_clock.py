"""The time at which records arrive survives a clock that is wrong, or is set while the service runs."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest

from logging_store.arrival_clock import ArrivalClock
from logging_store.errors import StoreUnavailable

START = datetime(2026, 11, 29, 12, tzinfo=UTC)
DAY, YEARS = timedelta(days=1), timedelta(days=3652)


@dataclass
class World:
    """The true time, what the clocks show in its place, and whether the database answers."""

    true: datetime = START
    machine_off: timedelta = timedelta()
    database_off: timedelta = timedelta()
    away: bool = False
    asked: int = 0
    clock: ArrivalClock = field(init=False)

    def __post_init__(self) -> None:
        self.clock = ArrivalClock(
            self.database,
            self.wall,
            lambda: (self.true - START).total_seconds() + 77,
        )

    def wall(self) -> float:
        return (self.true + self.machine_off).timestamp()

    def database(self) -> datetime:
        self.asked += 1
        if self.away:
            raise StoreUnavailable
        return self.true + self.database_off

    def after(self, passed: timedelta) -> timedelta:
        """Let time pass; return how far the clock is from the true time then."""
        self.true += passed
        return self.clock() - self.true


@pytest.fixture
def world() -> World:
    return World()


def test_clocks_that_agree_are_compared_once(world: World) -> None:
    world.machine_off = timedelta(minutes=-3)
    for _ in range(100):
        assert world.after(timedelta(minutes=1)) == timedelta(minutes=-3), "this machine's own"
    assert world.asked == 1


@pytest.mark.parametrize("jump", [DAY, -DAY, YEARS, -YEARS])
def test_a_jump_of_this_machines_clock_is_none_of_the_records(world: World, jump: timedelta) -> None:
    assert world.after(DAY) == timedelta()
    world.machine_off = jump
    for _ in range(1000):
        assert world.after(timedelta(seconds=1)) == timedelta()
    assert world.asked < 50, "the database isn't asked for each record"
    world.machine_off = timedelta()
    assert world.after(DAY) == timedelta()


@pytest.mark.parametrize("jump", [DAY, -YEARS])
def test_a_jump_during_an_outage_is_none_either(world: World, jump: timedelta) -> None:
    assert world.after(DAY) == timedelta()
    world.machine_off, world.away = jump, True
    for _ in range(1000):
        assert world.after(timedelta(seconds=1)) == timedelta()
    assert world.asked < 50


def test_a_machine_that_starts_with_a_wrong_clock_takes_the_databases(world: World) -> None:
    world.machine_off = -YEARS
    assert world.after(DAY) == timedelta()
    assert world.after(timedelta(seconds=1)) == timedelta()


def test_until_the_database_answers_there_is_only_this_machines(world: World) -> None:
    world.machine_off, world.away = -YEARS, True
    assert world.after(timedelta(seconds=1)) == -YEARS
    world.away = False
    assert world.after(timedelta(seconds=60)) == timedelta()


def test_a_clock_that_was_set_right_is_this_machines_again(world: World) -> None:
    """After a suspended machine wakes up, the monotonic clock is behind: the database confirms the new time."""
    assert world.after(DAY) == timedelta()
    world.clock._zero = world.clock._zero and world.clock._zero - 9 * 3600  # noqa: SLF001 - nine hours of sleep
    world.machine_off = timedelta(minutes=2)
    assert world.after(DAY) == timedelta(minutes=2)


def test_where_the_database_is_wrong_its_time_counts_as_retention_counts_by_it(world: World) -> None:
    world.database_off = YEARS
    assert world.after(DAY) == YEARS
