"""Sessions and folders with spooled records don't expire, whatever name the records use."""

from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import apsw
import pytest

from logging_store.errors import StoreUnavailable
from logging_store.postgres.function_store import FunctionStore
from logging_store.records.models import Folder, Interaction, Plan, Session
from logging_store.repository import ConversationRepository
from logging_store.spool import Spool, overlay
from logging_store.upkeep.retention import Expired, Retention
from tests.spool.conftest import delivered, eventually
from tests.spool.flaky_store import PROJECT, FlakyStore
from tests.store_calls import expire_texts

NOT_NOW = StoreUnavailable("not now")


@pytest.fixture
def past(inner: FlakyStore) -> ConversationRepository:
    """Return the log as it was written long ago."""
    return ConversationRepository(inner.inner, PROJECT, lambda: datetime.now(UTC) - timedelta(days=100))


@pytest.fixture
def now(spool: Spool) -> ConversationRepository:
    return ConversationRepository(spool, PROJECT)


@pytest.fixture
def expire(spool: Spool, inner: FlakyStore) -> Callable[[], list[Expired]]:
    """Return a way to expire what is older than 90 days, and its steps: those that it would take, and those it took."""

    def run() -> list[Expired]:
        assert isinstance(inner.inner, FunctionStore)
        retention = Retention(inner.inner, spool.directory.parent_ids)
        retention.set_project(PROJECT, {"keep_days": 90})
        (project,) = retention.projects(PROJECT)
        steps = [step for dry_run in (True, False) for step in retention.expire(project, 90, dry_run=dry_run)]
        return [step for step in steps if any(step)]

    return run


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("logging_store.spool.files._BUSY_MS", 10)


def come_back(spool: Spool, inner: FlakyStore) -> None:
    inner.refuses = lambda _: None
    delivered(spool)
    assert spool.dead_letters.count() == 0


def test_a_folder_with_spooled_records_does_not_expire(
    spool: Spool,
    inner: FlakyStore,
    past: ConversationRepository,
    now: ConversationRepository,
    expire: Callable[[], list[Expired]],
) -> None:
    past.ensure_folder(Folder(folder_id="f", name="Old"))
    inner.refuses = lambda _: NOT_NOW
    plan = Plan(sessions_per_week=1, total_weeks=2)
    kept = now.ensure_folder(Folder(folder_id="f", plan=plan, metadata={"a": 1}))
    assert kept.receipt.receipt == "spooled"
    assert expire() == []
    come_back(spool, inner)
    found = now.folder("f", {"limit": 10})
    assert (found["folder"]["name"], found["folder"]["metadata"], len(found["sessions"])) == ("Old", {"a": 1}, 2)


def test_a_session_with_spooled_records_under_its_number_does_not_expire(
    spool: Spool,
    inner: FlakyStore,
    past: ConversationRepository,
    now: ConversationRepository,
    expire: Callable[[], list[Expired]],
) -> None:
    past.ensure_session(Session(session_id="own name", folder_id="f", session_number=3))
    past.log([Interaction(session_id="elsewhere", prompt="Hello")])
    inner.refuses = lambda _: NOT_NOW
    kept = now.ensure_session(Session(folder_id="f", session_number=3, title="Resumed"))
    assert kept.receipt.receipt == "spooled"
    assert expire() == [Expired(sessions=1, interactions=1)] * 2, "what is elsewhere goes"
    come_back(spool, inner)
    assert now.session("own name")["title"] == "Resumed"


def test_a_folder_whose_session_is_in_use_is_not_counted_either(
    inner: FlakyStore,
    past: ConversationRepository,
    now: ConversationRepository,
    expire: Callable[[], list[Expired]],
) -> None:
    past.ensure_session(Session(session_id="s", folder_id="f", session_number=1))
    inner.refuses = lambda _: NOT_NOW
    now.log([Interaction(session_id="s", prompt="Hello")])
    assert expire() == []


@pytest.mark.usefixtures("impatient")
def test_nothing_expires_while_the_spool_cannot_be_read(
    spool: Spool,
    inner: FlakyStore,
    past: ConversationRepository,
    now: ConversationRepository,
    expire: Callable[[], list[Expired]],
) -> None:
    past.log([Interaction(session_id="s", prompt="Hello")])
    inner.refuses = lambda _: NOT_NOW
    now.log([Interaction(session_id="other", prompt="Hello")])
    (file,) = spool.directory.files()
    holder = apsw.Connection(str(file))
    holder.set_busy_timeout(20_000)  # ms; the drain may just be looking into the file
    holder.execute("begin exclusive")
    with pytest.raises(StoreUnavailable, match="can't be read now"):
        expire()
    holder.execute("rollback")
    holder.close()
    expired: list[Expired] = []

    def expires() -> bool:
        with suppress(StoreUnavailable):  # the drain may just be writing to the file
            expired.extend(expire())
        return bool(expired)

    eventually(expires, "the file can be read again")
    assert expired == [Expired(sessions=1, interactions=1)] * 2


def test_a_corrupt_file_stops_no_expiry(
    spool: Spool, past: ConversationRepository, expire: Callable[[], list[Expired]]
) -> None:
    past.log([Interaction(session_id="s", prompt="Hello")])
    folder: Path = spool.directory.path
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "spool-0.sqlite3").write_bytes(b"not a database, " * 100)
    assert expire() == [Expired(sessions=1, interactions=1)] * 2


def test_a_late_text_from_another_machine_is_refused_and_leaves_no_dead_letter(
    spool: Spool, inner: FlakyStore, past: ConversationRepository, now: ConversationRepository
) -> None:
    said = Interaction(session_id="s", interaction_id="1", prompt="Hello")
    past.log([said])
    inner.refuses = lambda _: NOT_NOW
    now.log([said.model_copy(update={"response": "Hi"}), Interaction(session_id="s", interaction_id="2", prompt="New")])
    assert expire_texts(inner.inner, PROJECT)[:2] == (1, 1)
    come_back(spool, inner)
    rows = now.transcript("s", {"limit": 10})["interactions"]
    assert sorted((row["prompt"], row["response"]) for row in rows) == [("New", None), ("[expired]", None)]


def test_a_spooled_text_is_not_shown_where_it_expired(inner: FlakyStore, past: ConversationRepository) -> None:
    past.log([Interaction(session_id="s", interaction_id="1", prompt="Hello")])
    expire_texts(inner.inner, PROJECT)
    (stored,) = past.transcript("s", {"limit": 10})["interactions"]
    spooled = {"id": stored["interaction_id"], "session_id": stored["session_id"], "prompt": "Hello", "response": "Hi"}
    assert overlay.merge_interaction([spooled], stored) == stored
