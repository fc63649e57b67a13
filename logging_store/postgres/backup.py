"""Backups: every row of the schema `turnlog` in one file, and the way back into an empty database.

The file is a zip archive: for each table a member that holds what PostgreSQL's `COPY … TO STDOUT` gives, and
`manifest.json`. It needs no program of PostgreSQL's and no particular version of the server: the schema of a restored
database comes from the migrations, so only rows have to travel. A restore is one transaction.
"""

import io
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from graphlib import TopologicalSorter
from typing import Annotated, BinaryIO, Literal, LiteralString, NamedTuple

import psycopg
from psycopg import sql
from pydantic import BaseModel, ConfigDict, StringConstraints

from logging_store.errors import Misconfigured, SchemaMissing, StoreUnavailable, TurnlogError
from logging_store.postgres import catalogue, migrations

_MANIFEST = "manifest.json"
_MANIFEST_MAX = 4 << 20  # bytes; ours has a few thousand
#: What `zipfile` raises for an archive that is damaged, needs a password, or uses what it doesn't know.
_DAMAGED = (KeyError, EOFError, OSError, RuntimeError, ValueError, zipfile.BadZipFile, zlib.error)
_CONNECT_S = 10
_COMPRESSION = 3  # of 9: a third of the time that zlib's 6 takes, for 4 % more bytes
_BUFFER = 1 << 18  # bytes; a row at a time would spend its time on calls

#: What a role or a database may have set that would end a long copy, or change how values are written.
_SETTINGS = """
select set_config(s.name, wanted.value, true)
  from pg_catalog.pg_settings as s
  join (values ('statement_timeout', '0'), ('lock_timeout', '0'), ('transaction_timeout', '0'),
               ('idle_in_transaction_session_timeout', '0'), ('row_security', 'off'), ('datestyle', 'ISO'),
               ('extra_float_digits', '1'), ('bytea_output', 'hex'), ('timezone', 'UTC'), ('search_path', ''))
       as wanted (name, value) on wanted.name = lower(s.name)
"""
_TABLES = """
select c.relname
  from pg_catalog.pg_class as c
 where c.relnamespace = 'turnlog'::regnamespace and c.relkind in ('r', 'p') and not c.relispartition
 order by c.relname
"""
_COLUMNS = """
select c.relname, a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod)
  from pg_catalog.pg_class as c
  join pg_catalog.pg_attribute as a on a.attrelid = c.oid
 where c.relnamespace = 'turnlog'::regnamespace and c.relkind in ('r', 'p') and not c.relispartition
   and a.attnum > 0 and not a.attisdropped and a.attgenerated = ''
 order by c.relname, a.attnum
"""
_PARENTS = """
select c.relname, p.relname
  from pg_catalog.pg_constraint as f
  join pg_catalog.pg_class as c on c.oid = f.conrelid
  join pg_catalog.pg_class as p on p.oid = f.confrelid
 where f.contype = 'f' and f.conrelid <> f.confrelid
   and c.relnamespace = 'turnlog'::regnamespace and p.relnamespace = 'turnlog'::regnamespace
"""
_COUNTS = """
select count(*) filter (where erased_at is null), count(*) filter (where erased_at is not null),
       (select count(*) from turnlog.ai_interactions), (select count(*) from turnlog.ai_keys)
  from turnlog.ai_sessions
"""
#: Indexes that no constraint needs: rows go in faster without them, and the migrations make them again.
_INDEXES = """
select i.indexrelid::regclass::text
  from pg_catalog.pg_index as i
  join pg_catalog.pg_class as c on c.oid = i.indrelid
 where c.relnamespace = 'turnlog'::regnamespace
   and not exists (select from pg_catalog.pg_constraint as k where k.conindid = i.indexrelid)
"""
_ROUTINES = """
select p.oid::regprocedure::text from pg_catalog.pg_proc as p where p.pronamespace = 'turnlog'::regnamespace
"""

#: Tables that a service fills by itself when it starts on an empty database.
_SETTLED_AT_START = {"ai_keys", "ai_projects"}


class Counts(NamedTuple):
    """What a backup holds. `erased`: sessions of which only a tombstone is left."""

    sessions: int
    erased: int
    interactions: int
    keys: int

    def __str__(self) -> str:
        counted = [_number(self.sessions, "session"), _number(self.interactions, "interaction")]
        if self.erased:
            counted.append(_number(self.erased, "tombstone"))
        counted.append(_number(self.keys, "key"))
        return f"{', '.join(counted[:-1])} and {counted[-1]}"


