"""The commands that findings name. SQL is quoted as PostgreSQL wants it."""

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from conversation.settings import StoreKind

TURNLOG = "turnlog"

_PLAIN_NAME = re.compile(r"[a-z_][a-z0-9_]*")


@dataclass(frozen=True, slots=True)
class Remedies:
    """How a store's schema is brought up to date or restored; Supabase's API can't do it."""

    store_kind: StoreKind

    @property
    def migrate(self) -> Sequence[str]:
        return ["supabase db push"] if self.store_kind == "supabase" else [f"{TURNLOG} migrate"]

    @property
    def restore(self) -> Sequence[str]:
        """Run all migrations again: that makes what is missing and replaces functions, and changes no row."""
        if self.store_kind == "supabase":
            return [f"{TURNLOG} migrate --print  # paste what it prints into Supabase's SQL editor and run it"]
        return [f"{TURNLOG} migrate --again"]


def where_sql_goes(store_kind: StoreKind) -> str:
    return "SQL goes into Supabase's SQL editor." if store_kind == "supabase" else f"SQL goes into: {TURNLOG} psql"


def command(*arguments: str) -> str:
    """Return a `turnlog` command as a shell takes it."""
    return f"{TURNLOG} {shlex.join(arguments)}"


def name(*parts: str) -> str:
    """Return a name in SQL, quoted where it has to be."""
    return ".".join(part if _PLAIN_NAME.fullmatch(part) else '"{}"'.format(part.replace('"', '""')) for part in parts)


def text(value: str) -> str:
    """Return a text in SQL."""
    return "'{}'".format(value.replace("'", "''"))
