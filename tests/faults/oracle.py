"""Holds what was found against what was attempted: acknowledged is in stored, stored is in attempted, each row once.

A pure function of two values, so that it is tested with invented ones.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from tests.faults.history import Fate, History, Name, Record

Facts = tuple[str | None, ...]


@dataclass(frozen=True, slots=True)
class Observation:
    """What one way of reading showed. `rows` has a record as often as it was found."""

    way: str
    rows: Sequence[Record]
    orphans: Sequence[str] = ()  # interactions without their session


def judge(history: History, seen: Observation) -> list[str]:
    """Return what is wrong, a sentence each."""
    found: dict[Name, list[Facts]] = defaultdict(list)
    for row in seen.rows:
        found[row.id].append(row.facts)
    expected = _expected(history)
    wrong = [f"lost: {_called(name)}" for name, one in expected.items() if one.required and name not in found]
    for name, copies in found.items():
        if name not in expected:
            wrong.append(f"invented: {_called(name)}")
            continue
        if len(copies) > 1:
            wrong.append(f"doubled: {_called(name)} is there {len(copies)} times")
        wrong += [
            f"changed: {_called(name)} says {facts!r}, not {expected[name].allowed[0]!r}"
            for facts in copies
            if facts not in expected[name].allowed
        ]
    wrong += [f"orphan: {each} has no session" for each in seen.orphans]
    wrong += [
        f"made twice: {_called(name)} was answered `created` {fate.created} times"
        for name, fate in history.fates.items()
        if fate.created > 1
    ]
    return [f"{seen.way}: {sentence}" for sentence in wrong]


@dataclass(slots=True)
class _Expected:
    required: bool
    allowed: list[Facts]


def _expected(history: History) -> dict[Name, _Expected]:
    """Return what may be there; an interaction brings its session along, without what only a create says."""
    expected: dict[Name, _Expected] = {}
    for name, fate in history.fates.items():
        expected[name] = _of_session(fate) if name[1] is None else _Expected(fate.acknowledged, [fate.facts])
    for (session, interaction), fate in history.fates.items():
        if interaction is not None:
            parent = expected.setdefault((session, None), _Expected(required=False, allowed=[(None,)]))
            parent.required |= fate.acknowledged
    return expected


def _of_session(create: Fate) -> _Expected:
    allowed: list[Facts] = [create.facts] if create.acknowledged else [create.facts, (None,)]
    return _Expected(create.acknowledged, allowed)


def _called(name: Name) -> str:
    session, interaction = name
    return f"session {session!r}" if interaction is None else f"interaction {interaction!r} of {session!r}"
