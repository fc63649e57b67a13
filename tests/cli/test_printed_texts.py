"""What commands print of callers' texts moves no cursor, rings no bell, and begins no line of its own."""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import psycopg
import pytest
from click.testing import CliRunner
from psycopg import sql

from conversation import printable
from conversation.cli import base
from conversation.cli.main import command as top
from conversation.keys.key_registry import KeyRegistry
from logging_store import erasure_reports
from logging_store import operations as ops
from logging_store.batches import Receipt
from logging_store.postgres.postgres_store import PostgresStore
from logging_store.records.models import Interaction
from logging_store.repository import ConversationRepository
from logging_store.row_builder import RowBuilder
from logging_store.spool import DeadLetters
from tests.cli.test_command import COMMANDS, NAMES
from tests.conftest import PROJECT
from tests.databases import TestServer
from tests.doctor.operator import Operator

#: Sets a terminal's title, rings, clears the screen (C1), turns the text round, hides, and forges a line.
VILE = "vile\x1b]0;owned\x07\x9b2J\x9d\u202e\u2066\u2028\u2029\x85\u200b\rx\nError: forged"
SHORT = "vile\x1b[2J\x9b1J\u202e\nforged"  # a name in PostgreSQL has 63 bytes
LETTER = RowBuilder(PROJECT, datetime(2026, 11, 20, tzinfo=UTC))

#: Arguments → the word of the output that shows that the text was printed. {name} is a value of `Scene`.
PRINTED: dict[tuple[str, ...], str] = {
    ("spool", "list"): "vile",
    ("spool", "show", "1"): "vile",
    ("spool", "retry", "1"): "vile",
    ("spool", "discard", "1"): "To confirm",
    ("spool", "status"): "dead letters: 1",
    ("ledger",): "vile",
    ("ledger", "--json"): "vile",
    ("ledger", "--client-file", "{sent}"): "vile",
    ("ledger", "--client-file", "{sent}", "--json"): "vile",
    ("ledger", "--session", VILE): "vile",
    ("keys", "list"): "vile",
    ("keys", "list", "--json"): "vile",
    ("keys", "create", "--name", VILE): "control characters",
    ("keys", "revoke", VILE): "no such key",
    ("keys", "rotate", VILE): "no such key",
    ("projects", "list"): "vile",
    ("projects", "set", VILE, "--keep-days", "9"): "vile",
    ("projects", "set", f"no{VILE}", "--keep-days", "9"): "vile",
    ("audit",): "vile",
    ("audit", "--json"): "vile",
    ("spool", "deliver", VILE): "vile",
    ("spool", "discard", VILE, "--yes"): "vile",
    ("audit", "--from", VILE): "ISO 8601",
    ("expire",): "vile",
    ("export", "--session", VILE): "vile",
    ("export", "--output", "{folder}"): "vile",
    ("import", "{records}", "--format", "turnlog"): "vile",
    ("import", "--from-database", "{url}", "--interactions", f'"{SHORT}"', "--dry-run"): "vile",
    ("import", "--from-database", "{url}", "--interactions", f'"{VILE}"', "--dry-run"): "vile",
    ("doctor", "--table", f'"{SHORT}"'): "vile",
    ("doctor", "--table", f'"{SHORT}"', "--json"): "vile",
    ("repair", "--table", f'"{SHORT}"', "--id", f"{SHORT}_id", "--no-parent"): "vile",
    ("backup", "{folder}/none/{vile}"): "vile",
    ("restore", "{sent}"): "isn't a backup",
    ("verify-report", "{report}"): "vile",
    ("verify-report", "{sent}"): "vile",
    (VILE,): "vile",
    ("keys", VILE): "vile",
    ("keys", "list", f"--{VILE}"): "vile",
}

#: Commands that print nothing of callers, or print data as it is.
NOT_WALKED = {
    "serve": "prints through the log, whose lines are escaped (tests/server/test_server_log.py)",
    "demo": "reads only its own recording",
    "open": "prints an address from the settings",
    "migrate": "prints numbers of migrations, and SQL of ours",
    "index": "prints counts",
    "psql": "is another program: it prints data as it is",
    "selftest": "prints names that it made itself",
    "completion": "prints a script of ours",
}


@dataclass(frozen=True)
class Scene:
    """A log that is full of vile names, and files that hold more of them."""

    operator: Operator
    files: dict[str, str]

    def run(self, arguments: tuple[str, ...]) -> str:
        given = [each.format(**self.files) if each.startswith("{") else each for each in arguments]
        return CliRunner(env=self.operator.environment).invoke(top, given, prog_name="turnlog").output


