"""The contract of a store.

A `Store` may wrap another one, so stores stack: `GroupCommit(Spool(PostgresStore(…)))`. All of them pass the same
conformance tests. Each method may raise `StoreUnavailable` (retry: every write is idempotent) or `Misconfigured`.
"""

from dataclasses import dataclass
from typing import Protocol

from logging_store.batches import Batch, BatchReceipts
from logging_store.operations import A, Operation, Q, ServerSettings


@dataclass(frozen=True, slots=True)
class Backlog:
    """What a store has acknowledged and not delivered yet. `has_room`: whether it would spool more."""

    has_room: bool = False
    records: int = 0
    bytes: int = 0
    oldest_s: float = 0
    unreadable_files: int = 0
    dead_letters: int | None = 0  # None: the file can't be read
    others: int = 0  # records and dead letters that were acknowledged for another database


class Store(Protocol):
    def start(self) -> None:
        """Start background work in the serving process. A store works without it, too."""

    def write(self, batch: Batch) -> BatchReceipts:
        """Write a batch in one transaction; when this returns, everything the receipts acknowledge is durable.

        A dry run writes nothing and doesn't consider spooled records. Raises `Invalid` or `Conflict` if the data of one
        record fails the whole batch.
        """

    def ask(self, operation: Operation[Q, A], project: str | None, query: Q) -> A:
        """Run an operation and return its answer. `project`: None for operations on all projects."""

    def ping(self) -> ServerSettings:
        """Check that the store answers and commits durably; return its settings.

        Raises `Misconfigured` if its schema has another version, or if it may lose what it has acknowledged.
        """

    def backlog(self) -> Backlog:
        """Return what is spooled on this machine. Doesn't raise while the store is away."""

    def close(self) -> None:
        """Release connections, files and threads; the store may be used again afterwards."""
