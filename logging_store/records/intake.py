"""How records are read, and what was changed so that they can be stored.

An `Intake` is pydantic's context of one validation. With it, text that PostgreSQL can't hold is replaced and integers
that most readers would change become their digits, and the paths of both are noted. Without it, as in Python code that
makes records itself, nothing is changed: such a value is rejected.
"""

import re
from dataclasses import dataclass, field
from typing import Self
from zoneinfo import ZoneInfo

from pydantic import ValidationInfo

JsonPath = tuple[str | int, ...]

MAX_ALTERED = 20  # paths of a record that are kept

NUL_PICTURE = "\N{SYMBOL FOR NULL}"
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_HALF_PAIR = re.compile("[\ud800-\udfff]")


@dataclass(slots=True)
class Intake:
    """The rules for reading one record, and what they changed.

    `replaces`: whether text that can't be stored is replaced; else it is rejected. `has_half_pairs`: whether texts may
    hold halves of surrogate pairs, which only few parsers let pass. `zone`: of times without one; None rejects these.
    `altered`: the paths of values that were changed, in the order of validation; where they are more than
    `MAX_ALTERED`, those of the fields that hold them.
    """

    replaces: bool = True
    has_half_pairs: bool = False
    zone: ZoneInfo | None = None
    _paths: list[JsonPath] = field(default_factory=list)
    _fields: dict[str | int, None] = field(default_factory=dict)

    @property
    def altered(self) -> list[JsonPath]:
        return self._paths if len(self._paths) <= MAX_ALTERED else [(name,) for name in self._fields]

    @classmethod
    def of(cls, info: ValidationInfo) -> Self | None:
        """Return the intake of a validation, if it has one."""
        return info.context if isinstance(info.context, cls) else None

    def note(self, info: ValidationInfo, path: JsonPath) -> None:
        """Note that a part of the field being validated was changed. `path`: within the field."""
        whole = (info.field_name, *path) if info.field_name is not None else path
        self._fields.update(dict.fromkeys(whole[:1]))
        if len(self._paths) <= MAX_ALTERED:  # a body may hold a million of them
            self._paths.append(whole)


def is_storable(text: str) -> bool:
    """Return whether PostgreSQL can hold a text. Reads it to its end, so it is for texts that may have half pairs."""
    return "\0" not in text and (text.isascii() or _HALF_PAIR.search(text) is None)


def storable(text: str) -> str:
    """Return a text with NUL as its picture, and with U+FFFD for each half of a surrogate pair."""
    return _HALF_PAIR.sub(REPLACEMENT, text.replace("\0", NUL_PICTURE))


def has_half_pair(text: str) -> bool:
    return not text.isascii() and _HALF_PAIR.search(text) is not None
