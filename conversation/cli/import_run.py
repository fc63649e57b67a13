"""One run of `turnlog import`, from any source: writing, progress, counts and interruptions."""

import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO, cast

import click

from conversation.archive.entries import Entry, Target
from conversation.archive.importing import Importer, Row, Tally
from conversation.archive.sources import Progress, SourceError
from conversation.cli.base import echo
from conversation.cli.context import current_stack, open_repository
from conversation.settings import Settings
from logging_store import private_files
from logging_store.batches import Batch, BatchReceipts, Outcome
from logging_store.embedded.server import EmbeddedPostgres
from logging_store.errors import StoreUnavailable, TurnlogError
from logging_store.repository import ConversationRepository
from logging_store.store import Store

_OUTCOMES: tuple[Outcome, ...] = ("created", "filled", "duplicate", "revised", "conflict", "rejected")
_ALWAYS_SHOWN = ("sessions", "interactions")


@dataclass(frozen=True, slots=True)
class RunOptions:
    """Options of a run: its project, the files for rejected and repaired records, how long it waits for the store."""

    project: str | None
    rejects: Path
    report: Path | None
    patience_s: int


class SessionCount:
    """A store that counts the sessions it creates, also implicit ones, which have no record of their own."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.created = 0

    def write(self, batch: Batch) -> BatchReceipts:
        receipts = self._store.write(batch)
        self.created += sum(receipt.receipt == "created" for receipt in receipts.sessions)
        return receipts

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


def import_entries(
    read: Callable[[Target], Iterable[Entry]], name: str, progress: Progress, options: RunOptions
) -> Tally:
    """Store a source's entries and print the counts. Raises `click.ClickException` if the run is cut short."""
    with ExitStack() as stack:
        repository = stack.enter_context(open_repository(creates=True))
        current_stack().database.reconnect_s = 0  # an import waits by itself, and says so
        # without group commit and spool, so that records counted as stored are in the database
        database = SessionCount(current_stack().database)
        log = ConversationRepository(
            cast("Store", database),
            options.project or repository.project,
            ledger=repository.ledger,
            redaction=repository.redaction,
        )
        run = Importer(
            log.write,
            reject=stack.enter_context(_rows(options.rejects)),
            report=stack.enter_context(_rows(options.report)),
            on_outage=stack.enter_context(_waiting(current_stack().settings)),
            patience_s=options.patience_s,
        )
        target = Target(log.project, lambda names: run.patiently(lambda: log.known_sessions(names)))
        started = time.monotonic()
        try:
            _show(run.run(read(target)), progress)
        except (KeyboardInterrupt, StoreUnavailable, SourceError) as error:
            reached = f"up to {run.tally.location} of {name}" if run.tally.location else "nothing"
            echo(*_summary(run.tally, database.created, time.monotonic() - started))
            raise click.ClickException(
                f"{_reason(error)}. Stored is {reached}."
                " Run the same command again: it skips that as duplicates and goes on"
            ) from None
        echo(*_summary(run.tally, database.created, time.monotonic() - started))
    if run.tally.not_stored:
        echo(f"Rejected records and reasons: {options.rejects}")
    return run.tally


def _reason(error: BaseException) -> str:
    match error:
        case KeyboardInterrupt():
            return "Interrupted"
        case SourceError():
            return str(error)
    return f"The store stays unavailable ({error})"


def _show(progress: Iterator[Tally], source: Progress) -> None:
    """Run an import, with a progress bar and a rate if the output is a terminal."""
    started = time.monotonic()

    def rate(tally: Tally | None) -> str:
        return f"{tally.records:,} records, {_per_minute(tally, time.monotonic() - started)}" if tally else ""

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
    """Yield a function for outages: it prints a message, and restarts the embedded database if it died."""
    server = EmbeddedPostgres(settings.data_dir) if settings.store_kind == "embedded" else None

    def wait(error: StoreUnavailable, pause: float) -> None:
        echo(f"The store is unavailable ({error}). Trying again in {pause:.0f} s …", err=True)
        if server:
            try:
                server.revive()
            except TurnlogError as failure:
                echo(str(failure), err=True)

    try:
        yield wait
    finally:
        if server:
            server.stop()


@contextmanager
def _rows(path: Path | None) -> Iterator[Callable[[Row], None]]:
    """Yield a function that writes a row as a JSON line. The first row creates the file anew."""
    if path is not None:
        path.unlink(missing_ok=True)
    with ExitStack() as stack:
        file: TextIO | None = None

        def write(row: Row) -> None:
            nonlocal file
            if path is not None:
                if file is None:  # readable only by its owner, since it repeats what was rejected
                    descriptor = private_files.create(path)
                    file = stack.enter_context(os.fdopen(descriptor, "w", encoding="utf-8", newline="\n"))
                file.write(json.dumps(row) + "\n")

        yield write


def _summary(tally: Tally, sessions_created: int, seconds: float) -> list[str]:
    """Return the lines of a table of the counts, and the rate."""
    outcomes = [name for name in _OUTCOMES if name != "revised" or any(kind[name] for kind in tally.kinds.values())]
    header = "".join(f"{outcome:>12}" for outcome in outcomes)
    lines = [f"{'':12}{header}"]
    for kind, counts in tally.kinds.items():
        if kind not in _ALWAYS_SHOWN and not counts:
            continue
        lines.append(f"{kind:12}" + "".join(f"{counts[outcome]:>12,}" for outcome in outcomes))
    if implicit := sessions_created - tally.kinds["sessions"]["created"]:
        lines.append(f"{implicit:,} sessions created for interactions whose session wasn't there")
    if tally.unreadable:
        lines.append(f"{tally.unreadable:,} more rejected, which are not valid records")
    if tally.repaired:
        lines.append(f"{tally.repaired:,} session ids repaired")
    if tally.passed_over:
        lines.append(f"{tally.passed_over:,} passed over, which are no conversations")
    if tally.moved_to_metadata:
        lines.append(f"kept in metadata, since their field can't hold them: {tally.moved_to_metadata:,} values")
    if tally.altered:
        lines.append(f"{tally.altered:,} with text that can't be stored: NUL became ␀, half of a surrogate pair �")
    lines.append(f"{tally.records:,} records in {seconds:.1f} s, {_per_minute(tally, seconds)}")
    return lines


def _per_minute(tally: Tally, seconds: float) -> str:
    return f"{tally.records / seconds * 60:,.0f} a minute"
