"""Conversations that were written down beforehand, with words that are chosen anew each time."""

import re
import tomllib
from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import cache
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

_FOLDER = Path(__file__).parent / "talks"
_FILES = ("support", "travel", "coding", "languages")
_WORD = re.compile(r"\{([a-z]+)\}")
_LOG_LINES = 120

Words = Mapping[str, str]


class Tool(NamedTuple):
    """What the model asks a program before it answers. `arguments` and `result`: JSON as text."""

    name: str
    arguments: str
    result: str


class Line(NamedTuple):
    """What was said in one turn. `photo`: where a picture that came along can be found."""

    ask: str
    answer: str
    tool: Tool | None = None
    photo: str | None = None


class Talk(NamedTuple):
    """A conversation before its words are chosen; `turns` are as they stand in the file."""

    app: str
    language: str
    title: str
    system: str
    turns: Sequence[Mapping[str, Any]]
    words: Mapping[str, Sequence[str]]

    def told(self, chance: Random) -> tuple[str, list[Line]]:
        """Return the title and all turns, with words chosen by chance."""
        chosen = {name: chance.choice(several) for name, several in self.words.items()}
        if any("{log}" in ask for turn in self.turns for ask in turn["ask"]):
            chosen["log"] = _log(chance)
        return fill(self.title, chosen), [_line(turn, chosen, chance) for turn in self.turns]


class People(NamedTuple):
    """Who speaks a language. `ahead`: of UTC, where they live."""

    users: Sequence[str]
    ahead: timedelta


def fill(text: str, words: Words) -> str:
    """Return a text with the words that stand in braces. Raises `KeyError` for one that nobody chose."""
    return _WORD.sub(lambda found: words[found[1]], text)


@cache
def talks() -> Sequence[Talk]:
    """Return all conversations of the files."""
    return [
        Talk(
            talk.get("app", file["app"]),
            talk.get("language", file.get("language", "")),
            talk["title"],
            file.get("system", ""),
            talk["turns"],
            file["words"],
        )
        for file in map(read, _FILES)
        for talk in file["talks"]
    ]


@cache
def people() -> Mapping[str, People]:
    """Return who speaks which language."""
    return {
        language: People(stated["users"], timedelta(hours=stated["hours"]))
        for language, stated in read("people").items()
    }


def read(name: str) -> dict[str, Any]:
    """Return a file of texts."""
    return tomllib.loads((_FOLDER / f"{name}.toml").read_text(encoding="utf-8"))


def _line(turn: Mapping[str, Any], chosen: Words, chance: Random) -> Line:
    tool, photo = turn.get("tool"), turn.get("photo")
    which = chance.randrange(len(turn["ask"]))
    # where there are as many answers as questions, they belong together
    answer = turn["answer"][which] if len(turn["answer"]) == len(turn["ask"]) else chance.choice(turn["answer"])
    return Line(
        fill(turn["ask"][which], chosen).strip(),
        fill(answer, chosen).strip(),
        Tool(*(fill(tool[part], chosen) for part in Tool._fields)) if tool else None,
        fill(photo, chosen) if photo else None,
    )


def _log(chance: Random) -> str:
    """Return a server's log that is too long to be read at a glance."""
    lines = []
    for n in range(_LOG_LINES):
        at = f"01:{58 + n // 60}:{n % 60:02}" if n < _LOG_LINES else ""
        job, took = chance.randrange(10_000, 99_999), chance.uniform(0.1, 0.4) * (1 + n / 8)
        lines.append(f"{at} INFO worker-{chance.randrange(1, 9)} job={job} fetched in {took:.1f} s, 1 connection held")
    lines.append(
        "02:00:01 ERROR worker-4 PoolTimeout: couldn't get a connection after 30.00 sec (8 in use, 31 waiting)"
    )
    return "\n".join(lines)
