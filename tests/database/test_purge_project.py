"""Purging a selftest's project leaves nothing of it, and every row of every other project."""

import uuid

import psycopg
from flask.testing import FlaskClient

from tests.conftest import PROJECT, Backend
from tests.http_calls import log

_TABLES = """
select c.table_name from information_schema.columns as c
  join information_schema.tables as t using (table_schema, table_name)
 where c.table_schema = 'turnlog' and c.column_name = 'project' and t.table_type = 'BASE TABLE'
 order by 1
"""
_NEVER_PURGED = {"ai_keys"}  # a selftest makes none


def rows(connection: psycopg.Connection, project: str, tables: list[str]) -> dict[str, int]:
    counts = {}
    for table in tables:
        query = f"select count(*) from turnlog.{table} where project = %s"  # noqa: S608 - from the catalogue
        (counts[table],) = connection.execute(query.encode(), [project]).fetchone() or (0,)
    return counts


def test_a_purge_empties_its_project_and_touches_no_other(client: FlaskClient, backend: Backend) -> None:
    said = [{"role": "user", "content": "One"}, {"role": "assistant", "content": "Two"}]
    name = {"session_id": "s", "interaction_id": "t"}
    log(client, **name, prompt=[*said, said[0]], response="Three", participant="ada")
    with psycopg.connect(backend.database, autocommit=True) as connection:
        connection.execute("select turnlog.index_pending('{\"ms\": 1000}')")
    log(client, **name, response="Another", on_conflict="revise")
    client.post("/v1/feedback", json=name | {"value": 1})
    client.post("/v1/users/guest/merge", json={"into": "bob"})
    client.delete("/v1/users/carl")
    copy = f"selftest-{uuid.uuid4()}"
    with psycopg.connect(backend.database, autocommit=True) as connection:
        tables = [table for (table,) in connection.execute(_TABLES) if table not in _NEVER_PURGED]
        with connection.transaction():
            connection.execute("set local session_replication_role = replica")
            for table in tables:
                connection.execute(
                    f"insert into turnlog.{table} overriding system value"  # noqa: S608
                    f" select c.* from turnlog.{table} as t cross join lateral"
                    f" jsonb_populate_record(t, jsonb_build_object('project', %s::text)) as c"
                    f" where t.project = %s".encode(),
                    [copy, PROJECT],
                )
        before = rows(connection, PROJECT, tables)
        assert rows(connection, copy, tables) == before
        connection.execute(
            "select turnlog.purge_project(jsonb_build_object('project', %s::text, 'limit', 100))", [copy]
        )
        assert rows(connection, PROJECT, tables) == before
        assert set(rows(connection, copy, tables).values()) == {0}
    filled = {table for table, count in before.items() if count}
    assert filled >= {"ai_sessions", "ai_interactions", "ai_messages", "ai_feedback", "ai_revisions", "ai_search"}
