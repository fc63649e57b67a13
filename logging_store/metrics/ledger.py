"""Counts the outcome of every record, so that none can be lost unnoticed.

At any moment, over all processes:

    received = created + filled + duplicate + revised + conflict + rejected + spooled + failed + in flight

`failed`: answered with an error, or lost with its process, and not acknowledged. A spooled record is counted again, by
its outcome, when it is delivered.
"""

import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import get_args

from logging_store.batches import Outcome, Receipt
from logging_store.metrics.shared_memory import SharedCounters

OUTCOMES: tuple[str, ...] = (*get_args(Outcome), "failed")
DELIVERED = tuple(outcome for outcome in get_args(Outcome) if outcome != "spooled")

#: Upper bounds of the histograms' buckets; the last bucket has none.
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
RECORDS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
HISTOGRAMS = {"write_seconds": SECONDS, "store_seconds": SECONDS, "group_records": RECORDS}

#: Calls, not records: rejected by a limit, and not counted since the limits' store was unavailable.
CALLS = ("limited", "uncounted")

_NAMES = (
    "received",
    "in_flight",
    "open_breakers",
    *CALLS,
    *OUTCOMES,
    *(f"delivered_{outcome}" for outcome in DELIVERED),
    *chain.from_iterable(
        (f"{name}_sum", *(f"{name}_{n}" for n in range(len(bounds) + 1))) for name, bounds in HISTOGRAMS.items()
    ),
)


class Ledger:
    """The counters of a service. `slots`: how many processes may count at a time, apart from its creator.

    `redacted`: the names of the redaction's finders.
    """

    def __init__(self, slots: int = 1, redacted: Sequence[str] = ()) -> None:
        self.redactions = tuple(redacted)
        names = (f"{counter}_{name}" for counter in ("redacted", "not_redacted") for name in redacted)
        self.counters = SharedCounters((*_NAMES, *names), slots)

    @contextmanager
    def receiving(self, records: int) -> Iterator[list[Receipt]]:
        """Count records as in flight within the block; count them by outcome at its end.

        The block appends receipts to the list; records without one count as failed.
        """
        self.counters.add(("received", records), ("in_flight", records))
        receipts: list[Receipt] = []
        started = time.monotonic()
        try:
            yield receipts
        finally:
            outcomes = Counter[str](receipt.receipt for receipt in receipts)
            outcomes["failed"] += records - len(receipts)
            self.counters.add(
                ("in_flight", -records), *outcomes.items(), *_observe("write_seconds", time.monotonic() - started)
            )

    def reject(self, records: int) -> None:
        """Count records that were rejected before they reached the store."""
        if records:
            self.counters.add(("received", records), ("rejected", records))

    def delivered(self, receipt: Receipt) -> None:
        """Count a spooled record by the outcome of its delivery."""
        self.counters.add((f"delivered_{receipt.receipt}", 1))

    def written(self, records: int, seconds: float) -> None:
        """Observe a call of the store that wrote a group of records."""
        self.counters.add(*_observe("group_records", records), *_observe("store_seconds", seconds))

    def redacted(self, replaced: Mapping[str, int], failed: Mapping[str, int]) -> None:
        """Count replacements, and texts that could not be redacted, by finder."""
        counted = [(f"redacted_{name}", count) for name, count in replaced.items()]
        counted += [(f"not_redacted_{name}", count) for name, count in failed.items()]
        if counted:
            self.counters.add(*counted)

    def breaker(self, opened: int) -> None:
        """Count a circuit breaker that opened (1) or closed (-1)."""
        self.counters.add(("open_breakers", opened))

    def call(self, outcome: str) -> None:
        """Count a call, see `CALLS`."""
        self.counters.add((outcome, 1))

    def take_slot(self) -> int:
        return self.counters.take_slot()

    def release_slot(self, slot: int) -> None:
        """Add up the counts of a process that ended; its records in flight were not acknowledged."""
        self.counters.release_slot(slot, _close_ended)

    def totals(self) -> dict[str, float]:
        """Return all counters at one moment."""
        return self.counters.totals()


def buckets(totals: Mapping[str, float], histogram: str) -> tuple[list[tuple[str, float]], float]:
    """Return a histogram's cumulative buckets as (upper bound, count), and the sum of its observations."""
    counted, cumulated = 0.0, []
    for n, bound in enumerate((*HISTOGRAMS[histogram], None)):
        counted += totals[f"{histogram}_{n}"]
        cumulated.append(("+Inf" if bound is None else str(float(bound)), counted))
    return cumulated, totals[f"{histogram}_sum"]


def _observe(histogram: str, value: float) -> Iterable[tuple[str, float]]:
    return (f"{histogram}_sum", value), (f"{histogram}_{bisect_left(HISTOGRAMS[histogram], value)}", 1)


def _close_ended(own: dict[str, float]) -> dict[str, float]:
    # records in flight, or just being counted, were never answered
    answered = sum(own[outcome] for outcome in OUTCOMES if outcome != "failed")
    return own | {"in_flight": 0, "open_breakers": 0, "failed": own["received"] - answered}


_shared: Ledger | None = None


def create_shared(slots: int, redacted: Sequence[str] = ()) -> Ledger:
    """Create the ledger that this process and its forks share."""
    global _shared  # noqa: PLW0603 - workers load the application after the fork, so only memory is shared
    _shared = Ledger(slots, redacted)
    return _shared


def process_ledger(redacted: Sequence[str] = ()) -> Ledger:
    """Return the shared ledger, or a new one if there is none."""
    return _shared or Ledger(redacted=redacted)
