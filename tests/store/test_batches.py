"""A batch can be split anywhere: no explicit record is lost or duplicated, and each part has the parents it needs."""

from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import to_json

from logging_store.batches import KINDS, Batch, BatchReceipts, Receipt, Row
from logging_store.spool.files import parse_batch

_FOLDERS, _SESSIONS = ["f1", "f2"], ["s1", "s2", "s3", "s4"]
_AT = "2026-11-21T06:30:00+00:00"


@st.composite
def batches(draw: st.DrawFn) -> Batch:
    """Return a batch as the repository makes them: whatever is named is among the rows, stated or brought along."""
    number = iter(range(1000))

    def row(**more: object) -> Row:
        return {"created_at": _AT, "marker": next(number), **more}

    folder = st.sampled_from([*_FOLDERS, None])
    stated = [
        row(id=draw(st.sampled_from(_SESSIONS)), implicit=False, **({"folder_id": name} if name else {}))
        for name in draw(st.lists(folder, max_size=4))
    ]
    names = st.lists(st.sampled_from(_SESSIONS), max_size=5)
    interactions = [row(session_id=name, id=f"i{n}") for n, name in enumerate(draw(names))]
    participants = [row(session_id=name, participant=f"p{n}") for n, name in enumerate(draw(names))]
    planned = draw(st.lists(st.sampled_from(_SESSIONS), max_size=2))
    folders = [
        row(id=name, implicit=False, sessions=[{"id": session} for session in planned])
        for name in draw(st.lists(st.sampled_from(_FOLDERS), max_size=2))
    ]
    spans = [
        row(trace_session=draw(st.sampled_from(_SESSIONS)), **({} if name is None else {"stated_session": name}))
        for name in draw(st.lists(st.sampled_from([*_SESSIONS, None]), max_size=3))
    ]
    known = {each["id"] for each in stated}
    named = sorted({each["session_id"] for each in interactions + participants} - known)
    folders_known = {each["id"] for each in folders}
    folders_named = sorted({each["folder_id"] for each in stated if "folder_id" in each} - folders_known)
    return Batch(
        "p",
        [*stated, *(row(id=name, key=f"key of {name}", implicit=True) for name in named)],
        interactions,
        [*folders, *(row(id=name, implicit=True) for name in folders_named)],
        participants,
        spans=spans,
    )


def marks(*parts: Batch) -> list[int]:
    return sorted(row["marker"] for part in parts for row in part.explicit_rows())


def assert_whole(batch: Batch) -> None:
    """Check that every record has its parents beside it."""
    sessions, folders = {row["id"] for row in batch.sessions}, {row["id"] for row in batch.folders}
    assert {row["session_id"] for row in (*batch.participants, *batch.interactions)} <= sessions
    assert {row["folder_id"] for row in batch.sessions if "folder_id" in row} <= folders


@given(batches(), st.sets(st.sampled_from(_FOLDERS + _SESSIONS)))
def test_select_and_exclude_partition_a_batch(batch: Batch, ids: set[str]) -> None:
    part, rest = batch.select(ids), batch.exclude(ids)
    assert marks(part, rest) == marks(batch)
    assert_whole(part)
    assert_whole(rest)
    assert not any(row.get("session_id", row.get("id")) in ids for row in rest.explicit_rows())


def parted(batch: Batch) -> Iterator[Batch]:
    halves = batch.halves()
    if not halves:
        yield batch
    for half in halves:
        yield from parted(half)


@given(batches())
def test_repeated_halving_ends_with_single_records(batch: Batch) -> None:
    ends = list(parted(batch))
    assert marks(*ends) == marks(batch)
    assert all(len(each.explicit_rows()) <= 1 for each in ends)
    for end in ends:
        assert_whole(end)


@given(batches())
def test_a_single_record_keeps_its_parents(batch: Batch) -> None:
    for row in batch.explicit_rows():
        alone = batch.single(row)
        assert alone.explicit_rows() == [row]
        assert_whole(alone)
        keys = {each["id"]: each.get("key") for each in batch.sessions}
        assert all(each.get("key") == keys[each["id"]] for each in alone.sessions if each is not row)


@given(st.lists(batches(), min_size=1, max_size=4))
def test_merged_receipts_are_split_again(several: list[Batch]) -> None:
    together = Batch.merge(several)
    numbered = iter(range(10_000))
    receipts = BatchReceipts(
        **{
            kind: [Receipt(receipt="created", reason=str(next(numbered))) for _ in getattr(together, kind)]
            for kind in KINDS
        }
    )
    reasons = {id(row): receipt.reason for row, receipt in zip(together.rows(), receipts, strict=True)}
    for batch, own in zip(several, receipts.split(several), strict=True):
        assert [reasons[id(row)] for row in batch.rows()] == [receipt.reason for receipt in own]


@given(batches())
def test_a_batch_survives_its_json_form(batch: Batch) -> None:
    back = parse_batch(to_json(batch.to_json()))
    assert [list(getattr(back, kind)) for kind in KINDS] == [list(getattr(batch, kind)) for kind in KINDS]
