"""Receipts say what became of a record. A receipt is a future, but nobody has to look at it."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

#: Outcomes after which the service has the record.
STORED = frozenset({"created", "filled", "duplicate", "revised", "spooled"})


class Outcome(NamedTuple):
    """What became of a record.

    `state`: `created`, `filled`, `duplicate`, `revised`, `spooled` (on the service's disk), `conflict`, `rejected`, or
    `refused` (this client didn't take it). `fields`: those that were filled, or that are wrong. `dropped`: fields that
    the service refused, without which it stored the record. `answer`: what the service said.
    """

    state: str
    fields: tuple[str, ...] = ()
    reason: str | None = None
    dropped: tuple[str, ...] = ()
    answer: dict[str, Any] | None = None

    @property
    def stored(self) -> bool:
        return self.state in STORED


class Place(Protocol):
    """Where a queued record is. `synced`: records that end before this offset survive the machine, too."""

    number: int
    durable: bool
    synced: int


class Board:
    """What the receipts of a client share: how to wait, and who must not be forgotten meanwhile."""

    def __init__(self) -> None:
        self.condition = threading.Condition()
        self.asked = threading.Event()  # somebody waits, so nothing lingers
        self.held: set[Receipt] = set()


class Receipt:
    """The receipt of one record."""

    __slots__ = ("__weakref__", "_board", "_callbacks", "_end", "_place", "interaction_id", "outcome", "session_id")

    def __init__(self, board: Board, session_id: str, interaction_id: str | None) -> None:
        self.session_id = session_id
        self.interaction_id = interaction_id
        self.outcome: Outcome | None = None
        self._board = board
        self._place: Place | None = None
        self._end = 0
        self._callbacks: list[Callable[[Receipt], None]] = []

    def __repr__(self) -> str:
        return f"<Receipt {self.state} of {self.session_id}/{self.interaction_id}>"

    @property
    def state(self) -> str:
        """Return the outcome's state; before there is one `queued`, or `kept` once the record is synced to the disk."""
        if self.outcome is not None:
            return self.outcome.state
        return "kept" if self._place is not None and self.durable and self._place.synced >= self._end else "queued"

    @property
    def durable(self) -> bool:
        """Return whether the record outlives this process: it does in the spool, and at the service."""
        if self.outcome is not None:
            return self.outcome.stored
        return self._place is not None and self._place.durable

    def done(self) -> bool:
        return self.outcome is not None

    def result(self, timeout: float | None = None) -> Outcome:
        """Wait for the outcome. Raises `TimeoutError`; a record that was rejected is an outcome, and raises nothing."""
        self._board.asked.set()
        with self._board.condition:
            if not self._board.condition.wait_for(self.done, timeout) or self.outcome is None:
                raise TimeoutError(f"The record is still {self.state}")
            return self.outcome

    def add_done_callback(self, callback: Callable[[Receipt], None]) -> None:
        """Call back with this receipt when it has an outcome, from the thread that learns it; at once if it has one."""
        with self._board.condition:
            if self.outcome is None:
                self._callbacks.append(callback)
                self._board.held.add(self)
                return
        callback(self)

    def __await__(self) -> Generator[Any, None, Outcome]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Outcome] = loop.create_future()

        def settle(receipt: Receipt) -> None:
            if not future.done() and receipt.outcome is not None:
                future.set_result(receipt.outcome)

        def tell(receipt: Receipt) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed; nobody waits
                loop.call_soon_threadsafe(settle, receipt)

        self.add_done_callback(tell)
        self._board.asked.set()
        return (yield from future)

    def locate(self, place: Place, end: int) -> None:
        self._place, self._end = place, end

    def settle(self, outcome: Outcome) -> list[Callable[[Receipt], None]]:
        """Set the outcome and return whom to call. The caller holds the board's condition, and wakes who waits."""
        self.outcome, self._place = outcome, None
        callbacks, self._callbacks = self._callbacks, []
        self._board.held.discard(self)
        return callbacks


@dataclass(frozen=True)
class FlushReport:
    """What became of the records of this client so far, and whether the rest outlives the process.

    The outcomes count this process's interactions, lists of messages and feedback; sessions only count where they are
    refused. `waiting` records have no outcome yet, of this process or adopted from an earlier one.
    """

    created: int = 0
    filled: int = 0
    duplicate: int = 0
    revised: int = 0
    spooled: int = 0
    conflict: int = 0
    rejected: int = 0
    refused: int = 0
    waiting: int = 0
    #: Records of earlier processes that were sent.
    adopted: int = 0
    #: Records that were held in memory only, since the disk couldn't take them or isn't used.
    in_memory: int = 0
    #: Lines of the spool that are damaged. They are kept with the dead letters.
    damaged: int = 0
    #: Records that the service refused, and that the full file of dead letters could not take.
    lost: int = 0
    #: Errors of this client itself. The first of each kind is in the log, under `turnlog.client`.
    failures: int = 0
    #: Whether everything that waits is on a disk, and what is logged next will be.
    durable: bool = True
    #: Why records wait, if the last attempt failed.
    error: str | None = None

    @property
    def stored(self) -> int:
        return self.created + self.filled + self.duplicate + self.revised + self.spooled

    @property
    def complete(self) -> bool:
        """Return whether everything that was logged is stored."""
        return not (self.waiting or self.conflict or self.rejected or self.refused or self.damaged or self.lost)
