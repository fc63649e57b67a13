"""Base classes of the commands: examples in the help, suggestions for mistyped names, errors in one sentence.

Commands print with the functions of this module alone (a linter refuses click's own), so that no text of a caller moves
a terminal's cursor, changes its title, or begins a line of its own.
"""

from __future__ import annotations

import importlib
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from types import TracebackType
from typing import Any, NamedTuple, NoReturn

import click

from conversation.printable import one_line, several_lines, visible_json
from logging_store.errors import TurnlogError

Example = tuple[str, str]
"""A command line without `turnlog`, and what it does."""

_CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


class Entry(NamedTuple):
    """A command that is imported when it is used. `module`: holds its `command`; `summary`: its line in lists."""

    module: str
    summary: str


class Command(click.Command):
    """A command whose errors are sentences; `examples` end its help."""

    def __init__(self, *args: Any, examples: Sequence[Example] = (), **kwargs: Any) -> None:
        kwargs["context_settings"] = _CONTEXT | (kwargs.get("context_settings") or {})
        super().__init__(*args, **kwargs)
        self.examples = examples

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        super().format_epilog(ctx, formatter)
        write_examples(self.examples, formatter)

    def make_context(self, *args: Any, **settings: Any) -> click.Context:
        with _printable_errors():
            return super().make_context(*args, **settings)

    def invoke(self, ctx: click.Context) -> Any:
        with _printable_errors():
            return super().invoke(ctx)


class Group(Command, click.Group):
    """A group of commands that suggests a name for a mistyped one."""

    command_class = Command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if not name.startswith("-") and not ctx.resilient_parsing and self.get_command(ctx, name) is None:
            self._refuse(ctx, name)
        return super().resolve_command(ctx, args)

    def _refuse(self, ctx: click.Context, name: str) -> NoReturn:
        known = self.list_commands(ctx)
        likely = _ALSO_CALLED.get(name)
        likely = likely if likely in known else next(iter(get_close_matches(name, known, 1)), None)
        path = ctx.command_path
        hint = f" Did you mean `{path} {likely}`?" if likely else ""
        ctx.fail(f"There is no command `{path} {name}`.{hint}")


#: Names of these commands in other tools.
_ALSO_CALLED = {"run": "serve", "start": "serve", "server": "serve", "up": "serve", "dump": "backup", "check": "doctor"}


class LazyGroup(Group):
    """Commands that are imported when they are used. `sections`: the commands under the headings of the help."""

    def __init__(self, *args: Any, sections: Mapping[str, Mapping[str, Entry]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.sections = sections
        self.entries = {name: entry for section in sections.values() for name, entry in section.items()}

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's
        return list(self.entries)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's
        entry = self.entries.get(cmd_name)
        return load(entry) if entry else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's
        for heading, commands in self.sections.items():
            with formatter.section(heading):
                formatter.write_dl([(name, entry.summary) for name, entry in commands.items()], col_spacing=2)


def load(entry: Entry) -> click.Command:
    """Import and return a command of the table."""
    command: click.Command = importlib.import_module(entry.module).command
    return command


def new_command(
    name: str, *, examples: Sequence[Example] = (), **settings: Any
) -> Callable[[Callable[..., Any]], Command]:
    """Return a decorator that turns a function into a command, as `click.command` does, with examples."""
    return click.command(name, cls=Command, examples=examples, **settings)


def write_examples(examples: Sequence[Example], formatter: click.HelpFormatter) -> None:
    """Append examples to a help text, each command line below what it does."""
    if not examples:
        return
    with formatter.section("Examples"):
        indent = " " * formatter.current_indent
        for number, (line, meaning) in enumerate(examples):
            if number:
                formatter.write("\n")
            formatter.write_text(f"{meaning}:")
            formatter.write(f"{indent}  turnlog {line}\n")


def echo(*lines: str, err: bool = False, bold: bool = False) -> None:
    """Print lines. What isn't printable in a line is escaped, line breaks as well."""
    for line in lines or [""]:
        click.secho(one_line(line), err=err, bold=bold or None)  # noqa: TID251 - the one place


def echo_json(document: str) -> None:
    """Print a JSON document. What isn't printable in its strings is escaped as JSON does it."""
    click.echo(visible_json(document))  # noqa: TID251 - the one place


def echo_source(text: str) -> None:
    """Print a script of ours as it is, for a file or another program. It may hold no text of a caller."""
    click.echo(text)  # noqa: TID251 - the one place


def next_step(*lines: str) -> None:
    """Print what to do next, on standard error."""
    echo(*(f"Next: {line}" if not number else f"      {line}" for number, line in enumerate(lines)), err=True)


def print_unexpected(kind: type[BaseException], error: BaseException, stack: TracebackType | None) -> None:
    """Print an error that nobody expected, as Python does, but only with what is printable."""
    print(several_lines("".join(traceback.format_exception(kind, error, stack)).rstrip()), file=sys.stderr)  # noqa: T201


@contextmanager
def _printable_errors() -> Iterator[None]:
    """Make an error of Turnlog the command's, in one sentence, and every message printable."""
    try:
        yield
    except TurnlogError as error:
        raise click.ClickException(several_lines(str(error))) from error
    except click.ClickException as error:
        vars(error)["message"] = several_lines(error.message)  # click calls it final, and prints no other
        raise
