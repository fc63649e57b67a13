"""The made-up week: who opens which chat when."""

import uuid
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, time, timedelta
from functools import cache
from itertools import accumulate
from random import Random
from typing import NamedTuple

from conversation.demo.judging import Judges
from conversation.demo.lessons import Courses
from conversation.demo.stating import state
from conversation.demo.talks import Line, Talk, people, talks
from conversation.demo.telling import Habits, Outage, Teller
from logging_store.records.models import Record, RestoredFolder, RestoredInteraction, RestoredSession

SPAN = timedelta(days=7)
#: When the courses were planned, before the end.
PLANNED = timedelta(days=22)

_SESSIONS = 1500
#: Sessions that are still going on: how many, and since when.
_JUST_NOW = ((9, timedelta(minutes=6)), (3, timedelta(milliseconds=80)))
_SATURDAY = 5
# how busy the hours are where people live, from midnight on
_HOURS = (6, 4, 2, 1, 1, 2, 6, 18, 42, 66, 80, 84, 70, 74, 86, 88, 82, 70, 58, 54, 60, 52, 30, 14)
# how sessions go on: shares
_LEAVES_EARLY, _GOES_ON, _UNTITLED, _CLOSED, _IN_FOLDER = 0.2, 0.4, 0.18, 0.6, 0.55
_STILL_OPEN = timedelta(minutes=20)
_RELEASES = ("4.2.0", "4.3.0", "4.3.1", "4.4.0")

_OUTAGE_DAYS_AGO, _OUTAGE_AT, _OUTAGE_LASTS = timedelta(days=3), time(13, 40, tzinfo=UTC), timedelta(minutes=100)
_ENGLISH = 4.0  # times as often as any other language


class App(NamedTuple):
    """A chat that logs here. `share`: of all sessions. `unnamed`: the share of sessions of which no user is known."""

    share: float
    habits: Habits
    tags: Sequence[str]
    channels: Sequence[str]
    names_sessions: bool = True
    unnamed: float = 0.0
    implicit: float = 0.0
    weekend: float = 0.6
    folder: str | None = None


APPS: Mapping[str, App] = {
    "support": App(
        share=0.5,
        habits=Habits(("gpt-4o-mini", "gpt-4o-mini", "claude-haiku-4-5", "workshop-7b"), pause_s=38),
        tags=("shop", "support"),
        channels=("web", "ios", "android"),
        unnamed=0.2,
        implicit=0.07,
    ),
    "travel": App(
        share=0.24,
        habits=Habits(("gpt-4.1-mini", "gemini-2.5-flash", "mistral-small-latest"), own_ids=False, pause_s=70),
        tags=("travel",),
        channels=("web", "ios"),
        names_sessions=False,
        weekend=1.3,
    ),
    "coding": App(
        share=0.26,
        habits=Habits(
            ("claude-sonnet-4-5", "claude-sonnet-4-5", "gpt-4o"), counts_turns=False, own_ids=False, pause_s=110
        ),
        tags=("code",),
        channels=("editor", "terminal"),
        names_sessions=False,
        weekend=0.35,
        folder="assistant-pilot",
    ),
}


def records(project: str, seed: int, until: datetime) -> Iterator[Record]:
    """Yield the records of the week before `until`: parents before their children, sessions by when they began."""
    yield from _Week(Random(seed), until).records(project)


