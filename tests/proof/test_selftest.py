"""The self-test passes on a correct store, fails on any other, and leaves nothing behind."""

import random
import re
import threading
from typing import Any

import psycopg
import pytest
from click.testing import Result

from app import create_app
from conversation.proof import selftest
from conversation.settings import Settings
from conversation.stack import create_database_store
from logging_store import errors
from logging_store import operations as ops
from logging_store.batches import Batch, BatchReceipts, Receipt
from logging_store.repository import ConversationRepository
from logging_store.store import Store
from tests.conftest import Backend
from tests.databases import server_folder
from tests.store_calls import ask


def invoke(environment: dict[str, str], *arguments: str, store: Store | None = None) -> Result:
    app = create_app(Settings.from_mapping(environment), store)
    return app.test_cli_runner().invoke(args=["selftest", *arguments])


def rows_left(database: str) -> int:
    with psycopg.connect(database) as connection:
        row = connection.execute(
            "select (select count(*) from turnlog.ai_sessions) + (select count(*) from turnlog.ai_interactions)"
        ).fetchone()
    assert row is not None
    count: int = row[0]
    return count


def broken(output: str) -> set[str]:
    """Return the promises that a printed table says were broken."""
    lines = re.findall(r"^(.+?) +[\d,]+ +([\d,]+)$", output, re.MULTILINE)
    assert len(lines) == 8
    return {name for name, wrong in lines if wrong != "0"}


def test_a_correct_store_passes_and_nothing_is_left(backend: Backend) -> None:
    result = invoke(backend.environment, "--writers", "50", "--rounds", "3")
    assert result.exit_code == 0, result.output
    assert re.search(
        r"^50 writers, 3 rounds: \d+ calls in .* calls/s, p50 \d+ ms, p99 \d+ ms$", result.output, re.MULTILINE
    )
    assert broken(result.output) == set()
    assert result.output.endswith("Every promise was kept.\n")
    assert rows_left(backend.database) == 0


@pytest.mark.parametrize("writers", [1, 2, 3, 5])
def test_few_writers_are_enough(database: str, writers: int) -> None:
    result = invoke({"DATABASE_URL": database}, "--writers", str(writers), "--rounds", "2")
    assert result.exit_code == 0, result.output


def test_the_embedded_database_is_started_for_it() -> None:
    with server_folder(on_disk=True) as folder:
        environment = {"DATA_DIR": str(folder)}
        unprepared = invoke(environment)
        assert (unprepared.exit_code, "No Turnlog log in" in unprepared.output) == (1, True)
        app = create_app(Settings.from_mapping(environment))
        assert app.test_cli_runner().invoke(args=["migrate"]).exit_code == 0
        assert invoke(environment, "--writers", "8", "--rounds", "1").exit_code == 0


class Liar:
    """A store that keeps its word but for what a subclass changes."""

    def __init__(self, inner: Store) -> None:
        self.inner = inner
        self._lock = threading.Lock()
        self._lied = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def ask(self, operation: ops.Operation[Any, Any], project: str | None, query: Any) -> Any:
        lie = getattr(self, operation.name, None)
        answer = self.inner.ask(operation, project, query)
        return lie(query, answer) if lie else answer

    def lie_once(self, *, when: bool = True) -> bool:
        with self._lock:
            lies, self._lied = when and not self._lied, self._lied or when
        return lies


class Swallows(Liar):
    """Acknowledges one half of a turn and forgets it."""

    def write(self, batch: Batch) -> BatchReceipts:
        half = len(batch.interactions) == 1 and "response" not in batch.interactions[0]
        if self.lie_once(when=half):
            return BatchReceipts([Receipt(receipt="duplicate")], [Receipt(receipt="duplicate")])
        return self.inner.write(batch)


class Fails(Liar):
    def write(self, batch: Batch) -> BatchReceipts:
        if self.lie_once():
            raise errors.StoreUnavailable("deadlock detected (40P01)")
        return self.inner.write(batch)


class Refuses(Liar):
    """Refuses one interaction, each time: refused once, it would only be written again by itself."""

    def write(self, batch: Batch) -> BatchReceipts:
        if batch.interactions:
            refused = self.__dict__.setdefault("_refused", batch.interactions[0]["id"])
            if any(row["id"] == refused for row in batch.interactions):
                raise errors.Conflict("duplicate key")
        return self.inner.write(batch)


class SaysCreatedAlways(Liar):
    def write(self, batch: Batch) -> BatchReceipts:
        told = self.inner.write(batch)
        return BatchReceipts(told.sessions, [Receipt(receipt="created") for _ in told.interactions])


