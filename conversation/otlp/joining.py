"""Finds the spans of a request that saw one call of a model.

Two instrumentations may watch one call: a library's own and that of what it calls. Their spans are above one another,
beside one another, or in different traces. The provider's id of the answer joins them; where it is missing, as of calls
that failed, the same answer, tokens or failure at the same time, seen by another scope.
"""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import cached_property

from conversation.otlp.spans import CALLER, MappedSpan
from conversation.turns import matching

Id = tuple[str, str]
Parents = Mapping[Id, str | None]

_SLACK = timedelta(milliseconds=50)  # by which the times of two spans of one call may miss each other
_LONG_SLACK = timedelta(seconds=1)  # the same where an equal id says already that it is one call
_EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
_MOST_NEIGHBOURS = 20  # calls at the same time that one is compared with
_MOST_ANCESTORS = 100


def join(mapped: Sequence[MappedSpan], parents: Parents) -> list[list[MappedSpan]]:
    """Return the spans of each call of a request, in the order of the calls; first the span that knows most."""
    calls = [each for each in mapped if each.call is not None]
    groups = _Groups(calls)
    groups.join_equal_ids()
    groups.join_response_ids(parents)
    groups.join_nested(parents)
    groups.join_alike()
    return [sorted(group, key=_order) for group in groups.groups()]


def ancestors(span: Id, parents: Parents) -> Iterator[Id]:
    """Yield the ids of the spans above one, the nearest first."""
    trace_id, at = span[0], parents.get(span)
    for _ in range(_MOST_ANCESTORS):
        if at is None:
            return
        yield trace_id, at
        at = parents.get((trace_id, at))


class _Lineage:
    """Tells which spans are above one another. The spans are numbered once, and then compared."""

    def __init__(self, parents: Parents) -> None:
        self._parents = parents

    def is_nested(self, one: Id, other: Id) -> bool:
        """Return whether one of two spans is above the other."""
        a, b = self._numbers.get(one), self._numbers.get(other)
        if a is None or b is None:
            return False
        first, second = sorted((a, b))
        return one != other and second[0] < first[1]

    @cached_property
    def _numbers(self) -> dict[Id, tuple[int, int]]:
        """Return each span's number and that behind the last of those below it; spans in a circle have none."""
        below: dict[Id, list[Id]] = defaultdict(list)
        roots = []
        for span, parent in self._parents.items():
            above = None if parent is None else (span[0], parent)
            if above is None or above not in self._parents:
                roots.append(span)
            else:
                below[above].append(span)
        line: list[Id] = []  # each span before those below it
        rest = roots
        while rest:
            line.append(span := rest.pop())
            rest += below.get(span, ())
        number = {span: n for n, span in enumerate(line)}
        ends: dict[Id, int] = {}
        for span in reversed(line):
            ends[span] = max((ends[each] for each in below.get(span, ())), default=number[span] + 1)
        return {span: (n, ends[span]) for span, n in number.items()}


class _Groups:
    """Groups of spans that saw one call."""

    def __init__(self, calls: Sequence[MappedSpan]) -> None:
        self._calls = calls
        self._group = list(range(len(calls)))  # of each call; a group's number is that of its first call
        self._scopes = [set() if call.is_record else {call.scope} for call in calls]  # of each group
        self._dropped: set[int] = set()

    def _of(self, n: int) -> int:
        while self._group[n] != n:
            self._group[n] = n = self._group[self._group[n]]
        return n

    def _join(self, one: int, other: int) -> None:
        first, second = sorted((self._of(one), self._of(other)))
        self._group[second] = first
        if first != second:
            self._scopes[first] |= self._scopes[second]

    def groups(self) -> list[list[MappedSpan]]:
        found: dict[int, list[MappedSpan]] = defaultdict(list)
        for n, call in enumerate(self._calls):
            if n not in self._dropped:
                found[self._of(n)].append(call)
        return list(found.values())

    def join_equal_ids(self) -> None:
        """Join what has the ids of one span: the span and its log records."""
        for same in _by(enumerate(self._calls), lambda call: call.id).values():
            for other in same[1:]:
                self._join(same[0], other)

    def join_response_ids(self, parents: Parents) -> None:
        """Join what has one provider's id, at one time: a cache answers later calls with the same.

        Some servers repeat their ids, so each instrumentation sees a call once, and the closest spans are joined first.
        """
        lineage = _Lineage(parents)
        pairs: list[tuple[bool, timedelta, int, int]] = []
        for same in _by(enumerate(self._calls), lambda call: call.response_id).values():
            for place, one in enumerate(same):
                for other in same[place + 1 : place + 1 + _MOST_NEIGHBOURS]:
                    a, b = self._calls[one], self._calls[other]
                    if _overlap(a, b) and not _are_of_different_callers(a, b):
                        is_nested = lineage.is_nested(a.id, b.id)
                        pairs.append((not is_nested, abs(_start(a) - _start(b)), one, other))
        for is_beside, _, one, other in sorted(pairs):
            if not is_beside or self._scopes[self._of(one)].isdisjoint(self._scopes[self._of(other)]):
                self._join(one, other)

    def join_nested(self, parents: Parents) -> None:
        """Join a call with the one that it wraps. One that wraps several is none: it sums them up."""
        by_id = {call.id: n for n, call in enumerate(self._calls)}
        wrapped: dict[int, list[int]] = defaultdict(list)
        for n, call in enumerate(self._calls):
            above = next((by_id[each] for each in ancestors(call.id, parents) if each in by_id), None)
            if above is not None and self._of(above) != self._of(n):
                wrapped[above].append(n)
        for above, inner in wrapped.items():
            outer = self._calls[above]
            if len({self._of(n) for n in inner}) > 1:
                if _only_sums_up(outer):
                    self._dropped.add(above)
            elif _only_sums_up(outer) or _may_be_one(outer, self._calls[inner[0]]):
                self._join(above, inner[0])

    def join_alike(self) -> None:
        """Join calls of different scopes at one time that have the same answer, the same tokens, or both failed."""
        if len({call.scope for call in self._calls}) < 2:  # noqa: PLR2004 - one instrumentation sees a call once
            return
        for evidence in (_failure, _answer, _tokens):
            for same in _by(enumerate(self._calls), evidence).values():
                self._join_neighbours(sorted(same, key=lambda n: _start(self._calls[n])))

    def _join_neighbours(self, same: Sequence[int]) -> None:
        taken: set[tuple[int, str]] = {(self._of(n), self._calls[n].scope) for n in same}
        for place, one in enumerate(same):
            for other in same[place + 1 : place + 1 + _MOST_NEIGHBOURS]:
                a, b = self._calls[one], self._calls[other]
                if _start(b) > _end(a) + _SLACK:
                    break
                groups = self._of(one), self._of(other)
                is_free = (groups[0], b.scope) not in taken and (groups[1], a.scope) not in taken
                if groups[0] != groups[1] and is_free and _is_within(a, b) and _may_be_one(a, b):
                    self._join(one, other)
                    taken |= {(self._of(one), a.scope), (self._of(one), b.scope)}


