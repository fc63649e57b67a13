"""Finds whose conversation a call belongs to, from what it and the other spans of its request say.

A call's own session counts, then that of the nearest span above, then any of its trace; what a caller states before
what a library made. A trace without any has a session of its own.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from conversation.otlp import joining
from conversation.otlp.joining import Id, Parents
from conversation.otlp.spans import CALLER, LIBRARY, MappedSpan

TRACE_PREFIX = "trace:"


class Owner(NamedTuple):
    """`session`: its key. `is_of_trace`: nothing named one."""

    session: str
    user: str | None
    is_of_trace: bool


class Sessions:
    """The sessions and users that the spans of a request name."""

    def __init__(self, mapped: Sequence[MappedSpan], parents: Parents) -> None:
        self._parents = parents
        self._sessions: dict[Id, tuple[str, int]] = {}
        self._users: dict[Id, str] = {}
        self._of_trace: dict[tuple[str, int], str] = {}
        self._user_of_trace: dict[str, str] = {}
        for each in sorted(mapped, key=_order):
            if each.session is not None and each.session_rank >= self._sessions.get(each.id, ("", 0))[1]:
                self._sessions[each.id] = (each.session, each.session_rank)
                self._of_trace.setdefault((each.trace_id, each.session_rank), each.session)
            if each.user is not None:
                self._users.setdefault(each.id, each.user)
                self._user_of_trace.setdefault(each.trace_id, each.user)

    def owner(self, spans: Sequence[MappedSpan]) -> Owner:
        """Return the owner of the call that these spans saw; the first of them names it."""
        lines = [[each.id, *joining.ancestors(each.id, self._parents)] for each in spans]
        session = self._session(lines)
        user = self._first(self._users.get(at) for line in lines for at in line)
        user = user or self._first(self._user_of_trace.get(each.trace_id) for each in spans)
        trace_key = f"{TRACE_PREFIX}{spans[0].trace_id}"
        return Owner(session or trace_key, user, session is None)

    def _session(self, lines: Sequence[Sequence[Id]]) -> str | None:
        for rank in (CALLER, LIBRARY):
            for line in lines:
                for at in line:
                    stated = self._sessions.get(at)
                    if stated is not None and stated[1] == rank:
                        return stated[0]
            if rank == CALLER and not any(self._is_whole(line) for line in lines):
                # what is between the call and its root isn't known, so what the trace says counts
                found = self._first(self._of_trace.get((line[0][0], CALLER)) for line in lines)
                if found is not None:
                    return found
        return self._first(self._of_trace.get((line[0][0], rank)) for rank in (CALLER, LIBRARY) for line in lines)

    def _is_whole(self, line: Sequence[Id]) -> bool:
        """Return whether a line of spans reaches a root."""
        return self._parents.get(line[-1], "") is None

    @staticmethod
    def _first(found: Iterable[str | None]) -> str | None:
        return next((each for each in found if each is not None), None)


def _order(span: MappedSpan) -> tuple[float, Id]:
    return span.started_at.timestamp() if span.started_at else float("inf"), span.id