#: A version: it is printed, so it may not move a terminal's cursor.
_Version = Annotated[str, StringConstraints(max_length=200, pattern=r"^[!-~][ -~]*$")]


class Column(BaseModel):
    model_config = ConfigDict(frozen=True)

    name: str
    type: str  # as PostgreSQL writes it: timestamp with time zone


class Table(BaseModel):
    """A table of the schema `turnlog`; its rows are in the archive's member `<name>.copy`."""

    model_config = ConfigDict(frozen=True)

    name: str
    columns: list[Column]
    rows: int

    @property
    def member(self) -> str:
        return f"{self.name}.copy"


class Manifest(BaseModel):
    """What is in a backup. `schema_versions`: the migrations that its database had. `tables`: parents first."""

    model_config = ConfigDict(frozen=True)

    format: Literal["turnlog backup 1"] = "turnlog backup 1"
    made_at: datetime
    server_version: _Version
    schema_versions: list[_Version]
    counts: Counts
    tables: list[Table]


class Restored(NamedTuple):
    """What a restore has done.

    `replaced`: what keys and projects of the database's own had to go, as in "1 row of ai_keys". `added`: columns that
    aren't Turnlog's, made for their values. `left_out`: tables that aren't.
    """

    manifest: Manifest
    replaced: list[str]
    added: list[str]
    left_out: list[str]


def write(conninfo: str, file: BinaryIO, *, before_snapshot: Callable[[], None] = lambda: None) -> Manifest:
    """Write everything of the schema `turnlog` to a file, as it was at one moment; writes go on meanwhile.

    What was committed before the call, or before it calls `before_snapshot`, is in it. Raises `SchemaMissing` if the
    database isn't Turnlog's, another `TurnlogError` if it fails; the file is of no use then.
    """
    with _connected(conninfo, "The backup failed") as connection:
        if not migrations.is_ours(connection):
            raise SchemaMissing("There is nothing to back up: the database has no schema turnlog that is Turnlog's")
        tables = [name for (name,) in connection.execute(_TABLES).fetchall()]
        with connection.transaction():
            connection.execute("set transaction isolation level repeatable read, read only")
            # before the first look at the catalogue, so that no migration changes what it says
            connection.execute(sql.SQL("lock table {} in access share mode").format(_listed(tables)))
            before_snapshot()
            connection.execute(_SETTINGS)  # the first query takes the snapshot
            with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=_COMPRESSION) as archive:
                manifest = _copy_out(connection, archive)
                archive.writestr(_MANIFEST, manifest.model_dump_json(indent=1))
        return manifest


def read_manifest(file: BinaryIO) -> Manifest:
    """Return what a backup says that it holds. Raises `Misconfigured` if it is no whole backup, or a newer one."""
    with _opened(file) as archive:
        return _manifest(archive)


def restore(conninfo: str, file: BinaryIO, *, replace_keys: bool = False) -> Restored:
    """Put a backup into a database without conversations, in one transaction, and bring its schema up to date.

    `replace_keys`: also where the database has keys or projects of its own, which go. Raises `Misconfigured` if the
    file or the database doesn't fit, another `TurnlogError` if it fails; then nothing has changed.
    """
    with (
        _opened(file) as archive,
        _connected(conninfo, "The restore failed, and nothing was changed") as connection,
        connection.transaction(),
    ):
        manifest = _manifest(archive)
        migrations.lock(connection)
        connection.execute(_SETTINGS)
        replaced = _make_room(connection, replace_keys=replace_keys)
        migrations.run(
            connection, [each for each in migrations.available() if each.version in manifest.schema_versions]
        )
        connection.execute("delete from turnlog.migrations")  # the backup has these rows as well
        _drop(connection, "index", _INDEXES)
        known = _columns(connection)
        if lost := known.keys() - {table.name for table in manifest.tables}:
            raise Misconfigured(f"The backup is damaged: it lacks {', '.join(sorted(lost))}. Nothing was changed")
        tables = [table for table in manifest.tables if table.name in known]
        added = [each for table in tables for each in _add_columns(connection, table, known[table.name])]
        for table in tables:
            _copy_in(connection, archive, table)
        migrations.run(connection, migrations.available())
        if (found := _count(connection)) != manifest.counts:
            raise Misconfigured(
                f"The backup holds {manifest.counts}, but the database would hold {found}. Nothing was changed"
            )
        for table in tables:
            connection.execute(sql.SQL("analyze {}").format(_named(table.name)))
        left_out = [_printable(table.name) for table in manifest.tables if table not in tables]
        return Restored(manifest, replaced, added, left_out)