def _by(calls: Iterable[tuple[int, MappedSpan]], key: Callable[[MappedSpan], Hashable]) -> dict[Hashable, list[int]]:
    """Return the numbers of calls by what `key` returns for them, without those for which that is None."""
    found: dict[Hashable, list[int]] = defaultdict(list)
    for n, call in calls:
        if (own := key(call)) is not None:
            found[own].append(n)
    return found


def _failure(span: MappedSpan) -> Hashable:
    return True if span.call and span.call.error is not None else None


def _answer(span: MappedSpan) -> Hashable:
    return matching.key(span.call.response[-1]) if span.call and span.call.response else None


def _tokens(span: MappedSpan) -> Hashable:
    call = span.call
    if call is None or not call.input_tokens or not call.output_tokens:
        return None
    return call.input_tokens, call.output_tokens


def _only_sums_up(span: MappedSpan) -> bool:
    """Return whether a call has nothing that only the call itself knows."""
    call = span.call
    return span.response_id is None and call is not None and not call.input_tokens and not call.output_tokens


def _may_be_one(one: MappedSpan, other: MappedSpan) -> bool:
    """Return whether nothing says that two spans of different scopes saw different calls."""
    a, b = one.call, other.call
    if a is None or b is None or one.scope == other.scope or (a.error is None) != (b.error is None):
        return False
    if _are_of_different_callers(one, other):
        return False
    if None not in {one.response_id, other.response_id} and one.response_id != other.response_id:
        return False
    if a.error is not None and b.error is not None:
        return True
    if a.response and b.response:
        return matching.key(a.response[-1]) == matching.key(b.response[-1])
    is_other = a.output_tokens and b.output_tokens and abs(a.output_tokens - b.output_tokens) > 1
    return not is_other and bool(one.response_id is None or other.response_id is None)


def _are_of_different_callers(one: MappedSpan, other: MappedSpan) -> bool:
    """Return whether two spans name different sessions, as callers do, or different users."""
    by_callers = one.session_rank == other.session_rank == CALLER
    if by_callers and one.session != other.session:
        return True
    return None not in {one.user, other.user} and one.user != other.user


def _start(span: MappedSpan) -> datetime:
    return span.started_at or _EARLIEST


def _end(span: MappedSpan) -> datetime:
    return span.completed_at or _start(span)


def _overlap(one: MappedSpan, other: MappedSpan) -> bool:
    """Return whether two spans were there at one time, as far as their times are known."""
    if None in {one.started_at, other.started_at}:
        return True
    return _start(one) <= _end(other) + _LONG_SLACK and _start(other) <= _end(one) + _LONG_SLACK


def _is_within(one: MappedSpan, other: MappedSpan) -> bool:
    """Return whether one of two spans has the whole time of the other."""
    if None in {one.started_at, other.started_at}:
        return False
    latest_start, first_start = max(_start(one), _start(other)), min(_start(one), _start(other))
    inner, outer = (one, other) if latest_start == _start(one) else (other, one)
    return first_start <= latest_start and _end(inner) <= _end(outer) + _SLACK


def _order(span: MappedSpan) -> tuple[bool, int, datetime, Id]:
    return span.is_record, rank(span), _start(span), span.id


def rank(span: MappedSpan) -> int:
    """Return how little a span knows of its call, by itself: of several, the smallest counts."""
    call = span.call
    if call is None:
        return 0
    return 4 * (not call.response and not call.prompt) + 2 * _only_sums_up(span) + (not call.response)
