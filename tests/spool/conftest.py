"""A spool in front of a real store that can be made unavailable."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import psycopg
import pytest
from flask import Flask
from flask.testing import FlaskClient

from app import create_app
from conversation.settings import Settings
from logging_store.postgres.postgres_store import PostgresStore
from logging_store.spool import CircuitBreaker, Limits, Spool
from tests.http_calls import KEYLESS
from tests.spool.flaky_store import FlakyStore

PATIENCE_S = float(os.environ.get("TURNLOG_TEST_PATIENCE_S", "30"))


def eventually(look: Callable[[], bool], what: str, patience_s: float = PATIENCE_S) -> None:
    give_up = time.monotonic() + patience_s
    while not look():
        assert time.monotonic() < give_up, what
        time.sleep(0.01)


def is_on_disk(text: bytes, folder: Path) -> bool:
    """Return whether one of the spool's files below `folder` holds `text`; the drain may remove others meanwhile."""
    for file in folder.rglob("*.sqlite3*"):
        with suppress(FileNotFoundError):
            if text in file.read_bytes():
                return True
    return False


@pytest.fixture
def inner(database: str) -> Iterator[FlakyStore]:
    store = PostgresStore(database, deadline_s=5)
    yield FlakyStore(store)
    store.close()


@pytest.fixture
def open_spool(inner: FlakyStore, tmp_path: Path) -> Iterator[Callable[..., Spool]]:
    """Return a function that opens a spool over the store, as each process does; without pauses between probes."""
    with ExitStack() as closing:

        def open_(limits: Limits | None = None, folder: Path = tmp_path / "spool" / "embedded") -> Spool:
            spool = Spool(
                inner,
                folder,
                limits or Limits(min_free_bytes=0),
                breaker=CircuitBreaker(shortest_s=0.01, longest_s=0.05),
            )
            closing.callback(spool.close)
            return spool

        yield open_


@pytest.fixture
def spool(open_spool: Callable[..., Spool]) -> Spool:
    return open_spool()


@pytest.fixture
def prompts(database: str) -> Callable[[], list[str]]:
    """Return a function that reads all prompts from the database."""

    def read() -> list[str]:
        with psycopg.connect(database) as connection:
            rows = connection.execute("select prompt #>> '{}' from turnlog.ai_interactions order by 1")
            return [row[0] for row in rows]

    return read


@pytest.fixture
def app(spool: Spool, tmp_path: Path) -> Flask:
    """Return the application over the spool, with the settings under which `turnlog spool` finds it."""
    return create_app(Settings.from_mapping({"DATA_DIR": str(tmp_path)} | KEYLESS), spool)


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


def delivered(spool: Spool) -> None:
    eventually(lambda: spool.breaker.is_closed and spool.directory.depth().entries == 0, "delivered")
