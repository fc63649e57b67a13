"""Reads a log back through the API, every page of it, and reports differences from what was sent."""

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from bench.caller import Caller
from bench.dialogues import Dialogue, Turn

_SESSIONS_PAGE = 100
_TURNS_PAGE = 7  # small, so that most transcripts take more than one


@dataclass
class Found:
    """What was read in so many calls, counted by what it is, and what is wrong with it, a sentence each."""

    calls: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


def session_ids(caller: Caller) -> set[str]:
    """Return the ids of all sessions in the log."""
    pages = _pages(caller, "/v1/sessions", "sessions", _SESSIONS_PAGE)
    return {session["session_id"] for page in pages for session in page}


def sessions(caller: Caller, dialogues: Sequence[Dialogue], before: set[str]) -> Found:
    """Compare the list of sessions: each dialogue is there once, and nobody else who wasn't there `before`."""
    pages = list(_pages(caller, "/v1/sessions", "sessions", _SESSIONS_PAGE))
    found = Found(len(pages))
    expected = {dialogue.name: dialogue for dialogue in dialogues}
    for session in itertools.chain.from_iterable(pages):
        dialogue = expected.pop(session["key"], None)
        if dialogue is None:
            if session["session_id"] not in before:
                found.wrong.append(
                    f"session {session['session_id']}, key {session['key']!r}, is nobody's, or there twice"
                )
            continue
        found.kinds["implicit" if session["implicit"] else "explicit"] += 1
        read = session["implicit"], session["tags"], session["interaction_count"]
        sent = False, list(dialogue.services), len(dialogue.turns)
        if read != sent:
            found.wrong.append(f"session {dialogue.name!r} has (implicit, tags, count) {read}, sent was {sent}")
    found.wrong += [f"session {name!r} is missing from the list" for name in expected]
    return found


def transcript(caller: Caller, dialogue: Dialogue) -> Found:
    """Compare a dialogue's transcript: each text, their number and their order."""
    path = f"/v1/sessions/{quote(dialogue.name, safe='')}/interactions"
    pages = list(_pages(caller, path, "interactions", _TURNS_PAGE))
    rows = list(itertools.chain.from_iterable(pages))
    found = Found(len(pages))
    found.kinds.update(row["status"] for row in rows)
    if len(rows) != len(dialogue.turns):
        found.wrong.append(f"{dialogue.name!r} has {len(rows)} interactions, sent were {len(dialogue.turns)}")
    for row, turn in zip(rows, dialogue.turns, strict=False):
        for name, value in _as_stored(turn).items():
            if row[name] != value:
                found.wrong.append(f"{dialogue.name!r}, turn {turn.number}: {name} is {row[name]!r}, not {value!r}")
    return found


def _as_stored(turn: Turn) -> dict[str, Any]:
    return {
        "key": turn.name,
        "turn": turn.number,
        "prompt": turn.prompt,
        "response": turn.response,
        "status": "pending" if turn.response is None else "completed",
    }


def _pages(caller: Caller, path: str, name: str, page: int) -> Iterator[list[dict[str, Any]]]:
    """Yield a list's pages. Raises `ValueError` if it is no list."""
    query: dict[str, str | int] = {"limit": page}
    while True:
        answer = caller.get(path, **query)
        if name not in answer.body:
            raise ValueError(f"GET {path} answered {answer.status} {answer.body}")
        yield answer.body[name]
        if answer.body["next"] is None:
            return
        query["cursor"] = answer.body["next"]
