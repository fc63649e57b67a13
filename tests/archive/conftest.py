"""Commands as an operator runs them, on both stores."""

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from click.testing import Result

from app import create_app
from conversation.settings import Settings
from logging_store.batches import KINDS
from tests.conftest import Backend, open_backend
from tests.databases import TestServer

Flask = Callable[..., Result]


def flask_of(environment: dict[str, str]) -> Flask:
    """Return `flask …`, set up by its environment."""

    def run(*arguments: str | Path, stdin: bytes | None = None) -> Result:
        app = create_app(Settings.from_mapping(environment))
        return app.test_cli_runner().invoke(args=list(map(str, arguments)), input=stdin)

    return run


@pytest.fixture
def flask(backend: Backend) -> Flask:
    return flask_of(backend.environment)


@pytest.fixture
def other(backend: Backend, postgres_server: TestServer) -> Iterator[Backend]:
    """Yield a second store of the same kind."""
    with open_backend(backend.name, postgres_server) as other:
        yield other


def empty(backend: Backend) -> None:
    """Make a store as good as new, for tests that need one for each of many examples."""
    with psycopg.connect(backend.database, autocommit=True) as connection:
        connection.execute(
            "truncate turnlog.ai_revisions, turnlog.ai_messages, turnlog.ai_session_folders,"
            " turnlog.ai_sessions, turnlog.ai_session_participants,"
            " turnlog.ai_interactions, turnlog.ai_feedback"
        )


def write(file: Path, lines: Iterable[dict[str, Any] | str]) -> Path:
    texts = (line if isinstance(line, str) else json.dumps(line) for line in lines)
    file.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
    return file


def counted(result: Result) -> dict[str, list[int]]:
    return counts_of(result.stdout)


def counts_of(printed: str) -> dict[str, list[int]]:
    """Return the table that an import prints: kind -> created, filled, duplicate, conflict, rejected."""
    rows = (line.split() for line in printed.splitlines())
    return {row[0]: [int(count.replace(",", "")) for count in row[1:]] for row in rows if row and row[0] in KINDS}


def stored_rows(backend: Backend) -> tuple[int, int]:
    """Return how many sessions and interactions are stored."""
    with psycopg.connect(backend.database) as connection:
        counts = connection.execute(
            "select (select count(*) from turnlog.ai_sessions), (select count(*) from turnlog.ai_interactions)"
        ).fetchone()
    assert counts
    return counts[0], counts[1]
