"""Reads tables directly from PostgreSQL, in one read-only transaction with a single snapshot."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jiter
import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import dict_row
from psycopg.types.json import set_json_loads
from psycopg.types.string import TextLoader

from conversation.archive.from_database.tables import (
    DESTINATION_SCHEMA,
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
from conversation.settings.value_types import connection_string

_ROWS_AT_ONCE = 500
_CONNECT_S = 15
_READ_ONLY = "-c default_transaction_read_only=on"
_AS_TEXT = ("uuid", "numeric", "date", "time", "timetz", "timestamp", "timestamptz", "interval", "bytea")

_COLUMNS = """
select a.attname, format_type(a.atttypid, a.atttypmod),
       case when t.typtype = 'e' then 'text' else format_type(coalesce(nullif(t.typbasetype, 0), t.oid), null) end,
       n.nspname, r.relname, ra.attname
  from pg_catalog.pg_attribute as a
  join pg_catalog.pg_type as t on t.oid = a.atttypid
  left join pg_catalog.pg_constraint as f on f.conrelid = a.attrelid and f.contype = 'f' and f.conkey = array[a.attnum]
  left join pg_catalog.pg_class as r on r.oid = f.confrelid
  left join pg_catalog.pg_namespace as n on n.oid = r.relnamespace
  left join pg_catalog.pg_attribute as ra on ra.attrelid = f.confrelid and ra.attnum = f.confkey[1]
 where a.attrelid = %s and a.attnum > 0 and not a.attisdropped
 order by a.attnum, f.oid
"""
_KEY = """
select a.attname
  from pg_catalog.pg_constraint as c
 cross join unnest(c.conkey) with ordinality as k (attnum, place)
  join pg_catalog.pg_attribute as a on a.attrelid = c.conrelid and a.attnum = k.attnum
 where c.conrelid = %s and c.contype = 'p'
 order by k.place
"""
_TABLE = """
select c.oid, has_schema_privilege(n.oid, 'usage') and has_table_privilege(c.oid, 'select'), current_user::text,
       row_security_active(c.oid)
  from pg_catalog.pg_class as c
  join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
 where n.nspname = %s and c.relname = %s and c.relkind in ('r', 'p', 'v', 'm', 'f')
"""
_LIKELY = """
select n.nspname, c.relname
  from pg_catalog.pg_class as c
  join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
 where c.relkind in ('r', 'p', 'v', 'm', 'f')
   and n.nspname not in ('pg_catalog', 'information_schema', %s) and n.nspname not like 'pg\\_%%'
   and c.relname ~* 'session|conversation|chat|thread|interaction|message|prompt|dialog|turn|completion'
 order by n.nspname <> 'public', n.nspname, c.relname
 limit 20
"""


@contextmanager
def opened(url: str) -> Iterator["PostgresTables"]:
    """Yield the tables of a database. Raises `SourceError`, also for psycopg's errors."""
    try:
        connection_string(url)
    except ValueError as error:
        raise SourceError(f"The database's URL {error}") from None
    with _errors(), _connect(url) as connection:
        # without autocommit, one transaction lasts from the first statement to the rollback
        connection.read_only = True
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        yield PostgresTables(connection)
        connection.rollback()