def _copy_out(connection: psycopg.Connection, archive: zipfile.ZipFile) -> Manifest:
    tables = []
    columns = _columns(connection)
    parents = connection.execute(_PARENTS).fetchall()
    order = TopologicalSorter({name: [parent for child, parent in parents if child == name] for name in columns})
    for name in order.static_order():
        table = Table(name=name, columns=columns[name], rows=0)
        query = sql.SQL("copy {} ({}) to stdout").format(_named(name), _names_of(table))
        with (
            archive.open(table.member, "w", force_zip64=True) as member,
            io.BufferedWriter(member, _BUFFER) as buffered,
            connection.cursor() as cursor,
        ):
            with cursor.copy(query) as copy:
                for block in copy:
                    buffered.write(block)
            tables.append(table.model_copy(update={"rows": cursor.rowcount}))
    row = connection.execute("select now(), current_setting('server_version')").fetchone()
    versions = connection.execute("select version from turnlog.migrations order by version").fetchall()
    assert row is not None  # noqa: S101 - a select without from has a row
    return Manifest(
        made_at=row[0],  # when the transaction began, and just before its snapshot
        server_version=row[1],
        schema_versions=[version for (version,) in versions],
        counts=_count(connection),
        tables=tables,
    )


def _copy_in(connection: psycopg.Connection, archive: zipfile.ZipFile, table: Table) -> None:
    query = sql.SQL("copy {} ({}) from stdin").format(_named(table.name), _names_of(table))
    with connection.cursor() as cursor:
        with cursor.copy(query) as copy:
            for block in _blocks(archive, table):
                copy.write(block)
        if cursor.rowcount != table.rows:
            raise Misconfigured(
                f"The backup is damaged: {table.name} has {cursor.rowcount:,} rows, not {table.rows:,}. "
                "Nothing was changed"
            )


def _make_room(connection: psycopg.Connection, *, replace_keys: bool) -> list[str]:
    """Drop what an unused schema of ours holds; say what keys and projects go with it."""
    if not migrations.is_ours(connection):
        return []  # there is no schema turnlog, or the migrations say whose it is
    migrations.recorded(connection)
    there = {name for (name,) in connection.execute(_TABLES).fetchall()}
    tables = [name for name in catalogue.tables() if name in there]
    connection.execute(sql.SQL("lock table {} in access exclusive mode").format(_listed(tables)))
    used = {name: count for name in tables if name != "migrations" and (count := _rows(connection, name))}
    held = [f"{_number(count, 'row')} of {name}" for name, count in used.items()]
    if used.keys() - _SETTLED_AT_START:
        raise Misconfigured(
            f"The database is in use, and a backup is restored into an empty one only. It holds {', '.join(held)}"
        )
    if used and not replace_keys:
        raise Misconfigured(
            f"The database holds no conversations, but {', '.join(held)}. Add --force to replace them with the backup's"
        )
    try:
        _drop(connection, "index", _INDEXES)
        _drop(connection, "routine", _ROUTINES)  # some take a row of a table
        connection.execute(sql.SQL("drop table {}").format(_listed(tables)))  # never cascade
    except psycopg.errors.DependentObjectsStillExist as error:
        raise Misconfigured(
            "A restore makes the tables of Turnlog anew, and something that isn't Turnlog's needs the empty ones: "
            f"{error.diag.message_detail}. Drop it first. Nothing was changed"
        ) from error
    return held


def _add_columns(connection: psycopg.Connection, table: Table, known: list[Column]) -> Iterator[str]:
    """Make the columns that somebody added to a table of ours, so that no value is lost."""
    names = {column.name for column in known}
    for column in table.columns:
        if column.name in names:
            continue
        # as the server writes the name of a type that it knows: the file's own words are never part of a statement
        row = connection.execute("select to_regtype(%s)::text", [column.type]).fetchone()
        if row is None or row[0] is None:
            raise Misconfigured(
                f"The backup holds turnlog.{table.name}.{_printable(column.name)}, a column that isn't Turnlog's, of "
                f"the type {_printable(column.type)}, which this database doesn't have: create the type first"
            )
        connection.execute(
            sql.SQL("alter table {} add column {} {}").format(
                _named(table.name), sql.Identifier(column.name), sql.SQL(row[0])
            )
        )
        yield f"{table.name}.{_printable(column.name)}"


