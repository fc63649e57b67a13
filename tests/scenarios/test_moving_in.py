"""Old data moves in: tables whose foreign key was never there, documents whose session id was null, dialogues."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import psycopg
import pytest

from conversation.settings import Settings
from tests.archive import dialogues
from tests.archive.conftest import counted, counts_of, flask_of, stored_rows, write
from tests.conftest import Backend
from tests.doctor.operator import Operator
from tests.service import inherited

pytestmark = pytest.mark.own_database

ROOT = Path(__file__).parents[2]
OLD_TABLES = """
create table public.old_sessions (id uuid primary key, owner text);
create table public.old_interactions (id uuid, session_id uuid, prompt text);
insert into public.old_sessions values ('11111111-1111-4111-8111-111111111111', 'ann');
insert into public.old_interactions values
    ('aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaa1', '11111111-1111-4111-8111-111111111111', 'has its session'),
    ('aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaa2', '22222222-2222-4222-8222-222222222222', 'its session was never stored'),
    (null, '22222222-2222-4222-8222-222222222222', 'has no id'),
    ('aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaa4', null, 'has no session');
"""
FOREIGN = ["--table", "public.old_interactions", "--parent", "public.old_sessions"]


def documents() -> list[dict[str, Any]]:
    """Return conversations as `E11000 duplicate key … sessionId: null` left them."""
    said = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"}]
    names: list[Any] = [None, None, "", "null", "s1", "s1", "undefined"]
    found = [
        {"_id": {"$oid": f"{n:024x}"}, "sessionId": name, "messages": [{**each, "n": n} for each in said]}
        for n, name in enumerate(names)
    ]
    return [*found, {"_id": {"$oid": f"{99:024x}"}, "messages": said}]


def test_hand_written_tables_are_examined_and_repaired(owner: Operator) -> None:
    owner.execute(OLD_TABLES)
    found = [finding for check, finding in owner.find(*FOREIGN) if "old_interactions" in check]
    assert found
    dry = owner.run("repair", *FOREIGN)
    assert (dry.exit_code, "nothing was changed" in dry.output) == (0, True)
    assert owner.execute("select count(*) from public.old_sessions") == [(1,)]
    repaired = owner.run("repair", *FOREIGN, "--apply")
    assert repaired.exit_code == 0, repaired.output
    assert owner.execute("select count(*) from public.old_interactions") == [(4,)], "nothing was dropped"
    orphans = "select count(*) from public.old_interactions i left join public.old_sessions s on s.id = i.session_id"
    assert owner.execute(f"{orphans} where s.id is null or i.id is null") == [(0,)]
    assert [check for check, _ in owner.find(*FOREIGN) if "old_interactions" in check] == []


def test_documents_without_an_identity_each_get_one(backend: Backend, tmp_path: Path) -> None:
    flask = flask_of(backend.environment)
    file, report = write(tmp_path / "chats.jsonl", documents()), tmp_path / "report.jsonl"
    first = flask("import", str(file), "--format", "mongoexport", "--report", report)
    again = flask("import", str(file), "--format", "mongoexport", "--report", report)
    assert (first.exit_code, again.exit_code) == (0, 0), first.output
    assert stored_rows(backend) == (8, 8), "each conversation is one of its own"
    assert counted(first)["sessions"][0] == 8
    assert counted(again)["sessions"][0] == counted(again)["interactions"][0] == 0
    assert len(report.read_text(encoding="utf-8").splitlines()) >= 7, "each repair is told"


def test_two_imports_of_one_file_at_once(backend: Backend, tmp_path: Path) -> None:
    """As after a cron job that was started twice: every dialogue is there once, and every text as it was."""
    everything = dialogues.read()
    sessions, turns = dialogues.counted(everything)
    file = write(tmp_path / "dialogues.jsonl", everything)
    command = [sys.executable, "-m", "flask", "--app", "app", "import", str(file), "--format", "sharegpt"]
    environment = inherited() | backend.environment | {"DATA_DIR": str(tmp_path)}
    running = [
        subprocess.Popen(
            command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        for _ in range(2)
    ]
    told = [process.communicate(timeout=150)[0] for process in running]
    assert [process.returncode for process in running] == [0, 0], told
    assert stored_rows(backend) == (sessions, turns)
    assert sum(counts_of(each)["interactions"][0] for each in told) == turns
    with psycopg.connect(backend.database) as connection:
        stored = connection.execute(
            "select s.key, i.prompt #>> '{}', i.response #>> '{}' from turnlog.ai_interactions i"
            " join turnlog.ai_sessions s on s.id = i.session_id where i.project = %s order by s.key, i.turn",
            [Settings.from_mapping(backend.environment).turnlog_project],
        ).fetchall()
    said = [
        (dialogue["id"], turn["value"], answer["value"])
        for dialogue in sorted(everything, key=lambda each: each["id"])
        for turn, answer in zip(dialogue["conversations"][::2], dialogue["conversations"][1::2], strict=True)
    ]
    assert stored == said
