"""Goes through the texts of one call and replaces what finders find.

The same text becomes the same each time, so what is sent twice still says the same. Finders that overlap
leave one marker for all that any of them found.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import NamedTuple

from logging_store.redaction.finders import Finder
from logging_store.redaction.linear_regex import Pattern

_STEPS_A_LOOK = 64  # the clock of a thread is the kernel's, and a look at it takes longer than a step


class RedactionFailed(Exception):  # noqa: N818 - states what is, as the store's outcomes do
    """A text could not be gone through by a finder; the message names it, and nothing of the text."""

    def __init__(self, finder: str) -> None:
        super().__init__(f"Could not be redacted ({finder}), so nothing of it is stored")
        self.finder = finder


class _Found(NamedTuple):
    start: int
    end: int
    finder: Finder


class Finders:
    """What is looked for, in the order in which one precedes another where both find the same."""

    def __init__(self, finders: Sequence[Finder]) -> None:
        self.each = tuple(finders)
        self.names = tuple(dict.fromkeys(finder.name for finder in finders))
        self.hint: Pattern | None = None
        with suppress(ValueError):  # more than RE2 takes in one: then each looks for its own
            self.hint = Pattern("|".join(f"(?:{finder.hint})" for finder in finders))


class Passage:
    """One going through. `replaced` counts markers by name, `failed` texts that a finder could not go through.

    `until`: when, by the clock, all of it is to be over: a finder that takes longer fails. `fail_open`: what a failed
    finder would have found stays; otherwise `RedactionFailed` is raised.
    """

    def __init__(self, finders: Finders, until: float, clock: Callable[[], float], *, fail_open: bool) -> None:
        self.replaced: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        self.causes: dict[str, str] = {}
        self._finders = finders
        self._until = until
        self._clock = clock
        self._fail_open = fail_open

    def redact(self, text: str) -> str:
        """Return a text with markers in place of what was found. Raises `RedactionFailed`."""
        encoded = text.encode(errors="surrogatepass")
        if self._finders.hint and not self._finders.hint.is_in(encoded):
            return text
        found = [one for finder in self._finders.each for one in self._find(finder, encoded)]
        if not found:
            return text
        parts, end = [], 0
        for one in _apart(found):
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
                if step % _STEPS_A_LOOK == 0 and self._clock() > self._until:
                    raise TimeoutError  # noqa: TRY301 - as any other failure of a finder
        except Exception as error:  # noqa: BLE001 - whatever it was, the text has not been gone through
            self.failed[finder.name] += 1
            self.causes[finder.name] = type(error).__name__
            if not self._fail_open:
                # without its cause, whose traceback and message may hold the text
                raise RedactionFailed(finder.name) from None
        return found


def _apart(found: list[_Found]) -> Iterator[_Found]:
    """Yield what was found from left to right, what overlaps as one, by the finder that found the most."""
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
