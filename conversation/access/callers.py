"""Who calls, and what they may do."""

from dataclasses import dataclass, field
from typing import Literal

Scope = Literal["log", "read", "edit", "erase", "admin"]
#: `machine`: this machine, where no key is asked for. `operator`: TURNLOG_API_KEY. `secret` and `publishable`: a key of
#: a project. `user`: somebody whom the project's own sign-in vouches for; `member`: if that says they are of the team.
CallerKind = Literal["machine", "operator", "secret", "publishable", "user", "member"]

ALL_SCOPES: frozenset[Scope] = frozenset({"log", "read", "edit", "erase", "admin"})

USERS_SCOPES: frozenset[Scope] = frozenset({"log", "read"})


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody who has proven who they are.

    `origins`: the web pages that they may call from, if any. `name`: what people call the key that they have.
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
        """Whether they only reach sessions of their own: what calls from a browser does."""
        return self.kind in {"publishable", "user"}
