"""`flask --app app ledger` and `selftest`: what operators run to see for themselves that nothing is lost."""

import json
import random
import sys
from pathlib import Path

import click
from flask import Blueprint, current_app

from conversation.columns import in_columns
from conversation.proof import comparison as ledger
from conversation.proof import selftest
from conversation.store_commands import ended_like_an_interrupt, repository_at_work
from logging_store import operations as ops
from logging_store.errors import SessionErased, SessionNotFound
from logging_store.group_commit import GroupCommit
from logging_store.repository import ConversationRepository

_SHOWN = 20  # findings of a kind, and gaps of a session, that people read; --json has more
_SESSIONS_AT_ONCE = 1000
_RANGES = 1000  # the most gaps of one session that --json lists

_PATIENCE_S = 60  # for a turn: the database may be slow, and shall say so itself

blueprint = Blueprint("checking", __name__, cli_group=None)


@blueprint.cli.command("ledger")
@click.option(
    "--client-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="JSON lines of what a client sent: bodies of POST /v1/interactions, each perhaps with its receipt.",
)
@click.option("--session", help="Look at this session only, named by its UUID or by your own key.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document, with everything that was found.")
def show_ledger(*, client_file: Path | None, session: str | None, as_json: bool) -> None:
    """Compare what a client says it sent with what is stored; without a file, list gaps in the callers' turns.

    The exit status is 1 if anything is missing, differs or can't be read.
    """
    with repository_at_work() as repository:
        if client_file:
            comparison = ledger.compare(repository, client_file, session=session, listed=None if as_json else _SHOWN)
            click.echo(json.dumps(comparison.to_json()) if as_json else _told(comparison))
            holds = comparison.holds
        else:
            holds = _show_gaps(repository, session, as_json=as_json)
    sys.exit(0 if holds else 1)


@blueprint.cli.command("selftest")
@click.option("--writers", type=click.IntRange(1, 500), default=50, show_default=True, help="Threads that write.")
@click.option("--rounds", type=click.IntRange(1, 10_000), default=10, show_default=True, help="Each on new sessions.")
def run_selftest(*, writers: int, rounds: int) -> None:
    """Prove on your own database that nothing is lost or doubled, whatever the order; leave nothing behind.

    It writes into a project of its own, reads everything back, and deletes it for good. The exit status is 1 if any
    promise was broken.
    """
    with repository_at_work(), ended_like_an_interrupt():
        project = selftest.new_project()
        click.echo(f"Writing into the project {project}, which is deleted afterwards …")
        report = selftest.run(
            # past the spool: what it kept would come to the database after the self-test is over
            ConversationRepository(GroupCommit(current_app.extensions["turnlog_database"], _PATIENCE_S), project),
            writers=writers,
            rounds=rounds,
            chance=random.Random(),  # noqa: S311 - of the calls' order
        )
    milliseconds = {share: f"{report.latency_s(share) * 1000:.0f} ms" for share in (0.5, 0.99)}
    click.echo(
        f"{writers} writers, {rounds} rounds: {report.calls:,} calls in {report.seconds:.1f} s, "
        f"{report.calls / report.seconds:,.0f} calls/s, p50 {milliseconds[0.5]}, p99 {milliseconds[0.99]}\n"
    )
    rows = [[check.name, f"{check.looked_at:,}", f"{len(check.wrong):,}"] for check in report.checks]
    click.echo(in_columns([["check", "looked at", "wrong"], *rows], numbers={1, 2}))
    for check in report.checks:
        for sentence in check.wrong[:_SHOWN]:
            click.echo(f"{check.name}: {sentence}")
    click.echo("\nEvery promise was kept." if report.holds else "\nFAILED")
    sys.exit(0 if report.holds else 1)


def _told(comparison: ledger.Comparison) -> str:
    counts = {name: count for name, count in comparison.to_json().items() if name != "findings"}
    lines = [in_columns([[name.replace("_", " "), f"{count:,}"] for name, count in counts.items()], numbers={1})]
    for finding in comparison.findings:
        names = " ".join(
            json.dumps(name, ensure_ascii=False) for name in (finding.session_id, finding.interaction_id) if name
        )
        lines.append(
            f"{finding.verdict}: {names} ({finding.detail})" if names else f"{finding.verdict}: {finding.detail}"
        )
    lines.append("All that was sent is accounted for." if comparison.holds else "NOT all that was sent is there.")
    return "\n".join(lines)


def _show_gaps(repository: ConversationRepository, session: str | None, *, as_json: bool) -> bool:
    """Print the sessions whose turn counters lack something; return whether no turn is missing."""
    ranges = _RANGES if as_json else _SHOWN
    if session is None:
        query = ops.GapsPageOptions(limit=_SESSIONS_AT_ONCE, ranges=ranges)
        found = [row for page in ops.pages(repository.sessions_with_gaps, query) for row in page["sessions"]]
    else:
        found = [_gaps_of(repository, session, ranges)]
    missing, doubled = (sum(row[count] for row in found) for count in ("missing", "doubled_count"))
    if as_json:
        sessions = [{name: value for name, value in row.items() if name != "erased_at"} for row in found]
        click.echo(json.dumps({"sessions": sessions, "missing": missing, "doubled": doubled}))
        return not missing
    if found:
        header = ["session", "first", "last", "missing", "doubled", "gaps"]
        click.echo(in_columns([header, *(_gap_row(row) for row in found)], numbers={1, 2, 3, 4}))
    click.echo(f"{missing:,} turns missing and {doubled:,} doubled in {len(found):,} sessions.")
    return not missing


def _gaps_of(repository: ConversationRepository, session: str, ranges: int) -> ops.Gaps:
    try:
        return repository.gaps(session, ranges)
    except (SessionNotFound, SessionErased) as error:
        raise click.ClickException(f"{session}: {error}") from error


def _gap_row(row: ops.Gaps) -> list[str]:
    gaps = [str(gap["from"]) if gap["from"] == gap["to"] else f"{gap['from']}–{gap['to']}" for gap in row["gaps"]]  # noqa: RUF001
    more = ["…"] if row["gap_count"] > len(gaps) else []
    counts = [str(count) for count in (row["first"], row["last"], row["missing"], row["doubled_count"])]
    return [row["key"] or row["session_id"], *counts, ", ".join([*gaps, *more])]
