"""`turnlog selftest`: proves on an operator's own database that nothing is lost or doubled."""

from __future__ import annotations

import random
import sys

import click

from conversation.cli.base import echo, new_command
from conversation.cli.context import current_stack, open_repository

_SHOWN = 20  # violations printed per check
_MAX_WAIT_S = 60  # for a write's turn: long, so that a slow database reports its own error


@new_command(
    "selftest",
    examples=[
        ("selftest", "Test the database that the settings name"),
        ("selftest --writers 200 --rounds 3", "With more writers at once"),
    ],
)
@click.option("--writers", type=click.IntRange(1, 500), default=50, show_default=True, help="Threads that write.")
@click.option("--rounds", type=click.IntRange(1, 10_000), default=10, show_default=True, help="Each on new sessions.")
def command(*, writers: int, rounds: int) -> None:
    """Prove that your own database loses nothing and doubles nothing, whatever the order of the calls.

    The test writes into a project of its own, reads everything back, and deletes the project. The exit status is 1 if
    any promise was broken.
    """
    from conversation.cli.columns import to_columns
    from conversation.proof import selftest
    from logging_store.group_commit import GroupCommit
    from logging_store.repository import ConversationRepository

    with open_repository():
        project = selftest.new_project()
        echo(f"Writing into the project {project}, which is deleted afterwards …")
        report = selftest.run(
            # without the spool, which could deliver records after the self-test is over
            ConversationRepository(GroupCommit(current_stack().database, _MAX_WAIT_S), project),
            writers=writers,
            rounds=rounds,
            chance=random.Random(),  # noqa: S311 - only shuffles the calls
        )
    milliseconds = {share: f"{report.latency_s(share) * 1000:.0f} ms" for share in (0.5, 0.99)}
    echo(
        f"{writers} writers, {rounds} rounds: {report.calls:,} calls in {report.seconds:.1f} s, "
        f"{report.calls / report.seconds:,.0f} calls/s, p50 {milliseconds[0.5]}, p99 {milliseconds[0.99]}",
        "",
    )
    rows = [[check.name, f"{check.looked_at:,}", f"{len(check.wrong):,}"] for check in report.checks]
    echo(*to_columns([["check", "looked at", "wrong"], *rows], numbers={1, 2}))
    for check in report.checks:
        for sentence in check.wrong[:_SHOWN]:
            echo(f"{check.name}: {sentence}")
    echo("", "Every promise was kept." if report.holds else "FAILED")
    sys.exit(0 if report.holds else 1)
