"""What a call says more than once, decided before the store is asked.

Statements about one interaction are weighed one after another, up to a limit. Where each key shall stand once, of
those that state the same one only the first is written; each of the others is told which that is.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from logging_store.addressing import Addressed
from logging_store.batches import Receipt, Row
from logging_store.records import MAX_REPEATS

#: The reason of a receipt of a record whose key another record of the call states as well.
IN_BATCH = "duplicate_in_batch"

_TOO_OFTEN = Receipt(
    receipt="rejected",
    fields=("interaction_id",),
    reason=f"More than {MAX_REPEATS} statements about one interaction in one batch; send this one in another",
)
_Weigh = Callable[[Sequence[Addressed]], list[Receipt]]


def not_too_often(addressed: Sequence[Addressed], weigh: _Weigh) -> list[Receipt]:
    """Weigh what doesn't name an interaction too often."""
    return besides(dict.fromkeys(_named_too_often(addressed), _TOO_OFTEN), addressed, weigh)


def besides(told: Mapping[int, Receipt], addressed: Sequence[Addressed], weigh: _Weigh) -> list[Receipt]:
    """Weigh the records that nothing is told of yet; `told` are the receipts of the others, by their places."""
    if not told:
        return weigh(addressed)
    others = [each for n, each in enumerate(addressed) if n not in told]
    written = iter(weigh(others) if others else ())
    return [told[n] if n in told else next(written) for n in range(len(addressed))]


def once_a_key(addressed: Sequence[Addressed], weigh: _Weigh) -> list[Receipt]:
    """Weigh the first of the records that state one key; the others' receipts follow from its."""
    places: dict[tuple[str, str], list[int]] = {}
    for n, each in enumerate(addressed):
        if each.keyed:
            places.setdefault((each.row["session_id"], each.row["id"]), []).append(n)
    repeated = [those for those in places.values() if len(those) > 1]
    if not repeated:
        return weigh(addressed)

    first_of = {later: those[0] for those in repeated for later in those[1:]}
    written = iter(weigh([each for n, each in enumerate(addressed) if n not in first_of]))
    receipts = {n: next(written) for n in range(len(addressed)) if n not in first_of}
    for later, first in first_of.items():
        receipts[later] = _of_a_repeat(
            receipts[first], _differing(addressed[first].row, addressed[later].row), (first, later)
        )
    for those in repeated:
        receipts[those[0]] = receipts[those[0]].model_copy(update={"places": tuple(those)})
    return [receipts[n] for n in range(len(addressed))]


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


def _named_too_often(addressed: Sequence[Addressed]) -> set[int]:
    """Return the places of the records whose interaction the batch has named `MAX_REPEATS` times before."""
    if len(addressed) <= MAX_REPEATS:
        return set()
    named: Counter[tuple[str, str]] = Counter()
    too_many = set()
    for place, each in enumerate(addressed):
        if each.kind == "interactions":
            who = each.row["session_id"], each.row["id"]
            named[who] += 1
            if named[who] > MAX_REPEATS:
                too_many.add(place)
    return too_many
