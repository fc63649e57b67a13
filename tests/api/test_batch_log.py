"""Every batch leaves one line for operators, with nothing of what was logged in it."""

import json
import logging
from typing import Any

import httpx
import pytest
from flask.testing import FlaskClient

from app import create_app
from conversation.settings import Settings
from logging_store.errors import Invalid, StoreUnavailable
from tests.http_calls import KEYLESS, problem
from tests.service import launch
from tests.spool.flaky_store import FlakyStore

PRIVATE = "of-a-child"  # nothing of it may be in a log
FORGED = '\n[INFO] {"event": "batch", "items": 0}\u2028\r'  # would be lines of their own

LESSON = {"key": {"school": PRIVATE, "slot": 5}, "prompt": PRIVATE, "metadata": {PRIVATE: PRIVATE}}
TOO_DEEP = json.loads('{"a":' * 70 + "1" + "}" * 70)
BATCH = {
    "interactions": [
        LESSON,
        LESSON | {"response": PRIVATE},
        LESSON | {"key": {"school": PRIVATE}, FORGED: PRIVATE, "model": ""},
        LESSON | {"key": {"school": PRIVATE, "slot": 6}, "metadata": {FORGED: TOO_DEEP}},
        LESSON | {"key": {"school": PRIVATE, "slot": 7}, "status": PRIVATE},
        LESSON | {"key": {"school": PRIVATE, "slot": 5.0}},
        LESSON | {"key": {"school": PRIVATE, "slot": 8}, "session_id": "s"},
        LESSON | {"key": {"school": PRIVATE, "slot": 9}, "session_id": "s"},
    ],
    "key_fields": ["school", "slot"],
    "on_conflict": "fill",
}
TOLD = {
    "event": "batch",
    "items": 8,
    "counts": {"created": 3, "rejected": 4, "duplicate": 1},
    "keys": 3,
    "sessions": 2,
    "on_conflict": "fill",
    "dry_run": False,
    "failure": None,
    "problems": [
        {"index": 1, "receipt": "rejected", "reason": "duplicate_in_batch", "fields": ["response"], "indexes": [0, 1]},
        {"index": 2, "receipt": "rejected", "reason": "invalid", "fields": ["model", "(unknown)", "key.slot"]},
        {"index": 3, "receipt": "rejected", "reason": "invalid", "fields": ["metadata"]},
    ],
}


def lines(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    found = [record for record in caplog.records if record.name == "turnlog.batch"]
    assert {record.levelno for record in found} <= {logging.INFO}
    return [json.loads(record.getMessage()) for record in found]


def without_times(line: dict[str, Any]) -> dict[str, Any]:
    assert line.pop("duration_ms") > 0
    assert line.pop("at").endswith("+00:00")
    return line


def send(client: FlaskClient, batch: dict[str, Any], query: str = "") -> int:
    return client.post(f"/v1/interactions/batch{query}", json=batch).status_code


def test_a_batch_leaves_one_line_that_gives_nothing_away(client: FlaskClient, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "turnlog"):
        assert send(client, BATCH) == 207
    (line,) = lines(caplog)
    assert without_times(line) == TOLD
    assert PRIVATE not in caplog.text
    assert caplog.records[0].getMessage().isprintable(), "nothing in it ends a line"


def test_conflicts_and_plans_are_told_as_well(client: FlaskClient, caplog: pytest.LogCaptureFixture) -> None:
    one = {"session_id": "s", "interaction_id": "i", "prompt": "Hello"}
    with caplog.at_level(logging.INFO, "turnlog"):
        assert send(client, {"interactions": [one]}) == 200
        other = {"interactions": [one | {"prompt": "Bye", "model": "m"}]}
        assert send(client, other) == 207
        assert send(client, other | {"on_conflict": "fill"}, "?dry_run=true") == 200
    first, second, third = lines(caplog)
    assert (first["counts"], first["keys"], first["sessions"], first["problems"]) == ({"created": 1}, 0, 1, [])
    contradicts = {"index": 0, "reason": "contradicts", "fields": ["prompt"]}
    assert second["problems"] == [contradicts | {"receipt": "conflict"}]
    assert (third["dry_run"], third["problems"]) == (True, [contradicts | {"receipt": "filled"}])


def test_what_the_store_says_is_not_repeated(client: FlaskClient, caplog: pytest.LogCaptureFixture) -> None:
    """It may quote the value that it refuses."""
    refusing = FlakyStore(client.application.extensions["conversation_repository"].store)
    refusing.refuses = lambda _: Invalid(f"invalid input: {PRIVATE}", field="prompt")
    client = create_app(Settings.from_mapping(KEYLESS), refusing).test_client()
    with caplog.at_level(logging.INFO, "turnlog"):
        assert send(client, {"interactions": [LESSON]}) == 207
    (line,) = lines(caplog)
    assert line["problems"] == [{"index": 0, "receipt": "rejected", "reason": "refused", "fields": ["prompt"]}]


def test_a_batch_that_failed_is_told_too(client: FlaskClient, caplog: pytest.LogCaptureFixture) -> None:
    away = FlakyStore(client.application.extensions["conversation_repository"].store)
    away.away = StoreUnavailable("nobody answers")
    client = create_app(Settings.from_mapping(KEYLESS), away).test_client()
    with caplog.at_level(logging.INFO, "turnlog"):
        answer = client.post("/v1/interactions/batch", json={"interactions": [LESSON, {}]})
    assert problem(answer)["status"] == 503
    (line,) = lines(caplog)
    assert (line["failure"], line["counts"]) == ("StoreUnavailable", {"failed": 1, "rejected": 1})
    assert (line["keys"], line["sessions"]) == (None, None)


def test_the_line_is_in_the_log_of_the_service(database: str) -> None:
    with launch({"DATABASE_URL": database}, workers=1) as service:
        service.wait_until_ready()
        for batch in ({"interactions": [LESSON]}, BATCH):
            httpx.post(f"{service.url}/v1/interactions/batch", json=batch, timeout=30)
        log = service.log()
    assert PRIVATE not in log
    found = [line for line in log.splitlines() if '"event"' in line]
    assert ["[INFO] {" in line for line in found] == [True, True]
    first, second = (without_times(json.loads(line[line.index("{") :])) for line in found)
    assert first["counts"] == {"created": 1}
    assert second == TOLD | {"counts": {"created": 2, "duplicate": 2, "rejected": 4}}


def test_who_wants_only_warnings_gets_no_lines(database: str) -> None:
    with launch({"DATABASE_URL": database, "GUNICORN_CMD_ARGS": "--log-level warning"}, workers=1) as service:
        service.wait_until_ready()
        answer = httpx.post(f"{service.url}/v1/interactions/batch", json=BATCH, timeout=30)
        assert answer.status_code == 207
        log = service.log()
    assert '"event"' not in log
