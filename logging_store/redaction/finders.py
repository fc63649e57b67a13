"""What looks for one kind of thing in a text."""

from collections.abc import Iterator
from typing import Protocol

from logging_store.redaction.linear_regex import Pattern, Span


class Finder(Protocol):
    """`name` is what settings and metrics call it, `marker` what stands in place of what it finds.

    `hint` matches in every text that it finds something in: all hints are looked for at once, and in most texts there
    is none.
    """

    name: str
    marker: str
    hint: str

    def find(self, text: bytes) -> Iterator[Span]:
        """Yield what is to be replaced; an empty span only says that it is still at work."""


class Custom:
    """Finds what an operator's own expression matches."""

    def __init__(self, name: str, expression: str) -> None:
        self.name, self.marker, self.hint = name, f"[{name}]", expression
        self._pattern = Pattern(expression)

    def find(self, text: bytes) -> Iterator[Span]:
        return self._pattern.spans(text)


class Mail:
    """Finds mail addresses, also with letters of other scripts."""

    name, marker = "mail", "[mail]"
    # of the signs that may stand before the @, those of queries and paths are left out: they are around it more often
    hint = (
        r"[\pL\pN._%+'!~-]*[\pL\pN_%+!~-]@[\pL\pN](?:[\pL\pN-]*[\pL\pN])?(?:\.[\pL\pN](?:[\pL\pN-]*[\pL\pN])?)*"
        r"\.(?:xn--[a-z0-9-]+|\pL{2,})"
    )

    def __init__(self) -> None:
        self._pattern = Pattern(self.hint)

    def find(self, text: bytes) -> Iterator[Span]:
        for start, end in self._pattern.spans(text):
            # a quote or a dot before it, as in 'ada@example.com', is no part of it
            yield Span(end - len(text[start:end].lstrip(b"'`.")), end)


def is_word(text: bytes, place: int) -> bool:
    """Tell whether the character that a byte is of is a letter, a digit or an underscore, in any script."""
    if not 0 <= place < len(text):
        return False
    byte = text[place]
    if byte < 0x80:  # noqa: PLR2004 - ASCII
        return byte == ord("_") or chr(byte).isalnum()
    while place > 0 and 0x80 <= text[place] < 0xC0:  # noqa: PLR2004 - bytes that go on with a character
        place -= 1
    return text[place : place + 4].decode(errors="ignore")[:1].isalnum()


def between_words(text: bytes, span: Span) -> bool:
    """Tell whether neither end of a span stands within a word."""
    return not is_word(text, span.start - 1) and not is_word(text, span.end)
