"""A real store that can be made unavailable, and batches to write to it."""

import threading
import uuid
from collections.abc import Callable
from typing import Any

from logging_store.batches import Batch, BatchReceipts
from logging_store.errors import StoreUnavailable
from logging_store.store import Store

PROJECT = "default"


class FlakyStore:
    """A store that wraps a real one: while `away` is set, each call raises it. Counts its calls."""

    def __init__(self, inner: Store) -> None:
        self.inner = inner
        self.away: Exception | None = None
        self.refuses: Callable[[Batch], Exception | None] = lambda _: None
        self.lost_answers = 0  # how many of the next writes are stored, but their answer is lost
        self.writes: list[Batch] = []
        self.asked = 0
        self._lock = threading.Lock()

    def __getattr__(self, name: str) -> Any:
        call = getattr(self.inner, name)

        def ask(*arguments: Any) -> Any:
            self._ask()
            return call(*arguments)

        return ask

    def start(self) -> None:
        self.inner.start()

    def close(self) -> None:
        self.inner.close()

    def write(self, batch: Batch) -> BatchReceipts:
        self._ask()
        if error := self.refuses(batch):
            raise error
        receipts = self.inner.write(batch)
        with self._lock:
            self.writes.append(batch)
            if self.lost_answers:
                self.lost_answers -= 1
                raise StoreUnavailable("the answer was lost")
        return receipts

    def _ask(self) -> None:
        with self._lock:
            self.asked += 1
        if self.away is not None:
            raise self.away


def batch_of(prompt: str, *, session_id: str | None = None, id_: str | None = None, **more: Any) -> Batch:
    """Return a batch of one interaction and its session."""
    session_id = session_id or str(uuid.uuid4())
    created_at = "2026-11-21T10:00:00+00:00"
    row = {
        "session_id": session_id,
        "id": id_ or str(uuid.uuid4()),
        "prompt": prompt,
        "created_at": created_at,
        **more,
    }
    return Batch(PROJECT, [{"id": session_id, "implicit": True, "created_at": created_at}], [row])
