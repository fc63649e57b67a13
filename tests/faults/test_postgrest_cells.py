"""Every failure of Supabase's API, before and after the commit, passing and staying: nothing is lost, doubled or late.

The stack is the one that serves (`app.create_store`), in front of the PostgREST stand-in.
"""

import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import psycopg
import pytest

from conversation.settings import Settings
from conversation.stack import create_database_store, create_store
from logging_store.batches import STORED, Batch
from logging_store.errors import StoreUnavailable
from logging_store.group_commit import GroupCommit
from logging_store.metrics.ledger import Ledger
from logging_store.postgres.supabase_store import SupabaseStore
from logging_store.records.models import Interaction
from logging_store.repository import ConversationRepository
from logging_store.spool import Spool
from tests.conftest import PROJECT
from tests.databases import TestServer
from tests.postgrest import Action, Disconnect, Fault, PostgrestStandIn, Respond, Stall, Trickle, Truncate
from tests.postgrest.faults import When
from tests.spool.conftest import eventually

DEADLINE_S = 2.0
GRACE_S = 1.0
BUSY_MACHINE_S = 1.0
FRESH_AGAIN_S = 10
WRITERS = 4
TEXT = '  Größe\n\t👩‍👩‍👧 e\u0301 \ud7ff \u2028 \x7f \'"\\ {"a": [1]} </html> '


def answers(status: int, code: str, message: str) -> Respond:
    body = f'{{"code":"{code}","details":null,"hint":null,"message":"{message}"}}'
    return Respond(status, body, {"Content-Type": "application/json; charset=utf-8"})


FAULTS: dict[str, Action] = {
    "503": answers(503, "PGRST002", "Could not query the database for the schema cache. Retrying."),
    "504": answers(504, "PGRST003", "Timed out acquiring connection from connection pool."),
    "500 with 40001": answers(500, "40001", "could not serialize access due to concurrent update"),
    "404 PGRST202": answers(404, "PGRST202", "Could not find the function public.turnlog(operation, request)"),
    # what calls under way get when Postgres dies
    "400 without a code": Respond(400, '{"code":"","message":""}', {"Content-Type": "application/json"}),
    "503 with 57P01": answers(503, "57P01", "terminating connection due to administrator command"),
    "401": answers(401, "PGRST301", "JWT cryptographic operation failed"),
    "HTML 502": Respond(502, "<html><body><h1>502 Bad Gateway</h1></body></html>"),
    "half a body": Truncate(),
    "connection closed": Disconnect(),
    "connection reset": Disconnect(reset=True),
    "a stall": Stall(30),
    "a trickle": Trickle(0.1),
}


@dataclass
class Cell:
    """The serving stack, the API in front of its database, and what the database holds of a session."""

    standin: PostgrestStandIn
    database: str
    store: GroupCommit

    @property
    def spool(self) -> Spool:
        return cast("Spool", self.store.inner)

    def stored(self, session: str) -> dict[str, tuple[Any, Any]]:
        """Return prompt and response by the key of each interaction of a session."""
        with psycopg.connect(self.database) as connection:
            rows = connection.execute(
                "select i.key, i.prompt, i.response from turnlog.ai_interactions i"
                " join turnlog.ai_sessions s on (s.project, s.id) = (i.project, i.session_id) where s.key = %s",
                [session],
            ).fetchall()
        assert len({key for key, *_ in rows}) == len(rows), "an interaction is stored twice"
        return {key: (prompt, response) for key, prompt, response in rows}


@pytest.fixture(scope="module")
def api(postgres_server: TestServer) -> Iterator[tuple[PostgrestStandIn, str]]:
    with (
        postgres_server.database() as name,
        PostgrestStandIn(postgres_server.conninfo(name, user="authenticator"), pool_size=16) as standin,
    ):
        yield standin, postgres_server.conninfo(name)