class PostgresTables:
    """The tables that a connection can read."""

    def __init__(self, connection: psycopg.Connection) -> None:
        self._connection = connection
        self.source_name = f"{connection.info.dbname} on {connection.info.host}"
        for type_ in _AS_TEXT:
            connection.adapters.register_loader(type_, TextLoader)
        set_json_loads(_from_json, connection)
        # an import may wait long for its own store; `local`, because poolers share sessions
        connection.execute("set local idle_in_transaction_session_timeout = 0")
        connection.execute("set local timezone = 'UTC'")
        connection.execute("set local datestyle = 'ISO'")
        connection.execute("set local synchronize_seqscans = off")
        connection.execute("set local extra_float_digits = 1")

    def table(self, name: TableName) -> Table:
        found = self._connection.execute(_TABLE, name).fetchone()
        if found is None and (small := TableName(name.schema.lower(), name.name.lower())) != name:
            return self.table(small)  # SQL folds unquoted names to lower case
        if found is None:
            raise SourceError(f"There is no table {name}.{self._likely()}")
        oid, readable, user, filtered = found
        if not readable:
            grants = f"grant usage on schema {name.schema} to {user}; grant select on {name} to {user};"
            raise SourceError(f"The role {user} may not read {name}. Grant it: {grants}")
        columns: dict[str, Column] = {}
        for column, type_, base, schema, table, referred in self._connection.execute(_COLUMNS, [oid]):
            kind: Kind = kind_of(base)
            reference = Reference(TableName(schema, table), referred) if referred else None
            columns.setdefault(column, Column(column, type_, kind, reference))
        key = tuple(column for (column,) in self._connection.execute(_KEY, [oid]))
        table = Table(name, tuple(columns.values()), key, filtered)
        reject_own_tables(table)
        return table

    def counts(self, table: Table) -> Counts:
        counted = [sql.SQL("count({})").format(sql.Identifier(column.name)) for column in table.columns]
        query = sql.SQL("select {} from {}").format(
            sql.SQL(", ").join([sql.SQL("count(*)"), *counted]), sql.Identifier(*table.name)
        )
        row = self._connection.execute(query).fetchone()
        rows, *values = row or (0,)
        return Counts(rows, dict(zip((column.name for column in table.columns), values, strict=True)))

    def orphans(self, child: Table, column: Column, parent: Table, referred: Column) -> Orphans | None:
        # as text, since the two columns may have different types
        query = sql.SQL(
            "select count(*), count(distinct c.{named}::text) from {child} as c where c.{named} is not null"
            " and not exists (select from {parent} as p where p.{referred}::text = c.{named}::text)"
        ).format(
            child=sql.Identifier(*child.name),
            named=sql.Identifier(column.name),
            parent=sql.Identifier(*parent.name),
            referred=sql.Identifier(referred.name),
        )
        rows, parents = self._connection.execute(query).fetchone() or (0, 0)
        return Orphans(rows, parents)

    def rows(self, table: Table) -> Iterator[Row]:
        columns = sql.SQL(", ").join(sql.Identifier(column.name) for column in table.columns)
        query = sql.SQL("select {} from {}").format(columns, sql.Identifier(*table.name))
        if len(table.key) == 1 and (key := table.column(table.key[0])) and key.kind == "integer":
            query += sql.SQL(" order by {}").format(sql.Identifier(key.name))
        with _errors(), self._connection.cursor("turnlog_import", row_factory=dict_row) as cursor:
            cursor.itersize = _ROWS_AT_ONCE
            cursor.execute(query)
            yield from cursor

    def _likely(self) -> str:
        names = [str(TableName(*row)) for row in self._connection.execute(_LIKELY, [DESTINATION_SCHEMA])]
        return f" Did you mean {', '.join(names)}?" if names else ""


def _connect(url: str) -> psycopg.Connection:
    given = conninfo_to_dict(url)
    options = f"{given.get('options') or ''} {_READ_ONLY}".strip()
    more = {"connect_timeout": str(given.get("connect_timeout") or _CONNECT_S), "client_encoding": "utf8"}
    conninfo = make_conninfo(url, application_name="turnlog import", **more)
    try:
        return psycopg.connect(make_conninfo(conninfo, options=options), prepare_threshold=None)
    except psycopg.OperationalError as error:
        if "unsupported startup parameter" not in str(error):
            raise
        # a pooler that rejects options; the transaction is read-only anyway
        return psycopg.connect(conninfo, prepare_threshold=None)


@contextmanager
def _errors() -> Iterator[None]:
    """Convert psycopg's errors to `SourceError`; their messages name host and user, never the password."""
    try:
        yield
    except psycopg.Error as error:
        if isinstance(error.__context__, KeyboardInterrupt):  # the rollback failed on the interrupted connection
            raise error.__context__ from None
        message = error.diag.message_primary or " ".join(str(error).split())
        raise SourceError(f"Can't read the source: {message}") from None


def _from_json(text: str | bytes) -> Any:
    data = text if isinstance(text, bytes) else text.encode()
    try:
        return jiter.from_json(data)
    except ValueError:
        return data.decode()  # PostgreSQL's json type accepts what parsers don't, such as lone surrogates
