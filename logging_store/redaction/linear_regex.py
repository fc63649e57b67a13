"""Regular expressions (RE2) that search in linear time, whatever the expression and the text.

Texts are UTF-8 and positions are in bytes: so RE2 needs no conversion, and it releases the GIL while it searches.
"""

from collections.abc import Iterator
from typing import NamedTuple


class Span(NamedTuple):
    """A match: `text[start:end]`, in bytes."""

    start: int
    end: int


class Pattern:
    """A compiled expression in RE2's syntax. Raises `ValueError` with RE2's reason for an invalid one."""

    def __init__(self, expression: str) -> None:
        import re2  # noqa: PLC0415 - only loaded where something is redacted

        options = re2.Options()
        options.log_errors = False  # it would write to stderr
        try:
            self._compiled = re2.compile(expression, options)
        except re2.error as error:
            reason = error.args[0] if error.args else "not a regular expression"
            raise ValueError(reason.decode() if isinstance(reason, bytes) else str(reason)) from None
        self.groups: int = self._compiled.groups

    def matches(self, text: bytes) -> bool:
        return self._compiled.search(text) is not None

    def spans(self, text: bytes, group: int = 0) -> Iterator[Span]:
        """Yield the matches from left to right, or of each match one group, if it isn't empty."""
        for match in self._compiled.finditer(text):
            start, end = match.span(group)
            if end > start:
                yield Span(start, end)

    def match_groups(self, text: bytes) -> Iterator[list[Span]]:
        """Yield, of each match, the span of the whole and of each group; (-1, -1) for a group that didn't match."""
        for match in self._compiled.finditer(text):
            yield [Span(*match.span(group)) for group in range(self.groups + 1)]
