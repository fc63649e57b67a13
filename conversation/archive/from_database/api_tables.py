"""Reads tables through Supabase's API (PostgREST), in pages of a thousand rows by primary key.

The columns come from the API's OpenAPI description, or from the first rows if it has none. There is no snapshot: rows
that are written meanwhile may or may not be read.
"""

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

import httpx
import jiter

from conversation.archive.from_database.tables import (
    Column,
    Counts,
    Kind,
    Orphans,
    Reference,
    Row,
    Table,
    TableName,
    kind_of,
    reject_own_tables,
)
from conversation.archive.sources import SourceError

_ROWS_AT_ONCE = 1000  # Supabase's default maximum
_SAMPLE = 100  # rows, to infer the types of columns from
_TIMEOUT_S = 60
_PAUSES_S = (1.0, 2.0, 4.0, 8.0)
_TRANSIENT = {HTTPStatus.TOO_MANY_REQUESTS, *range(500, 600)}
_REFERS = re.compile(r"<fk table='([^']+)' column='([^']+)'/>")
_PLAIN = re.compile(r"[A-Za-z_]\w*")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_ZONED = re.compile(r"\d{4}-\d\d-\d\d[T ][\d:.]+([+-]\d\d:?\d\d|Z)")
_UNZONED = re.compile(r"\d{4}-\d\d-\d\d[T ][\d:.]+")
_TYPES: dict[Kind, str] = {"integer": "bigint", "number": "numeric", "zoned": "timestamp with time zone",
                           "unzoned": "timestamp without time zone", "json": "jsonb"}  # fmt: skip


@contextmanager
def opened(url: str, key: str) -> Iterator["ApiTables"]:
    """Yield the tables of a project's API."""
    parts = urlsplit(url)
    if not parts.hostname or "@" in parts.netloc:
        raise SourceError("The API's address must be the project's URL, as in https://abcdefgh.supabase.co")
    base = url.rstrip("/").removesuffix("/rest/v1") + "/rest/v1"
    # Supabase's gateway exchanges a new secret key for a token only if both headers are the same
    headers = {"apikey": key, "Authorization": f"Bearer {key}"}
    with httpx.Client(base_url=base, headers=headers, timeout=_TIMEOUT_S) as client:
        yield ApiTables(client, parts.hostname)


class ApiTables:
    def __init__(self, client: httpx.Client, host: str) -> None:
        self._client = client
        self.source_name = host

    def table(self, name: TableName) -> Table:
        definitions = self._definitions(name.schema)
        if definitions is None:
            return self._from_values(name)
        if name.name not in definitions:
            likely = ", ".join(f"{name.schema}.{each}" for each in sorted(definitions)[:20])
            raise SourceError(f"The API has no table {name}." + (f" It has {likely}" if likely else ""))
        properties: dict[str, Any] = definitions[name.name].get("properties", {})
        columns = [_described(name.schema, column, each) for column, each in properties.items()]
        key = [column for column, each in properties.items() if "<pk/>" in (each.get("description") or "")]
        return self._checked(Table(name, tuple(columns), tuple(key)))

    def counts(self, table: Table) -> Counts:
        values = {each.name: self._count(table, {"and": f"({_name(each.name)}.not.is.null)"}) for each in table.columns}
        return Counts(self._count(table, {}), values)

    def orphans(self, *_: Table | Column) -> Orphans | None:
        return None  # the API joins only where there is a foreign key

    def rows(self, table: Table) -> Iterator[Row]:
        order = ",".join(f"{_name(name)}.asc" for name in table.key)
        after: dict[str, str] = {}
        # until a page is empty, since a project may return fewer rows than the limit
        while page := self._page(table.name, {"select": "*", "order": order, "limit": str(_ROWS_AT_ONCE), **after}):
            yield from page
            after = {"or": f"({_after(table.key, page[-1])})"}

    def _checked(self, table: Table) -> Table:
        reject_own_tables(table)
        if not table.key:
            raise SourceError(
                f"{table.name} has no primary key, so it can't be read through the API in pages:"
                " use the URL of the database itself, postgresql://…"
            )
        return table

    def _definitions(self, schema: str) -> Mapping[str, Any] | None:
        answer = self._get("/", {}, {"Accept": "application/openapi+json", "Accept-Profile": schema})
        if answer.is_error:
            return None
        described = _json(answer)
        return described.get("definitions") if isinstance(described, dict) else None

    def _from_values(self, name: TableName) -> Table:
        rows = self._page(name, {"select": "*", "limit": str(_SAMPLE)})
        if not rows:
            raise SourceError(f"{name} has no rows, and the API doesn't describe its columns")
        columns = [_guessed(column, [row[column] for row in rows]) for column in rows[0]]
        return self._checked(Table(name, tuple(columns), ("id",) if "id" in rows[0] else ()))

    def _count(self, table: Table, having: Mapping[str, str]) -> int:
        query = {"select": _name(table.key[0]), "limit": "1", **having}
        answer = self._get(f"/{table.name.name}", query, _of(table.name.schema) | {"Prefer": "count=exact"})
        _require_success(answer, table.name)
        total = answer.headers.get("content-range", "").rpartition("/")[2]
        if not total.isdigit():
            raise SourceError(f"The API doesn't count the rows of {table.name}")
        return int(total)

    def _page(self, name: TableName, query: Mapping[str, str]) -> list[dict[str, Any]]:
        answer = self._get(f"/{name.name}", query, _of(name.schema))
        _require_success(answer, name)
        rows = _json(answer)
        if not isinstance(rows, list):
            raise SourceError(f"The API's answer is not a list of rows of {name}")
        return rows

    def _get(self, path: str, query: Mapping[str, str], headers: Mapping[str, str]) -> httpx.Response:
        """Send a request, with retries after transient errors."""
        for pause in (*_PAUSES_S, None):
            try:
                answer = self._client.get(path, params=dict(query), headers=dict(headers))
            except httpx.TransportError as error:
                if pause is None:
                    raise SourceError(f"{self.source_name} doesn't answer: {error}") from None
            else:
                if pause is None or answer.status_code not in _TRANSIENT:
                    return answer
            time.sleep(pause)
        raise AssertionError


