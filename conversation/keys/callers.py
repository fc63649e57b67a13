"""Authenticated callers and their scopes."""

from dataclasses import dataclass, field
from typing import Literal

Scope = Literal["log", "read", "edit", "erase", "admin"]
#: `machine`: a keyless call from this machine. `operator`: TURNLOG_API_KEY. `secret`, `publishable`: a project's key.
#: `user`: a user with a token of the project's own sign-in; `member`: a user whom that token names a team member.
CallerKind = Literal["machine", "operator", "secret", "publishable", "user", "member"]

ALL_SCOPES: frozenset[Scope] = frozenset({"log", "read", "edit", "erase", "admin"})

USER_SCOPES: frozenset[Scope] = frozenset({"log", "read"})


@dataclass(frozen=True, slots=True)
class Caller:
    """An authenticated caller.

    `origins`: the web origins that may call, empty for none. `name`: the name or hint of the key, for people.
    """

    kind: CallerKind
    project: str
    scopes: frozenset[Scope]
    key_id: str | None = None
    user_id: str | None = None
    origins: frozenset[str] = field(default_factory=frozenset)
    name: str | None = None

    def may(self, scope: Scope) -> bool:
        return scope in self.scopes or "admin" in self.scopes

    @property
    def is_restricted(self) -> bool:
        """Whether the caller, an untrusted browser or user, reaches only sessions of its own."""
        return self.kind in {"publishable", "user"}
