"""While the store is away writes are spooled and acknowledged as such; once it is back they are delivered."""

import contextlib
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from logging_store import operations as ops
from logging_store.batches import Batch
from logging_store.errors import Invalid, Misconfigured, SpoolFull, StoreUnavailable
from logging_store.spool import Limits, Spool, drain
from tests.spool.conftest import eventually
from tests.spool.flaky_store import PROJECT, FlakyStore, batch_of
from tests.store_calls import ask

AWAY = StoreUnavailable("nobody answers")
Prompts = Callable[[], list[str]]


def test_a_write_goes_to_the_store_while_it_answers(spool: Spool, prompts: Prompts) -> None:
    receipts = spool.write(batch_of("Hello"))
    assert [receipt.receipt for receipt in receipts] == ["created", "created"]
    assert prompts() == ["Hello"]
    assert not spool.directory.path.exists()


@pytest.mark.parametrize("away", [AWAY, Misconfigured("the key was taken back")])
def test_while_the_store_is_away_writes_are_spooled_and_later_delivered(
    spool: Spool, inner: FlakyStore, prompts: Prompts, away: Exception
) -> None:
    inner.away = away
    receipts = [receipt.receipt for n in range(5) for receipt in spool.write(batch_of(f"Said {n}"))]
    assert receipts == ["spooled"] * 10
    assert spool.directory.depth().records == 5
    assert prompts() == []

    inner.away = None
    eventually(lambda: len(prompts()) == 5, "delivered")
    assert prompts() == [f"Said {n}" for n in range(5)]
    eventually(lambda: not list(spool.directory.path.glob("spool-*")), "an empty spool leaves no file behind")
    assert [receipt.receipt for receipt in spool.write(batch_of("and again"))] == ["created", "created"]


def test_a_spooled_batch_is_on_the_disk_when_its_receipts_are_returned(spool: Spool, inner: FlakyStore) -> None:
    inner.away = AWAY
    spool.write(batch_of("Kept"))
    (file,) = spool.directory.path.glob("spool-*.sqlite3")
    # read by another library, past every cache of ours
    with sqlite3.connect(f"file:{file}?mode=ro", uri=True) as connection:
        (batch,) = connection.execute("select batch from entries").fetchone()
        assert connection.execute("pragma integrity_check").fetchone() == ("ok",)
    assert b'"prompt":"Kept"' in batch
    assert os.stat(spool.directory.path).st_mode & 0o077 == 0, "conversations are nobody else's to read"  # noqa: PTH116


def test_only_the_first_call_waits_for_a_store_that_is_away(spool: Spool, inner: FlakyStore) -> None:
    inner.away = AWAY
    spool.breaker._shortest_s = spool.breaker._longest_s = 3600  # noqa: SLF001 - no probe during this test
    spool.breaker._chance = lambda: 1.0  # noqa: SLF001
    for n in range(20):
        spool.write(batch_of(f"Said {n}"))
    assert inner.asked == 2, "the call, and the ping that decides"
    with pytest.raises(StoreUnavailable, match="nobody answers"):
        ask(spool, ops.SESSIONS, PROJECT, {"limit": 10})
    assert inner.asked == 2, "a read fails at once"


def test_a_lost_answer_duplicates_nothing(spool: Spool, inner: FlakyStore, prompts: Prompts) -> None:
    inner.lost_answers = 1
    assert {receipt.receipt for receipt in spool.write(batch_of("Once"))} == {"spooled"}
    eventually(lambda: spool.directory.depth().entries == 0, "delivered")
    assert prompts() == ["Once"]


def test_an_undelivered_entry_stays_in_the_file(
    spool: Spool, inner: FlakyStore, prompts: Prompts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drain, "BLOCKED_RETRY_S", 0.1)
    inner.away = AWAY
    for n in range(3):
        spool.write(batch_of(f"Said {n}"))
    tries = iter(range(10_000))
    inner.refuses = lambda _: StoreUnavailable("not now") if next(tries) < 10 else None
    inner.away = None
    eventually(lambda: len(prompts()) == 3, "delivered in the end")
    eventually(lambda: spool.directory.depth().entries == 0, "nothing waits any more")
    assert next(tries) >= 10


def test_the_file_of_a_dead_process_is_adopted(
    open_spool: Callable[..., Spool], inner: FlakyStore, prompts: Prompts
) -> None:
    first = open_spool()
    inner.away = AWAY
    first.write(batch_of("Left behind"))
    first.close()
    assert list(first.directory.path.glob("spool-*.sqlite3"))

    inner.away = None
    second = open_spool()
    second.start()
    eventually(lambda: prompts() == ["Left behind"], "adopted and delivered")
    eventually(lambda: not list(second.directory.path.glob("spool-*")), "removed")


def test_the_file_of_a_living_process_is_not_adopted(open_spool: Callable[..., Spool], inner: FlakyStore) -> None:
    owner, other = open_spool(), open_spool()
    inner.away = AWAY
    owner.write(batch_of("Mine"))
    other.directory.adopt_orphans()
    assert list(other.directory.drainable_files()) == []


