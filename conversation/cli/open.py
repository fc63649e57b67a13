"""`turnlog open`: opens the pages in a browser."""

from __future__ import annotations

import webbrowser

import click

from conversation.cli.base import new_command, next_step
from conversation.cli.context import current_settings


@new_command("open", examples=[("open", "Open the pages of the service on this machine")])
@click.option("--print", "print_only", is_flag=True, help="Print the address and open nothing.")
def command(*, print_only: bool) -> None:
    """Open the pages in your browser, and print their address. TURNLOG_HOST and PORT set it."""
    url = current_settings().url
    click.echo(url)
    if not print_only and not webbrowser.open(url):
        click.echo("No browser could be started here: open the address yourself.", err=True)
    next_step("sign in with an admin key; no key? turnlog keys create --scope log --scope read --scope admin")
