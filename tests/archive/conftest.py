"""Commands as an operator runs them, on both stores."""

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from app import create_app
from conversation.settings import Settings
from tests.conftest import Backend, open_backend
from tests.databases import TestServer

Flask = Callable[..., Result]
SGD = Path(__file__).parents[3] / "shared" / "data" / "sgd_dialogues.jsonl"


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
def other_flask(backend: Backend, postgres_server: TestServer) -> Iterator[Flask]:
    """Yield the commands on a second, empty store of the same kind."""
    with open_backend(backend.name, postgres_server) as other:
        yield flask_of(other.environment)


@pytest.fixture(params=["postgres", "supabase"])
def empty_stores(request: pytest.FixtureRequest, postgres_server: TestServer) -> Callable[[], Any]:
    """Return what opens an empty store, for tests that need one for each of many examples."""

    @contextmanager
    def opened() -> Iterator[Backend]:
        with open_backend(request.param, postgres_server) as backend:
            yield backend

    return opened


def write(file: Path, lines: Iterable[dict[str, Any] | str]) -> Path:
    texts = (line if isinstance(line, str) else json.dumps(line) for line in lines)
    file.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
    return file


def counted(result: Result) -> dict[str, list[int]]:
    """Return the table of an import: kind -> created, filled, duplicate, conflict, rejected."""
    rows = (line.split() for line in result.stdout.splitlines())
    return {
        row[0]: [int(count.replace(",", "")) for count in row[1:]]
        for row in rows
        if row and row[0] in {"folders", "sessions", "participants", "interactions"}
    }
