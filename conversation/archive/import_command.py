"""`flask --app app import`: takes a file of conversations, or somebody's own tables of them, into the log."""

import sys
from pathlib import Path

import click
from flask import Blueprint

from conversation.archive import documents, sources
from conversation.archive.entries import Reader
from conversation.archive.formats import mongoexport, openai_chat, sharegpt, turnlog_lines
from conversation.archive.from_database import command as from_database
from conversation.archive.import_run import Notes, take_in
from conversation.archive.importing import Tally
from conversation.archive.new_file import NewFile
from conversation.archive.shifting import Shift
from conversation.store_commands import ended_like_an_interrupt

_READERS: dict[str, Reader] = {
    "turnlog": turnlog_lines.read,
    "openai-chat": openai_chat.read,
    "mongoexport": mongoexport.read,
    "sharegpt": sharegpt.read,
}


blueprint = Blueprint("import", __name__, cli_group=None)


@blueprint.cli.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path), required=False)
@click.option("--format", "format_", type=click.Choice(list(_READERS)), help="What the file holds.")
@click.option("--shift-to-now", is_flag=True, help="Move all times so that the newest is now: for demonstrations.")
@click.option("--from-database", "url", metavar="URL", help="A database, or a Supabase project's address, to read.")
@click.option("--sessions", metavar="TABLE", help="Its table of sessions, as in public.ai_sessions.")
@click.option("--interactions", metavar="TABLE", help="Its table of interactions, or of messages.")
@click.option("--map", "maps", multiple=True, metavar="THEIRS=OURS", help="What a column is; =- leaves it out.")
@click.option("--zone", default="UTC", show_default=True, help="The time zone of its times that state none.")
@click.option("--dry-run", is_flag=True, help="Say what was understood of the tables, and store nothing.")
@click.option("--rejects", type=NewFile(), help="Where what isn't stored is told of.  [default: FILE.rejects.jsonl]")
@click.option("--report", type=NewFile(), help="Where repaired session ids are told of, one a line.")
@click.option("--patience", type=click.IntRange(0), default=300, show_default=True, help="Seconds to wait for a store.")
def import_command(
    *,
    file: Path | None,
    format_: str | None,
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
    """Take a FILE of conversations into the log; - is standard input. Or take in the tables of a database.

    JSON lines, a JSON array, or gzip of either. Run it again after whatever ended it: nothing is stored twice. The
    exit status is 1 if anything was rejected or contradicts what is stored.

    With --shift-to-now each run moves the times to another now, so a second run contradicts the first.
    """
    with ended_like_an_interrupt():
        if url is None:
            if sessions or interactions or maps or dry_run:
                raise click.UsageError("--sessions, --interactions, --map and --dry-run go with --from-database")
            tally: Tally | None = _import_file(file, format_, rejects, report, patience, shift_to_now=shift_to_now)
        else:
            if file or format_ or shift_to_now:
                raise click.UsageError("--from-database reads tables: leave FILE, --format and --shift-to-now out")
            if interactions is None:
                raise click.UsageError(
                    "Name the table with --interactions, as in --interactions public.ai_interactions"
                )
            if rejects is not None and report is not None and _are_one(rejects, report):
                raise click.UsageError(f"--rejects and --report are both {report}: name two files")
            asked = (url, sessions, interactions, maps, zone, dry_run, rejects, report, patience)
            tally = from_database.run(from_database.Request(*asked))
    if tally and (tally.repaired or tally.kept_aside) and report:
        click.echo(f"What was repaired: {report}")
    sys.exit(1 if tally and tally.refused else 0)


def _import_file(
    file: Path | None,
    format_: str | None,
    rejects: Path | None,
    report: Path | None,
    patience_s: int,
    *,
    shift_to_now: bool,
) -> Tally:
    if file is None:
        raise click.UsageError("Missing argument 'FILE', or --from-database URL.")
    if format_ is None:
        raise click.UsageError(f"Missing option '--format'. Choose from: {', '.join(_READERS)}")
    rejects = rejects or Path("stdin.rejects.jsonl" if file == sources.STDIN else f"{file}.rejects.jsonl")
    _require_files_of_their_own(file, rejects, report)
    shift = _shift_to_now(file, _READERS[format_]) if shift_to_now else None
    with sources.opened(file) as source:
        entries = _READERS[format_](documents.read(source.stream))
        if shift:
            entries = shift.moved(entries)
        return take_in(entries, str(file), source, Notes(rejects, report, patience_s))


def _shift_to_now(file: Path, read: Reader) -> Shift:
    if not file.is_file():  # standard input, or a pipe
        raise click.UsageError("--shift-to-now reads FILE twice, so it has to be a file on the disk")
    with sources.opened(file) as source:
        return Shift.to_now(read(documents.read(source.stream)))


def _require_files_of_their_own(file: Path, rejects: Path, report: Path | None) -> None:
    """Raise a usage error where what is told would be written over what is read, or over something else told."""
    for option, path in (("--rejects", rejects), ("--report", report)):
        if file != sources.STDIN and path is not None and _are_one(file, path):
            raise click.UsageError(f"{option} is the FILE itself, which would be lost: name another")
    if report is not None and _are_one(rejects, report):
        raise click.UsageError(f"--rejects and --report are both {report}: name two files")


def _are_one(first: Path, second: Path) -> bool:
    if first.exists() and second.exists():
        return first.samefile(second)
    return first.resolve() == second.resolve()
