"""The main job, on every kind of store: dialogues logged by many clients at once, out of order, twice, read back.

`TURNLOG_TEST_DIALOGUES` names a file of real ones; without it they are made up.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from bench import dialogues, replay
from tests.databases import TestServer
from tests.postgrest import PostgrestStandIn
from tests.service import running_service

pytestmark = pytest.mark.slow

SEED = 20261121


@pytest.fixture(params=["embedded", "postgres", "supabase"])
def environment(
    request: pytest.FixtureRequest, postgres_server: TestServer, tmp_path: Path
) -> Iterator[dict[str, str]]:
    """Yield the settings of a service over each kind of store, empty."""
    if request.param == "embedded":
        yield {"DATA_DIR": str(tmp_path / "data")}
        return
    with postgres_server.database() as name:
        if request.param == "postgres":
            yield {"DATABASE_URL": postgres_server.conninfo(name)}
            return
        with PostgrestStandIn(postgres_server.conninfo(name, user="authenticator"), pool_size=16) as standin:
            yield {"SUPABASE_URL": standin.url, "SUPABASE_SECRET_KEY": standin.key("service_role")}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    if real := os.environ.get("TURNLOG_TEST_DIALOGUES"):
        return Path(real)
    path = tmp_path / "dialogues.jsonl"
    dialogues.write_made_up(path, count=40, seed=SEED)
    return path


def test_dialogues_logged_twice_by_many_clients_come_back_as_they_were_sent(
    environment: dict[str, str], file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with running_service(environment, workers=2) as url:
        status = replay.main([str(file), url, "--clients", "16", "--seed", str(SEED)])
    assert status == 0, capsys.readouterr().out


def test_what_is_not_exactly_right_is_found_and_counts_as_failure(
    database: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "dialogues.jsonl"
    dialogues.write_made_up(path, count=3, seed=SEED)
    first, second, third = dialogues.read(path)
    there_before = [
        {"session_id": first.name, "interaction_id": "1", "turn": 1, "prompt": "said otherwise"},
        {"session_id": second.name, "interaction_id": "extra", "prompt": "never said"},
    ]
    with running_service({"DATABASE_URL": database}) as url:
        for interaction in there_before:
            httpx.post(f"{url}/v1/interactions", json=interaction).raise_for_status()
        status = replay.main([str(path), url, "--clients", "4", "--seed", "1"])
    printed = capsys.readouterr().out
    assert status == 1
    assert f"first: {first.name!r}, turn 1: 409" in printed
    assert f"{first.name!r}, turn 1: prompt is 'said otherwise'" in printed
    assert f"{second.name!r} has {len(second.turns) + 1} interactions, sent were {len(second.turns)}" in printed
    assert third.name not in printed


def test_a_file_that_holds_no_dialogues_is_refused_by_line(tmp_path: Path) -> None:
    path = tmp_path / "dialogues.jsonl"
    path.write_text('{"dialogue_id": "1", "services": [], "turns": []}\n{"turns": []}\n')
    with pytest.raises(ValueError, match=r"dialogues\.jsonl, line 2: not a dialogue"):
        dialogues.read(path)