class Transcribes(Liar):
    """Changes one transcript, the same each time."""

    def transcript(self, query: Any, page: Any) -> Any:
        self._target = self.__dict__.get("_target", query["session_id"])
        if query["session_id"] != self._target:
            return page
        return page | {"interactions": self.change(page["interactions"])}

    def change(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        raise NotImplementedError


class Drops(Transcribes):
    def change(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return rows[1:]


class Doubles(Transcribes):
    def change(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [*rows, rows[0]]


class Garbles(Transcribes):
    def change(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [rows[0] | {"prompt": "Hello"}, *rows[1:]]


class Orphans(Liar):
    def session(self, _: Any, found: Any) -> Any:
        return None if self.lie_once() else found


class ListsNothing(Liar):
    def sessions(self, *_: Any) -> Any:
        return {"sessions": [], "after": None}


class HasGaps(Liar):
    def gaps(self, query: Any, page: Any) -> Any:
        if "session_id" in query and self.lie_once():
            page["sessions"][0] |= {"missing": 1, "gaps": [{"from": 2, "to": 2}]}
        return page


class Keeps(Liar):
    def ask(self, operation: ops.Operation[Any, Any], project: str | None, query: Any) -> Any:
        if operation is ops.PURGE_PROJECT:
            return {"sessions": 0, "interactions": 0, "left": 1}
        return super().ask(operation, project, query)


class CannotRead(Liar):
    def transcript(self, *_: Any) -> Any:
        raise errors.StoreUnavailable("away")


ANSWERED, ACCEPTED, ONCE = "every call is answered", "every record is accepted", "no record is created twice"
ROWS, TEXTS, SESSIONS = "each id has one row", "texts are stored as sent", "each session is stored once"
TURNS, GONE = "turns have no gaps", "nothing is left behind"


@pytest.mark.parametrize(
    ("liar", "promises"),
    [
        (Refuses, {ACCEPTED}),
        (SaysCreatedAlways, {ONCE}),
        (Drops, {ROWS}),
        (Doubles, {ROWS}),
        (Garbles, {TEXTS}),
        (Orphans, {SESSIONS}),
        (ListsNothing, {SESSIONS}),
        (HasGaps, {TURNS}),
        (CannotRead, {ROWS, TEXTS}),
    ],
)
def test_a_lie_is_found_out(database: str, liar: type[Liar], promises: set[str]) -> None:
    environment = {"DATABASE_URL": database}
    store = liar(create_database_store(Settings.from_mapping(environment)))
    result = invoke(environment, "--writers", "4", "--rounds", "1", store=store)
    assert result.exit_code == 1, result.output
    # what is lied about is found; a turn that was refused may be missed in its row, its text and its count, too
    assert broken(result.output) == promises or (liar is Refuses and promises < broken(result.output))
    assert result.output.endswith("\nFAILED\n")
    assert rows_left(database) == 0


@pytest.mark.parametrize("liar", [Swallows, Fails])
@pytest.mark.parametrize("seed", range(3))
def test_one_write_that_is_lost_is_missed(database: str, liar: type[Liar], seed: int) -> None:
    # a single writer says each half once, so nobody else's retry heals the loss
    store = liar(create_database_store(Settings.from_mapping({"DATABASE_URL": database})))
    log = ConversationRepository(store, selftest.new_project())
    report = selftest.run(log, writers=1, rounds=2, chance=random.Random(seed))
    store.close()
    wrong = {check.name for check in report.checks if check.wrong}
    assert wrong & ({TEXTS, ROWS} if liar is Swallows else {ANSWERED})
    assert not report.holds
    assert rows_left(database) == 0


def test_rows_that_cannot_be_deleted_are_reported(database: str) -> None:
    environment = {"DATABASE_URL": database}
    store = create_database_store(Settings.from_mapping(environment))
    result = invoke(environment, "--writers", "2", "--rounds", "1", store=Keeps(store))
    assert result.exit_code == 1
    assert broken(result.output) == {GONE}
    assert rows_left(database) > 0
    project = re.search(r"selftest-[0-9a-f-]{36}", result.output)
    assert project is not None
    assert ask(store, ops.PURGE_PROJECT, project[0])["left"] == 0
    store.close()


class Interrupts(Liar):
    def session(self, project: str, session_id: str) -> dict[str, Any] | None:  # noqa: ARG002
        raise KeyboardInterrupt


def test_an_interrupted_test_leaves_nothing_either(database: str) -> None:
    environment = {"DATABASE_URL": database}
    store = Interrupts(create_database_store(Settings.from_mapping(environment)))
    result = invoke(environment, "--writers", "4", "--rounds", "1", store=store)
    assert (result.exit_code, "Aborted!" in result.output) == (1, True)
    assert rows_left(database) == 0