class _Week:
    def __init__(self, chance: Random, until: datetime) -> None:
        begin = datetime.combine(until - _OUTAGE_DAYS_AGO, _OUTAGE_AT)
        self._chance = chance
        self._until = until
        self._judges = Judges(chance, until)
        self._teller = Teller(chance, until, Outage("openai", begin, begin + _OUTAGE_LASTS))

    def records(self, project: str) -> Iterator[Record]:
        yield state(
            RestoredFolder,
            folder_id=APPS["coding"].folder,
            name="Assistant pilot, team Platform",
            metadata={"cost_centre": "4410", "contact": "platform@example.com"},
            created_at=self._until - PLANNED,
        )
        yield from Courses(project, self._chance, self._teller).records(self._until)
        for number, (at, talk) in enumerate(sorted(self._begins(), key=lambda begin: begin[0]), start=1):
            yield from self._session(number, at, talk)

    def _begins(self) -> Iterator[tuple[datetime, Talk]]:
        """Yield when sessions begin, and what they are about: a few of them just now."""
        for count, since in _JUST_NOW:
            for _ in range(count):
                yield self._until - since * self._chance.random(), self._chance.choice(talks())
        for _ in range(_SESSIONS):
            talk = self._talk()
            at = self._until - SPAN * self._chance.random()
            while self._chance.random() > _busy(at, talk):
                at = self._until - SPAN * self._chance.random()
            yield at, talk

    def _talk(self) -> Talk:
        (app,) = self._chance.choices(list(APPS), [each.share for each in APPS.values()])
        those = [talk for talk in talks() if talk.app == app]
        return self._chance.choices(those, [_ENGLISH if talk.language == "en" else 1 for talk in those])[0]

    def _session(self, number: int, at: datetime, talk: Talk) -> Iterator[Record]:
        app = APPS[talk.app]
        any_id = uuid.UUID(int=self._chance.getrandbits(128), version=4)
        name = f"{talk.app}-{10_000 + number}" if app.names_sessions else str(any_id)
        user = None if self._chance.random() < app.unnamed else self._user(talk.language)
        title, lines = talk.told(self._chance)
        if self._chance.random() < _LEAVES_EARLY:
            lines = lines[: self._chance.randrange(1, len(lines) + 1)]
        else:
            while self._chance.random() < _GOES_ON:
                lines += self._more(talk)
        said = list(self._teller.tell(name, at, lines, app.habits._replace(system=talk.system), user))
        if self._chance.random() < app.implicit:
            yield state(RestoredSession, session_id=name, implicit=True, created_at=at)
        else:
            yield self._stated(name, app, at, said, user_id=user, title=title, language=talk.language)
        for each in said:
            yield each
            yield from self._judges.judge(each, user)

    def _stated(
        self, name: str, app: App, at: datetime, said: Sequence[RestoredInteraction], *, title: str, **known: str | None
    ) -> RestoredSession:
        language = known.pop("language")
        last = said[-1].completed_at if said else None
        over = last is not None and self._until - last > _STILL_OPEN and self._chance.random() < _CLOSED
        return state(
            RestoredSession,
            session_id=name,
            title=None if self._chance.random() < _UNTITLED else title,
            folder_id=app.folder if self._chance.random() < _IN_FOLDER else None,
            tags=[*app.tags] if language == "en" else [*app.tags, language],
            metadata={"channel": self._chance.choice(app.channels), "release": self._chance.choice(_RELEASES)},
            status="closed" if over else "open",
            started_at=at,
            ended_at=last if over else None,
            created_at=at,
            **known,
        )

    def _more(self, talk: Talk) -> list[Line]:
        """Return what somebody asks who has one more question."""
        alike = [each for each in talks() if (each.app, each.language) == (talk.app, talk.language) and each != talk]
        return self._chance.choice(alike).told(self._chance)[1] if alike else []

    def _user(self, language: str) -> str:
        """Return who it is: a few people talk much, many little."""
        users = people()[language].users
        return self._chance.choices(users, cum_weights=_by_rank(len(users)))[0]


def _busy(at: datetime, talk: Talk) -> float:
    """Return how likely somebody opens a chat then, against the busiest hour there may be."""
    there = at + people()[talk.language].ahead
    weekend = APPS[talk.app].weekend
    busiest = max(_HOURS) * max(1, weekend)
    return _HOURS[there.hour] * (weekend if there.weekday() >= _SATURDAY else 1) / busiest


@cache
def _by_rank(count: int) -> Sequence[float]:
    return list(accumulate(1 / rank for rank in range(1, count + 1)))
