"""Finders: each finds one kind of personal data or secret in a text."""

from collections.abc import Iterator
from typing import Protocol

from logging_store.redaction.linear_regex import Pattern, Span


class Finder(Protocol):
    """`name`: its name in settings and metrics. `marker`: the replacement of its matches.

    `hint`: an expression that matches every text in which it finds something. All hints are searched for at once, and
    most texts match none.
    """

    name: str
    marker: str
    hint: str

    def find(self, text: bytes) -> Iterator[Span]:
        """Yield the spans to replace; an empty span is a heartbeat, so that a long search can be stopped."""


class Custom:
    """Finds matches of an operator's own expression."""

    def __init__(self, name: str, expression: str) -> None:
        self.name, self.marker, self.hint = name, f"[{name}]", expression
        self._pattern = Pattern(expression)

    def find(self, text: bytes) -> Iterator[Span]:
        return self._pattern.spans(text)


class Mail:
    """Finds mail addresses, in any script."""

    name, marker = "mail", "[mail]"
    # without the characters of queries and paths that RFC 5321 allows: they surround addresses more often
    hint = (
        r"[\pL\pN._%+'!~-]*[\pL\pN_%+!~-]@[\pL\pN](?:[\pL\pN-]*[\pL\pN])?(?:\.[\pL\pN](?:[\pL\pN-]*[\pL\pN])?)*"
        r"\.(?:xn--[a-z0-9-]+|\pL{2,})"
    )

    def __init__(self) -> None:
        self._pattern = Pattern(self.hint)

    def find(self, text: bytes) -> Iterator[Span]:
        for start, end in self._pattern.spans(text):
            # without a leading quote or dot, as in 'ada@example.com'
            yield Span(end - len(text[start:end].lstrip(b"'`.")), end)


def is_word(text: bytes, position: int) -> bool:
    """Return whether the character at a byte position is a letter, a digit or an underscore, in any script."""
    if not 0 <= position < len(text):
        return False
    byte = text[position]
    if byte < 0x80:  # noqa: PLR2004 - ASCII
        return byte == ord("_") or chr(byte).isalnum()
    while position > 0 and 0x80 <= text[position] < 0xC0:  # noqa: PLR2004 - continuation bytes
        position -= 1
    return text[position : position + 4].decode(errors="ignore")[:1].isalnum()


def between_words(text: bytes, span: Span) -> bool:
    """Return whether a span begins and ends at word boundaries."""
    return not is_word(text, span.start - 1) and not is_word(text, span.end)
