"""`flask --app app import`: takes a file of conversations into the log."""

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import click
from flask import Blueprint, current_app

from conversation.archive import documents, sgd, sources
from conversation.archive.entries import Reader
from conversation.archive.importing import Import, Row, Tally
from conversation.archive.sources import Source
from conversation.store_commands import ended_like_an_interrupt, repository_at_work
from logging_store.errors import StoreUnavailable
from logging_store.records import Session
from logging_store.repository import ConversationRepository

_READERS: dict[str, Reader] = {"sgd": sgd.read}

blueprint = Blueprint("archive", __name__, cli_group=None)


@blueprint.cli.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path))
@click.option("--format", "format_", type=click.Choice(sorted(_READERS)), required=True, help="What the file holds.")
@click.option(
    "--rejects",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where what can't be stored is written, with its place and the reason.  [default: FILE.rejects.jsonl]",
)
@click.option("--report", type=click.Path(dir_okay=False, path_type=Path), help="Where repaired ids are written.")
@click.option(
    "--patience",
    type=click.IntRange(0),
    default=300,
    show_default=True,
    help="Seconds to wait for a store that is away.",
)
def import_file(*, file: Path, format_: str, rejects: Path | None, report: Path | None, patience: int) -> None:
    """Take a FILE of conversations into the log; - is standard input.

    JSON lines, a JSON array, or gzip of either. Run it again after whatever ended it: what is stored is not stored
    twice. The exit status is 1 if anything was rejected or contradicts what is stored.
    """
    rejects = rejects or Path("stdin.rejects.jsonl" if file == sources.STDIN else f"{file}.rejects.jsonl")
    begun = time.monotonic()
    with ended_like_an_interrupt(), ExitStack() as stack:
        repository = stack.enter_context(repository_at_work())
        # past group commit and spool: what an import is told is stored is in the database
        log = ConversationRepository(current_app.extensions["turnlog_database"], repository.project)
        source = stack.enter_context(sources.opened(file))
        run = Import(
            lambda records: _keep(log, records),
            reject=stack.enter_context(_rows(rejects)),
            report=stack.enter_context(_rows(report)),
            waiting=_tell_waiting,
            patience_s=patience,
        )
        try:
            _show(run.run(_READERS[format_](documents.read(source.stream))), source, begun)
        except KeyboardInterrupt:
            click.echo(_told(run.tally, time.monotonic() - begun))
            where = f"after {run.tally.place}" if run.tally.place else "before anything was stored"
            raise click.ClickException(f"Interrupted {where}. Run it again: it goes on there") from None
        except StoreUnavailable as error:
            click.echo(_told(run.tally, time.monotonic() - begun))
            raise click.ClickException(f"The store stays away: {error}. Run it again: what is stored stays") from error
    click.echo(_told(run.tally, time.monotonic() - begun))
    if run.tally.refused:
        click.echo(f"See {rejects}")
    sys.exit(1 if run.tally.refused else 0)


def _keep(log: ConversationRepository, records: Any) -> Any:
    kept = [log.ensure_session(each) if isinstance(each, Session) else None for each in records]
    rest = iter(log.log([each for each in records if not isinstance(each, Session)]))
    return [each or next(rest) for each in kept]


def _show(progress: Iterator[Tally], source: Source, begun: float) -> None:
    for _ in progress:
        pass


def _tell_waiting(error: StoreUnavailable, pause: float) -> None:
    click.echo(f"The store is away ({error}); asking again in {pause:.0f} s", err=True)


@contextmanager
def _rows(path: Path | None) -> Iterator[Callable[[Row], None]]:
    """Yield what writes a row as a JSON line; the file is made with the first one, in place of an earlier run's."""
    if path is None:
        yield lambda row: None
        return
    path.unlink(missing_ok=True)
    with ExitStack() as stack:
        file: Any = None

        def write(row: Row) -> None:
            nonlocal file
            file = file or stack.enter_context(path.open("w", encoding="utf-8", newline="\n"))
            file.write(json.dumps(row, ensure_ascii=False) + "\n")

        yield write


def _told(tally: Tally, seconds: float) -> str:
    return f"{tally} {tally.records / seconds * 60:,.0f} records/min"
