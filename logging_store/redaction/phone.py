"""Finds telephone numbers by the numbering plans of phonenumbers (Google's libphonenumber).

Its own matcher takes a tenth of a millisecond per number and tries every combination of neighbouring short numbers. So
only its numbering plans are used here.
"""

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import product

from phonenumbers import COUNTRY_CODE_TO_REGION_CODE, PhoneMetadata

from logging_store.redaction.finders import is_word
from logging_store.redaction.linear_regex import Pattern, Span
from logging_store.redaction.numbers import DASHES, HEARTBEAT, SPACES, digit_groups, is_address

_BETWEEN = rf"[{SPACES}{DASHES}()./\[\]-]{{0,3}}"

_SHORTEST, _LONGEST = 7, 15  # digits: the most by E.164, the least that is worth finding
_MOST_GROUPS = 8

_UUID = re.compile(rb"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
_LONGEST_UUID = 36

_ANNOUNCING_WORDS = re.compile(
    "tel|phone|mobil|m(?:o|\u00f3)vil|cell|celular|call|dial|ring|fax|sms|text|whatsapp|handy|reach|contact".encode(),
    re.IGNORECASE,
)
_WORDS_BEFORE = 32  # bytes before a number in which such a word counts

_PLUS, _ZERO = ord("+"), ord("0")
_NO_REGION = "001"  # country codes without a country, such as satellites

Sizes = tuple[int, ...]


class _Plan:
    """The number formats of a region: patterns of all digits, and usual groupings."""

    _KINDS = (
        *("fixed_line", "mobile", "toll_free", "premium_rate", "shared_cost"),
        *("personal_number", "voip", "pager", "uan", "voicemail"),
    )

    def __init__(self, region: str) -> None:
        plan = PhoneMetadata.metadata_for_region(region)
        if plan is None:
            raise ValueError(f"{region} has no telephone numbers")
        kinds = (getattr(plan, kind) for kind in self._KINDS)
        patterns = {kind.national_number_pattern for kind in kinds if kind and kind.national_number_pattern}
        self.national = re.compile("|".join(f"(?:{pattern})" for pattern in sorted(patterns)))
        self.prefix = plan.national_prefix or ""
        self.grouped: set[Sizes] = set()
        for form in plan.number_format:
            rule = form.national_prefix_formatting_rule or ""
            if self.prefix and self.prefix in rule and not form.national_prefix_optional_when_formatting:
                continue  # never written without its prefix
            for sizes in _sizes(form.pattern or ""):
                if len(sizes) > 1 and sum(sizes) >= _SHORTEST:
                    self.grouped |= {sizes, (len(self.prefix), *sizes)} if self.prefix else {sizes}

    def has(self, digits: str) -> bool:
        """Return whether digits are a number of the plan, with or without its prefix."""
        if self.national.fullmatch(digits):
            return True
        without = digits.removeprefix(self.prefix)
        return without != digits and bool(self.national.fullmatch(without))


@lru_cache(maxsize=512)  # there are 245
def _plan(region: str) -> _Plan:
    return _Plan(region)


def _sizes(pattern: str) -> Iterator[Sizes]:
    r"""Yield the lengths of the groups of digits in a pattern such as (\d{3})(\d{3,4})."""
    groups = []
    for group in pattern.strip("()").split(")("):
        parts = re.findall(r"(\\d|\[[^]]*\]|\d)(?:\{(\d+)(?:,(\d+))?\})?", group)
        if "".join(parts_of for parts_of, *_ in parts) != re.sub(r"\{[\d,]+\}", "", group):
            return  # another syntax, which no plan uses
        least = sum(int(low or 1) for _, low, _ in parts)
        most = sum(int(high or low or 1) for _, low, high in parts)
        groups.append(range(least, most + 1))
    yield from product(*groups)


class Phone:
    """Finds international numbers, and national ones of the regions named (ISO 3166 codes).

    A national number must begin with 0, be grouped as in its plan, or follow a word such as "phone": ten digits in a
    row can be anything.
    """

    name, marker = "phone", "[phone]"
    hint = rf"\d(?:{_BETWEEN}\d){{{_SHORTEST - 1}}}"

    def __init__(self, regions: Sequence[str]) -> None:
        self._plans = [_plan(region) for region in regions]
        self._grouped = {sizes for plan in self._plans for sizes in plan.grouped}
        self._begins = {sizes[:2] for sizes in self._grouped}
        self._runs = Pattern(rf"\d(?:{_BETWEEN}\+?\d){{{_SHORTEST - 1},}}")

    def find(self, text: bytes) -> Iterator[Span]:
        for run in self._runs.spans(text):
            groups = digit_groups(text, run)
            announced_until = _announced_until(text, run)
            first = 0
            while first < len(groups):
                any_grouping = groups[first].start < announced_until or text[groups[first].start] == _ZERO
                behind = self._end_of_number(text, groups, first, any_grouping=any_grouping)
                if behind > first:
                    yield _with_prefix_signs(text, Span(groups[first].start, groups[behind - 1].end))
                first = max(behind, first + 1)
                yield HEARTBEAT

    def _end_of_number(self, text: bytes, groups: Sequence[Span], first: int, *, any_grouping: bool) -> int:
        """Return the index behind the last group of a number that begins with group `first`; `first` if none does.

        `any_grouping`: accept any grouping.
        """
        start = groups[first].start
        international = start > 0 and text[start - 1] == _PLUS
        any_grouping = any_grouping or international
        if not (any_grouping or self._may_begin(groups[first : first + 2])) or is_word(text, start - 1):
            return first
        for behind in range(min(first + _MOST_GROUPS, len(groups)), first, -1):
            own = groups[first:behind]
            sizes = tuple(group.end - group.start for group in own)
            # +49 (0)30 … has one more digit
            if not _SHORTEST <= sum(sizes) <= _LONGEST + 1 or not (any_grouping or sizes in self._grouped):
                continue
            if self._is_number(text, own, international=international) and not _is_part_of_other_token(text, own):
                return behind
        return first

    def _may_begin(self, groups: Sequence[Span]) -> bool:
        return tuple(group.end - group.start for group in groups) in self._begins

    def _is_number(self, text: bytes, groups: Sequence[Span], *, international: bool) -> bool:
        if international:
            # the 0 of +49 (0)30 … is only dialled within the country
            groups = [each for each in groups if text[each.start - 1 : each.end + 1] != b"(0)"]
            return _is_international(b"".join(text[start:end] for start, end in groups).decode())
        digits = b"".join(text[start:end] for start, end in groups).decode()
        return any(plan.has(digits) for plan in self._plans)


def _is_international(digits: str) -> bool:
    for length in (1, 2, 3):
        if (code := int(digits[:length])) in COUNTRY_CODE_TO_REGION_CODE:
            return bool(_country_numbers(code).fullmatch(digits, length))
    return False


@lru_cache(maxsize=512)
def _country_numbers(code: int) -> re.Pattern[str]:
    """Return a pattern of the numbers of all regions with a country code, without the code."""
    plans = (_plan(region) for region in COUNTRY_CODE_TO_REGION_CODE[code] if region != _NO_REGION)
    return re.compile("|".join(f"(?:{plan.national.pattern})" for plan in plans) or r"\d{6,}")


def _announced_until(text: bytes, run: Span) -> int:
    """Return the position up to which the numbers of a run are close enough to a word that announces one."""
    before = text[max(0, run.start - _WORDS_BEFORE) : run.start]
    words = list(_ANNOUNCING_WORDS.finditer(before))
    return run.start - len(before) + words[-1].start() + _WORDS_BEFORE if words else 0


def _is_part_of_other_token(text: bytes, groups: Sequence[Span]) -> bool:
    """Return whether digits are part of a longer word, a UUID, an IP address or a decimal."""
    start, end = groups[0].start, groups[-1].end
    if is_word(text, end) or (text[end : end + 1] in (b".", b"-", b":") and is_word(text, end + 1)):
        return True
    if text[start - 1 : start] in (b".", b"-", b"#", b"$", b":") and is_word(text, start - 2):
        return text[start - 1 : start] != b":" or text[start - 2 : start - 1].isdigit()
    if text[start - 1 : start] in (b"#", b"$"):
        return True
    near = _UUID.finditer(text, max(0, start - _LONGEST_UUID), end + _LONGEST_UUID)
    if any(uuid.start() < end and start < uuid.end() for uuid in near):
        return True
    return b"." in text[start:end] and is_address(text[start:end])


def _with_prefix_signs(text: bytes, number: Span) -> Span:
    """Return a number's span with its leading `+` and parenthesis."""
    start = number.start
    if text[start - 1 : start] == b"+":
        start -= 1
    if text[start - 1 : start] == b"(" and b")" in text[start : number.end]:
        start -= 1
    return Span(start, number.end)
