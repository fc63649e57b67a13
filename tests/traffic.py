"""What callers say, as batches: the rows that the service makes of a statement, whoever writes them and when."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from logging_store.batches import Batch, BatchReceipts, Receipt
from logging_store.records.models import Interaction, Session
from logging_store.repository import ConversationRepository
from tests.conftest import PROJECT

Statement = Session | Interaction
Row = dict[str, Any]

RECEIVED = datetime(2026, 11, 21, 12, tzinfo=UTC)


class _Taker:
    """A store that takes down what it is given, and keeps nothing."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []

    def write(self, batch: Batch) -> BatchReceipts:
        self.batches.append(batch)
        told = Receipt(receipt="created")
        return BatchReceipts([told] * len(batch.sessions), [told] * len(batch.interactions))

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"{name} is not asked of this store")


def as_batch(stated: Sequence[Statement], clock: Callable[[], datetime] = lambda: RECEIVED) -> Batch:
    """Return all that is stated as one batch, in its order. `clock`: when it was received."""
    taker = _Taker()
    repository = ConversationRepository(taker, PROJECT, clock)
    for each in stated:
        if isinstance(each, Session):
            repository.ensure_session(each)
    if interactions := [each for each in stated if isinstance(each, Interaction)]:
        repository.log(interactions)
    return Batch.merge(taker.batches)
