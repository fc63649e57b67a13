"""Bounds how many messages are read of a list, a span and a request, before they are read.

A few bytes may stand for many messages once they are decompressed.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from logging_store.records.json_values import MAX_MESSAGES

MOST_OF_SPAN = 3 * MAX_MESSAGES  # what several dialects say is read of each
MOST_OF_REQUEST = 100_000


class TooManyMessagesError(ValueError):
    """A span has more messages than are read."""


class _Budget:
    def __init__(self) -> None:
        self.of_request = MOST_OF_REQUEST
        self.of_span = MOST_OF_SPAN


_current: ContextVar[_Budget | None] = ContextVar("budget", default=None)


@contextmanager
def of_request() -> Iterator[None]:
    """Count the messages that are read within as those of one request."""
    token = _current.set(_Budget())
    try:
        yield
    finally:
        _current.reset(token)


def next_span() -> None:
    """Count what is read from now on as another span's."""
    if (budget := _current.get()) is not None:
        budget.of_span = MOST_OF_SPAN


def check(count: int) -> None:
    """Raise `TooManyMessagesError` if a list has more items than a call may have messages."""
    if count > MAX_MESSAGES:
        raise TooManyMessagesError(f"May have {MAX_MESSAGES:,} messages, and has {count:,}")


def spend(count: int) -> None:
    """Take what is to be read from the budget. Raises `TooManyMessagesError` if it is too much."""
    check(count)
    budget = _current.get()
    if budget is None:
        return
    if count > budget.of_span:
        raise TooManyMessagesError(f"May have {MAX_MESSAGES:,} messages, and has more in all its attributes and events")
    if count > budget.of_request:
        raise TooManyMessagesError(f"A request may have {MOST_OF_REQUEST:,} messages in all its spans")
    budget.of_span -= count
    budget.of_request -= count
