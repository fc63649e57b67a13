"""`turnlog export`: writes the log, or a part of it, to a file."""

from __future__ import annotations

import gzip
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import click

from conversation.cli.base import echo, new_command
from conversation.cli.context import current_stack, open_repository
from conversation.cli.option_types import FEEDBACK, PROJECT, NewFile
from logging_store import private_files

if TYPE_CHECKING:
    from conversation.archive.exporting import ExportItem
    from conversation.archive.ratings import FeedbackFilter
    from logging_store import operations as ops
    from logging_store.log_reader import NamedSessionFilters
    from logging_store.repository import ConversationRepository

    Filter = str | bool | tuple[str, ...] | None
    Writer = Callable[[Iterator[ExportItem]], Iterator[bytes]]

FORMATS = ("turnlog", "openai-chat", "preference", "openai-preference", "sts", "csv")
_RATED = ("openai-chat", "preference", "openai-preference")  # the formats that feedback chooses from
_STDOUT = Path("-")
_WRITTEN_AT_ONCE = 256 * 1024


@new_command(
    "export",
    examples=[
        ("export -o log.jsonl.gz", "Everything, to import it elsewhere"),
        ("export --format openai-chat --tag refund -o refunds.jsonl", "Conversations with a tag, for fine-tuning"),
        ("export --format openai-chat --feedback rating=true -o liked.jsonl", "What people liked, for fine-tuning"),
        ("export --format preference -o pairs.jsonl", "Better and worse answers, for preference tuning"),
        ("export --format sts -o traces/", "A file a session, for Hugging Face's trace viewer"),
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
    type=NewFile(allow_dash=True, folder=True),
    default=_STDOUT,
    help="The file to write, compressed if it ends in .gz; for sts a folder.  [default: standard output]",
)
@click.option("--project", type=PROJECT, help="The project to export.  [default: TURNLOG_PROJECT]")
@click.option("--session", help="Only this session, by its UUID or your own key.")
@click.option("--user-id", help="Only this user's sessions.")
@click.option("--tag", help="Only sessions with this tag.")
@click.option("--untagged", is_flag=True, help="Only sessions without a tag.")
@click.option("--metadata", metavar="KEY=VALUE", multiple=True, help="Only sessions with this in their metadata.")
@click.option("--rating", help="Only sessions that somebody rated up (true), or down (false).")
@click.option("--unrated", is_flag=True, help="Only sessions that nobody rated.")
@click.option("--min-turns", help="Only sessions of at least so many interactions.")
@click.option("--max-turns", help="Only sessions of at most so many interactions.")
@click.option("--status", help="Only sessions with this status.")
@click.option("--from", "not_before", help="Only sessions from this time on.")
@click.option("--to", "before", help="Only sessions before this time.")
@click.option(
    "--feedback",
    "rated",
    type=FEEDBACK,
    help="openai-chat: train only on turns with this feedback, as in rating=true. preference: the feedback of the"
    " better answer.",
)
@click.option("--context", is_flag=True, help="turnlog: with what was sent to the model before each prompt.")
@click.option("--unanswered", is_flag=True, help="openai-chat: keep turns without an answer, and failed ones.")
def command(
    *,
    format_: str,
    output: Path,
    project: str | None,
    session: str | None,
    rated: FeedbackFilter | None,
    context: bool,
    unanswered: bool,
    **filters: Filter,
) -> None:
    """Export sessions and interactions, in the order of the sessions' ids.

    The export holds the records that were stored when it began, each once, whatever is written meanwhile. It leaves
    erased sessions out.
    """
    from conversation.archive import exporting
    from logging_store.errors import SessionErased, SessionNotFound
    from logging_store.repository import ConversationRepository

    if rated and format_ not in _RATED:
        raise click.UsageError(f"--feedback goes with --format {', '.join(_RATED)}")
    if unanswered and format_ != "openai-chat":
        raise click.UsageError("--unanswered goes with --format openai-chat")
    if context and format_ != "turnlog":
        raise click.UsageError("--context goes with --format turnlog")
    write = writer(format_, rated, unanswered=unanswered)
    into_folder = format_ == "sts" and session is None
    _check_output(output, into_folder=into_folder)
    query = _query(filters)
    if session is not None and query:
        raise click.UsageError("--session names one session; leave the filters out")
    with open_repository() as repository:
        if waiting := repository.store.backlog().records:
            echo(f"{waiting:,} records are in the spool of this machine, and so not in the export", err=True)
        log = ConversationRepository(current_stack().database, project or repository.project)
        if current_stack().settings.turnlog_audit_reads:
            _record(log, session, query.get("user_id"))
        counts = {"sessions": 0, "interactions": 0}
        try:
            exported = _counted(exporting.export_sessions(log, query, session, with_context=context), counts)
            if into_folder:
                _write_files(output, exported, write)
            else:
                with _opened(output) as file:
                    for part in write(exported):
                        file.write(part)
        except (SessionNotFound, SessionErased) as error:
            raise click.ClickException(f"{session}: {error}") from error
    to = "" if output == _STDOUT else f" in {output}"
    echo(f"{counts['sessions']:,} sessions, {counts['interactions']:,} interactions{to}", err=True)


def _record(log: ConversationRepository, session: str | None, user: str | None) -> None:
    """Record the export among the reads; without a session or a user it is one of everything."""
    from uuid import uuid4

    from logging_store import operations as ops
    from logging_store.records import identity

    record: ops.NewRead = {
        "id": str(uuid4()),
        "kind": "command",
        "key_id": None,
        "reader": None,
        "call": "turnlog export",
        "user_id": user,
        "session_ids": [identity.session(log.project, session).id] if session is not None else [],
    }
    log.store.ask(ops.ADD_READ, log.project, record)


def writer(format_: str, rated: FeedbackFilter | None = None, *, unanswered: bool = False) -> Writer:
    """Return the writer of a format: from items to chunks of bytes."""
    from conversation.archive.formats import csv_table, fine_tuning, preference_pairs, session_traces, turnlog_lines

    writers: dict[str, Writer] = {
        "turnlog": turnlog_lines.write,
        "openai-chat": partial(fine_tuning.write, rated=rated, unanswered=unanswered),
        "preference": partial(preference_pairs.write, rated=rated),
        "openai-preference": partial(preference_pairs.write_openai, rated=rated),
        "sts": session_traces.write,
        "csv": csv_table.write,
    }
    return writers[format_]


def _check_output(output: Path, *, into_folder: bool) -> None:
    if not into_folder and output.is_dir():
        raise click.UsageError(f"--output {output} is a folder: name a file")
    if into_folder and output == _STDOUT:
        raise click.UsageError("sts is a file for each session: name a folder with --output, or one --session")
    if into_folder and output.is_file():
        raise click.UsageError(f"--output {output} is a file: sts is a file for each session, so name a folder")


def _write_files(folder: Path, exported: Iterator[ExportItem], write: Writer) -> None:
    """Write a file for each session, named by its id."""
    folder.mkdir(mode=0o700, exist_ok=True)
    for each in exported:
        if each.session is not None:
            with _opened(folder / f"{each.session['session_id']}.jsonl") as file:
                for part in write(iter([each])):
                    file.write(part)


def _query(filters: dict[str, Filter]) -> NamedSessionFilters:
    """Return the filters in the store's form, validated as the API's are."""
    from pydantic import ValidationError

    from conversation.api.pagination import METADATA, SessionQuery
    from conversation.refusals import validation_messages

    names = {"not_before": "from", "before": "to"}
    given: dict[str, Any] = {names.get(name, name): value for name, value in filters.items() if value}
    if "metadata" in given:
        pairs = [text.partition("=") for text in given.pop("metadata")]
        if not all(key and equals and value for key, equals, value in pairs):
            raise click.UsageError("--metadata: Write a key and its value, such as channel=web")
        given[METADATA] = {key: value for key, _, value in pairs}
    try:
        query = SessionQuery.model_validate(given).to_json()
    except ValidationError as error:
        (details, *_) = error.errors()
        option = str(details["loc"][0]).replace("_", "-")
        raise click.UsageError(f"--{option}: {validation_messages.sentence(details, SessionQuery, 'option')}") from None
    return cast("NamedSessionFilters", {name: value for name, value in query.items() if name not in {"limit", "sort"}})


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
    try:
        with os.fdopen(private_files.create(partial), "wb", buffering=_WRITTEN_AT_ONCE) as file:
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
