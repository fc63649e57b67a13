"""Finds what is written in digits: cards, addresses on the internet, telephone numbers."""

import ipaddress
import re
from collections.abc import Iterator, Sequence

from phonenumbers import Leniency, PhoneNumberMatcher

from logging_store.redaction.finders import between_words, is_word
from logging_store.redaction.linear import Pattern, Span

_DASHES = r"\x{2010}-\x{2015}\x{2212}"
_SPACES = r" \x{a0}\x{2007}\x{2009}\x{202f}"

_RUN = re.compile(rb"\d+")


def has_check_digit(digits: str) -> bool:
    """Tell whether the last of the digits is right by Luhn's formula (ISO/IEC 7812-1)."""
    doubled = (sum(divmod(2 * int(digit), 10)) for digit in digits[-2::-2])
    return (sum(map(int, digits[::-2])) + sum(doubled)) % 10 == 0


class Card:
    """Finds numbers of payment cards: of an issuer's range and length, with a right check digit.

    Digits may stand in up to five groups of two or more, or each by itself.
    """

    name, marker = "card", "[card]"
    hint = rf"\d(?:[{_SPACES}{_DASHES}-]?\d){{13,18}}"

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
        self._runs = Pattern(rf"\d(?:[{_SPACES}{_DASHES}-]?\d){{13,}}")

    def find(self, text: bytes) -> Iterator[Span]:
        for run in self._runs.spans(text):
            if between_words(text, run):
                yield from self._in_run(text, run)

    def _in_run(self, text: bytes, run: Span) -> Iterator[Span]:
        """Yield the cards among groups of digits: before and behind one may stand other numbers, as its date."""
        groups = [Span(run.start + m.start(), run.start + m.end()) for m in _RUN.finditer(text[run.start : run.end])]
        first = 0
        while first < len(groups):
            last = self._card_from(text, groups, first)
            if last is not None:
                yield Span(groups[first].start, groups[last].end)
                first = last
            first += 1

    def _card_from(self, text: bytes, groups: Sequence[Span], first: int) -> int | None:
        """Return the last group of the card that begins with a group, if one does."""
        shortest, longest = self._LENGTHS
        digits = ""
        for last in range(first, min(first + longest, len(groups))):
            digits += text[groups[last].start : groups[last].end].decode()
            if len(digits) > longest:
                return None
            if len(digits) >= shortest and self._is_card(digits, groups[first : last + 1]):
                return last
        return None

    def _is_card(self, digits: str, groups: Sequence[Span]) -> bool:
        return self._written_as_one(groups) and bool(self._ISSUED.fullmatch(digits)) and has_check_digit(digits)

    def _written_as_one(self, groups: Sequence[Span]) -> bool:
        sizes = {group.end - group.start for group in groups}
        return sizes == {1} or (len(groups) <= self._MOST_GROUPS and min(sizes) >= self._SHORTEST_GROUP)


class Ip:
    """Finds addresses of the internet protocol, version 4 and 6. What is called a version is none."""

    name, marker = "ip", "[ip]"
    hint = r"\d\.\d{1,3}\.\d{1,3}\.\d|:[0-9A-Fa-f]{0,4}:"

    _OF_VERSION = re.compile(rb"(?:^|[^a-z])(?:v|ver|version|release|build|firmware)\.?:? ?$", re.IGNORECASE)
    _WORD_BEFORE = 12

    def __init__(self) -> None:
        self._candidates = Pattern(r"\d{1,3}(?:\.\d{1,3}){3}|[0-9A-Fa-f:]*:[0-9A-Fa-f:]*(?:\.\d{1,3}){0,3}")
        self._hint = Pattern(self.hint)

    def find(self, text: bytes) -> Iterator[Span]:
        if not self._hint.is_in(text):
            return
        for span in self._candidates.spans(text):
            written = text[span.start : span.end]
            if b"." in written and b":" not in written:
                if self._is_version_4(text, span, written):
                    yield span
            else:
                yield from self._version_6(text, span)

    def _is_version_4(self, text: bytes, span: Span, written: bytes) -> bool:
        if not between_words(text, span) or _more_follows(text, span, b"."):
            return False
        before = text[max(0, span.start - self._WORD_BEFORE) : span.start]
        return _is_address(written) and not self._OF_VERSION.search(before)

    def _version_6(self, text: bytes, span: Span) -> Iterator[Span]:
        written = text[span.start : span.end]
        if written.endswith(b":") and not written.endswith(b"::"):  # the colon of a sentence
            written = written[:-1]
        span = Span(span.start, span.start + len(written))
        if not 3 <= len(written) <= len("0000:0000:0000:0000:0000:ffff:255.255.255.255"):  # noqa: PLR2004 - as in ::1
            return
        # a::b is a name in a program's namespace more often than an address
        plain = written.count(b":") > 3 or any(48 <= byte <= 57 for byte in written)  # noqa: PLR2004 - digits
        if plain and between_words(text, span) and not _more_follows(text, span, b".:") and _is_address(written):
            yield span


