"""The commands and SQL that fix findings, with names and texts quoted for PostgreSQL."""

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from conversation.settings import StoreKind

TURNLOG = "turnlog"

_PLAIN_NAME = re.compile(r"[a-z_][a-z0-9_]*")


@dataclass(frozen=True, slots=True)
class Remedies:
    """The commands that upgrade or restore a store's schema; Supabase's API can't run migrations."""

    store_kind: StoreKind

    @property
    def migrate(self) -> Sequence[str]:
        return ["supabase db push"] if self.store_kind == "supabase" else [f"{TURNLOG} migrate"]

    @property
    def restore(self) -> Sequence[str]:
        """Run all migrations again, which creates missing objects and replaces functions, but changes no rows."""
        if self.store_kind == "supabase":
            return [f"{TURNLOG} migrate --print  # paste what it prints into Supabase's SQL editor and run it"]
        return [f"{TURNLOG} migrate --again"]


def where_sql_goes(store_kind: StoreKind) -> str:
    return "SQL goes into Supabase's SQL editor." if store_kind == "supabase" else f"SQL goes into: {TURNLOG} psql"


def command(*arguments: str) -> str:
    """Return a command, quoted for a shell."""
    return f"{TURNLOG} {shlex.join(arguments)}"


def name(*parts: str) -> str:
    """Return an SQL identifier, quoted if necessary."""
    return ".".join(part if _PLAIN_NAME.fullmatch(part) else '"{}"'.format(part.replace('"', '""')) for part in parts)


def text(value: str) -> str:
    """Return an SQL string literal."""
    return "'{}'".format(value.replace("'", "''"))