def _of(schema: str) -> dict[str, str]:
    return {"Accept": "application/json", "Accept-Profile": schema}


def _json(answer: httpx.Response) -> Any:
    try:
        return jiter.from_json(answer.content)
    except ValueError:
        raise SourceError("The API's answer is not JSON") from None


def _require_success(answer: httpx.Response, name: TableName) -> None:
    if answer.is_success:
        return
    match answer.status_code:
        case HTTPStatus.UNAUTHORIZED:
            raise SourceError("The API rejects the key in TURNLOG_IMPORT_KEY: it must be the project's secret key")
        case HTTPStatus.FORBIDDEN:
            raise SourceError(f"The key's role may not read {name}: grant select on {name} to service_role")
        case HTTPStatus.NOT_FOUND:
            raise SourceError(f"The API has no table {name}")
    try:
        message = str(answer.json().get("message"))
    except (ValueError, AttributeError):
        message = answer.reason_phrase
    raise SourceError(f"Can't read {name} through the API: {answer.status_code}, {message}")


def _described(schema: str, name: str, described: Mapping[str, Any]) -> Column:
    type_ = str(described.get("format") or described.get("type") or "")
    refers = _REFERS.search(described.get("description") or "")
    reference = Reference(TableName(schema, refers[1]), refers[2]) if refers else None
    return Column(name, type_, "text" if described.get("enum") else kind_of(type_), reference)


def _guessed(name: str, values: Sequence[Any]) -> Column:
    kinds = {_kind_of_value(value) for value in values if value is not None}
    kind: Kind = kinds.pop() if len(kinds) == 1 else "number" if kinds == {"integer", "number"} else "text"
    return Column(name, _TYPES.get(kind, kind), kind)


def _kind_of_value(value: Any) -> Kind:
    match value:
        case bool():
            return "boolean"
        case int():
            return "integer"
        case float():
            return "number"
        case str() if _UUID.fullmatch(value):
            return "uuid"
        case str() if _ZONED.fullmatch(value):
            return "zoned"
        case str() if _UNZONED.fullmatch(value):
            return "unzoned"
        case str():
            return "text"
    return "json"


def _after(key: Sequence[str], row: Row) -> str:
    """Return the filter for all rows after one, by a key of one or more columns."""
    first, *rest = key
    value = _quoted(row[first])
    beyond = f"{_name(first)}.gt.{value}"
    if not rest:
        return beyond
    return f"{beyond},and({_name(first)}.eq.{value},or({_after(rest, row)}))"


def _name(column: str) -> str:
    return column if _PLAIN.fullmatch(column) else _quoted(column)


def _quoted(value: object) -> str:
    """Return a name or a value quoted for a filter."""
    escaped = str(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