def _more_follows(text: bytes, span: Span, signs: bytes) -> bool:
    """Tell whether what was found is a part of something longer, as 1.2.3.4 is of 1.2.3.4.5."""
    before = span.start >= 2 and text[span.start - 1] in signs and is_word(text, span.start - 2)  # noqa: PLR2004
    after = span.end < len(text) and text[span.end] in signs and is_word(text, span.end + 1)
    return before or after


def _is_address(written: bytes) -> bool:
    try:
        ipaddress.ip_address(written.decode())
    except ValueError:
        return False
    return True


class Phone:
    """Finds telephone numbers: international ones, and those of the regions named, by their numbering plans.

    `regions`: ISO 3166 codes. A national number begins with 0, is grouped as its plan has it, or a word such as "phone"
    stands before it: ten digits in a row are many things.
    """

    name, marker = "phone", "[phone]"
    hint = rf"\d(?:[{_SPACES}{_DASHES}()./\[\]-]{{0,3}}\d){{6}}"

    _CALLED = re.compile(
        r"(?i)(?:tel|phone|mobil|m[oó]vil|cell|celular|call|dial|ring|fax|sms|text|whatsapp|handy|reach|contact)"
    )
    _COMMON = re.compile(r"\d+\.\d+|\d{4}-\d\d-\d\d(?: \d\d)?")  # decimals and dates: quicker told than judged
    _WORDS_BEFORE = 32  # characters in which such a word may stand
    _BESIDE = 8  # characters that tell a number from a time of day
    _LONGEST = 120  # bytes looked at in one go
    _UUID = 36  # characters
    _UUIDS = re.compile(rb"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")

    def __init__(self, regions: Sequence[str]) -> None:
        self._regions = tuple(regions)
        between = rf"[{_SPACES}{_DASHES}()./\[\]-]{{0,3}}"
        self._runs = Pattern(rf"[+(]?\(?\d(?:{between}\d){{6,}}")

    def find(self, text: bytes) -> Iterator[Span]:
        for run in self._runs.spans(text):
            if not between_words(text, run) or self._is_of_a_uuid(text, run):
                continue
            for part in _parts(text, run, self._LONGEST):
                yield from self._in_part(text, part)
                yield Span(part.end, part.end)  # judging one takes long

    def _is_of_a_uuid(self, text: bytes, run: Span) -> bool:
        start = max(0, run.start - self._UUID)
        near = self._UUIDS.finditer(text, start, run.start + self._UUID)
        return any(uuid.start() < run.end and run.start < uuid.end() for uuid in near)

    def _in_part(self, text: bytes, part: Span) -> Iterator[Span]:
        if _is_address(text[part.start : part.end]):
            return
        written = text[part.start : part.end].decode()
        if self._COMMON.fullmatch(written):
            return
        before = text[max(0, part.start - self._WORDS_BEFORE) : part.start].decode(errors="ignore")
        after = text[part.end : part.end + self._BESIDE].decode(errors="ignore")
        near = before[-self._BESIDE :]
        for region in self._regions:
            # what stands beside is only there for the matcher to judge by
            for match in PhoneNumberMatcher(near + written + after, region):
                start, end = max(match.start - len(near), 0), min(match.end - len(near), len(written))
                number = written[start:end]
                if number and (self._CALLED.search(before) or _is_written_as_one(number, region)):
                    first = part.start + len(written[:start].encode())
                    yield Span(first, first + len(number.encode()))


def _is_written_as_one(number: str, region: str) -> bool:
    if number.startswith(("+", "(+", "0")):
        return True
    return not number.isdigit() and PhoneNumberMatcher(number, region, Leniency.STRICT_GROUPING).has_next()


def _parts(text: bytes, run: Span, longest: int) -> Iterator[Span]:
    """Cut a long row of numbers where a space is."""
    start = run.start
    while run.end - start > longest:
        cut = text.rfind(b" ", start + 1, start + longest)
        cut = start + longest if cut < 0 else cut
        while 0x80 <= text[cut] < 0xC0:  # noqa: PLR2004 - within a character
            cut -= 1
        yield Span(start, cut)
        start = cut
    yield Span(start, run.end)
