"""Replaces what finders find in the texts of one call.

The result only depends on the text, so a retry is still a duplicate. Overlapping matches become one marker.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import NamedTuple

from logging_store.redaction.finders import Finder
from logging_store.redaction.linear_regex import Pattern

_STEPS_PER_CLOCK_CHECK = 64  # reading the thread's clock is a system call, slower than a step


class RedactionFailed(Exception):  # noqa: N818 - named after the state, as the store's errors are
    """A finder failed on a text. The message names the finder and quotes nothing of the text."""

    def __init__(self, finder: str) -> None:
        super().__init__(f"Could not be redacted ({finder}), so nothing of it is stored")
        self.finder = finder


class _Found(NamedTuple):
    start: int
    end: int
    finder: Finder


class FinderSet:
    """The finders of a pass; of equal matches the first finder wins."""

    def __init__(self, finders: Sequence[Finder]) -> None:
        self.each = tuple(finders)
        self.names = tuple(dict.fromkeys(finder.name for finder in finders))
        self.hint: Pattern | None = None
        with suppress(ValueError):  # too large for RE2: then each finder searches every text
            self.hint = Pattern("|".join(f"(?:{finder.hint})" for finder in finders))


class RedactionPass:
    """One pass over the texts of a call. `replaced`: markers by finder; `failed`: texts by finder that failed on them.

    `deadline`: a finder fails if it is still running at this time of `clock`. `fail_open`: ignore failed finders
    instead of raising `RedactionFailed`.
    """

    def __init__(self, finders: FinderSet, deadline: float, clock: Callable[[], float], *, fail_open: bool) -> None:
        self.replaced: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        self.causes: dict[str, str] = {}
        self._finders = finders
        self._deadline = deadline
        self._clock = clock
        self._fail_open = fail_open

    def redact(self, text: str) -> str:
        """Return a text with its matches replaced by markers. Raises `RedactionFailed`."""
        encoded = text.encode(errors="surrogatepass")
        if self._finders.hint and not self._finders.hint.matches(encoded):
            return text
        found = [one for finder in self._finders.each for one in self._find(finder, encoded)]
        if not found:
            return text
        parts, end = [], 0
        for one in _merge_overlaps(found):
            parts += [encoded[end : one.start], one.finder.marker.encode()]
            end = one.end
            self.replaced[one.finder.name] += 1
        parts.append(encoded[end:])
        return b"".join(parts).decode(errors="surrogatepass")

    def _find(self, finder: Finder, text: bytes) -> list[_Found]:
        found = []
        try:
            for step, (start, end) in enumerate(finder.find(text)):
                if end > start:
                    found.append(_Found(start, end, finder))
                if step % _STEPS_PER_CLOCK_CHECK == 0 and self._clock() > self._deadline:
                    raise TimeoutError  # noqa: TRY301 - handled like any other failure
        except Exception as error:  # noqa: BLE001 - whatever the error, the text isn't redacted
            self.failed[finder.name] += 1
            self.causes[finder.name] = type(error).__name__
            if not self._fail_open:
                # without its cause, whose traceback and message may hold the text
                raise RedactionFailed(finder.name) from None
        return found


def _merge_overlaps(found: list[_Found]) -> Iterator[_Found]:
    """Yield matches from left to right, overlapping ones as one, of the finder with the longest match."""
    found.sort(key=lambda one: one.start)  # stable: the order of the finders decides between equals
    first = found[0]
    start, end, most = first.start, first.end, first
    for one in found[1:]:
        if one.start >= end:
            yield _Found(start, end, most.finder)
            start, end, most = one.start, one.end, one
            continue
        end = max(end, one.end)
        if one.end - one.start > most.end - most.start:
            most = one
    yield _Found(start, end, most.finder)
