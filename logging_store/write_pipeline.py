"""How the records of one call are written, so that an invalid one doesn't fail the others.

Each check is a function from rows to receipts, by position, made before the store is asked. The rows without a receipt
are written in one batch; one that the store refuses for the data of some record is halved until that record stands
alone.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from logging_store.addressing import Addressed
from logging_store.batches import Receipt, Row, receipt_of
from logging_store.errors import Conflict, Invalid
from logging_store.records.models import Feedback, Interaction, Record, Session
from logging_store.records.restored import Restored

#: The reason of a receipt of a record whose key another record of the call states as well.
IN_BATCH = "duplicate_in_batch"

_AHEAD = timedelta(minutes=5)  # that a caller's clock may be
_GIVEN_AHEAD = Receipt(
    receipt="rejected",
    fields=("given_at",),
    reason="Must not be later than now: nobody could change their mind until then; set the clock, or leave it out",
)

_STARTED_AHEAD = timedelta(days=1)
_STARTS_LATER = Receipt(
    receipt="rejected",
    fields=("started_at",),
    reason="Must not be more than a day ahead of the service's clock; a session has scheduled_on for what is planned",
)

Write = Callable[[Sequence[Addressed]], list[Receipt]]


def future_times(records: Sequence[Record], now: datetime) -> dict[int, Receipt]:
    """Refuse what is said to be of a time that is yet to come. What is restored was checked when it first came in."""
    refused = {}
    given_by, started_by = now + _AHEAD, now + _STARTED_AHEAD
    for n, each in enumerate(records):
        if isinstance(each, Restored):
            continue
        if isinstance(each, Feedback):
            if each.given_at is not None and each.given_at > given_by:
                refused[n] = _GIVEN_AHEAD
        elif isinstance(each, Interaction | Session) and each.started_at is not None and each.started_at > started_by:
            refused[n] = _STARTS_LATER
    return refused


def write_records(
    rows: Sequence[Addressed], refused: Mapping[int, Receipt], write: Write, *, distinct_keys: bool = False
) -> list[Receipt]:
    """Write the rows that aren't refused; return the receipts of all, in order.

    `distinct_keys`: of those that state one key of several parts only the first is written, and all of them say so.
    """
    repeats = _repeated_keys(rows, refused) if distinct_keys else {}
    if not refused and not repeats:
        return _write_halved(rows, write)
    left = [n for n in range(len(rows)) if n not in refused and n not in repeats]
    receipts = dict(refused)
    receipts.update(zip(left, _write_halved([rows[n] for n in left], write) if left else (), strict=True))
    _complete(rows, receipts, repeats)
    return [receipts[n] for n in range(len(rows))]


def _write_halved(rows: Sequence[Addressed], write: Write) -> list[Receipt]:
    """Write rows in one batch; while the data of some record fails it, halve it until that one stands alone."""
    try:
        return write(rows)
    except (Invalid, Conflict) as error:
        if len(rows) == 1:
            return [receipt_of(error)]
        middle = len(rows) // 2
        return _write_halved(rows[:middle], write) + _write_halved(rows[middle:], write)


def _repeated_keys(rows: Sequence[Addressed], refused: Mapping[int, Receipt]) -> dict[int, int]:
    """Return position -> that of the first with the same key, of the rows that state one again."""
    first: dict[tuple[str, str], int] = {}
    repeats = {}
    for n, each in enumerate(rows):
        if each.keyed and n not in refused:
            place = first.setdefault((each.row["session_id"], each.row["id"]), n)
            if place != n:
                repeats[n] = place
    return repeats


def _complete(rows: Sequence[Addressed], receipts: dict[int, Receipt], repeats: Mapping[int, int]) -> None:
    """Add the receipts of the rows that repeat a key: they follow from that of the first."""
    places: dict[int, list[int]] = {}
    for later, first in repeats.items():
        places.setdefault(first, [first]).append(later)
        differing = _differing(rows[first].row, rows[later].row)
        receipts[later] = _of_a_repeat(receipts[first], differing, (first, later))
    for first, those in places.items():
        receipts[first] = receipts[first].model_copy(update={"places": tuple(those)})


def _of_a_repeat(first: Receipt, differing: tuple[str, ...], places: tuple[int, int]) -> Receipt:
    """Return the receipt of a record with the key of one that was written with this receipt."""
    if differing:
        return Receipt(receipt="rejected", fields=differing, reason=IN_BATCH, places=places)
    if not first.kept:
        return first.model_copy(update={"places": places})
    if first.differs:  # as if it came again later: then there is nothing left to fill
        return Receipt(receipt="conflict", fields=first.differs, reason=IN_BATCH, places=places)
    return Receipt(receipt="duplicate" if first.stored else "spooled", reason=IN_BATCH, places=places)


def _differing(one: Row, other: Row) -> tuple[str, ...]:
    """Name the facts that two rows of one identity don't share, as the store names them."""
    mine, theirs = _facts(one), _facts(other)
    shared = mine.keys() & theirs.keys()
    return tuple(sorted(mine.keys() ^ theirs.keys() | {name for name in shared if not _same(mine[name], theirs[name])}))


def _facts(row: Row) -> dict[str, Any]:
    facts = {name: value for name, value in row.items() if name != "created_at" and value not in ([], {})}
    facts |= {f"metadata.{name}": value for name, value in facts.pop("metadata", {}).items()}
    if "tags" in facts:
        facts["tags"] = sorted(facts["tags"])
    return facts


def _same(one: Any, other: Any) -> bool:
    """Tell whether two JSON values are the same: 5 and 5.0 are, 1 and true are not."""
    match one, other:
        case Mapping(), Mapping():
            return one.keys() == other.keys() and all(_same(value, other[name]) for name, value in one.items())
        case list(), list():
            return len(one) == len(other) and all(map(_same, one, other))
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)
