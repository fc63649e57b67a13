"""Bounds the heavy reads that a worker serves at once, so that they leave time and connections for everything else.

Which routes are heavy is part of their rule: see `route_rules`.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from flask import Flask, current_app
from flask.globals import request_ctx

from conversation.refusals.codes import Refused

AT_ONCE = 2  # of each worker
WAITING = 4  # more of them may wait for a turn
WAIT_S = 2.5
RETRY_AFTER_S = 1

_HAS_TURN = "turnlog.heavy_read"  # in the request's environ


class HeavyReads:
    """Turns of heavy reads. Safe to use from any thread."""

    def __init__(self, at_once: int = AT_ONCE, waiting: int = WAITING, wait_s: float = WAIT_S) -> None:
        self._turns = threading.BoundedSemaphore(at_once)
        self._admitted = threading.BoundedSemaphore(at_once + waiting)
        self._wait_s = wait_s

    def take(self) -> None:
        """Wait for a turn. Raises `Refused` if too many others wait, or if none becomes free in time."""
        if not self._admitted.acquire(blocking=False):
            raise _too_busy()
        if not self._turns.acquire(timeout=self._wait_s):
            self._admitted.release()
            raise _too_busy()

    def give_back(self) -> None:
        self._turns.release()
        self._admitted.release()

    @contextmanager
    def further_turn(self) -> Iterator[None]:
        """Wait for another turn of a read that has begun, however long that takes."""
        with self._turns:
            yield


def register(app: Flask) -> None:
    app.extensions["turnlog_heavy_reads"] = HeavyReads()
    app.teardown_request(_give_back)


def turns() -> HeavyReads:
    """Return the application's turns."""
    found: HeavyReads = current_app.extensions["turnlog_heavy_reads"]
    return found


def take_turn() -> None:
    """Wait for a turn, which ends with the request. Raises `Refused`."""
    turns().take()
    request_ctx.request.environ[_HAS_TURN] = turns()


def _give_back(_: BaseException | None) -> None:
    taken: HeavyReads | None = request_ctx.request.environ.pop(_HAS_TURN, None)
    if taken:
        taken.give_back()


def _too_busy() -> Refused:
    detail = "Too many searches, sums, exports and filtered lists are under way, and nothing was done; send it again"
    return Refused("too-busy", detail, retry_after=RETRY_AFTER_S)
