"""Counts what became of every record, so that nothing can be lost unseen.

At every moment, over all processes:

    received = created + filled + duplicate + conflict + rejected + spooled + failed + in flight

`failed` was answered with an error, or died with its process: nothing was acknowledged. What was spooled is counted
once more, by what it turned out to be, when it is delivered.
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

#: Of calls, not of records: refused by a limit, and let through since a limit's counts were away.
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
    """The counts of a service. `slots`: how many processes at a time may count, besides the one that made it.

    `redacted`: the names of what is replaced in texts.
    """

    def __init__(self, slots: int = 1, redacted: Sequence[str] = ()) -> None:
        self.redactions = tuple(redacted)
        names = (f"{what}_{name}" for what in ("redacted", "not_redacted") for name in redacted)
        self.counters = SharedCounters((*_NAMES, *names), slots)

    @contextmanager
    def receiving(self, records: int) -> Iterator[list[Receipt]]:
        """Count records as in flight; at the end, as what the receipts put into the list say."""
        self.counters.add(("received", records), ("in_flight", records))
        receipts: list[Receipt] = []
        started = time.monotonic()
        try:
            yield receipts
        finally:
            outcomes = Counter[str](receipt.receipt for receipt in receipts)
            outcomes["failed"] += records - len(receipts)
            self.counters.add(
                ("in_flight", -records), *outcomes.items(), *_observed("write_seconds", time.monotonic() - started)
            )

    def reject(self, records: int) -> None:
        """Count records that never got as far as the store."""
        if records:
            self.counters.add(("received", records), ("rejected", records))

    def delivered(self, receipt: Receipt) -> None:
        """Count what became of a record that had been spooled."""
        self.counters.add((f"delivered_{receipt.receipt}", 1))

    def written(self, records: int, seconds: float) -> None:
        """Count a call of the store that wrote a group of records."""
        self.counters.add(*_observed("group_records", records), *_observed("store_seconds", seconds))

    def redacted(self, replaced: Mapping[str, int], failed: Mapping[str, int]) -> None:
        """Count what was replaced in texts, and the texts that could not be gone through, by name."""
        counted = [(f"redacted_{name}", count) for name, count in replaced.items()]
        counted += [(f"not_redacted_{name}", count) for name, count in failed.items()]
        if counted:
            self.counters.add(*counted)

    def breaker(self, opened: int) -> None:
        """Count a circuit breaker that has opened (1) or closed (-1)."""
        self.counters.add(("open_breakers", opened))

    def call(self, outcome: str) -> None:
        """Count a call that met a limit: `limited` or `uncounted`."""
        self.counters.add((outcome, 1))

    def take_slot(self) -> int:
        return self.counters.take_slot()

    def release_slot(self, slot: int) -> None:
        """Take over the counts of a process that ended: what it had in flight was not acknowledged."""
        self.counters.release_slot(slot, _of_the_ended)

    def totals(self) -> dict[str, float]:
        """Return every count, as of one moment."""
        return self.counters.totals()


def buckets(totals: Mapping[str, float], histogram: str) -> tuple[list[tuple[str, float]], float]:
    """Return a histogram's cumulated buckets by their upper bounds, and the sum of what was observed."""
    counted, cumulated = 0.0, []
    for n, bound in enumerate((*HISTOGRAMS[histogram], None)):
        counted += totals[f"{histogram}_{n}"]
        cumulated.append(("+Inf" if bound is None else str(float(bound)), counted))
    return cumulated, totals[f"{histogram}_sum"]


def _observed(histogram: str, value: float) -> Iterable[tuple[str, float]]:
    return (f"{histogram}_sum", value), (f"{histogram}_{bisect_left(HISTOGRAMS[histogram], value)}", 1)


def _of_the_ended(own: dict[str, float]) -> dict[str, float]:
    # what was in flight, or was just being counted when the process ended, nobody answered for
    answered = sum(own[outcome] for outcome in OUTCOMES if outcome != "failed")
    return own | {"in_flight": 0, "open_breakers": 0, "failed": own["received"] - answered}


_shared: Ledger | None = None


def share(slots: int, redacted: Sequence[str] = ()) -> Ledger:
    """Make the ledger that this process and those forked from it count in."""
    global _shared  # noqa: PLW0603 - workers load the application after the fork: only memory reaches them
    _shared = Ledger(slots, redacted)
    return _shared


def of_this_process(redacted: Sequence[str] = ()) -> Ledger:
    """Return the shared ledger, or one of its own where none was shared."""
    return _shared or Ledger(redacted=redacted)
