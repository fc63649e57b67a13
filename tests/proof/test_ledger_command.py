"""Comparing a client's record of what it sent with the log: every line is accounted for."""

import json
import tracemalloc
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from app import create_app
from conversation.proof import comparison
from conversation.settings import Settings
from logging_store import operations as ops
from logging_store.records.models import Interaction, Session
from logging_store.repository import ConversationRepository
from logging_store.store import Store
from tests.conftest import PROJECT, Backend

Line = dict[str, Any]
Command = Callable[..., Result]


@pytest.fixture
def command(backend: Backend) -> Command:
    """Return `turnlog ledger`, set up by the environment as an operator has it."""
    app = create_app(Settings.from_mapping(backend.environment))

    def run(*arguments: str | Path) -> Result:
        return app.test_cli_runner().invoke(args=["ledger", *map(str, arguments)])

    return run


def write(file: Path, lines: Iterable[Line | str]) -> Path:
    texts = (line if isinstance(line, str) else json.dumps(line) for line in lines)
    file.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
    return file


def turn(session: str, name: str, **more: Any) -> Line:
    return {"session_id": session, "interaction_id": name, "prompt": f"{session} {name}", **more}


def log(repository: ConversationRepository, lines: Iterable[Line]) -> None:
    facts = [{name: value for name, value in line.items() if name != "receipt"} for line in lines]
    receipts = repository.log([Interaction.model_validate(each) for each in facts])
    assert all(kept.receipt.stored for kept in receipts)


def counts(result: Result) -> dict[str, int]:
    told = json.loads(result.stdout)
    return {name: count for name, count in told.items() if name != "findings" and count}


def test_bodies_that_were_posted_are_found(
    command: Command, repository: ConversationRepository, tmp_path: Path
) -> None:
    sent = [turn(f"chat {n % 3}", str(n), response=[{"role": "a", "content": 1e300}], turn=n) for n in range(250)]
    log(repository, sent)
    file = write(tmp_path / "sent", sent)
    result = command("--client-file", file)
    assert result.exit_code == 0, result.stdout
    assert result.stdout.startswith("lines       250\nsent        250\nstored      250\nspooled       0\n")
    assert result.stdout.endswith("Every record sent is accounted for.\n")


def test_a_session_of_many_pages_is_read_to_its_end(
    command: Command, repository: ConversationRepository, tmp_path: Path
) -> None:
    sent = [turn("long", str(n)) for n in range(350)]
    log(repository, sent[:-1])
    result = command("--client-file", write(tmp_path / "sent", sent), "--json")
    assert (result.exit_code, counts(result)) == (1, {"lines": 350, "sent": 350, "stored": 349, "missing": 1})
    assert json.loads(result.stdout)["findings"] == [
        {"verdict": "missing", "session_id": "long", "interaction_id": "349", "detail": "sent, but not stored"}
    ]


def test_each_interaction_is_judged_by_all_its_lines(
    command: Command, repository: ConversationRepository, tmp_path: Path
) -> None:
    log(repository, [turn("s", name, response="Hi") for name in ("whole", "halves", "changed", "contradicted")])
    log(repository, [turn("s", "pending"), turn("gone", "erased")])
    repository.ensure_session(Session(session_id="empty"))
    repository.erase("gone")
    told = [
        turn("s", "whole", response="Hi", receipt="created"),
        turn("s", "whole", response="Hi", receipt=None),
        turn("s", "halves", receipt="created"),
        {"session_id": "s", "interaction_id": "halves", "response": "Hi", "receipt": "filled"},
        {"session_id": "s", "interaction_id": "whole"},
        turn("s", "changed", response="Ho", receipt="created"),
        turn("s", "contradicted", response="Ho", receipt="conflict"),
        turn("s", "pending", response="lost", receipt="filled"),
        turn("gone", "erased", receipt="created"),
        turn("s", "lost", receipt="created"),
        turn("s", "lost too"),
        turn("empty", "lost as well", receipt="duplicate"),
        turn("nowhere", "unanswered", receipt=None),
        turn("nowhere", "tried again", receipt=None),
        turn("nowhere", "tried again", receipt="created"),
        turn("nowhere", "refused", receipt="rejected"),
        {"session_id": "s", "prompt": "of an id that the log made"},
        {"interaction_id": "i", "prompt": "in a session that the log made", "receipt": "rejected"},
    ]
    result = command("--client-file", write(tmp_path / "sent", told), "--json")
    assert result.exit_code == 1
    assert counts(result) == {
        "lines": 18, "sent": 14, "stored": 3, "erased": 1, "refused": 2,
        "in_doubt": 2, "missing": 4, "differing": 2,
    }  # fmt: skip
    findings = {
        (found["verdict"], found["interaction_id"]): found["detail"] for found in json.loads(result.stdout)["findings"]
    }
    assert findings == {
        ("in doubt", None): "line 17 has no interaction_id, so it can't be looked up",
        ("differing", "changed"): "response",
        ("differing", "pending"): "response",
        ("missing", "lost"): "acknowledged as created",
        ("missing", "lost too"): "sent, but not stored",
        ("missing", "lost as well"): "acknowledged as duplicate",
        ("missing", "tried again"): "acknowledged as created",
        ("in doubt", "unanswered"): "no answer was received, and it isn't stored: send it again",
    }


