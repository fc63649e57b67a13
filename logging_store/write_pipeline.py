"""Writes the records of one call so that an invalid record doesn't fail the others.

Checks are pure functions from rows to receipts, by position, and run before the store is called. The rows without a
receipt are written in one batch. If the store rejects the batch because of one row's data, it is bisected until that
row stands alone.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from logging_store.batches import Receipt, Row, error_receipt
from logging_store.errors import Conflict, Invalid
from logging_store.records.models import Feedback, Interaction, Record, Restored, Session
from logging_store.row_builder import RecordRow

#: The receipt's reason for a record whose key another record of the same call has, too.
DUPLICATE_IN_BATCH = "duplicate_in_batch"

_MAX_CLOCK_SKEW = timedelta(minutes=5)  # of a caller's clock
_GIVEN_IN_FUTURE = Receipt(
    receipt="rejected",
    fields=("given_at",),
    reason="Must not be in the future: no change before that time would count; set the clock, or leave it out",
)

_MAX_START_AHEAD = timedelta(days=1)
_STARTS_IN_FUTURE = Receipt(
    receipt="rejected",
    fields=("started_at",),
    reason="Must not be more than a day ahead of the service's clock; a session has scheduled_on for what is planned",
)
_ENDS_IN_FUTURE = Receipt(
    receipt="rejected",
    fields=("completed_at",),
    reason="Must not be more than a day ahead of the service's clock: no later answer would be shown before that time",
)

Write = Callable[[Sequence[RecordRow]], list[Receipt]]


def check_times(records: Sequence[Record], now: datetime) -> dict[int, Receipt]:
    """Return position -> receipt of records dated in the future. Restored records were checked when they first came."""
    rejected = {}
    latest_given, latest_start = now + _MAX_CLOCK_SKEW, now + _MAX_START_AHEAD
    for n, record in enumerate(records):
        match record:
            case Restored():
                pass
            case Feedback(given_at=datetime() as given_at) if given_at > latest_given:
                rejected[n] = _GIVEN_IN_FUTURE
            case Interaction(started_at=datetime() as started_at) | Session(started_at=datetime() as started_at) if (
                started_at > latest_start
            ):
                rejected[n] = _STARTS_IN_FUTURE
            case Interaction(completed_at=datetime() as completed_at) if completed_at > latest_start:
                rejected[n] = _ENDS_IN_FUTURE
    return rejected


def write_records(
    rows: Sequence[RecordRow], rejected: Mapping[int, Receipt], write: Write, *, distinct_keys: bool = False
) -> list[Receipt]:
    """Write the rows that aren't rejected; return the receipts of all rows, in order.

    `write`: writes rows in one transaction and returns their receipts. `distinct_keys`: of rows that share a composite
    key only the first is written, and the receipts of all of them list their positions.
    """
    repeats = _find_repeated_keys(rows, rejected) if distinct_keys else {}
    if not rejected and not repeats:
        return _write_bisecting(rows, write)
    remaining = [n for n in range(len(rows)) if n not in rejected and n not in repeats]
    receipts = dict(rejected)
    if remaining:
        receipts.update(zip(remaining, _write_bisecting([rows[n] for n in remaining], write), strict=True))
    _add_repeat_receipts(rows, receipts, repeats)
    return [receipts[n] for n in range(len(rows))]


def _write_bisecting(rows: Sequence[RecordRow], write: Write) -> list[Receipt]:
    try:
        return write(rows)
    except (Invalid, Conflict) as error:
        if len(rows) == 1:
            return [error_receipt(error)]
        middle = len(rows) // 2
        return _write_bisecting(rows[:middle], write) + _write_bisecting(rows[middle:], write)


def _find_repeated_keys(rows: Sequence[RecordRow], rejected: Mapping[int, Receipt]) -> dict[int, int]:
    """Return, of each row that repeats a composite key, position -> position of the first row with that key."""
    first_positions: dict[tuple[str, str], int] = {}
    repeats = {}
    for n, each in enumerate(rows):
        if each.has_composite_key and n not in rejected:
            first = first_positions.setdefault((each.row["session_id"], each.row["id"]), n)
            if first != n:
                repeats[n] = first
    return repeats


def _add_repeat_receipts(rows: Sequence[RecordRow], receipts: dict[int, Receipt], repeats: Mapping[int, int]) -> None:
    """Add the receipts of rows that repeat a key, which follow from the receipt of the first row with that key."""
    positions: dict[int, list[int]] = {}
    for repeat, first in repeats.items():
        positions.setdefault(first, [first]).append(repeat)
        differing = _differing_fields(rows[first].row, rows[repeat].row)
        receipts[repeat] = _repeat_receipt(receipts[first], differing, (first, repeat))
    for first, sharing in positions.items():
        receipts[first] = receipts[first].model_copy(update={"places": tuple(sharing)})


def _repeat_receipt(first: Receipt, differing: tuple[str, ...], positions: tuple[int, int]) -> Receipt:
    if differing:
        return Receipt(receipt="rejected", fields=differing, reason=DUPLICATE_IN_BATCH, places=positions)
    if not first.acknowledged:
        return first.model_copy(update={"places": positions})
    if first.differs:  # the first has filled all that could be filled; the same record again only contradicts
        return Receipt(receipt="conflict", fields=first.differs, reason=DUPLICATE_IN_BATCH, places=positions)
    return Receipt(receipt="duplicate" if first.stored else "spooled", reason=DUPLICATE_IN_BATCH, places=positions)


def _differing_fields(one: Row, other: Row) -> tuple[str, ...]:
    """Return the names of the fields that differ between two rows, as the store names them: `metadata.lang`."""
    mine, theirs = _comparable_fields(one), _comparable_fields(other)
    shared = mine.keys() & theirs.keys()
    differing = {name for name in shared if not _json_equal(mine[name], theirs[name])}
    return tuple(sorted(mine.keys() ^ theirs.keys() | differing))


def _comparable_fields(row: Row) -> dict[str, Any]:
    fields = {name: value for name, value in row.items() if name != "created_at" and value not in ([], {})}
    fields |= {f"metadata.{name}": value for name, value in fields.pop("metadata", {}).items()}
    if "tags" in fields:
        fields["tags"] = sorted(fields["tags"])
    return fields


def _json_equal(one: Any, other: Any) -> bool:
    """Compare JSON values: 5 equals 5.0, but 1 doesn't equal true."""
    match one, other:
        case Mapping(), Mapping():
            return one.keys() == other.keys() and all(_json_equal(value, other[name]) for name, value in one.items())
        case list(), list():
            return len(one) == len(other) and all(map(_json_equal, one, other))
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)
