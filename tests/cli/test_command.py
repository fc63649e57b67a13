"""`turnlog` itself: its help, its likely names, and how much it imports before a command's own work."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import click
import pytest
from click.testing import CliRunner

from app import create_app
from conversation import VERSION
from conversation.cli import export, import_, keys
from conversation.cli.base import Command, Group
from conversation.cli.main import command as top
from conversation.keys.api_keys import KeyKind
from conversation.keys.callers import Scope
from conversation.settings import Settings
from tests.cli.conftest import ROOT, Turnlog
from tests.service import inherited

#: Each of these takes a tenth of a second or more, or stands for a room that does.
HEAVY = {
    *("flask", "jinja2", "werkzeug", "pydantic", "psycopg", "supabase", "httpx", "gunicorn", "apsw", "jwt", "app"),
    *("conversation.settings", "conversation.stack", "conversation.api", "conversation.pages", "conversation.access"),
}


def every_command(
    group: click.Group = top, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        found = group.get_command(context, name)
        assert found is not None
        yield (*path, name), found
        if isinstance(found, click.Group):
            yield from every_command(found, (*path, name))


COMMANDS = list(every_command())
NAMES = [" ".join(path) for path, _ in COMMANDS]


@pytest.mark.parametrize(
    "arguments", ["--version", "--help", "keys --help", "keys create --help", "import --help", "serve --help", "kyes"]
)
def test_nothing_heavy_is_imported_before_a_commands_own_work(arguments: str) -> None:
    code = (
        "import atexit, sys; atexit.register(lambda: print(*sys.modules));"
        "from conversation.cli.main import main; main()"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, *arguments.split()],
        capture_output=True, text=True, check=False, cwd=ROOT, env=inherited(), timeout=60,
    )  # fmt: skip
    imported = set(run.stdout.splitlines()[-1].split())
    assert "conversation.cli.main" in imported
    assert HEAVY & imported == set()


def test_the_version_is_the_packages(turnlog: Turnlog) -> None:
    assert turnlog("--version").stdout == f"turnlog {VERSION}\n"


@pytest.mark.parametrize(("path", "command"), COMMANDS, ids=NAMES)
def test_every_help_says_what_a_command_does_and_shows_how(path: tuple[str, ...], command: click.Command) -> None:
    assert isinstance(command, Command | Group)
    assert command.examples
    text = CliRunner().invoke(top, [*path, "--help"], prog_name="turnlog").stdout
    assert text.startswith(f"Usage: turnlog {' '.join(path)}")
    for line, _ in command.examples:
        assert line.split()[: len(path)] == list(path), "an example of another command"
        assert f"    turnlog {line}\n" in text
    undocumented = [each.name for each in command.params if isinstance(each, click.Option) and not each.help]
    assert undocumented == []


@pytest.mark.parametrize(("path", "command"), COMMANDS, ids=NAMES)
def test_every_example_could_be_run(path: tuple[str, ...], command: click.Command) -> None:
    """Parse each example, and run none: what a shell would keep for itself is left out."""
    assert isinstance(command, Command | Group)
    for line, _ in command.examples:
        words = re.split(r" [>|#]", line)[0].split()
        found: click.Command = top
        context = click.Context(top, info_name="turnlog")
        while isinstance(found, click.Group) and words:
            name = words.pop(0)
            inner = found.get_command(context, name)
            assert inner is not None, line
            context, found = click.Context(inner, context, name, **inner.context_settings), inner
        parser = found.make_parser(context)
        parser.parse_args(words)  # raises for an option that there isn't


def test_the_list_of_commands_says_what_each_help_says() -> None:
    for name, entry in top.entries.items():
        command = top.get_command(click.Context(top), name)
        assert command is not None
        assert entry.summary.endswith(".")
        assert command.help, name


@pytest.mark.parametrize(
    ("arguments", "likely"),
    [
        (["kyes", "list"], "turnlog keys"),
        (["keys", "crate"], "turnlog keys create"),
        (["seve"], "turnlog serve"),
        (["run"], "turnlog serve"),
        (["start"], "turnlog serve"),
        (["migarte"], "turnlog migrate"),
        (["spool", "retyr"], "turnlog spool retry"),
        (["keys", "create", "--nmae", "x"], "--name"),
        (["import", "--formt", "turnlog"], "--format"),
        (["demo", "--prot", "1"], "--port"),
    ],
)
def test_a_mistyped_name_is_answered_with_the_likely_one(turnlog: Turnlog, arguments: list[str], likely: str) -> None:
    run = turnlog(*arguments)
    assert run.returncode == 2
    assert "Did you mean" in run.stderr
    assert likely in run.stderr


def test_what_resembles_nothing_gets_no_hint(turnlog: Turnlog) -> None:
    run = turnlog("xyzzy")
    assert (run.returncode, "Did you mean" in run.stderr) == (2, False)
    assert "There is no command `turnlog xyzzy`." in run.stderr


def test_a_mistyped_setting_is_answered_with_the_likely_one(turnlog: Turnlog) -> None:
    run = turnlog("keys", "list", TURNLOG_KEYLES="1")
    assert run.returncode == 1
    assert run.stderr.startswith("Error: TURNLOG_KEYLES is not a setting of Turnlog. Did you mean TURNLOG_KEYLESS?\n")


def test_a_setting_without_the_prefix_is_meant_by_its_own_name(turnlog: Turnlog) -> None:
    assert "Did you mean DATA_DIR?" in turnlog("keys", "list", TURNLOG_DATA_DIR="x").stderr
    assert "Did you mean PORT?" in turnlog("keys", "list", TURNLOG_PORT="1").stderr


def test_a_spool_is_looked_for_where_a_log_is(turnlog: Turnlog, tmp_path: Path) -> None:
    run = turnlog("spool", "status", DATA_DIR=str(tmp_path / "nowhere"))
    assert (run.returncode, run.stdout) == (1, "")
    assert "No Turnlog log in" in run.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_can_complete_commands(turnlog: Turnlog, shell: str) -> None:
    script = turnlog("completion", shell)
    assert script.returncode == 0
    assert f"_TURNLOG_COMPLETE={shell}_complete" in script.stdout
    words = {"bash": "turnlog ke", "zsh": "turnlog ke", "fish": "ke"}[shell]
    answer = turnlog(
        _TURNLOG_COMPLETE=f"{shell}_complete",
        COMP_WORDS=words if shell != "fish" else "turnlog",
        COMP_CWORD="1" if shell != "fish" else "ke",
    )
    assert "keys" in answer.stdout


def test_the_literals_of_the_command_line_are_those_of_the_rooms() -> None:
    assert get_args(Scope) == keys.SCOPES
    assert get_args(KeyKind) == keys.KINDS
    assert all(callable(import_.reader(name)) for name in import_.FORMATS)
    assert all(callable(export.writer(name)) for name in export.FORMATS)


def test_flask_runs_the_same_commands() -> None:
    app = create_app(Settings.from_mapping({}))
    names = app.cli.list_commands(click.Context(app.cli))
    assert set(names) == set(top.entries)
    shown = app.test_cli_runner().invoke(args=["keys", "create", "--help"])
    assert "turnlog keys create --name backend" in shown.stdout


def test_what_only_looks_makes_no_log(turnlog: Turnlog, tmp_path: Path) -> None:
    for arguments in (
        ["keys", "list"],
        ["export"],
        ["projects", "list"],
        ["psql"],
        ["ledger"],
        ["index"],
        ["selftest"],
    ):
        run = turnlog(*arguments)
        assert run.returncode == 1, arguments
        assert run.stderr == (
            "Database: embedded, data/postgres\n"
            "Error: No Turnlog log in data. If yours is elsewhere, set DATA_DIR to its folder; "
            "`turnlog serve` creates a new one here\n"
        )
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"DATABASE_URL": "postgresql://ada:hunter2-hunter2@127.0.0.1:1/log"}, "PostgreSQL at 127.0.0.1:1/log"),
        (
            {"SUPABASE_URL": "http://127.0.0.1:1", "SUPABASE_SECRET_KEY": "hunter2-hunter2"},
            "Supabase project at 127.0.0.1:1",
        ),
    ],
)
def test_a_command_names_its_database_and_no_secret(turnlog: Turnlog, settings: dict[str, str], named: str) -> None:
    run = turnlog("keys", "list", "--json", **settings)
    assert run.returncode == 1
    assert run.stderr.startswith(f"Database: {named}\nError: ")
    assert "hunter2" not in run.stderr + run.stdout


def test_open_prints_where_the_pages_are(turnlog: Turnlog) -> None:
    assert turnlog("open", "--print").stdout == "http://127.0.0.1:8000\n"
    assert turnlog("open", "--print", TURNLOG_HOST="::1", PORT="8123").stdout == "http://[::1]:8123\n"
    assert turnlog("open", "--print", TURNLOG_HOST="0.0.0.0").stdout == "http://127.0.0.1:8000\n"  # noqa: S104


def test_a_log_is_made_by_migrate_and_then_found(turnlog: Turnlog, tmp_path: Path) -> None:
    made = turnlog("migrate")
    assert made.returncode == 0, made.stderr
    assert made.stderr == "Database: embedded, data/postgres\nNext: turnlog serve\n"
    created = turnlog("keys", "create", "--name", "backend")
    assert created.returncode == 0, created.stderr
    assert "Store it now: it can't be shown again." in created.stderr
    (key,) = json.loads(turnlog("keys", "list", "--json").stdout)["keys"]
    assert created.stdout.startswith(key["hint"])
    # - is standard output, and no file of that name
    exported = turnlog("export", "-o", "-")
    assert (exported.returncode, exported.stdout) == (0, "")
    assert [each.name for each in tmp_path.iterdir()] == ["data"]


def test_no_hint_names_another_command_than_turnlog() -> None:
    """Flask's command only works in a checkout, and its virtual environment isn't where others are."""
    folders = [ROOT / "conversation", ROOT / "logging_store"]
    files = [file for folder in folders for file in folder.rglob("*.*") if file.suffix in {".py", ".html", ".js"}]
    assert len(files) > 200
    stray = re.compile(r"flask --app|`flask |\.venv/bin")
    found = [file.name for file in files if stray.search(file.read_text(encoding="utf-8"))]
    assert found == ["flask_commands.py"]
