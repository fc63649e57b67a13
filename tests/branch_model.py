"""The branches of a session as plainly as possible: what `turnlog.branches` must return, and the spool's overlay.

Written from the rules in docs/concepts.md: it searches where the service computes, and knows nothing of SQL.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

FIRST = datetime.min.replace(tzinfo=UTC)
Rank = tuple[bool, datetime]


@dataclass
class Turn:
    """An interaction as far as branches go. `asks`: it has a prompt. `answers`: it has an answer, and didn't fail."""

    id: str
    created_at: datetime
    started_at: datetime | None = None
    turn: int | None = None
    reply_to: str | None = None
    alternative_to: str | None = None
    chosen_at: datetime | None = None
    asks: bool = True
    answers: bool = True

    @property
    def said(self) -> datetime:
        return min(self.started_at or self.created_at, self.created_at)

    def rank(self, until: datetime | None = None) -> "Rank":
        """Return whether it is answered or chosen, and when it was said or chosen last, by what was known then."""
        chosen = self.chosen_at if self.chosen_at and (until is None or self.chosen_at <= until) else None
        return self.answers or chosen is not None, max(self.said, chosen or FIRST)

    @property
    def named(self) -> set[str]:
        """The other interactions that it names."""
        return {name for name in (self.reply_to, self.alternative_to) if name is not None} - {self.id}

    @property
    def instead_of(self) -> str | None:
        if self.alternative_to not in {None, self.id}:
            return self.alternative_to
        return self.reply_to if not self.asks and self.reply_to != self.id else None


@dataclass
class Tree:
    """`order`: the ids of all interactions in their order. `follows`: id -> the id that it follows, None for none."""

    order: list[str]
    follows: dict[str, str | None]
    ranks: dict[str, Rank] = field(default_factory=dict)

    def branch(self, through: str | None = None) -> list[str]:
        """Return the ids of a branch, in the order of the session; without `through` of the current one."""
        ids = []
        up = through if through in self.follows else None
        while up is not None:
            ids.append(up)
            up = self.follows[up]
        ids += self.branch_from(through if through in self.follows else None)
        return [id_ for id_ in self.order if id_ in ids]

    def branch_from(self, here: str | None) -> list[str]:
        """Return what a branch has after an interaction, from each to the next."""
        ids: list[str] = []
        while children := [id_ for id_ in self.follows if self.follows[id_] == here]:
            here = max(children, key=self._rank_from)
            ids.append(here)
        return ids

    def alternatives(self, id_: str) -> list[str]:
        """Return the ids of all interactions that follow the same one, itself included, in no particular order."""
        return [other for other in self.order if self.follows[other] == self.follows[id_]]

    def _rank_from(self, id_: str) -> tuple[bool, datetime, int]:
        """Return whether one leads to an answer or a choice, and to what that was said or chosen last."""
        below = [other for other in self.follows if self._leads_to(id_, other)]
        latest = max((self.ranks[other][1], list(self.follows).index(other)) for other in below)
        return any(self.ranks[other][0] for other in below), *latest

    def _leads_to(self, id_: str, other: str | None) -> bool:
        while other is not None and other != id_:
            other = self.follows[other]
        return other is not None


def tree(turns: Sequence[Turn]) -> Tree:
    """Return the tree of a session's interactions, given in any order."""
    order = sorted(
        turns, key=lambda one: (float("inf") if one.turn is None else one.turn, one.said, one.created_at, one.id)
    )
    stored = {one.id: one for one in order}
    said = _times(order, stored)
    nodes = list(said)
    places = _places(nodes, order)

    def before(name: str) -> str | None:
        for other in reversed(nodes[: nodes.index(name)]):
            if other in stored and (said[other] <= said[name] or not stored[other].named):
                return other
        return None

    follows: dict[str, str | None] = {}
    silent: list[str] = []
    for name in reversed(nodes):
        place = places[name]
        if name == min(place, key=nodes.index):
            target = _stated(place, [stored[each] for each in nodes if each in stored], follows)
            if target is None and name in stored and not stored[name].named:
                silent.insert(0, name)
            follows |= dict.fromkeys(place, before(name) if target is None else target)

    for name in silent:
        end = _current(stored[name], nodes[: nodes.index(name)], stored, follows)
        if end is not None and not _follows_any(end, places[name], follows):
            follows |= dict.fromkeys(places[name], end)
    ranks = {name: stored[name].rank() if name in stored else (False, FIRST) for name in nodes}
    return Tree([one.id for one in order], {name: follows[name] for name in nodes}, ranks)


def _times(order: Sequence[Turn], stored: dict[str, Turn]) -> dict[str, datetime]:
    """Return when each was said, in order; one that isn't stored comes directly before the first that names it."""
    said: dict[str, datetime] = {}
    for one in order:
        for name in sorted(one.named):
            if name not in stored:
                said.setdefault(name, one.said)
        said[one.id] = one.said
    return said


def _current(one: Turn, nodes: list[str], stored: dict[str, Turn], follows: dict[str, str | None]) -> str | None:
    """Return where the branch ended when an interaction was said that names no other; None: where it follows already.

    `nodes`: those before it.
    """
    before = follows[one.id]
    if before is None:
        return None
    earlier = [name for name in nodes if name not in stored or not stored[name].named or stored[name].said <= one.said]
    choices = [
        (chosen, nodes.index(name), name)
        for name in earlier
        if name in stored and (chosen := stored[name].chosen_at) and stored[before].said < chosen <= one.said
    ]
    if choices:
        start: str | None = max(choices)[2]
    elif stored[before].answers or follows[before] not in {None, *nodes[: nodes.index(before)]}:
        return None
    else:
        start = follows[before]
    onward: dict[str, str | None] = {}  # what replies to a later one isn't looked at
    for name in nodes[0 if start is None else nodes.index(start) + 1 :]:
        if name in earlier and (follows[name] == start or follows[name] in onward):
            onward[name] = follows[name]
    ranks = {name: stored[name].rank(one.said) if name in stored else (False, FIRST) for name in onward}
    branch = Tree([], {**({} if start is None else {start: None}), **onward}, ranks).branch_from(start)
    end = branch[-1] if branch else start
    return end if end in stored else None


def _follows_any(name: str | None, place: set[str], follows: dict[str, str | None]) -> bool:
    while name is not None and name not in place:
        name = follows[name]
    return name is not None


def _places(nodes: Sequence[str], order: Sequence[Turn]) -> dict[str, set[str]]:
    """Return the place of each: all that are linked by standing in each other's place."""
    places = {name: {name} for name in nodes}
    for one in order:
        if one.instead_of is not None:
            merged = places[one.id] | places[one.instead_of]
            places |= dict.fromkeys(merged, merged)
    return places


def _stated(place: set[str], order: Sequence[Turn], decided: dict[str, str | None]) -> str | None:
    """Return what the interactions of a place say that they follow, unless that leads back to it."""
    replies = [one.reply_to for one in order if one.id in place]
    target = next((reply for reply in replies if reply is not None and reply not in place), None)
    up = target
    while up is not None and up not in place:
        up = decided.get(up)
    return target if up is None else None
