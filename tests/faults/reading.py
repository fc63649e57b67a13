"""Reads everything back: through the API, page by page, by SQL, and what the spool's folder still holds."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import psycopg

from tests.faults.history import Record
from tests.faults.oracle import Observation

_PAGE = 200
_TIMEOUT_S = 60

_SESSIONS = "select key, title from turnlog.ai_sessions"
_INTERACTIONS = """
    select s.key, i.key, i.prompt #>> '{}', i.response #>> '{}', i.id::text
    from turnlog.ai_interactions i left join turnlog.ai_sessions s on s.project = i.project and s.id = i.session_id
"""


def by_api(url: str) -> Observation:
    rows: list[Record] = []
    with httpx.Client(base_url=url, timeout=_TIMEOUT_S, trust_env=False) as client:
        for session in _pages(client, "/v1/sessions", "sessions"):
            rows.append(Record(session["key"], None, (session["title"],)))
            path = f"/v1/sessions/{quote(session['key'], safe='')}/interactions"
            for row in _pages(client, path, "interactions"):
                facts = row["prompt"], row["response"]
                rows.append(Record(session["key"], row["key"], facts))
    return Observation("API", rows)


def by_sql(database: str) -> Observation:
    with psycopg.connect(database) as connection:
        rows = [Record(key, None, (title,)) for key, title in connection.execute(_SESSIONS)]
        interactions = connection.execute(_INTERACTIONS).fetchall()
    rows += [Record(session, key, (prompt, response)) for session, key, prompt, response, _ in interactions]
    return Observation("SQL", rows, orphans=[row[-1] for row in interactions if row[0] is None])


def waiting(spool: Path) -> list[str]:
    """Return what the spool's folders still hold for delivery, a sentence each."""
    return [f"{path.name} is left in the spool" for path in sorted(spool.rglob("spool-*.sqlite3*"))]


def dead_letters(spool: Path) -> list[str]:
    """Return what was acknowledged and then refused."""
    letters = []
    for path in spool.rglob("dead-letters.sqlite3"):
        with closing(sqlite3.connect(path)) as connection:
            letters += connection.execute("select session_id, record_id, receipt from dead_letters").fetchall()
    return [f"dead letter: {letter}" for letter in letters]


def _pages(client: httpx.Client, path: str, name: str) -> Iterator[dict[str, Any]]:
    query: dict[str, str | int] = {"limit": _PAGE}
    while True:
        answer = client.get(path, params=query)
        assert answer.status_code == httpx.codes.OK, f"GET {path} answered {answer.status_code} {answer.text}"
        body = answer.json()
        yield from body[name]
        if body["next"] is None:
            return
        query["cursor"] = body["next"]
