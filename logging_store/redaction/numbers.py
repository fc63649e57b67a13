"""Finds card numbers and IP addresses."""

import ipaddress
import re
from collections.abc import Iterator, Sequence

from logging_store.redaction.finders import between_words, is_word
from logging_store.redaction.linear_regex import Pattern, Span

DASHES = r"\x{2010}-\x{2015}\x{2212}"
SPACES = r" \x{a0}\x{2007}\x{2009}\x{202f}"

#: An empty match, see `Finder.find`.
HEARTBEAT = Span(0, 0)

_DIGITS = re.compile(rb"\d+")


def digit_groups(text: bytes, run: Span) -> list[Span]:
    """Return the spans of consecutive digits in a run."""
    return [Span(*match.span()) for match in _DIGITS.finditer(text, run.start, run.end)]


#: Digit -> the digit sum of its double.
_DOUBLED = bytes.maketrans(b"0123456789", b"0246813579")


def passes_luhn(digits: str) -> bool:
    """Return whether the last digit is the check digit of the others by Luhn's formula (ISO/IEC 7812-1)."""
    characters = digits.encode()
    total = sum(characters[::-2]) + sum(characters[-2::-2].translate(_DOUBLED)) - len(characters) * ord("0")
    return total % 10 == 0


class Card:
    """Finds payment card numbers: of an issuer's range and length, with a valid check digit.

    The digits may be in up to five groups of two or more, or all separate.
    """

    name, marker = "card", "[card]"
    hint = rf"\d(?:[{SPACES}{DASHES}-]?\d){{13,18}}"

    _LENGTHS = (14, 19)
    _MOST_GROUPS, _SHORTEST_GROUP = 5, 2
    _ISSUED = re.compile(
        r"4(\d{15}|\d{18})"  # Visa
        r"|(5[1-5]\d\d|222[1-9]|22[3-9]\d|2[3-6]\d\d|27[01]\d|2720)\d{12}"  # Mastercard
        r"|3[47]\d{13}"  # American Express
        r"|3(0[0-5]|[689]\d)\d{11}"  # Diners Club
        r"|(6011|64[4-9]\d|65\d\d|35(2[89]|[3-8]\d)|62\d\d)\d{12,15}"  # Discover, JCB, UnionPay
        r"|(50\d\d|5[6-9]\d\d|6[37]\d\d)\d{12,15}"  # Maestro
    )

    def __init__(self) -> None:
        self._runs = Pattern(rf"\d(?:[{SPACES}{DASHES}-]?\d){{13,}}")

    def find(self, text: bytes) -> Iterator[Span]:
        for run in self._runs.spans(text):
            if between_words(text, run):
                yield from self._in_run(text, run)

    def _in_run(self, text: bytes, run: Span) -> Iterator[Span]:
        """Yield the cards in a run of digit groups, which may contain other numbers, such as expiry dates."""
        groups = digit_groups(text, run)
        first = 0
        while first < len(groups):
            start, end = groups[first]
            if end - start < self._SHORTEST_GROUP:
                behind = first + 1
                while behind < len(groups) and groups[behind].end - groups[behind].start == 1:
                    behind += 1
                if self._LENGTHS[0] <= behind - first <= self._LENGTHS[1] and self._is_card(text, groups[first:behind]):
                    yield Span(start, groups[behind - 1].end)
            else:
                behind = self._end_of_card(text, groups, first)
                if behind > first:
                    yield Span(start, groups[behind - 1].end)
            first = max(behind, first + 1)
            yield HEARTBEAT

    def _end_of_card(self, text: bytes, groups: Sequence[Span], first: int) -> int:
        """Return the index behind the last group of a card that begins with group `first`; `first` if none does."""
        if text[groups[first].start] in b"23456":  # the first digits that are issued
            length = 0
            for behind, (start, end) in enumerate(groups[first : first + self._MOST_GROUPS], start=first + 1):
                length += end - start
                if end - start < self._SHORTEST_GROUP or length > self._LENGTHS[1]:
                    break
                if length >= self._LENGTHS[0] and self._is_card(text, groups[first:behind]):
                    return behind
        return first

    def _is_card(self, text: bytes, groups: Sequence[Span]) -> bool:
        digits = b"".join(text[group.start : group.end] for group in groups).decode()
        return bool(self._ISSUED.fullmatch(digits)) and passes_luhn(digits)


class Ip:
    """Finds IPv4 and IPv6 addresses, but no version numbers such as `version 1.2.3.4`."""

    name, marker = "ip", "[ip]"
    hint = r"\d\.\d{1,3}\.\d{1,3}\.\d|:[0-9A-Fa-f]{0,4}:"

    _OF_VERSION = re.compile(rb"(?:^|[^a-z])(?:v|ver|version|release|build|firmware)\.?:? ?$", re.IGNORECASE)
    _WORD_BEFORE = 12

    def __init__(self) -> None:
        self._candidates = Pattern(r"\d{1,3}(?:\.\d{1,3}){3}|[0-9A-Fa-f:]*:[0-9A-Fa-f:]*(?:\.\d{1,3}){0,3}")
        self._hint = Pattern(self.hint)

    def find(self, text: bytes) -> Iterator[Span]:
        if not self._hint.matches(text):
            return
        for span in self._candidates.spans(text):
            written = text[span.start : span.end]
            if b"." in written and b":" not in written:
                if self._is_version_4(text, span, written):
                    yield span
            else:
                yield from self._version_6(text, span)
            yield HEARTBEAT

    def _is_version_4(self, text: bytes, span: Span, written: bytes) -> bool:
        if not between_words(text, span) or _more_follows(text, span, b"."):
            return False
        before = text[max(0, span.start - self._WORD_BEFORE) : span.start]
        return is_address(written) and not self._OF_VERSION.search(before)

    def _version_6(self, text: bytes, span: Span) -> Iterator[Span]:
        written = text[span.start : span.end]
        if written.endswith(b":") and not written.endswith(b"::"):  # a colon of the sentence
            written = written[:-1]
        span = Span(span.start, span.start + len(written))
        if not 3 <= len(written) <= len("0000:0000:0000:0000:0000:ffff:255.255.255.255"):  # noqa: PLR2004 - as in ::1
            return
        # a::b is usually a name in source code
        plain = written.count(b":") > 3 or any(48 <= byte <= 57 for byte in written)  # noqa: PLR2004 - digits
        if plain and between_words(text, span) and not _more_follows(text, span, b".:") and is_address(written):
            yield span


def _more_follows(text: bytes, span: Span, characters: bytes) -> bool:
    """Return whether a match is part of something longer, as 1.2.3.4 is of 1.2.3.4.5."""
    before = span.start >= 2 and text[span.start - 1] in characters and is_word(text, span.start - 2)  # noqa: PLR2004
    after = span.end < len(text) and text[span.end] in characters and is_word(text, span.end + 1)
    return before or after


def is_address(written: bytes) -> bool:
    try:
        ipaddress.ip_address(written.decode())
    except ValueError:
        return False
    return True
