"""`turnlog open`: opens the pages in a browser."""

from __future__ import annotations

import os
import webbrowser

import click

from conversation.cli.base import echo, new_command, next_step
from conversation.cli.context import current_settings


@new_command("open", examples=[("open", "Open the pages of the service on this machine")])
@click.option("--print", "print_only", is_flag=True, help="Print the address and open nothing.")
def command(*, print_only: bool) -> None:
    """Open the pages in your browser, and print their address. TURNLOG_HOST and PORT set it."""
    url = current_settings().url
    echo(url)
    if not print_only and not _open(url):
        echo("No browser could be started here: open the address yourself.", err=True)
    next_step("sign in with an admin key; no key? turnlog keys create --scope log --scope read --scope admin")


def _open(url: str) -> bool:
    for name in os.environ.keys() - current_settings().without_ours(os.environ).keys():
        del os.environ[name]  # the browser inherits the rest, and needs no key of ours
    return webbrowser.open(url)
