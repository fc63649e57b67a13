"""Answers reads of a database's tables as PostgREST does: pages, filters by key, exact counts, its own description.

Knows just what `conversation.archive.from_database.api_tables` asks; anything else is a 400.
"""

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import psycopg
from psycopg import sql

KEY = "sb_secret_for_tests_only"
_COLUMNS = """
select c.relname, a.attname, format_type(a.atttypid, null), coalesce(a.attnum = any(k.conkey), false),
       f.confrelid::regclass::text, fa.attname
  from pg_class as c
  join pg_attribute as a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
  left join pg_constraint as k on k.conrelid = c.oid and k.contype = 'p'
  left join pg_constraint as f on f.conrelid = c.oid and f.contype = 'f' and f.conkey = array[a.attnum]
  left join pg_attribute as fa on fa.attrelid = f.confrelid and fa.attnum = f.confkey[1]
 where c.relnamespace = 'public'::regnamespace and c.relkind = 'r'
 order by c.relname, a.attnum
"""
_CONDITION = re.compile(
    r'(?P<name>"[^"]+"|\w+)\.(?:(?P<held>not\.is\.null)|(?P<operator>gt|eq)\."(?P<value>(?:[^"\\]|\\.)*)")'
)


@dataclass
class TableApi:
    """`describes`: whether it answers with its description. `asked`: each path with its query."""

    conninfo: str
    url: str = ""
    describes: bool = True
    most_rows: int = 1000
    asked: list[str] = field(default_factory=list)
    fail_next: int = 0

    def answer(self, target: str, headers: Any) -> tuple[int, Any, dict[str, str]]:
        self.asked.append(target)
        if self.fail_next:
            self.fail_next -= 1
            return 503, {"code": "PGRST002", "message": "Could not query the database for the schema cache."}, {}
        if headers["apikey"] != KEY or headers["authorization"] != f"Bearer {KEY}":
            return 401, {"message": "Invalid API key"}, {}
        parts = urlsplit(target)
        query = {name: values[0] for name, values in parse_qs(parts.query, strict_parsing=bool(parts.query)).items()}
        with psycopg.connect(self.conninfo, options="-c default_transaction_read_only=on") as connection:
            if parts.path == "/rest/v1/":
                return (200, _described(connection), {}) if self.describes else (403, {"message": "no"}, {})
            return self._rows(connection, parts.path.removeprefix("/rest/v1/"), query, headers)

    def _rows(
        self, connection: psycopg.Connection, table: str, query: dict[str, str], headers: Any
    ) -> tuple[int, Any, dict[str, str]]:
        limit = min(int(query.get("limit", "1000000")), self.most_rows)
        given = query.get("or") or query.get("and")
        where = _condition(given.removeprefix("(").removesuffix(")")) if given else sql.SQL("true")
        order = sql.SQL(", ").join(
            sql.Identifier(part.removesuffix(".asc").strip('"')) for part in query.get("order", "").split(",") if part
        )
        source = sql.SQL("from {} where {}").format(sql.Identifier("public", table), where)
        rows = sql.SQL("select coalesce(json_agg(r), '[]')::text from (select * {}{} limit {}) as r").format(
            source, sql.SQL(" order by {}").format(order) if query.get("order") else sql.SQL(""), sql.Literal(limit)
        )
        try:
            (text,) = connection.execute(rows).fetchone() or ("[]",)
            total = "*"
            if headers["prefer"] == "count=exact":
                total = str((connection.execute(sql.SQL("select count(*) ") + source).fetchone() or (0,))[0])
        except psycopg.errors.UndefinedTable:
            return 404, {"code": "PGRST205", "message": f"Could not find the table 'public.{table}'"}, {}
        except psycopg.errors.InsufficientPrivilege as error:
            return 403, {"code": "42501", "message": str(error)}, {}
        return 200, json.loads(text), {"Content-Range": f"0-{limit}/{total}"}


def _condition(text: str) -> sql.Composable:
    found = _CONDITION.match(text)
    assert found, text
    column = sql.Identifier(found["name"].strip('"'))
    if found["held"]:
        return sql.SQL("{} is not null").format(column)
    value = sql.Literal(re.sub(r"\\(.)", r"\1", found["value"]))
    sign = sql.SQL(">" if found["operator"] == "gt" else "=")
    first = sql.SQL("{} {} {}").format(column, sign, value)
    rest = text[found.end() :]
    if not rest:
        return first
    nested = re.fullmatch(r",and\((.*?),or\((.*)\)\)", rest)  # a key of several columns
    assert nested, rest
    return sql.SQL("({} or ({} and ({})))").format(first, _condition(nested[1]), _condition(nested[2]))


def _described(connection: psycopg.Connection) -> dict[str, Any]:
    definitions: dict[str, Any] = {}
    for table, column, type_, in_key, refers_to, referred in connection.execute(_COLUMNS):
        described: dict[str, Any] = {"format": type_, "type": "string"}
        if in_key:
            described["description"] = "Note:\nThis is a Primary Key.<pk/>"
        if referred:
            described["description"] = (
                f"This is a Foreign Key to `{refers_to}.{referred}`.<fk table='{refers_to}' column='{referred}'/>"
            )
        definitions.setdefault(table, {"properties": {}})["properties"][column] = described
    return {"swagger": "2.0", "definitions": definitions}


@contextmanager
def serving(conninfo: str) -> Iterator[TableApi]:
    api = TableApi(conninfo)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            status, body, headers = api.answer(self.path, self.headers)
            data = json.dumps(body).encode()
            self.send_response(status)
            for name, value in {"Content-Type": "application/json", "Content-Length": len(data), **headers}.items():
                self.send_header(name, str(value))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        api.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, args=[0.05])
        thread.start()
        try:
            yield api
        finally:
            server.shutdown()
            thread.join()
