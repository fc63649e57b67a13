"""`flask demo`: a believable week in an empty project, the same for the same seed, and nothing among real records."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from app import create_app
from conversation.demo import week
from conversation.demo.talks import fill, people, talks
from conversation.settings import Settings
from logging_store.postgres.function_store import FunctionStore
from logging_store.records.models import Feedback, Interaction, Record, Restored, RestoredInteraction, Session
from logging_store.repository import ConversationRepository
from tests.access.conftest import Calls
from tests.conftest import PROJECT
from tests.doctor import Operator

UNTIL = datetime(2026, 11, 20, 16, 5, tzinfo=UTC)
AT = ("--until", UNTIL.isoformat())


def stated(seed: int = 1, until: datetime = UNTIL) -> list[tuple[str, dict[str, Any]]]:
    return [(type(each).__name__, each.json_fields()) for each in week.records(PROJECT, seed, until)]


def known() -> list[tuple[str, dict[str, Any]]]:
    return [(type(each).__name__, each.json_fields()) for each in made()]


@cache
def made() -> Sequence[Record]:
    return list(week.records(PROJECT, 1, UNTIL))


def interactions() -> list[RestoredInteraction]:
    return [each for each in made() if isinstance(each, RestoredInteraction)]


def texts(record: Record) -> Iterator[str]:
    """Yield all texts that stand anywhere in a record."""
    waiting: list[Any] = [record.json_fields()]
    while waiting:
        match waiting.pop():
            case str() as text:
                yield text
            case dict() as part:
                waiting.extend(part.values())
            case list() as parts:
                waiting.extend(parts)


def test_the_same_seed_and_end_make_the_same_records() -> None:
    assert stated() == known()
    assert known() != stated(seed=2)
    assert known() != stated(until=UNTIL + timedelta(hours=1))


def test_a_week_is_kept_whole_and_told_again_is_the_same(
    operator: Operator, repository: ConversationRepository
) -> None:
    result = operator.run("demo", *AT)
    assert result.exit_code == 0, result.output
    told = [int(number.replace(",", "")) for number in re.findall(r"([\d,]+) (?:\w+s|times feedback),", result.output)]
    counted = Counter(kind.removeprefix("Restored") for kind, _ in known())
    assert told == [counted["Session"], counted["Interaction"], counted["Folder"], counted["Feedback"]]
    locked = "select count(*) from turnlog.ai_sessions where status = 'locked' and implicit"
    kinds = ("ai_sessions", "ai_interactions", "ai_session_folders", "ai_feedback")
    rows = [operator.execute(f"select count(*) from turnlog.{kind}")[0][0] for kind in kinds]  # noqa: S608
    assert rows == [told[0] + operator.execute(locked)[0][0], *told[1:]]
    again = made()
    for n in range(0, len(again), 500):
        assert {kept.receipt.receipt for kept in repository.write(again[n : n + 500])} == {"duplicate"}


def test_a_course_has_lessons_that_were_held_and_lessons_to_come(
    operator: Operator, repository: ConversationRepository
) -> None:
    operator.run("demo", *AT)
    course = repository.folder("practice-mila", {"limit": 20})
    statistics = course["folder"]["statistics"]
    assert (statistics["planned"], statistics["sessions"], len(course["sessions"])) == (12, 12, 12)
    assert 0 < statistics["closed"] <= statistics["opened"] < 12
    assert max(session["interaction_count"] for session in course["sessions"]) > 100
    assert [session["status"] for session in course["sessions"]][-1] == "locked"


def test_it_has_all_that_the_pages_show() -> None:
    said = interactions()
    assert {each.status for each in said} == {"completed", "failed", "abandoned", None}
    assert len({each.model for each in said}) >= 6
    assert len({each.provider for each in said}) >= 5
    assert len({each.error for each in said if each.error}) == 5
    assert {"stop", "end_turn", "STOP", "length", "content_filter"} <= {each.finish_reason for each in said}
    assert {each.time_to_first_token_ms is None for each in said if each.status == "completed"} == {False}
    assert {each.cost_usd is None for each in said} == {True, False}
    assert any(each.reply_to for each in said)
    assert sum("```" in str(each.response) for each in said) > 50
    assert sum("|---" in str(each.response) for each in said) > 50
    assert sum("tool_calls" in str(each.response) for each in said) > 50
    assert max(len(str(each.prompt)) for each in said) > 5_000


@pytest.mark.parametrize(
    "script",
    ["ARABIC", "HEBREW", "CJK UNIFIED", "HIRAGANA", "HANGUL", "THAI", "DEVANAGARI", "LATIN SMALL LETTER E WITH"],
)
def test_it_speaks_many_scripts(script: str) -> None:
    prompts = [str(each.prompt) for each in interactions()]
    assert sum(any(unicodedata.name(c, "").startswith(script) for c in prompt) for prompt in prompts) > 10


def test_emoji_have_conversations_of_their_own() -> None:
    assert sum("⛺" in str(each.prompt) or "🏕" in str(each.prompt) for each in interactions()) > 2


def test_people_say_what_they_think_of_answers_that_came() -> None:
    said = [each for each in made() if isinstance(each, Feedback)]
    assert {each.name for each in said} == {"rating", "score", "note", "accuracy"}
    assert {type(each.value) for each in said} == {bool, int, str}
    ratings = Counter(each.value for each in said if each.name == "rating")
    assert ratings[True] > ratings[False] > 20
    answered = {(each.session_id, each.interaction_id) for each in interactions() if each.response is not None}
    assert {(each.session_id, each.interaction_id) for each in said} < answered


def test_turns_are_missing_here_and_there() -> None:
    turns: dict[str, list[int]] = {}
    for each in interactions():
        if each.turn is not None and each.session_id is not None:
            turns.setdefault(each.session_id, []).append(each.turn)
    gapped = [seen for seen in turns.values() if len(seen) < max(seen)]
    assert 0 < len(gapped) < len(turns) / 10


def test_some_sessions_were_never_created() -> None:
    implicit = [facts for kind, facts in known() if kind == "RestoredSession" and facts.get("implicit")]
    assert len(implicit) > 10
    assert all(set(facts) == {"session_id", "created_at", "implicit"} for facts in implicit)


def test_nothing_is_told_of_what_is_still_to_come() -> None:
    for record in made():
        for name in ("started_at", "completed_at", "ended_at", "created_at", "given_at"):
            assert (getattr(record, name, None) or UNTIL) <= UNTIL, record
        if isinstance(record, Interaction) and record.started_at and record.completed_at:
            assert record.started_at <= record.completed_at
    waiting = [each for each in interactions() if each.status is None]
    assert any(each.started_at and UNTIL - each.started_at < timedelta(minutes=6) for each in waiting)


def test_nights_are_quieter_than_days_and_a_provider_has_a_bad_hour() -> None:
    said = [each for each in interactions() if each.started_at]
    hours = Counter(each.started_at.hour for each in said if each.started_at)
    assert hours[10] > 3 * hours[3]
    failed = Counter(each.started_at.strftime("%d %H") for each in said if each.error and each.started_at)
    (hour, count), (_, next_count) = failed.most_common(2)
    assert (hour, count > 2 * next_count) == ("17 14", True)


def test_every_word_in_braces_is_chosen() -> None:
    for record in made():
        for text in texts(record):
            assert not re.search(r"\{[a-z]+\}", text), text
    with pytest.raises(KeyError):
        fill("{nobody}", {})


def test_everybody_who_talks_has_a_language() -> None:
    assert {talk.language for talk in talks()} == people().keys()
    assert all(isinstance(each, (Restored, Session)) or "plan" in each.json_fields() for each in made())


def test_what_is_there_is_left_alone(operator: Operator, repository: ConversationRepository) -> None:
    repository.write([Session(session_id="mine")])
    refused = operator.run("demo", *AT)
    assert (refused.exit_code, "has conversations already" in refused.output) == (1, True)
    left = operator.run("demo", "--unless-made", *AT)
    assert (left.exit_code, "they stay as they are" in left.output) == (0, True)
    assert [session["key"] for session in repository.sessions({"limit": 10})["sessions"]] == ["mine"]
    elsewhere = operator.run("demo", "--project", "beside", *AT)
    assert (elsewhere.exit_code, "The project beside has a week" in elsewhere.output) == (0, True)
    assert [session["key"] for session in repository.sessions({"limit": 10})["sessions"]] == ["mine"]


def test_a_folder_alone_is_something_already(operator: Operator, repository: ConversationRepository) -> None:
    repository.write(made()[:1])
    assert operator.run("demo", *AT).exit_code == 1


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--until", "yesterday"], "must be a time with its zone"),
        (["--until", "2026-11-20T16:05:00"], "needs its zone"),
        (["--project", "no spaces"], "must be 1 to 100 letters"),
    ],
)
def test_what_is_stated_wrongly_is_told(operator: Operator, arguments: list[str], told: str) -> None:
    result = operator.run("demo", *arguments)
    assert (result.exit_code, told in result.output) == (2, True)


def test_the_way_in_opens_the_log(operator: Operator, store: FunctionStore, tmp_path: Path) -> None:
    guarded = create_app(Settings.from_mapping({"DATA_DIR": str(tmp_path)}), store)
    result = operator.run("demo", "--sign-in", *AT)
    found = re.search(r"Open {2}(\S+)\n {4}Key {3}(turnlog_sk_\w+)", result.output)
    assert found is not None, result.output
    assert found[1] == "http://127.0.0.1:8000/"
    answer = Calls(guarded.test_client(), found[2], {})("GET", "/v1/sessions?limit=1")
    assert (answer.status_code, len(answer.get_json()["sessions"])) == (200, 1)


def test_an_interruption_tells_what_is_left(operator: Operator, monkeypatch: pytest.MonkeyPatch) -> None:
    def cut(project: str, seed: int, until: datetime) -> Iterator[Record]:
        yield from islice(records(project, seed, until), 600)
        raise KeyboardInterrupt

    records = week.records
    monkeypatch.setattr(week, "records", cut)
    result = operator.run("demo", *AT)
    assert (result.exit_code, "a part of the week" in result.output) == (1, True)
