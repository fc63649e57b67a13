"""`flask --app app export`: gives the log, or a part of it, out as a file."""

import gzip
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

import click
from flask import Blueprint, current_app
from pydantic import ValidationError

from conversation.api.pagination import SessionQuery
from conversation.archive import exporting
from conversation.archive.exporting import ExportItem
from conversation.archive.formats import csv_table, fine_tuning, turnlog_lines
from conversation.archive.new_file import NewFile
from conversation.store_commands import ended_like_an_interrupt, repository_at_work
from logging_store import operations as ops
from logging_store.errors import SessionErased, SessionNotFound
from logging_store.repository import ConversationRepository

_WRITERS: dict[str, Callable[[Iterator[ExportItem]], Iterator[bytes]]] = {
    "turnlog": turnlog_lines.write,
    "openai-chat": fine_tuning.write,
    "csv": csv_table.write,
}
_WRITTEN_AT_ONCE = 256 * 1024

blueprint = Blueprint("export", __name__, cli_group=None)


@blueprint.cli.command("export")
@click.option("--format", "format_", type=click.Choice(list(_WRITERS)), default="turnlog", show_default=True)
@click.option("-o", "--output", type=NewFile(), help="Gzip if it ends in .gz.  [default: stdout]")
@click.option("--session", help="This session only, named by its UUID or by your own key.")
@click.option("--user-id", help="Only this user's sessions.")
@click.option("--tag", help="Only sessions with this tag.")
@click.option("--status", help="Only sessions in this status.")
@click.option("--from", "not_before", help="Only sessions not before this time.")
@click.option("--to", "before", help="Only sessions before this time.")
def export(*, format_: str, output: Path | None, session: str | None, **filters: str | None) -> None:
    """Give out sessions and their interactions, in the order of the sessions' ids.

    What was there when it began is in it once, whatever is written meanwhile. Erased sessions are not.
    """
    query = _query(filters)
    if session is not None and query:
        raise click.UsageError("--session names one session; leave the filters out")
    with ended_like_an_interrupt(), repository_at_work() as repository:
        if waiting := repository.store.backlog().records:
            click.echo(f"{waiting:,} records wait in the spool of this machine and are not in it yet", err=True)
        log = ConversationRepository(current_app.extensions["turnlog_database"], repository.project)
        counts = {"sessions": 0, "interactions": 0}
        try:
            with _opened(output) as file:
                for part in _WRITERS[format_](_counted(exporting.export_sessions(log, query, session), counts)):
                    file.write(part)
        except (SessionNotFound, SessionErased) as error:
            raise click.ClickException(f"{session}: {error}") from error
    click.echo(f"{counts['sessions']:,} sessions, {counts['interactions']:,} interactions", err=True)


def _query(filters: dict[str, str | None]) -> ops.IdFilters:
    """Return the filters as the store takes them, checked as those of the API are."""
    names = {"not_before": "from", "before": "to"}
    given = {names.get(name, name): text for name, text in filters.items() if text is not None}
    try:
        query = SessionQuery.model_validate(given).to_json()
    except ValidationError as error:
        (wrong, *_) = error.errors()
        raise click.UsageError(f"--{wrong['loc'][0]}: {wrong['msg']}".replace("_", "-")) from None
    return cast("ops.IdFilters", {name: value for name, value in query.items() if name not in {"limit", "sort"}})


def _counted(exported: Iterator[ExportItem], counts: dict[str, int]) -> Iterator[ExportItem]:
    """Count what is given out."""

    def each(interactions: Iterator[ops.Interaction]) -> Iterator[ops.Interaction]:
        for interaction in interactions:
            counts["interactions"] += 1
            yield interaction

    for part in exported:
        counts["sessions"] += part.session is not None
        yield part._replace(interactions=each(part.interactions))


@contextmanager
def _opened(output: Path | None) -> Iterator[BinaryIO]:
    """Yield what is written to; a file has its name only once it is whole."""
    if output is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    partial = output.with_name(f"{output.name}.partial")
    try:
        with partial.open("wb", buffering=_WRITTEN_AT_ONCE) as file:
            if output.suffix == ".gz":
                # without name and time, so that the same log gives the same bytes
                with gzip.GzipFile("", "wb", fileobj=file, mtime=0) as zipped:
                    yield cast("BinaryIO", zipped)
            else:
                yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(output)
    finally:
        partial.unlink(missing_ok=True)