def test_a_rejected_record_becomes_a_dead_letter_and_fails_no_other(
    spool: Spool, inner: FlakyStore, prompts: Prompts
) -> None:
    session_id = "00000000-0000-0000-0000-00000000000a"
    spool.write(batch_of("first", session_id=session_id, id_="00000000-0000-0000-0000-000000000001"))
    inner.away = AWAY
    inner.refuses = lambda batch: (
        Invalid("poison", field="prompt") if any(row["prompt"] == "poison" for row in batch.interactions) else None
    )
    rows = [row for n in range(9) for row in batch_of(f"Said {n}", session_id=session_id).interactions]
    rows.insert(4, batch_of("poison", session_id=session_id).interactions[0])
    spool.write(Batch(PROJECT, batch_of("", session_id=session_id).sessions, rows))
    spool.write(batch_of("contradiction", session_id=session_id, id_="00000000-0000-0000-0000-000000000001"))

    inner.away = None
    eventually(lambda: spool.directory.depth().entries == 0, "delivered")
    assert prompts() == sorted(["first", *(f"Said {n}" for n in range(9))])
    letters = spool.dead_letters.list()
    assert [(each.batch.interactions[0]["prompt"], each.receipt) for each in letters] == [
        ("poison", {"receipt": "rejected", "reason": "poison", "fields": ["prompt"]}),
        ("contradiction", {"receipt": "conflict", "fields": ["prompt"]}),
    ]
    assert all(each.batch.sessions for each in letters), "a dead letter can be sent again as it is"
    spool.dead_letters.remove(letters[0].number)
    assert spool.dead_letters.get(letters[0].number) is None
    assert spool.dead_letters.count() == 1


def test_a_record_erased_meanwhile_leaves_no_dead_letter(
    spool: Spool, inner: FlakyStore, prompts: Prompts, database: str
) -> None:
    session_id = "00000000-0000-0000-0000-00000000000a"
    spool.write(batch_of("first", session_id=session_id))
    inner.away = AWAY
    spool.write(batch_of("late", session_id=session_id))
    with psycopg.connect(database) as connection:
        connection.execute(
            "select turnlog.erase(jsonb_build_object('project', %s::text, 'session_id', %s::text))",
            (PROJECT, session_id),
        )
    inner.away = None
    eventually(lambda: spool.directory.depth().entries == 0, "delivered")
    assert prompts() == []
    assert spool.dead_letters.count() == 0


def test_past_its_limits_the_spool_refuses_and_drops_nothing(
    open_spool: Callable[..., Spool], inner: FlakyStore, prompts: Prompts
) -> None:
    spool = open_spool(Limits(max_bytes=200_000, min_free_bytes=0))
    inner.away = AWAY
    with contextlib.suppress(SpoolFull):
        for kept in range(1000):  # noqa: B007 - how many were kept when the next one was refused
            spool.write(batch_of("x" * 10_000))
    assert 5 < kept < 50
    with pytest.raises(SpoolFull, match="may not hold more"):
        spool.write(batch_of("one more"))
    assert spool.directory.depth().entries == kept
    inner.away = None
    eventually(lambda: len(prompts()) == kept, "everything that was acknowledged is delivered")


def test_the_spool_leaves_free_space_to_others(open_spool: Callable[..., Spool], inner: FlakyStore) -> None:
    spool = open_spool(Limits(min_free_bytes=1 << 60))
    inner.away = AWAY
    with pytest.raises(SpoolFull, match="free"):
        spool.write(batch_of("Hello"))


def test_an_unusable_folder_is_an_error(open_spool: Callable[..., Spool], inner: FlakyStore, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    spool = open_spool(folder=tmp_path / "file" / "spool")
    inner.away = AWAY
    with pytest.raises(StoreUnavailable, match="can't be used"):
        spool.write(batch_of("Hello"))


@pytest.mark.own_database
def test_a_lock_on_one_session_only_blocks_that_session(
    spool: Spool, inner: FlakyStore, prompts: Prompts, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drain, "BLOCKED_RETRY_S", 1.0)
    with psycopg.connect(database) as admin:
        admin.execute("alter function turnlog.write set lock_timeout = '300ms'")
    locked, free = (f"00000000-0000-0000-0000-00000000000{n}" for n in "ab")
    spool.write(Batch(PROJECT, [*batch_of("", session_id=locked).sessions, *batch_of("", session_id=free).sessions]))
    with psycopg.connect(database) as holder:
        holder.execute("select from turnlog.ai_sessions where id = %s for update", [locked])
        both = [batch_of("held up", session_id=locked), batch_of("on its way", session_id=free)]
        assert {receipt.receipt for receipt in spool.write(Batch.merge(both))} == {"spooled"}
        eventually(lambda: prompts() == ["on its way"], "the other session is delivered beside the lock")
        eventually(lambda: spool._blocked.blocked_in(Batch.merge(both)) == {locked}, "the lock is found")  # noqa: SLF001

        around = spool.write(Batch.merge([batch_of("more", session_id=locked), batch_of("at once", session_id=free)]))
        assert [receipt.receipt for receipt in around.interactions] == ["spooled", "created"]
        assert spool.breaker.is_closed, "a lock is not an outage"
    eventually(lambda: len(prompts()) == 4, "delivered once the lock is gone")
