"""The branches of a session that is partly spooled, by the rules of turnlog.branches.

Spooled interactions may stand in the place of stored ones, or follow them, so the tree needs all interactions of the
session; it takes time that grows a little faster than their number.
"""

from bisect import bisect_right
from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from logging_store import operations as ops

_NEVER = datetime.min.replace(tzinfo=UTC)
_LISTED = 50  # alternatives before and after an interaction, as turnlog.transcript lists


class Node(NamedTuple):
    """An interaction without its texts. `asks`: it has a prompt. `is_answered`: it didn't fail, and has an answer."""

    id: str
    key: str | None
    said: datetime
    arrived: datetime
    chosen: datetime | None
    reply_to: str | None
    alternative_to: str | None
    asks: bool
    is_answered: bool = True

    @property
    def is_placed(self) -> bool:
        """Whether it names another interaction."""
        return self.reply_to is not None or self.alternative_to is not None

    @property
    def instead_of(self) -> str | None:
        return self.alternative_to or (None if self.asks else self.reply_to)


def node_of(row: ops.Interaction) -> Node:
    id_, said = row["interaction_id"], datetime.fromisoformat(ops.said_at(row))
    return Node(
        id_,
        row["key"],
        said,
        datetime.fromisoformat(row["created_at"]),
        datetime.fromisoformat(row["chosen_at"]) if row["chosen_at"] else None,
        row["reply_to"] if row["reply_to"] != id_ else None,
        row["alternative_to"] if row["alternative_to"] != id_ else None,
        row["prompt"] is not None or row["erased_at"] is not None,
        _is_answered(row),
    )


def _is_answered(row: ops.Interaction) -> bool:
    if row["erased_at"] is not None:
        return False
    return row["status"] == "completed" or (row["status"] == "pending" and bool(row["response"]))


