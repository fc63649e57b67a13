"""`turnlog import --from-database`: maps tables to records, prints the mapping, and imports the rows."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import click

from conversation.archive.entries import Entry, Target
from conversation.archive.from_database import (
    api_tables,
    column_mapping,
    message_rows,
    overrides,
    plan,
    postgres_tables,
    to_records,
)
from conversation.archive.from_database.column_mapping import TableMapping
from conversation.archive.from_database.column_values import Zone
from conversation.archive.from_database.row_mapping import RowReader
from conversation.archive.from_database.seen_rows import SeenRows
from conversation.archive.from_database.tables import Counts, Orphans, Row, TableName, Tables
from conversation.archive.importing import Tally
from conversation.archive.sources import SourceError
from conversation.cli.base import echo
from conversation.cli.context import current_settings
from conversation.cli.import_run import RunOptions, import_entries
from conversation.settings import Settings


@dataclass(frozen=True, slots=True)
class Request:
    """The options of the command line. `maps`: the texts of `--map`."""

    url: str
    sessions: str | None
    interactions: str
    maps: Sequence[str]
    zone: str
    dry_run: bool
    project: str | None
    rejects: Path | None
    report: Path | None
    patience_s: int


@dataclass(slots=True)
class RowsRead:
    """How many of a source's rows have been read."""

    size: int | None
    taken: int = 0

    def counting(self, rows: Iterable[Row]) -> Iterator[Row]:
        for row in rows:
            self.taken += 1
            yield row


def run(request: Request) -> Tally | None:
    """Print the plan, then store the rows unless it is a dry run; return the counts."""
    settings = current_settings()
    try:
        zone = _zone(request.zone)
        with _opened(request.url, settings) as tables:
            mappings = _map_tables(tables, request)
            for line in plan.lines(
                mappings, _orphans(tables, mappings), zone, request.project or settings.turnlog_project
            ):
                echo(line)
            if request.dry_run:
                echo("Nothing was stored: --dry-run.")
                return None
            echo()
            rejects = request.rejects or Path(f"{TableName.parse(request.interactions)}.rejects.jsonl")
            read = RowsRead(sum(counts.rows for _, counts in mappings))
            with closing(SeenRows()) as seen:
                return import_entries(
                    partial(_entries, tables, [each for each, _ in mappings], zone, seen, read),
                    tables.source_name,
                    read,
                    RunOptions(request.project, rejects, request.report, request.patience_s),
                )
    except SourceError as error:
        raise click.ClickException(str(error)) from None


def _zone(name: str) -> Zone:
    try:
        return Zone(ZoneInfo(name))
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise click.UsageError(f"--zone {name}: there is no such zone; write it as in Europe/Berlin") from None


@contextmanager
def _opened(url: str, settings: Settings) -> Iterator[Tables]:
    with ExitStack() as stack:
        if url.startswith(("http://", "https://")):
            yield stack.enter_context(api_tables.opened(url, _api_key(url, settings)))
        else:
            yield stack.enter_context(postgres_tables.opened(url))


def _api_key(url: str, settings: Settings) -> str:
    key = settings.turnlog_import_key
    if key is None and settings.supabase_url and settings.supabase_url.rstrip("/") == url.rstrip("/"):
        key = settings.supabase_key
    if key is None:
        raise SourceError("Supabase's API needs the project's secret key: set it as TURNLOG_IMPORT_KEY")
    return key.get_secret_value()


def _map_tables(tables: Tables, request: Request) -> list[tuple[TableMapping, Counts]]:
    theirs = tables.table(TableName.parse(request.interactions))
    parents = tables.table(TableName.parse(request.sessions)) if request.sessions else None
    if parents and parents.name == theirs.name:
        raise SourceError("--sessions and --interactions are one table: leave --sessions out")
    mapped = overrides.parse(request.maps, ({"sessions": parents} if parents else {}) | {"interactions": theirs})
    mappings = [column_mapping.interactions(theirs, mapped, parents)]
    if parents:
        mappings.insert(0, column_mapping.sessions(parents, mapped, theirs))
    return [(each, tables.counts(each.table)) for each in mappings]


def _orphans(tables: Tables, mappings: Sequence[tuple[TableMapping, Counts]]) -> Orphans | None:
    match mappings:
        case [(parents, _), (children, _)]:
            columns = (each.fields["session_id"] for each in (children, parents))
            return tables.orphans(children.table, next(columns), parents.table, next(columns))
    return None


def _entries(  # noqa: PLR0917 - the last one comes when the log is open
    tables: Tables, mappings: Sequence[TableMapping], zone: Zone, seen: SeenRows, read: RowsRead, target: Target
) -> Iterator[Entry]:
    """Yield the records of all tables, sessions first."""

    def read_dialogues(each: TableMapping) -> Iterator[Entry]:
        reading = RowReader(each, zone, seen)
        rows = read.counting(tables.rows(each.table))
        match each.shape:
            case "sessions":
                return to_records.sessions(reading, rows)
            case "interactions":
                return to_records.interactions(reading, rows)
        return message_rows.interactions(reading, rows, zone, target)

    return chain.from_iterable(map(read_dialogues, mappings))
