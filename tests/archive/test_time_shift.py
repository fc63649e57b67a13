"""`--shift-to-now` makes the newest time of a file now, and keeps the intervals between times."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from conversation.archive.entries import Entry, Location, ParsedRecord, RejectedEntry
from conversation.archive.time_shift import TimeShift
from logging_store.records.models import Interaction, Record, Session
from tests.archive.conftest import Flask, counted, write

BEGUN, NEWEST = "2020-02-28T23:30:00Z", "2020-03-01T12:00:00Z"
PLAN = {"sessions_per_week": 1, "total_weeks": 2, "starts_on": "2020-03-02"}
SESSION: dict[str, Any] = {"record": "session", "key": "s", "folder_id": "f", "created_at": BEGUN}
LINES: list[dict[str, Any]] = [
    {"record": "folder", "key": "f", "plan": PLAN, "created_at": BEGUN},
    SESSION | {"started_at": BEGUN, "ended_at": "2020-02-29T00:30:00Z", "scheduled_on": "2020-02-28"},
    {"record": "participant", "session_key": "s", "participant": "ada", "created_at": BEGUN},
    {"record": "interaction", "session_key": "s", "key": "1", "prompt": f"since {BEGUN}?", "started_at": BEGUN,
     "completed_at": "2020-02-28T23:30:01.5Z", "created_at": BEGUN, "metadata": {"seen_at": BEGUN}},
    {"record": "feedback", "session_key": "s", "interaction_key": "1", "author": "ada", "name": "rating",
     "value": True, "given_at": NEWEST, "created_at": NEWEST},
]  # fmt: skip


def exported(flask: Flask) -> dict[str, dict[str, Any]]:
    return {line["record"]: line for line in map(json.loads, flask("export").stdout_bytes.splitlines())}


def moved(*records: Record) -> list[Entry]:
    entries = [ParsedRecord(Location("line", n), record) for n, record in enumerate(records, start=1)]
    return list(TimeShift.to_now(entries).apply(entries))


def times(line: dict[str, Any]) -> Iterator[tuple[str, datetime]]:
    for name, value in line.items():
        if name.endswith("_at"):
            yield name, datetime.fromisoformat(value)


def test_all_times_move_by_one_offset(flask: Flask, tmp_path: Path) -> None:
    file = write(tmp_path / "a", LINES)
    before = datetime.now(UTC)
    result = flask("import", file, "--format", "turnlog", "--shift-to-now")
    assert (result.exit_code, counted(result)["interactions"]) == (0, [1, 0, 0, 0, 0]), result.output
    after = datetime.now(UTC)
    there = exported(flask)
    offset = datetime.fromisoformat(there["feedback"]["given_at"]) - datetime.fromisoformat(NEWEST)
    assert before <= datetime.fromisoformat(NEWEST) + offset <= after
    for line in LINES:
        assert dict(times(there[line["record"]])) == {name: time + offset for name, time in times(line)}


def test_dates_move_by_whole_days_and_texts_stay(flask: Flask, tmp_path: Path) -> None:
    before = datetime.now(UTC).date()
    flask("import", write(tmp_path / "a", LINES), "--format", "turnlog", "--shift-to-now")
    there = exported(flask)
    starts_on = datetime.fromisoformat(there["folder"]["plan"]["starts_on"]).date()
    assert starts_on - before in {timedelta(1), timedelta(2)}  # where midnight comes between
    assert starts_on - datetime.fromisoformat(there["session"]["scheduled_on"]).date() == timedelta(3)
    assert there["interaction"]["prompt"] == f"since {BEGUN}?"
    assert there["interaction"]["metadata"] == {"seen_at": BEGUN}


def test_without_any_time_nothing_moves() -> None:
    record = Interaction(session_id="s", interaction_id="1", prompt="a")
    assert moved(record) == [ParsedRecord(Location("line", 1), record)]


def test_a_record_that_would_leave_the_calendar_is_refused() -> None:
    for begun, reason in (
        ("4000-01-01T00:00:00Z", "is out of range after the shift"),
        ("7000-01-01T00:00:00Z", "the year 1900"),
    ):
        old = Session.model_validate({"session_id": "old", "started_at": begun})
        new = Session.model_validate({"session_id": "new", "started_at": "8000-01-01T00:00:00Z"})
        first, second = moved(old, new)
        assert isinstance(first, RejectedEntry)
        assert reason in first.reason
        assert isinstance(second, ParsedRecord)


@pytest.mark.parametrize("file", ["-", "/dev/null"])
def test_a_source_that_cannot_be_read_twice_is_refused(flask: Flask, file: str) -> None:
    result = flask("import", file, "--format", "turnlog", "--shift-to-now", stdin=b"")
    assert (result.exit_code, "has to be a file on the disk" in result.output) == (2, True)
