"""Regular expressions whose search takes time linear in the text, whatever the expression and whoever wrote the text.

Texts are UTF-8, and places are counted in bytes: RE2 works on them as they are, and lets other threads work meanwhile.
"""

from collections.abc import Iterator
from typing import NamedTuple


class Span(NamedTuple):
    """Where something was found, in bytes."""

    start: int
    end: int


class Pattern:
    """A compiled expression, in RE2's syntax. Raises `ValueError` with RE2's reason for what isn't one."""

    def __init__(self, expression: str) -> None:
        import re2  # noqa: PLC0415 - needed only where something is redacted

        options = re2.Options()
        options.log_errors = False  # it would write to stderr
        try:
            self._compiled = re2.compile(expression, options)
        except re2.error as error:
            reason = error.args[0] if error.args else "not a regular expression"
            raise ValueError(reason.decode() if isinstance(reason, bytes) else str(reason)) from None
        self.groups: int = self._compiled.groups

    def is_in(self, text: bytes) -> bool:
        return self._compiled.search(text) is not None

    def spans(self, text: bytes, group: int = 0) -> Iterator[Span]:
        """Yield where it matches, from left to right; of a group, where that took part."""
        for match in self._compiled.finditer(text):
            start, end = match.span(group)
            if end > start:
                yield Span(start, end)

    def groups_of(self, text: bytes) -> Iterator[list[Span]]:
        """Yield where the whole of each match is, then each group; (-1, -1) of one that took no part."""
        for match in self._compiled.finditer(text):
            yield [Span(*match.span(group)) for group in range(self.groups + 1)]
