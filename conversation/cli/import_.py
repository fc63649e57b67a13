"""`turnlog import`: takes a file of conversations, or somebody's own tables of them, into the log."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from conversation.cli.base import echo, new_command, next_step
from conversation.cli.option_types import PROJECT, NewFile
from conversation.interrupts import sigterm_as_interrupt

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conversation.archive.entries import Entry, Reader, Target
    from conversation.archive.importing import Tally
    from conversation.archive.time_shift import TimeShift
    from conversation.cli.import_run import RunOptions

FORMATS = ("turnlog", "openai-chat", "sharegpt", "chatgpt", "claude", "mongoexport")


@new_command(
    "import",
    examples=[
        ("import log.jsonl.gz --format turnlog", "What `turnlog export` wrote"),
        ("import chats.jsonl --format openai-chat --project shop", "Chats as OpenAI takes them, into a project"),
        (
            "import --from-database postgresql://… --interactions public.messages --dry-run",
            "See how your own tables are mapped",
        ),
    ],
)
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path), required=False)
@click.option("--format", "format_", type=click.Choice(FORMATS), help="The format of FILE.")
@click.option("--project", type=PROJECT, help="The project to import into.  [default: TURNLOG_PROJECT]")
@click.option("--shift-to-now", is_flag=True, help="Move all times so that the newest is now: for demonstrations.")
@click.option("--from-database", "url", metavar="URL", help="Read a database, or a Supabase project at its address.")
@click.option("--sessions", metavar="TABLE", help="Its table of sessions, as in public.ai_sessions.")
@click.option("--interactions", metavar="TABLE", help="Its table of interactions, or of messages.")
@click.option("--map", "maps", multiple=True, metavar="THEIRS=OURS", help="Map a column; =- leaves it out.")
@click.option("--zone", default="UTC", show_default=True, help="The time zone of times without one.")
@click.option("--dry-run", is_flag=True, help="Print how the tables are mapped, and store nothing.")
@click.option(
    "--rejects", type=NewFile(), help="Write rejected records and reasons to this file.  [default: FILE.rejects.jsonl]"
)
@click.option("--report", type=NewFile(), help="Write repaired session ids to this file, one a line.")
@click.option(
    "--patience", type=click.IntRange(0), default=300, show_default=True,
    help="Seconds to wait for a database that is away.",
)  # fmt: skip
def command(
    *,
    file: Path | None,
    format_: str | None,
    project: str | None,
    shift_to_now: bool,
    url: str | None,
    sessions: str | None,
    interactions: str | None,
    maps: tuple[str, ...],
    zone: str,
    dry_run: bool,
    rejects: Path | None,
    report: Path | None,
    patience: int,
) -> None:
    """Import conversations from a FILE (- is standard input), or from the tables of a database.

    FILE holds JSON lines or a JSON array, or either compressed with gzip. Run the same command again after an
    interruption: nothing is stored twice. The exit status is 1 if anything was rejected or contradicts what is stored.

    Use --shift-to-now for one run only: the next would move the times to another now, and contradict the first.
    """
    from conversation.cli import import_tables
    from conversation.cli.import_run import RunOptions

    with sigterm_as_interrupt():
        if url is None:
            if sessions or interactions or maps or dry_run:
                raise click.UsageError("--sessions, --interactions, --map and --dry-run go with --from-database")
            if file is None:
                raise click.UsageError("Name the FILE to import, or a database with --from-database URL")
            if format_ is None:
                raise click.UsageError(f"Name the format of {file} with --format: {', '.join(FORMATS)}")
            rejects = rejects or Path("stdin.rejects.jsonl" if str(file) == "-" else f"{file}.rejects.jsonl")
            _require_files_of_their_own(file, rejects, report)
            run_options = RunOptions(project, rejects, report, patience)
            tally: Tally | None = _import_file(file, format_, run_options, shift_to_now=shift_to_now)
        else:
            if file or format_ or shift_to_now:
                raise click.UsageError("--from-database reads tables: leave FILE, --format and --shift-to-now out")
            if interactions is None:
                raise click.UsageError(
                    "Name the table with --interactions, as in --interactions public.ai_interactions"
                )
            if rejects is not None and report is not None and _are_one(rejects, report):
                raise click.UsageError(f"--rejects and --report are both {report}: name two files")
            options = (url, sessions, interactions, maps, zone, dry_run, project, rejects, report, patience)
            tally = import_tables.run(import_tables.Request(*options))
    if tally and (tally.repaired or tally.moved_to_metadata or tally.altered) and report:
        echo(f"What was repaired or altered: {report}")
    if tally and tally.records:
        next_step(
            "turnlog index  # makes it searchable at once", "turnlog open   # shows it, while `turnlog serve` runs"
        )
    sys.exit(1 if tally and tally.not_stored else 0)


def _import_file(file: Path, format_: str, options: RunOptions, *, shift_to_now: bool) -> Tally:
    from conversation.archive import documents, sources
    from conversation.cli.import_run import import_entries

    read = reader(format_)
    shift = _shift_to_now(file, read) if shift_to_now else None
    with sources.open_source(file) as source:

        def entries(target: Target) -> Iterator[Entry]:
            found = documents.entries(source.stream, lambda each: read(each, target), replaces=_replaces())
            return shift.apply(found) if shift else found

        return import_entries(entries, str(file), source, options)


def _replaces() -> bool:
    from conversation.cli.context import current_stack

    return current_stack().settings.turnlog_unstorable == "replace"


def _shift_to_now(file: Path, read: Reader) -> TimeShift:
    from conversation.archive import documents, sources
    from conversation.archive.time_shift import TimeShift

    if not file.is_file():  # standard input, or a pipe
        raise click.UsageError("--shift-to-now reads FILE twice, so it has to be a file on the disk")
    with sources.open_source(file) as source:
        return TimeShift.to_now(documents.entries(source.stream, read, replaces=_replaces()))


def reader(format_: str) -> Reader:
    """Return the reader of a format: from documents to entries."""
    from conversation.archive.formats import chatgpt, claude, mongoexport, openai_chat, sharegpt, turnlog_lines

    readers: dict[str, Reader] = {
        "turnlog": turnlog_lines.read,
        "openai-chat": openai_chat.read,
        "mongoexport": mongoexport.read,
        "sharegpt": sharegpt.read,
        "chatgpt": chatgpt.read,
        "claude": claude.read,
    }
    return readers[format_]


def _require_files_of_their_own(file: Path, rejects: Path, report: Path | None) -> None:
    """Raise a usage error if one of the files to write is the file to read, or the other file to write."""
    from conversation.archive import sources

    for option, path in (("--rejects", rejects), ("--report", report)):
        if file != sources.STDIN and path is not None and _are_one(file, path):
            raise click.UsageError(f"{option} is the FILE itself, which would be lost: name another")
    if report is not None and _are_one(rejects, report):
        raise click.UsageError(f"--rejects and --report are both {report}: name two files")


def _are_one(first: Path, second: Path) -> bool:
    if first.exists() and second.exists():
        return first.samefile(second)
    return first.resolve() == second.resolve()
