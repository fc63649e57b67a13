"""The golden copies of a freshly migrated database, and `make golden`, which writes them anew.

`tests/data/schema.sql` is what reviewers read, `logging_store/catalogue.json` is what `flask doctor` compares with.
Look at what changed in them (`git diff`) before committing it.
"""

import json
import re
import subprocess
from pathlib import Path

import psycopg

from logging_store import catalogue, programs
from tests.databases import running_server

SCHEMA = Path(__file__).parent / "data" / "schema.sql"
RENEW = "the schema changed: renew its golden copies with `make golden` (python -m tests.golden) and look at the diff"

# what differs from one server or one run to the next
_DIFFERS = re.compile(r"--|SET |SELECT pg_catalog|\\(un)?restrict|(CREATE|COMMENT ON) SCHEMA public|.* SET COMPRESSION")


def schema_of(database: str) -> str:
    """Return a database's schema as SQL."""
    dump = subprocess.run(
        [programs.folder() / "pg_dump", "--schema-only", "--schema=public", "--no-owner", "--no-privileges", database],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return "\n".join(line for line in dump.splitlines() if line and not _DIFFERS.match(line)) + "\n"


def catalogue_of(database: str) -> str:
    """Return what `logging_store/catalogue.json` holds for a database."""
    with psycopg.connect(database, autocommit=True) as connection:
        row = connection.execute("select turnlog.catalogue()").fetchone()
    assert row is not None
    return json.dumps(row[0], indent=1, sort_keys=True) + "\n"


def main() -> None:
    with running_server() as server, server.database() as name:
        SCHEMA.write_text(schema_of(server.conninfo(name)), encoding="utf-8")
        catalogue.FILE.write_text(catalogue_of(server.conninfo(name)), encoding="utf-8")


if __name__ == "__main__":
    main()
