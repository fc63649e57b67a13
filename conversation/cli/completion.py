"""`turnlog completion`: the script by which a shell completes commands and options."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from conversation.cli.base import echo_source, new_command

_SHELLS = ("bash", "zsh", "fish")


@new_command(
    "completion",
    examples=[
        ("completion bash >> ~/.bashrc", "bash"),
        ("completion zsh >> ~/.zshrc", "zsh, below the line that runs compinit"),
        ("completion fish > ~/.config/fish/completions/turnlog.fish", "fish"),
    ],
)
@click.argument("shell", type=click.Choice(_SHELLS))
def command(*, shell: str) -> None:
    """Print the script that lets your shell complete Turnlog's commands and options with the Tab key."""
    from conversation.cli.main import command as turnlog

    script = get_completion_class(shell)
    assert script is not None  # noqa: S101 - click knows these shells
    echo_source(script(turnlog, {}, "turnlog", "_TURNLOG_COMPLETE").source())
