"""Builds the search index in the background, in short steps, by one thread per serving process.

All processes on all machines share the work. A pause of several times the step's length follows each step, so that
writes keep most of the machine. What isn't indexed yet is still found, only more slowly.
"""

import logging
import random
import threading
import time
from collections.abc import Iterator

from logging_store import operations as ops
from logging_store.errors import StoreBusy, StoreError
from logging_store.store import Store

_log = logging.getLogger(__name__)

STEP_MS = 100
_PAUSE_FACTOR = 9  # times the length of a step: a tenth of one CPU per process
_IDLE_S, _AWAY_S = 2.0, 30.0
_QUEUE_BATCH = 2_000  # interactions: writers of one of them wait meanwhile
_STOP_S = 2.0  # a step takes less, unless the store hangs


class Indexing:
    """The background thread that indexes a store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start in the serving process, since threads don't survive a fork."""
        self._stopped.clear()
        self._thread = threading.Thread(target=self._run, name="search-index", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        if self._thread:
            self._thread.join(_STOP_S)

    def step(self) -> float:
        """Index some pending interactions; return the pause until the next step, in seconds."""
        began = time.monotonic()
        try:
            done = index(self._store, STEP_MS)
        except StoreBusy as error:
            _log.warning("search: an indexing step was blocked or took too long; it will be retried: %s", error)
            return _AWAY_S
        except StoreError as error:
            _log.debug("search: indexing pauses while the store is away: %s", error)
            return _AWAY_S
        except Exception:  # noqa: BLE001 - nothing else indexes: log it and go on
            _log.exception("search: unexpected error in indexing")
            return _AWAY_S
        more = (
            done["left"] and done["indexed"]
        )  # if nothing was indexed, others have locked the rest: they write it, or index it
        pause = (time.monotonic() - began) * _PAUSE_FACTOR if more else _IDLE_S
        return pause * (0.5 + random.random())  # noqa: S311 - jitter, not a secret

    def _run(self) -> None:
        while not self._stopped.wait(self.step()):
            pass


def index(store: Store, ms: float) -> ops.Indexed:
    """Index pending interactions for about `ms` milliseconds."""
    return store.ask(ops.INDEX_PENDING, None, ops.IndexQuery(ms=ms))


def queue_all(store: Store) -> Iterator[int]:
    """Queue the interactions of all projects to be indexed again; yield how many each step queued."""
    first = ops.ReindexQuery(limit=_QUEUE_BATCH, after=None)
    for step in ops.pages(lambda query: store.ask(ops.REINDEX, None, query), first):
        yield step["queued"]
