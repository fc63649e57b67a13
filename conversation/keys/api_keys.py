"""API keys: their format, and what the database stores of them.

    turnlog_sk_ | turnlog_pk_     secret, for backends; publishable, for browsers
    24 characters of base62       142 random bits
    6 characters of base62        CRC-32 of all that stands before

The checksum finds typing errors without a look-up; the prefix lets secret scanners find a leaked key.
"""

import hashlib
import re
import secrets
import string
import zlib
from datetime import datetime
from functools import cached_property, lru_cache
from typing import Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from conversation.keys.callers import Caller, Scope

KeyKind = Literal["secret", "publishable"]

PREFIXES: dict[KeyKind, str] = {"secret": "turnlog_sk_", "publishable": "turnlog_pk_"}
_BASE62 = string.digits + string.ascii_uppercase + string.ascii_lowercase
_RANDOM, _CHECKSUM = 24, 6
_KEY = re.compile(rf"turnlog_[sp]k_[0-9A-Za-z]{{{_RANDOM + _CHECKSUM}}}")
_HINT = len("turnlog_sk_") + 4


class Key(BaseModel):
    """A key as the database stores it. `family`: the id of the first key in a chain of rotations.

    `token_secret` signs the family's session tokens; it is set for a key that a caller presented, but not in lists.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    project: str
    id: UUID
    family: UUID
    kind: KeyKind
    hint: str
    name: str | None
    scopes: frozenset[Scope]
    origins: frozenset[str]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None
    token_secret: str = ""

    @cached_property
    def caller(self) -> Caller:
        """The caller who presents this key."""
        name = self.name or self.hint
        return Caller(self.kind, self.project, self.scopes, str(self.id), origins=self.origins, name=name)

    def is_valid_at(self, time: datetime) -> bool:
        return self.revoked_at is None and (self.expires_at is None or time < self.expires_at)


def make(kind: KeyKind) -> str:
    body = PREFIXES[kind] + "".join(secrets.choice(_BASE62) for _ in range(_RANDOM))
    return body + _checksum(body)


@lru_cache(maxsize=4096)  # called for each request
def digest_of(text: str) -> str | None:
    """Return the SHA-256 of a key in hex, under which it is stored; None for a text that is not a well-formed key.

    A key has 142 random bits, too many to guess, so a slow hash would add nothing.
    """
    if not _KEY.fullmatch(text) or text[-_CHECKSUM:] != _checksum(text[:-_CHECKSUM]):
        return None
    return hashlib.sha256(text.encode()).hexdigest()


def is_key(text: str) -> bool:
    """Return whether a text is a key of some Turnlog service: it is complete and its checksum matches."""
    return digest_of(text) is not None


def hint_of(text: str) -> str:
    return text[:_HINT]


def _checksum(text: str) -> str:
    number, digits = zlib.crc32(text.encode()), ""
    for _ in range(_CHECKSUM):
        number, digit = divmod(number, 62)
        digits = _BASE62[digit] + digits
    return digits