@pytest.fixture(scope="module")
def scene(postgres_server: TestServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("vile")
    with postgres_server.database() as name:
        url = postgres_server.conninfo(name)
        operator = Operator({"DATABASE_URL": url, "DATA_DIR": str(folder / "data")}, url)
        store = PostgresStore(url)
        try:
            files = _fill(store, url, operator, folder / f"a {VILE}")
        finally:
            store.close()
        yield Scene(operator, files | {"url": url})


def _fill(store: PostgresStore, url: str, operator: Operator, folder: Path) -> dict[str, str]:
    folder.mkdir()
    said = {"session_id": "s", "interaction_id": "i", "prompt": "p", "metadata": {VILE: 1}, "turn": 3}
    first = {"session_id": "s", "prompt": "p", "turn": 1}
    ConversationRepository(store, PROJECT).log([Interaction.model_validate(each) for each in (said, first)])
    letter = Interaction.model_validate(said | {"metadata": {VILE: 2}, "prompt": VILE})
    operator.settings.spool_dir.mkdir(parents=True)
    receipt = Receipt(receipt="conflict", reason=VILE, fields=[f"metadata.{VILE}"])
    DeadLetters(operator.settings.spool_dir).add(LETTER.batch(LETTER.build([letter])), receipt, time.time())
    KeyRegistry(store).create(PROJECT, "publishable", {"log"}, origins={VILE}, name=VILE)
    store.ask(
        ops.ADD_READ,
        PROJECT,
        ops.NewRead(
            id=str(UUID(int=1)), kind="secret", key_id=None, reader=VILE, call=VILE, user_id=VILE, session_ids=[]
        ),
    )
    key = store.ask(ops.REPORT_KEY, VILE, ops.NoQuery())["key"]  # which creates the project
    with psycopg.connect(url) as connection:
        # as a version could store it that took such names
        connection.execute("update turnlog.ai_sessions set key = %s", [VILE])
        table, column = sql.Identifier(SHORT), sql.Identifier(f"{SHORT}_id")
        connection.execute(sql.SQL("create table public.{} ({} text, session_id text)").format(table, column))
        connection.execute(sql.SQL("insert into public.{} values (null, %s), ('m', %s)").format(table), [VILE, VILE])
    written = {
        "sent": json.dumps({"session_id": VILE, "interaction_id": VILE, "prompt": "p", "receipt": "created"}),
        "records": json.dumps({"kind": "interaction", "session_id": "s", VILE: 1}),
        "report": json.dumps(
            erasure_reports.sign(
                {"project": VILE, "user_id": VILE, "dry_run": False, "erased_at": VILE, "proof": VILE}, key
            )
        ),
    }
    for name, text in written.items():
        (folder / name).write_text(f"{text}\n", encoding="utf-8")
    return {name: str(folder / name) for name in written} | {"folder": str(folder), "vile": VILE}


@pytest.mark.parametrize("arguments", PRINTED, ids=lambda arguments: ascii(" ".join(arguments)).replace("\\", ""))
def test_nothing_printed_moves_the_cursor_or_begins_a_line(scene: Scene, arguments: tuple[str, ...]) -> None:
    output = scene.run(arguments)
    assert PRINTED[arguments] in output
    lines = output.split("\n")
    assert [line for line in lines if not line.isprintable()] == []
    assert [line for line in lines if line.startswith(("forged", "Error: forged"))] == []
    if "--json" in arguments:
        assert "vile\\u001b" in json.dumps(json.loads(output[output.index("{") :]))


def test_every_command_is_walked_or_says_why_not() -> None:
    groups = {name for name, (_, command) in zip(NAMES, COMMANDS, strict=True) if hasattr(command, "commands")}
    walked = {
        name for name in NAMES if any(arguments[: len(name.split())] == tuple(name.split()) for arguments in PRINTED)
    }
    assert set(NAMES) - walked - groups == NOT_WALKED.keys()


def test_an_error_of_several_lines_stays_one() -> None:
    assert printable.several_lines("PostgreSQL didn't start:\n  FATAL\nError: forged\x1b") == (
        "PostgreSQL didn't start:\n  FATAL\n  Error: forged\\x1b"
    )


@pytest.mark.parametrize("text", [VILE, "Zoë, 日本語 🎈", "\ud800", "\U000e0001", "a\\u001b", '"\x7f\\'])
def test_a_document_of_json_means_the_same(text: str) -> None:
    for document in (json.dumps({text: [text]}, ensure_ascii=False, indent=2), json.dumps(text)):
        shown = printable.visible_json(document)
        assert json.loads(shown) == json.loads(document)
        assert all(line.isprintable() for line in shown.split("\n"))


def test_an_unexpected_error_is_printable_too(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ZeroDivisionError) as raised:
        raise ZeroDivisionError(VILE)
    base.print_unexpected(raised.type, raised.value, raised.tb)
    printed = capsys.readouterr().err
    assert printed.startswith("Traceback (most recent call last):\n")
    assert "  ZeroDivisionError: vile\\x1b]0;owned" in printed
    assert all(line.isprintable() and not line.startswith("Error: forged") for line in printed.split("\n"))
