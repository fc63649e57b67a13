"""The contract between the log and whatever keeps it.

A `Store` that wraps a `Store` is one too, so they stack; all of them pass the same conformance tests. Each method
may raise `StoreUnavailable` (the same call may be made again: every write is idempotent) or `Misconfigured`.
"""

from dataclasses import dataclass
from typing import Any, Protocol

from logging_store.batches import Batch, BatchReceipts
from logging_store.operations import A, Operation, Q


@dataclass(frozen=True, slots=True)
class Backlog:
    """What a store has acknowledged and not delivered yet. `has_room`: whether it would keep more."""

    has_room: bool = False
    records: int = 0
    bytes: int = 0
    oldest_s: float = 0
    unreadable_files: int = 0
    dead_letters: int | None = 0  # None: they can't be read


class Store(Protocol):
    def start(self) -> None:
        """Begin what needs no caller, in the process that serves. A store that was not started works as well."""

    def write(self, batch: Batch) -> BatchReceipts:
        """Store a batch in one transaction; when this returns, what the receipts say is durable.

        Of a dry run they say what would become of it; what waits on this machine isn't considered. Raises `Invalid` or
        `Conflict` if the data of some record makes the whole batch fail.
        """

    def ask(self, operation: Operation[Q, A], project: str | None, query: Q) -> A:
        """Return the answer of an operation. `project`: None of an operation that isn't of one project alone."""

    def ping(self) -> dict[str, Any]:
        """Ask whether the store may be trusted with an acknowledgement; return its settings.

        Raises `Misconfigured` if its schema is not ours or it doesn't keep what it acknowledges.
        """

    def backlog(self) -> Backlog:
        """Return what waits on this machine. Never raises for a store that is away."""

    def close(self) -> None:
        """Release what the store holds; it may be used again afterwards."""
