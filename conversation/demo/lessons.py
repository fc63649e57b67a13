"""The folders of the made-up week: courses of numbered lessons, of which some were held and most are still locked."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from random import Random
from typing import Any, NamedTuple

from conversation.demo import talks
from conversation.demo.stating import state
from conversation.demo.talks import Line
from conversation.demo.telling import Habits, Teller
from logging_store.records import identity
from logging_store.records.models import Folder, Record, RestoredParticipant, Session

_PER_WEEK, _WEEKS = 2, 6
_WEEKS_AGO = 2  # the courses began
_DAYS = (0, 3)  # of a week of the course, on which lessons are held
_AFTER_SCHOOL = (14, 18)  # hours, UTC
_HABITS = Habits(("gpt-4.1-mini",), names_speakers=True, pause_s=11)
_MISSED = 0.12  # share of lessons
_TRIES = (5, 15)  # words in a lesson, as many and more
_MARATHON = 150  # tries in the longest lesson
_SENTENCE = 9  # every so many tries somebody wants a sentence

_Child = Mapping[str, Any]


class _Lesson(NamedTuple):
    child: _Child
    number: int
    session_id: str
    at: datetime


class Courses:
    """The courses of a project."""

    def __init__(self, project: str, chance: Random, teller: Teller) -> None:
        self._project = project
        self._chance = chance
        self._teller = teller
        self._file = talks.read("lessons")

    def records(self, until: datetime) -> Iterator[Record]:
        """Yield the courses, each with its lessons: held, missed, or open for today."""
        for place, child in enumerate(self._file["children"]):
            starts_on = until.date() - timedelta(weeks=_WEEKS_AGO, days=place)
            plan = {"sessions_per_week": _PER_WEEK, "total_weeks": _WEEKS, "starts_on": starts_on}
            yield state(
                Folder,
                folder_id=child["key"],
                name=child["name"],
                user_id=child["user"],
                plan=plan,
                metadata={"sound": child["sound"], "therapist": "dr.sommer"},
            )
            for number, on in enumerate(_dates(starts_on, until.date()), start=1):
                lesson = self._lesson(child, number, on, until)
                if lesson.at < until - timedelta(hours=1):
                    longest = (place, number) == (0, _PER_WEEK * _WEEKS_AGO)
                    missed = not longest and self._chance.random() < _MISSED
                    tries = _MARATHON if longest else self._chance.randrange(*_TRIES)
                    yield from _missed(lesson) if missed else self._held(lesson, tries)
                else:
                    yield _said(lesson, status="open")

    def _lesson(self, child: _Child, number: int, on: date, until: datetime) -> _Lesson:
        # it is there since its course is planned, so its id is the one that derives from its number
        folder = identity.folder(self._project, child["key"])
        at = time(self._chance.randrange(*_AFTER_SCHOOL), self._chance.randrange(60))
        session = identity.numbered_session(self._project, folder.id, number)
        return _Lesson(child, number, session.id, datetime.combine(on, at, until.tzinfo))

    def _held(self, lesson: _Lesson, tries: int) -> Iterator[Record]:
        child, at = lesson.child, lesson.at
        habits = _HABITS._replace(system=self._file["system"])
        spoken = list(self._teller.tell(lesson.session_id, at, list(self._drill(child, tries)), habits, child["user"]))
        ended = spoken[-1].completed_at if spoken else None
        yield _said(lesson, status="closed", started_at=at, ended_at=ended)
        yield _attending(lesson, child["user"], "child", "left")
        yield _attending(lesson, child["parent"], "parent", "joined")
        yield _attending(lesson, "dr.sommer", "therapist", "confirmed")
        yield from spoken

    def _drill(self, child: _Child, tries: int) -> Iterator[Line]:
        """Yield the turns of a lesson: a greeting, words one after another, a sentence now and then, a goodbye."""
        words = self._chance.sample(child["words"], len(child["words"]))
        yield self._line("hello", "welcome", child, words, 0)
        for n in range(tries):
            kinds = ("long", "sentence") if n % _SENTENCE == _SENTENCE - 1 else ("tries", "praise")
            yield self._line(*kinds, child, words, n)
        yield self._line("bye", "goodbye", child, words, tries)

    def _line(self, ask: str, answer: str, child: _Child, words: Sequence[str], n: int) -> Line:
        chosen = {
            "sound": child["sound"],
            "word": words[n % len(words)],
            "next": words[(n + 1) % len(words)],
            "count": str(max(n, len(_DAYS))),
            "sentence": self._chance.choice(child["sentence"]),
        }
        texts = self._file["exchanges"]
        return Line(
            talks.fill(self._chance.choice(texts[ask]), chosen), talks.fill(self._chance.choice(texts[answer]), chosen)
        )


def _dates(starts_on: date, today: date) -> Iterator[date]:
    """Yield the days of a course's lessons up to today."""
    for number in range(_PER_WEEK * _WEEKS):
        on = starts_on + timedelta(weeks=number // _PER_WEEK, days=_DAYS[number % _PER_WEEK])
        if on > today:
            return
        yield on


def _missed(lesson: _Lesson) -> Iterator[Record]:
    yield _said(lesson, status="closed", started_at=lesson.at)
    yield _attending(lesson, lesson.child["user"], "child", "reserved")


def _said(lesson: _Lesson, **more: Any) -> Record:
    sound = lesson.child["sound"]
    return state(
        Session,
        folder_id=lesson.child["key"],
        session_number=lesson.number,
        user_id=lesson.child["user"],
        title=f"Lesson {lesson.number}: {sound.upper()}",
        tags=["lesson", "speech"],
        **more,
    )


def _attending(lesson: _Lesson, who: str, role: str, attendance: str) -> Record:
    return state(
        RestoredParticipant,
        session_id=lesson.session_id,
        participant=who,
        role=role,
        state=attendance,
        created_at=lesson.at - timedelta(days=1),
    )