class Tree:
    """What each interaction of a session follows. `nodes`: all of them in the order of the session."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        self._stored = {node.id: node for node in nodes}
        order, said = self._order(nodes)
        places = _Groups(order)
        for node in nodes:
            if node.instead_of is not None:
                places.join(node.id, node.instead_of)
        self.follows, silent = self._follows(order, places, self._previous(order, said))
        self._resume(order, said, places, silent)
        self._children: dict[str | None, list[str]] = {}
        for id_ in order:
            self._children.setdefault(self.follows[id_], []).append(id_)
        self._best = self._best_children(order)

    def branch(self, through: str | None = None) -> set[str]:
        """Return the ids of a branch; without `through`, or if that is unknown, of the current one."""
        start = through if through in self.follows else None
        found = set()
        up = start
        while up is not None:
            found.add(up)
            up = self.follows[up]
        down = self._best.get(start)
        while down is not None:
            found.add(down)
            down = self._best.get(down)
        return found & self._stored.keys()

    def alternatives(self, id_: str, current: set[str]) -> list[ops.Alternative]:
        """Return all interactions that follow the same one, in the order said; none if it is the only one."""
        same = [self._stored[other] for other in self._children[self.follows[id_]] if other in self._stored]
        if len(same) < 2:  # noqa: PLR2004 - itself
            return []
        same.sort(key=lambda node: (node.said, node.arrived, node.id))
        nth = next(n for n, node in enumerate(same) if node.id == id_)
        return [
            {"interaction_id": node.id, "key": node.key, "current": node.id in current}
            for node in same[max(nth - _LISTED, 0) : nth + _LISTED + 1]
        ]

    def _order(self, nodes: Iterable[Node]) -> tuple[list[str], dict[str, datetime]]:
        """Return all ids in order, and when each was said; one that isn't here comes before the first that names it."""
        order: list[str] = []
        said: dict[str, datetime] = {}
        for node in nodes:
            for name in sorted({node.reply_to, node.alternative_to} - {None}, key=str):
                if name is not None and name not in self._stored and name not in said:
                    order.append(name)
                    said[name] = node.said
            order.append(node.id)
            said[node.id] = node.said
        return order, said

    def _previous(self, order: Iterable[str], said: dict[str, datetime]) -> dict[str, str | None]:
        """Return what each follows if it says nothing: the last before it that was said no later or names no other."""
        previous: dict[str, str | None] = {}
        stack: list[Node] = []  # after the first they name others, and each was said later than the one before
        for id_ in order:
            depth = len(stack)
            while depth and stack[depth - 1].is_placed and stack[depth - 1].said > said[id_]:
                depth -= 1
            previous[id_] = stack[depth - 1].id if depth else None
            if node := self._stored.get(id_):
                del stack[depth if node.is_placed else 0 :]
                stack.append(node)
        return previous

    def _follows(
        self, order: Sequence[str], places: "_Groups", previous: dict[str, str | None]
    ) -> tuple[dict[str, str | None], set[str]]:
        """Return what each follows, and the places that follow the one before, since they don't say what else."""
        named: dict[str, str] = {}
        for id_ in order:
            reply = self._stored[id_].reply_to if id_ in self._stored else None
            if reply is not None and places.first(reply) != places.first(id_):
                named.setdefault(places.first(id_), reply)
        connected = _Groups(order)
        of_place: dict[str, str | None] = {}
        silent: set[str] = set()
        for place in reversed(order):
            if places.first(place) != place:
                continue
            target = named.get(place)
            if target is None or connected.first(places.first(target)) == place:
                target = previous[place]
                silent.add(place)
            of_place[place] = target
            if target is not None:
                connected.hang(place, places.first(target))
        return {id_: of_place[places.first(id_)] for id_ in order}, silent

    def _resume(
        self, order: Sequence[str], said: dict[str, datetime], places: "_Groups", silent: Collection[str]
    ) -> None:
        """Let what names no other follow the end of the branch that was current when it was said."""
        number = {id_: n for n, id_ in enumerate(order)}
        choices = sorted((node.chosen, number[id_], id_) for id_, node in self._stored.items() if node.chosen)
        members: dict[str, list[str]] = {}
        for id_ in order:
            members.setdefault(places.first(id_), []).append(id_)
        for n, id_ in enumerate(order):
            node, before = self._stored.get(id_), self.follows[id_]
            if id_ not in silent or node is None or node.is_placed or before is None:
                continue
            nth = bisect_right(choices, node.said, key=lambda choice: choice[0])
            while nth and choices[nth - 1][0] > said[before]:
                _, at, chosen = choices[nth - 1]
                if at < n and not (self._stored[chosen].is_placed and said[chosen] > node.said):
                    break
                nth -= 1
            start: str | None
            if nth and choices[nth - 1][0] > said[before]:
                start = choices[nth - 1][2]
            elif self._stored[before].is_answered:
                continue
            else:
                start = self.follows[before]
                if start is not None and number[start] > number[before]:
                    continue
            end = self._end(start, order[0 if start is None else number[start] + 1 : n], node.said)
            if end in self._stored and end != before and not self._leads_to(end, places, id_):
                self.follows |= dict.fromkeys(members[id_], end)

    def _end(self, start: str | None, later: Sequence[str], until: datetime) -> str | None:
        """Return the end of the branch from `start` on, of the interactions that are `later` and were said by then."""
        below = {start}
        for id_ in later:
            node = self._stored.get(id_)
            if self.follows[id_] in below and not (node and node.is_placed and node.said > until):
                below.add(id_)
        known = [id_ for id_ in later if id_ in below]
        ranks: dict[str | None, _Rank] = {}
        best: dict[str | None, str] = {}
        for n in reversed(range(len(known))):
            id_, up = known[n], self.follows[known[n]]
            ranks[id_] = _joined(ranks.get(id_), self._rank(id_, n, until))
            if up not in best or ranks[id_] > ranks[best[up]]:
                best[up] = id_
            ranks[up] = _joined(ranks.get(up), ranks[id_])
        end = start
        while end in best:
            end = best[end]
        return end

    def _leads_to(self, id_: str | None, places: "_Groups", place: str) -> bool:
        """Return whether an interaction of a place comes before another one."""
        while id_ is not None and places.first(id_) != place:
            id_ = self.follows[id_]
        return id_ is not None

    def _rank(self, id_: str, number: int, until: datetime | None = None) -> "_Rank":
        node = self._stored.get(id_)
        if node is None:
            return _Rank(is_live=False, active=_NEVER, number=number)
        chosen = node.chosen if node.chosen and (until is None or node.chosen <= until) else None
        is_live = node.is_answered or chosen is not None
        return _Rank(is_live, max(node.said, chosen) if chosen else node.said, number)

    def _best_children(self, order: Sequence[str]) -> dict[str | None, str]:
        """Return for each, and for None, the child that the branch takes."""
        ranks: dict[str | None, _Rank] = {id_: self._rank(id_, n) for n, id_ in enumerate(order)}
        best: dict[str | None, str] = {}
        open_children = {id_: len(children) for id_, children in self._children.items()}
        ready = [id_ for id_ in order if id_ not in open_children]
        for id_ in ready:  # grows
            up = self.follows[id_]
            if up not in best or ranks[id_] > ranks[best[up]]:
                best[up] = id_
            ranks[up] = _joined(ranks.get(up), ranks[id_])
            open_children[up] -= 1
            if up is not None and not open_children[up]:
                ready.append(up)
        return best


class _Rank(NamedTuple):
    """What leads to an answer or a choice comes before all else, then what leads to what was said or chosen last."""

    is_live: bool
    active: datetime
    number: int


def _joined(one: _Rank | None, other: _Rank) -> _Rank:
    """Return the rank of what leads to both."""
    if one is None:
        return other
    latest = max(one[1:], other[1:])
    return _Rank(one.is_live or other.is_live, *latest)


class _Groups:
    """Disjoint sets of ids, each named by one of them."""

    def __init__(self, order: Iterable[str]) -> None:
        self._number = {id_: n for n, id_ in enumerate(order)}
        self._up = {id_: id_ for id_ in self._number}

    def first(self, id_: str) -> str:
        while (up := self._up[id_]) != id_:
            self._up[id_] = id_ = self._up[up]
        return id_

    def join(self, one: str, other: str) -> None:
        """Make one set of two, named by its first in order."""
        first, last = sorted((self.first(one), self.first(other)), key=self._number.__getitem__)
        self._up[last] = first

    def hang(self, name: str, other: str) -> None:
        """Make one set of two; the name of the first is below `other` from now on."""
        self._up[name] = other
