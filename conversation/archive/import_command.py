"""`flask --app app import`: takes a file of conversations into the log."""

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TextIO

import click
from flask import Blueprint, current_app

from conversation.archive import documents, mongoexport, openai_chat, sgd, sharegpt, sources, turnlog
from conversation.archive.entries import Reader
from conversation.archive.importing import Import, Row, Tally
from conversation.archive.new_file import NewFile
from conversation.archive.sources import Source
from conversation.settings import Settings
from conversation.store_commands import ended_like_an_interrupt, repository_at_work
from logging_store.batches import Outcome
from logging_store.embedded import EmbeddedPostgres
from logging_store.errors import StoreUnavailable, TurnlogError
from logging_store.repository import ConversationRepository

_READERS: dict[str, Reader] = {
    "turnlog": turnlog.read,
    "sgd": sgd.read,
    "openai-chat": openai_chat.read,
    "mongoexport": mongoexport.read,
    "sharegpt": sharegpt.read,
}
_OUTCOMES: tuple[Outcome, ...] = ("created", "filled", "duplicate", "conflict", "rejected")
_ALWAYS_TOLD = ("sessions", "interactions")


blueprint = Blueprint("import", __name__, cli_group=None)


@blueprint.cli.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path))
@click.option("--format", "format_", type=click.Choice(list(_READERS)), required=True, help="What the file holds.")
@click.option("--rejects", type=NewFile(), help="Where what isn't stored is told of.  [default: FILE.rejects.jsonl]")
@click.option("--report", type=NewFile(), help="Where repaired session ids are told of, one a line.")
@click.option("--patience", type=click.IntRange(0), default=300, show_default=True, help="Seconds to wait for a store.")
def import_file(*, file: Path, format_: str, rejects: Path | None, report: Path | None, patience: int) -> None:
    """Take a FILE of conversations into the log; - is standard input.

    JSON lines, a JSON array, or gzip of either. Run it again after whatever ended it: nothing is stored twice. The
    exit status is 1 if anything was rejected or contradicts what is stored.
    """
    rejects = rejects or Path("stdin.rejects.jsonl" if file == sources.STDIN else f"{file}.rejects.jsonl")
    _require_files_of_their_own(file, rejects, report)
    with ended_like_an_interrupt(), ExitStack() as stack:
        repository = stack.enter_context(repository_at_work())
        # past group commit and spool: what an import counts as stored is in the database
        log = ConversationRepository(
            current_app.extensions["turnlog_database"],
            repository.project,
            ledger=repository.ledger,
            redaction=repository.redaction,
        )
        source = stack.enter_context(sources.opened(file))
        run = Import(
            log.keep,
            reject=stack.enter_context(_rows(rejects)),
            report=stack.enter_context(_rows(report)),
            waiting=stack.enter_context(_waiting(current_app.extensions["turnlog_settings"])),
            patience_s=patience,
        )
        begun = time.monotonic()
        try:
            _show(run.run(_READERS[format_](documents.read(source.stream))), source)
        except (KeyboardInterrupt, StoreUnavailable) as error:
            reached = f"up to {run.tally.place} of {file}" if run.tally.place else "nothing"
            why = "Interrupted" if isinstance(error, KeyboardInterrupt) else f"The store stays away ({error})"
            click.echo(_told(run.tally, time.monotonic() - begun))
            raise click.ClickException(
                f"{why}. Stored is {reached}. Run the same command again: it finds that as duplicates and goes on"
            ) from None
        click.echo(_told(run.tally, time.monotonic() - begun))
    if run.tally.refused:
        click.echo(f"What was not stored, and why: {rejects}")
    if run.tally.repaired and report:
        click.echo(f"Which session ids were repaired: {report}")
    sys.exit(1 if run.tally.refused else 0)


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


def _show(progress: Iterator[Tally], source: Source) -> None:
    """Run an import, with a bar and a rate where a person looks on."""
    begun = time.monotonic()

    def rate(tally: Tally | None) -> str:
        return f"{tally.records:,} records, {_per_minute(tally, time.monotonic() - begun)}" if tally else ""

    if not sys.stderr.isatty():
        for _ in progress:
            pass
    elif source.size:
        with click.progressbar(length=source.size, item_show_func=rate, file=sys.stderr) as bar:
            for tally in progress:
                bar.update(source.taken - bar.pos, tally)
    else:
        with click.progressbar(progress, item_show_func=rate, file=sys.stderr) as unmeasured:
            for _ in unmeasured:
                pass


@contextmanager
def _waiting(settings: Settings) -> Iterator[Callable[[StoreUnavailable, float], None]]:
    """Yield what is done while the store is away: say so, and start the embedded one again if it died."""
    server = EmbeddedPostgres(settings.data_dir) if settings.store_kind == "embedded" else None

    def wait(error: StoreUnavailable, pause: float) -> None:
        click.echo(f"The store is away ({error}). Trying again in {pause:.0f} s …", err=True)
        if server:
            try:
                server.revive()
            except TurnlogError as failure:
                click.echo(str(failure), err=True)

    try:
        yield wait
    finally:
        if server:
            server.stop()


@contextmanager
def _rows(path: Path | None) -> Iterator[Callable[[Row], None]]:
    """Yield what writes a row as a JSON line; the file is made with the first one, in place of an earlier run's."""
    if path is not None:
        path.unlink(missing_ok=True)
    with ExitStack() as stack:
        file: TextIO | None = None

        def write(row: Row) -> None:
            nonlocal file
            if path is not None:
                file = file or stack.enter_context(path.open("w", encoding="utf-8", newline="\n"))
                file.write(json.dumps(row) + "\n")

        yield write


def _told(tally: Tally, seconds: float) -> str:
    """Return the counts as a table, and how fast it went."""
    header = "".join(f"{outcome:>12}" for outcome in _OUTCOMES)
    lines = [f"{'':12}{header}"]
    for kind, counts in tally.kinds.items():
        if kind not in _ALWAYS_TOLD and not counts:
            continue
        lines.append(f"{kind:12}" + "".join(f"{counts[outcome]:>12,}" for outcome in _OUTCOMES))
    if tally.unreadable:
        lines.append(f"{tally.unreadable:,} more rejected, of which no record could be made")
    if tally.repaired:
        lines.append(f"{tally.repaired:,} session ids repaired")
    lines.append(f"{tally.records:,} records in {seconds:.1f} s, {_per_minute(tally, seconds)}")
    return "\n".join(lines)


def _per_minute(tally: Tally, seconds: float) -> str:
    return f"{tally.records / seconds * 60:,.0f} a minute"
