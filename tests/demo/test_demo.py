"""`turnlog demo --here`: a recorded week comes into an empty project, ends now, and never among real records."""

import gzip
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import islice
from typing import Any

import pytest

from conversation.archive.entries import Entry
from conversation.archive.time_shift import TimeShift
from conversation.demo import RECORDING
from logging_store.records.models import Folder, Session
from logging_store.repository import ConversationRepository
from tests.doctor.operator import Operator

_TABLES = {
    "session": "ai_sessions",
    "interaction": "ai_interactions",
    "folder": "ai_session_folders",
    "feedback": "ai_feedback",
    "participant": "ai_session_participants",
}


@cache
def recorded(kind: str) -> list[dict[str, Any]]:
    """Return the recording's records of one kind."""
    with gzip.open(RECORDING, "rt", encoding="utf-8") as lines:
        return [record for line in lines if (record := json.loads(line))["record"] == kind]


def begins() -> list[datetime]:
    return [datetime.fromisoformat(each["started_at"]) for each in recorded("interaction")]


def newest() -> datetime:
    everything = (record for kind in _TABLES for record in recorded(kind))
    return max(datetime.fromisoformat(record[name]) for record in everything for name in record if name.endswith("_at"))


def test_the_whole_recording_is_kept(operator: Operator) -> None:
    result = operator.run("demo", "--here")
    assert result.exit_code == 0, result.output
    told = [int(number.replace(",", "")) for number in re.findall(r"([\d,]+) (?:\w+s|feedback)[,.]", result.output)]
    assert told == [len(recorded(kind)) for kind in ("session", "interaction", "folder", "feedback")]
    for kind, table in _TABLES.items():
        (count,) = operator.execute(f"select count(*) from turnlog.{table}")  # noqa: S608
        assert count == (len(recorded(kind)),), kind


def test_the_week_ends_now(operator: Operator) -> None:
    before = datetime.now(UTC)
    operator.run("demo", "--here")
    begun = "select max(started_at), min(started_at) from turnlog.ai_interactions"
    ((last, first),) = operator.execute(begun)
    recorded_at = begins()
    assert last - first == max(recorded_at) - min(recorded_at)
    moved = last - max(recorded_at)
    assert before <= newest() + moved <= datetime.now(UTC)
    ((starts_on,),) = operator.execute("select min(starts_on) from turnlog.ai_session_folders")
    days = min(folder["plan"]["starts_on"] for folder in recorded("folder") if "plan" in folder)
    assert (starts_on - before.date()).days == (datetime.fromisoformat(days).date() - newest().date()).days


def test_a_course_has_lessons_that_were_held_and_lessons_to_come(
    operator: Operator, repository: ConversationRepository
) -> None:
    operator.run("demo", "--here")
    course = repository.folder("practice-mila", {"limit": 20})
    statistics = course["folder"]["statistics"]
    assert (statistics["planned"], statistics["sessions"], len(course["sessions"])) == (12, 12, 12)
    assert 0 < statistics["closed"] <= statistics["opened"] < 12
    assert max(session["interaction_count"] for session in course["sessions"]) > 100
    assert [session["status"] for session in course["sessions"]][-1] == "locked"


def test_it_has_all_that_the_pages_show() -> None:
    said = recorded("interaction")
    assert {each["status"] for each in said} == {"completed", "failed", "abandoned", "pending"}
    assert len({each["model"] for each in said}) >= 6
    assert len({each["provider"] for each in said}) >= 5
    assert len({each["error"] for each in said if "error" in each}) == 5
    assert {"stop", "end_turn", "STOP", "length", "content_filter"} <= {each.get("finish_reason") for each in said}
    assert all("time_to_first_token_ms" in each for each in said if each["status"] == "completed")
    assert {"cost_usd" in each for each in said} == {True, False}
    assert any("reply_to" in each for each in said)
    assert any("image_url" in str(each.get("prompt")) for each in said)
    for part in ("```", "|---", "tool_calls"):
        assert sum(part in str(each.get("response")) for each in said) > 50, part
    assert max(len(str(each.get("prompt"))) for each in said) > 5_000
    assert {each["state"] for each in recorded("participant")} == {"reserved", "confirmed", "joined", "left"}
    assert {each["status"] for each in recorded("session")} == {"locked", "open", "closed"}
    assert sum(each["implicit"] and each["status"] == "open" for each in recorded("session")) > 10


