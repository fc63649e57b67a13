"""What was written is indexed for the search behind the writes, in short steps, by a thread of each serving process.

Steps of several processes, on any machine, share the work. Between two of them there is a pause several times as long
as the step, so that writes keep most of the machine; what isn't indexed yet is found more slowly, not less.
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
_REST = 9  # times as long as a step took, while there is more: a tenth of one CPU for each process
_IDLE_S, _AWAY_S = 2.0, 30.0
_QUEUED_AT_ONCE = 2_000  # interactions: who writes one of them waits meanwhile
_STOP_S = 2.0  # a step takes less, unless the store hangs


class Indexing:
    """The thread that indexes what a store holds."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin, in the process that serves: threads don't survive a fork."""
        self._ended.clear()
        self._thread = threading.Thread(target=self._run, name="search-index", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        if self._thread:
            self._thread.join(_STOP_S)

    def step(self) -> float:
        """Index some of what waits; return after how many seconds to go on."""
        began = time.monotonic()
        try:
            done = index(self._store, STEP_MS)
        except StoreBusy as error:
            _log.warning("search: a step of indexing was held up, or took too long; it is tried again: %s", error)
            return _AWAY_S
        except StoreError as error:
            _log.debug("search: nothing is indexed while the store is away: %s", error)
            return _AWAY_S
        except Exception:  # noqa: BLE001 - this thread is all that indexes: it tells, and goes on
            _log.exception("search: the index met an unexpected error")
            return _AWAY_S
        more = done["left"] and done["indexed"]  # others hold the rest: they write it, or index it themselves
        pause = (time.monotonic() - began) * _REST if more else _IDLE_S
        return pause * (0.5 + random.random())  # noqa: S311 - jitter, not a secret

    def _run(self) -> None:
        while not self._ended.wait(self.step()):
            pass


def index(store: Store, ms: float) -> ops.Indexed:
    """Index for about so many milliseconds."""
    return store.ask(ops.INDEX_PENDING, None, ops.IndexQuery(ms=ms))


def queue_all(store: Store) -> Iterator[int]:
    """Queue what all projects hold to be indexed anew, step by step; yield how many interactions each step queued."""
    first = ops.ReindexQuery(limit=_QUEUED_AT_ONCE, after=None)
    for step in ops.pages(lambda query: store.ask(ops.REINDEX, None, query), first):
        yield step["queued"]
