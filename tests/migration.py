"""`make migration`: writes the release's migration from `supabase/schemas`, and the shape that `doctor` compares with.

Until the first release there is one migration, and this writes it anew. After a release its file stays as it is, and
the next one says what to alter.
"""

import json
import tomllib
from pathlib import Path

import psycopg

from logging_store.postgres import catalogue, migrations
from tests.databases import running_server

SUPABASE = migrations.DIRECTORY.parent
VERSION = "20261128000000"
FILE = migrations.DIRECTORY / f"{VERSION}_turnlog_0_1_0.sql"
RENEW = "supabase/schemas changed: run `make migration` and look at the diff"

_HEAD = """\
-- Turnlog {release}, made by `make migration` from supabase/schemas: read those, edit those. It may be run again.
-- All of it happens or nothing, also where statements are sent one by one; nobody's search_path plays a part.
begin;
set local search_path = '';
"""
_RECORD = """\
insert into turnlog.migrations (version) values ('{version}') on conflict do nothing;
"""
_TAIL = """\
commit;
"""


def sources() -> list[Path]:
    """Return the files of `supabase/schemas` in the order of `supabase/config.toml`."""
    patterns = tomllib.loads((SUPABASE / "config.toml").read_text(encoding="utf-8"))["db"]["migrations"]["schema_paths"]
    return list(dict.fromkeys(path for pattern in patterns for path in sorted(SUPABASE.glob(pattern))))


def text() -> str:
    """Return the migration of the release that is being built."""
    parts = [_HEAD.format(release="0.1.0")]
    for path in sources():
        parts.append(f"-- {path.relative_to(SUPABASE)}\n{path.read_text(encoding='utf-8')}")
        if path.name == "migrations.sql":  # first of all, so a second migrator waits for this one
            parts.append(_RECORD.format(version=VERSION))
    return "\n\n".join([*parts, _TAIL])


def catalogue_of(database: str) -> str:
    """Return what `logging_store/postgres/catalogue.json` holds for a database."""
    with psycopg.connect(database, autocommit=True) as connection:
        row = connection.execute("select turnlog.catalogue()").fetchone()
    assert row is not None
    return json.dumps(row[0], indent=1, sort_keys=True) + "\n"


def main() -> None:
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_text(text(), encoding="utf-8")
    with running_server() as server, server.database() as name:
        catalogue.FILE.write_text(catalogue_of(server.conninfo(name)), encoding="utf-8")


if __name__ == "__main__":
    main()
