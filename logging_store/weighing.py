"""Has a store judge the records of one call, so that none of them harms the others."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta

from logging_store import repeats
from logging_store.addressing import Addressed
from logging_store.batches import KINDS, Batch, BatchReceipts, Kind, OnConflict, Receipt, receipt_of
from logging_store.errors import Conflict, Invalid
from logging_store.records import Feedback, Record
from logging_store.restored import RestoredFeedback

_BatchOf = Callable[[Sequence[Addressed]], Batch]
_Write = Callable[[Batch], BatchReceipts]

_AHEAD = timedelta(minutes=5)  # that a caller's clock may be
_GIVEN_AHEAD = Receipt(
    receipt="rejected",
    fields=("given_at",),
    reason="Must not be later than now: nobody could change their mind until then; set the clock, or leave it out",
)


def decide_conflicts(addressed: Sequence[Addressed], on_conflict: OnConflict) -> None:
    """Say in the rows of interactions what becomes of what is stored already."""
    if on_conflict != "keep":  # which a row need not say
        for each in addressed:
            if each.kind == "interactions":
                each.row["on_conflict"] = on_conflict


def given_ahead(records: Sequence[Record], now: datetime) -> dict[int, Receipt]:
    """Refuse feedback of a time that is yet to come, by its place. What is restored was taken in before."""
    return {
        n: _GIVEN_AHEAD
        for n, each in enumerate(records)
        if isinstance(each, Feedback)
        and not isinstance(each, RestoredFeedback)
        and each.given_at is not None
        and each.given_at > now + _AHEAD
    }


def weigh(
    addressed: Sequence[Addressed],
    refused: Mapping[int, Receipt],
    batch_of: _BatchOf,
    write: _Write,
    *,
    distinct_keys: bool = False,
) -> list[Receipt]:
    """Write what isn't refused already, by its place, and what the call doesn't say too often."""

    def write_these(these: Sequence[Addressed]) -> list[Receipt]:
        return _write_parted(these, batch_of, write)

    def not_too_often(these: Sequence[Addressed]) -> list[Receipt]:
        return repeats.not_too_often(these, write_these)

    def weigh_these(these: Sequence[Addressed]) -> list[Receipt]:
        return repeats.once_a_key(these, not_too_often) if distinct_keys else not_too_often(these)

    return repeats.besides(refused, addressed, weigh_these)


def _write_parted(addressed: Sequence[Addressed], batch_of: _BatchOf, write: _Write) -> list[Receipt]:
    """Write records in one batch; while data of some record fails it, halve it until that one stands alone."""
    try:
        receipts = write(batch_of(addressed))
    except (Invalid, Conflict) as error:
        if len(addressed) == 1:
            return [receipt_of(error)]
        middle = len(addressed) // 2
        first, second = addressed[:middle], addressed[middle:]
        return _write_parted(first, batch_of, write) + _write_parted(second, batch_of, write)
    of_kind: dict[Kind, Iterator[Receipt]] = {kind: iter(getattr(receipts, kind)) for kind in KINDS}
    return [next(of_kind[each.kind]) for each in addressed]