@pytest.mark.parametrize(
    "script",
    ["ARABIC", "HEBREW", "CJK UNIFIED", "HIRAGANA", "HANGUL", "THAI", "DEVANAGARI", "LATIN SMALL LETTER E WITH"],
)
def test_it_speaks_many_scripts(script: str) -> None:
    prompts = [str(each.get("prompt")) for each in recorded("interaction")]
    assert sum(any(unicodedata.name(c, "").startswith(script) for c in prompt) for prompt in prompts) > 10


def test_people_say_what_they_think_of_answers_that_came() -> None:
    said = recorded("feedback")
    assert {each["name"] for each in said} == {"rating", "score", "note", "accuracy"}
    ratings = Counter(each["value"] for each in said if each["name"] == "rating")
    assert ratings[True] > ratings[False] > 20
    answered = {each["interaction_id"] for each in recorded("interaction") if "response" in each}
    assert {each["interaction_id"] for each in said} < answered


def test_turns_are_missing_here_and_there() -> None:
    turns: dict[str, list[int]] = {}
    for each in recorded("interaction"):
        if "turn" in each:
            turns.setdefault(each["session_id"], []).append(each["turn"])
    gapped = [seen for seen in turns.values() if len(seen) < max(seen)]
    assert 0 < len(gapped) < len(turns) / 10


def test_every_day_of_the_week_and_the_last_minutes_have_something() -> None:
    ago = [newest() - begun for begun in begins()]
    days = Counter(each.days for each in ago)
    assert all(days[n] > 100 for n in range(7))
    assert sum(each < timedelta(minutes=6) for each in ago) > 5
    waiting = [each["started_at"] for each in recorded("interaction") if each["status"] == "pending"]
    assert max(waiting) == max(each["started_at"] for each in recorded("interaction")), "somebody waits for an answer"


def test_nights_are_quieter_than_days_and_a_provider_has_a_bad_hour() -> None:
    hours = Counter(begun.hour for begun in begins())
    assert hours[10] > 3 * hours[3]
    failed = Counter(each["started_at"][:13] for each in recorded("interaction") if each["status"] == "failed")
    (_, count), (_, next_count) = failed.most_common(2)
    assert count > 2 * next_count


def test_its_addresses_are_nobodys() -> None:
    with gzip.open(RECORDING, "rt", encoding="utf-8") as lines:
        text = lines.read()
    hosts = re.findall(r"(?:\w@|://)([\w.-]+)", text)
    assert hosts
    assert {host for host in hosts if not re.fullmatch(r"([\w-]+\.)?example\.(com|org)", host)} == set()
    assert set(re.findall(r"\d+\.\d+\.\d+\.\d+", text)) <= {"127.0.0.1", "0.0.0.0"}  # noqa: S104 - nothing is bound


def test_what_is_there_is_left_alone(operator: Operator, repository: ConversationRepository) -> None:
    repository.write([Session(session_id="mine")])
    refused = operator.run("demo", "--here")
    assert (refused.exit_code, "has conversations already" in refused.output) == (1, True)
    elsewhere = operator.run("demo", "--here", "--project", "beside")
    assert (elsewhere.exit_code, "The project beside has a week" in elsewhere.output) == (0, True)
    assert [session["key"] for session in repository.sessions({"limit": 10})["sessions"]] == ["mine"]


def test_a_folder_alone_is_something_already(operator: Operator, repository: ConversationRepository) -> None:
    repository.write([Folder(folder_id="mine")])
    assert operator.run("demo", "--here").exit_code == 1


def test_a_record_that_can_not_be_kept_is_an_error(operator: Operator, repository: ConversationRepository) -> None:
    key = next(session["key"] for session in recorded("session") if "key" in session)
    repository.write([Session(session_id=key)])
    repository.erase(key)
    result = operator.run("demo", "--here")
    assert (result.exit_code, "A record of the demo can't be stored" in result.output) == (1, True)


def test_a_project_has_a_name_that_can_be_one(operator: Operator) -> None:
    result = operator.run("demo", "--here", "--project", "no spaces")
    assert (result.exit_code, "must be 1 to 100 letters" in result.output) == (2, True)


def test_an_interruption_tells_what_is_left(operator: Operator, monkeypatch: pytest.MonkeyPatch) -> None:
    apply = TimeShift.apply

    def cut(self: TimeShift, entries: Iterable[Entry]) -> Iterator[Entry]:
        yield from islice(apply(self, entries), 600)
        raise KeyboardInterrupt

    monkeypatch.setattr(TimeShift, "apply", cut)
    result = operator.run("demo", "--here")
    assert (result.exit_code, "a part of the week" in result.output) == (1, True)
    assert operator.execute("select count(*) > 0 from turnlog.ai_sessions") == [(True,)]