def _drop(connection: psycopg.Connection, kind: Literal["index", "routine"], query: LiteralString) -> None:
    """Drop what a query finds; it returns names as the server writes them."""
    if names := [name for (name,) in connection.execute(query).fetchall()]:
        connection.execute(f"drop {kind} {', '.join(names)}".encode())


def _columns(connection: psycopg.Connection) -> dict[str, list[Column]]:
    """Return the columns of each table of the schema, in their order."""
    found: dict[str, list[Column]] = {}
    for table, name, type_ in connection.execute(_COLUMNS).fetchall():
        found.setdefault(table, []).append(Column(name=name, type=type_))
    return found


def _number(count: int, thing: str) -> str:
    return f"{count:,} {thing}{'' if count == 1 else 's'}"


def _rows(connection: psycopg.Connection, table: str) -> int:
    row = connection.execute(sql.SQL("select count(*) from {}").format(_named(table))).fetchone()
    return row[0] if row else 0


def _count(connection: psycopg.Connection) -> Counts:
    row = connection.execute(_COUNTS).fetchone()
    assert row is not None  # noqa: S101 - an aggregate has a row
    return Counts(*row)


def _named(table: str) -> sql.Identifier:
    return sql.Identifier("turnlog", table)


def _listed(tables: list[str]) -> sql.Composed:
    return sql.SQL(", ").join(map(_named, tables))


def _names_of(table: Table) -> sql.Composed:
    return sql.SQL(", ").join(sql.Identifier(column.name) for column in table.columns)


@contextmanager
def _opened(file: BinaryIO) -> Iterator[zipfile.ZipFile]:
    try:
        archive = zipfile.ZipFile(file)
    except _DAMAGED:
        raise Misconfigured("This is not a whole backup: it was cut short, or it isn't a backup") from None
    with archive:
        yield archive


def _manifest(archive: zipfile.ZipFile) -> Manifest:
    try:
        if archive.getinfo(_MANIFEST).file_size > _MANIFEST_MAX:
            raise zipfile.BadZipFile  # before it takes our memory
        with archive.open(_MANIFEST) as member:
            manifest = Manifest.model_validate_json(member.read(_MANIFEST_MAX))
    except _DAMAGED:  # a `ValidationError` is a `ValueError`
        raise Misconfigured(
            "This is not a backup: `turnlog backup` of this version or an older one didn't make it"
        ) from None
    if newer := migrations.unknown(manifest.schema_versions):
        raise Misconfigured(
            f"The backup has Turnlog's schema {', '.join(newer)}, which this version doesn't know: restore it with the "
            "version that made it, or a newer one"
        )
    if missing := {table.member for table in manifest.tables} - set(archive.namelist()):
        raise Misconfigured(f"The backup is damaged: it lacks {', '.join(map(_printable, sorted(missing)))}")
    return manifest


def _printable(name: str) -> str:
    """Return a name from a file as it may be printed on a terminal."""
    return name if name.isprintable() else repr(name)


def _blocks(archive: zipfile.ZipFile, table: Table) -> Iterator[bytes]:
    """Yield the rows of a table, in parts; at the end they must have their checksum."""
    try:
        with archive.open(table.member) as member:
            while block := member.read(_BUFFER):
                yield block
    except _DAMAGED as error:
        raise Misconfigured(f"The backup is damaged: {_printable(str(error))}. Nothing was changed") from error


@contextmanager
def _connected(conninfo: str, failed: str) -> Iterator[psycopg.Connection]:
    """Yield a connection. Raises `StoreUnavailable` if there is none, `TurnlogError` for what fails on it."""
    try:
        connection = psycopg.connect(
            conninfo,
            autocommit=True,
            connect_timeout=_CONNECT_S,
            application_name="turnlog",
            client_encoding="utf8",
            prepare_threshold=None,  # poolers in transaction mode don't keep prepared statements
        )
    except psycopg.OperationalError as error:
        raise StoreUnavailable(f"The database can't be reached: {error}") from error
    try:
        with connection:
            yield connection
    except psycopg.OperationalError as error:
        raise StoreUnavailable(f"{failed}: {_words_of(error)}") from error
    except psycopg.Error as error:
        raise TurnlogError(f"{failed}: {_words_of(error)}") from error


def _words_of(error: psycopg.Error) -> str:
    """Return the server's message without its context, which may quote what people said."""
    return ". ".join(part for part in (error.diag.message_primary, error.diag.message_hint) if part) or str(error)
