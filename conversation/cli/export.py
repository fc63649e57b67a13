"""`turnlog export`: writes the log, or a part of it, to a file."""

from __future__ import annotations

import gzip
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

import click

from conversation.cli.base import new_command
from conversation.cli.context import current_stack, open_repository
from conversation.cli.option_types import NewFile

if TYPE_CHECKING:
    from conversation.archive.exporting import ExportItem
    from logging_store import operations as ops

FORMATS = ("turnlog", "openai-chat", "csv")
_STDOUT = Path("-")
_WRITTEN_AT_ONCE = 256 * 1024


@new_command(
    "export",
    examples=[
        ("export -o log.jsonl.gz", "Everything, to import it elsewhere"),
        ("export --format openai-chat --tag refund -o refunds.jsonl", "Conversations with a tag, for fine-tuning"),
        ("export --session support-1234", "One conversation, to standard output"),
    ],
)
@click.option(
    "--format",
    "format_",
    type=click.Choice(FORMATS),
    default="turnlog",
    show_default=True,
    help="turnlog holds everything and can be imported again.",
)
@click.option(
    "-o",
    "--output",
    type=NewFile(allow_dash=True),
    default=_STDOUT,
    help="The file to write, compressed if it ends in .gz.  [default: standard output]",
)
@click.option("--session", help="Only this session, by its UUID or your own key.")
@click.option("--user-id", help="Only this user's sessions.")
@click.option("--tag", help="Only sessions with this tag.")
@click.option("--status", help="Only sessions with this status.")
@click.option("--from", "not_before", help="Only sessions from this time on.")
@click.option("--to", "before", help="Only sessions before this time.")  # fmt: skip
def command(*, format_: str, output: Path, session: str | None, **filters: str | None) -> None:
    """Export sessions and interactions, in the order of the sessions' ids.

    The export holds the records that were stored when it began, each once, whatever is written meanwhile. It leaves
    erased sessions out.
    """
    from conversation.archive import exporting
    from logging_store.errors import SessionErased, SessionNotFound
    from logging_store.repository import ConversationRepository

    write = writer(format_)
    query = _query(filters)
    if session is not None and query:
        raise click.UsageError("--session names one session; leave the filters out")
    with open_repository() as repository:
        if waiting := repository.store.backlog().records:
            click.echo(f"{waiting:,} records are in the spool of this machine, and so not in the export", err=True)
        log = ConversationRepository(current_stack().database, repository.project)
        counts = {"sessions": 0, "interactions": 0}
        try:
            with _opened(output) as file:
                for part in write(_counted(exporting.export_sessions(log, query, session), counts)):
                    file.write(part)
        except (SessionNotFound, SessionErased) as error:
            raise click.ClickException(f"{session}: {error}") from error
    to = "" if output == _STDOUT else f" in {output}"
    click.echo(f"{counts['sessions']:,} sessions, {counts['interactions']:,} interactions{to}", err=True)


def writer(format_: str) -> Callable[[Iterator[ExportItem]], Iterator[bytes]]:
    """Return the writer of a format: from items to chunks of bytes."""
    from conversation.archive.formats import csv_table, fine_tuning, turnlog_lines

    return {"turnlog": turnlog_lines.write, "openai-chat": fine_tuning.write, "csv": csv_table.write}[format_]


def _query(filters: dict[str, str | None]) -> ops.IdFilters:
    """Return the filters in the store's form, validated as the API's are."""
    from pydantic import ValidationError

    from conversation.api.pagination import SessionQuery
    from conversation.refusals import validation_messages

    names = {"not_before": "from", "before": "to"}
    given = {names.get(name, name): text for name, text in filters.items() if text is not None}
    try:
        query = SessionQuery.model_validate(given).to_json()
    except ValidationError as error:
        (details, *_) = error.errors()
        option = str(details["loc"][0]).replace("_", "-")
        raise click.UsageError(f"--{option}: {validation_messages.sentence(details, SessionQuery, 'option')}") from None
    return cast("ops.IdFilters", {name: value for name, value in query.items() if name not in {"limit", "sort"}})


def _counted(exported: Iterator[ExportItem], counts: dict[str, int]) -> Iterator[ExportItem]:
    """Yield the items, counting sessions and interactions."""

    def each(interactions: Iterator[ops.Interaction]) -> Iterator[ops.Interaction]:
        for interaction in interactions:
            counts["interactions"] += 1
            yield interaction

    for part in exported:
        counts["sessions"] += part.session is not None
        yield part._replace(interactions=each(part.interactions))


@contextmanager
def _opened(output: Path) -> Iterator[BinaryIO]:
    """Yield the file to write to; it gets its name only once it is complete."""
    if output == _STDOUT:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    partial = output.with_name(f"{output.name}.partial")
    partial.unlink(missing_ok=True)
    partial.touch(mode=0o600)  # it holds conversations
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