@pytest.fixture
def cell(api: tuple[PostgrestStandIn, str], tmp_path: Path) -> Iterator[Cell]:
    standin, database = api
    settings = Settings.from_mapping(
        {
            "SUPABASE_URL": standin.url,
            "SUPABASE_SECRET_KEY": standin.key(),
            "TURNLOG_DEADLINE_S": str(DEADLINE_S),
            "TURNLOG_SPOOL_MIN_FREE_MB": "0",
            "DATA_DIR": str(tmp_path),
        }
    )
    store = cast("GroupCommit", create_store(settings, create_database_store(settings), Ledger()))
    yield Cell(standin, database, store)
    standin.faults.clear()
    store.close()


@contextmanager
def within(seconds: float) -> Iterator[None]:
    began = time.monotonic()
    yield
    took = time.monotonic() - began
    assert took < seconds, f"answered after {took:.1f} s"


@pytest.mark.parametrize("times", [1, None], ids=["passing", "staying"])
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("fault", FAULTS)
def test_each_write_is_answered_in_time_and_kept_once(cell: Cell, fault: str, when: When, times: int | None) -> None:
    log = ConversationRepository(cell.store, PROJECT)
    session = f"{fault} {when} {times} {uuid.uuid4()}"

    def say(key: str, **facts: Any) -> str:
        with within(DEADLINE_S + GRACE_S + BUSY_MACHINE_S):
            (kept,) = log.log([Interaction(session_id=session, interaction_id=key, **facts)])
        told = kept.receipt.receipt
        if told in STORED:
            assert key in cell.stored(session), f"{told}, but it isn't stored"
        else:
            assert told == "spooled"
            waits = {
                row["key"]
                for batch in cell.spool.directory.batches_for(PROJECT, kept.session.id)
                for row in batch.interactions
            }
            assert key in waits | cell.stored(session).keys(), "spooled, but it neither waits nor is stored"
        return told

    assert say("before", prompt=TEXT) == "created"
    cell.standin.faults.add(Fault(FAULTS[fault], when=when, times=times))
    with ThreadPoolExecutor(WRITERS) as threads:
        told = list(threads.map(lambda n: say(f"during {n}", prompt=f"{TEXT}{n}"), range(WRITERS)))
    assert cell.standin.faults.applied
    if times is None:
        assert told == ["spooled"] * WRITERS
        assert say("before", response=TEXT) == "spooled"
        assert not cell.spool.breaker.is_closed
    else:
        say("before", response=TEXT)

    cell.standin.faults.clear()
    cleared = time.monotonic()
    attempts = iter(range(10_000))
    eventually(
        lambda: say(f"after {next(attempts)}", prompt=TEXT) == "created", "a fresh write is stored", FRESH_AGAIN_S
    )
    assert time.monotonic() - cleared < FRESH_AGAIN_S
    assert cell.spool.breaker.is_closed
    eventually(lambda: cell.spool.directory.depth().entries == 0, "the spool is delivered")

    expected = {"before": (TEXT, TEXT)} | {f"during {n}": (f"{TEXT}{n}", None) for n in range(WRITERS)}
    expected |= {f"after {n}": (TEXT, None) for n in range(next(attempts))}
    assert cell.stored(session) == expected
    assert cell.spool.dead_letters.count() == 0


@pytest.mark.parametrize("when", ["before", "after"])
def test_an_answer_that_trickles_in_ends_at_the_deadline(api: tuple[PostgrestStandIn, str], when: When) -> None:
    standin, _ = api
    store = SupabaseStore(standin.url, standin.key(), deadline_s=DEADLINE_S)
    row = {"id": str(uuid.uuid4()), "created_at": "2026-11-21T10:00:00+00:00"}
    store.ping()
    standin.faults.add(Fault(Trickle(0.1), when=when, times=None))
    began = time.monotonic()
    with pytest.raises(StoreUnavailable, match="answer in time"):
        store.write(Batch(PROJECT, [row]))
    took = time.monotonic() - began
    standin.faults.clear()
    assert DEADLINE_S - 0.1 < took < DEADLINE_S + GRACE_S
    told = [receipt.receipt for receipt in store.write(Batch(PROJECT, [row]))]
    assert told == ["created" if when == "before" else "duplicate"]
    store.close()
