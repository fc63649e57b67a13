"""`flask --app app verify-report`: whether a report of an erasure is this service's, and unchanged."""

from typing import BinaryIO

import click
import jiter
from flask import Blueprint

from conversation.store_commands import database_at_work
from logging_store import erasure_reports
from logging_store import operations as ops

blueprint = Blueprint("reports", __name__, cli_group=None)


@blueprint.cli.command("verify-report")
@click.argument("file", type=click.File("rb"))
def verify_report(file: BinaryIO) -> None:
    """Check the signature of a report that erasing something has answered; - is the standard input.

    The query that proves it is told, to be run with: flask psql -c
    """
    try:
        report = jiter.from_json(file.read(), catch_duplicate_keys=True)
    except ValueError as error:
        raise click.ClickException(f"{file.name} is no report, which is one JSON object: {error}") from error
    if not (isinstance(report, dict) and isinstance(project := report.get("project"), str)):
        raise click.ClickException(f"{file.name} is no report: it names no project")
    with database_at_work() as database:
        # asking makes a key where there is none: not for what anybody wrote into a file
        known = database.ask(ops.PROJECTS, project, ops.NoQuery())["projects"]
        right = bool(known) and erasure_reports.verify(
            report, database.ask(ops.REPORT_KEY, project, ops.NoQuery())["key"]
        )
    if not right:
        raise click.ClickException("The report was changed, or another database's service has signed it")
    what = f"user {report['user_id']}" if "user_id" in report else f"session {report['session_id']}"
    done = "A DRY RUN, which erased nothing" if report["dry_run"] else f"Erased at {report['erased_at']}"
    click.echo(f"The report is as it was signed. {done}: {what} of the project {project}.")
    click.echo(f"This query counts what is left of it, and should answer 0:\n{report['proof']}")