def test_a_line_may_name_its_session_by_id_or_by_key(
    command: Command, repository: ConversationRepository, tmp_path: Path
) -> None:
    log(repository, [turn("s", "1"), turn("other", "1")])
    by_id = turn("s", "1") | {"session_id": repository.session("s")["session_id"].upper()}
    file = write(tmp_path / "sent", [turn("s", "1"), by_id, turn("other", "lost")])
    result = command("--client-file", file, "--session", "s", "--json")
    assert (result.exit_code, counts(result)) == (0, {"lines": 2, "sent": 1, "stored": 1})
    assert command("--client-file", file).exit_code == 1


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[]",
        "null",
        '{"session_id": 1, "interaction_id": "i"}',
        '{"receipt": {}}',
        '{"prompt": "a", "prompt": "b"}',
    ],
)
def test_a_line_that_cannot_be_read_is_never_passed_over(
    command: Command, repository: ConversationRepository, tmp_path: Path, line: str
) -> None:
    log(repository, [turn("s", "1")])
    result = command("--client-file", write(tmp_path / "sent", [turn("s", "1"), "", line]))
    assert result.exit_code == 1
    assert "unreadable: line 3: " in result.stdout
    assert "stored      1\n" in result.stdout
    assert result.stdout.endswith("NOT every record sent is there.\n")


def test_people_are_shown_twenty_and_programs_all(command: Command, tmp_path: Path) -> None:
    file = write(tmp_path / "sent", [turn("s", str(n)) for n in range(45)])
    assert command("--client-file", file).stdout.count("\nmissing: ") == 20
    assert len(json.loads(command("--client-file", file, "--json").stdout)["findings"]) == 45


class StoreWithASpool:
    """Reads back what is still on its way to the database, and says so."""

    def __init__(self, inner: Store) -> None:
        self._inner = inner

    def ask(self, operation: ops.Operation[Any, Any], project: str | None, query: Any) -> Any:
        page = self._inner.ask(operation, project, query)
        return page | {"interactions": [row | {"spooled": row["turn"] == 2} for row in page["interactions"]]}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def test_what_is_on_its_way_is_told_apart(repository: ConversationRepository, store: Store, tmp_path: Path) -> None:
    sent = [turn("s", str(n), turn=n, receipt="spooled" if n == 2 else "created") for n in range(3)]
    log(repository, sent)
    file = write(tmp_path / "sent", sent)
    found = comparison.compare(ConversationRepository(StoreWithASpool(store), PROJECT), file)
    assert (found.stored, found.spooled, found.holds) == (2, 1, True)


class EmptyStore:
    def ask(self, *_: Any) -> Any:
        return {"session": None, "interactions": [], "after": None, "complete": True}

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"{name} is not of this test")


def test_a_long_file_is_never_held_whole(tmp_path: Path) -> None:
    long = "x" * 100_000
    file = write(tmp_path / "sent", (turn(f"chat {n % 50}", str(n), response=long) for n in range(300)))
    tracemalloc.start()
    try:
        found = comparison.compare(ConversationRepository(EmptyStore(), PROJECT), file, listed=20)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (found.missing, len(found.findings)) == (300, 20)
    assert peak < file.stat().st_size / 10


def count(repository: ConversationRepository, session: str, *turns: int) -> None:
    repository.log([Interaction(session_id=session, prompt="Hello", turn=turn) for turn in turns])


def test_without_a_file_gaps_are_listed(command: Command, repository: ConversationRepository) -> None:
    count(repository, "whole", 1, 2, 3)
    assert command().stdout == "No session that counts its turns has a gap.\n"
    assert command().exit_code == 0
    count(repository, "42", 5, 7, 10, 10)
    result = command()
    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        "session  first  last  missing  doubled  gaps",
        "42           5    10        3        1  6, 8–9",  # noqa: RUF001
        "3 turns missing and 1 doubled in 1 sessions.",
    ]
    (row,) = json.loads(command("--json").stdout)["sessions"]
    assert row["gaps"] == [{"from": 6, "to": 6}, {"from": 8, "to": 9}]


def test_a_turn_that_is_doubled_is_told_but_not_missing(command: Command, repository: ConversationRepository) -> None:
    count(repository, "s", 1, 1)
    result = command()
    assert result.exit_code == 0
    assert result.stdout.endswith("0 turns missing and 1 doubled in 1 sessions.\n")


def test_the_gaps_of_one_session_are_listed(command: Command, repository: ConversationRepository) -> None:
    count(repository, "whole", 1, 2)
    count(repository, "gap", *range(0, 100, 2))
    assert command("--session", "whole").exit_code == 0
    result = command("--session", "gap")
    assert result.exit_code == 1
    assert result.stdout.splitlines()[1].endswith("37, 39, …")
    missing = command("--session", "nobody")
    assert (missing.exit_code, missing.stderr.splitlines()[1:]) == (1, ["Error: nobody: There is no such session."])


@pytest.mark.parametrize("arguments", [["ledger"], ["selftest"]])
def test_a_store_that_is_away_is_said_to_be(arguments: list[str]) -> None:
    settings = {"DATABASE_URL": "postgresql://nobody@127.0.0.1:1/nowhere", "TURNLOG_DEADLINE_S": "1"}
    result = create_app(Settings.from_mapping(settings)).test_cli_runner().invoke(args=arguments)
    assert result.exit_code == 1
    assert "\nError: the connection to PostgreSQL failed: " in result.stderr
