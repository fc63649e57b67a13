"""Runs the doctor and `repair` as an operator does, and the commands that they name."""

import json
import shlex
from dataclasses import dataclass
from typing import Any

import psycopg
from click.testing import Result

from app import create_app
from conversation.settings import Settings

Finding = dict[str, Any]


@dataclass(frozen=True)
class Operator:
    """Somebody with a database's address, or a project's key, and a data directory."""

    environment: dict[str, str]
    database: str

    @property
    def settings(self) -> Settings:
        return Settings.from_mapping(self.environment)

    def run(self, *arguments: str) -> Result:
        """Run a command of `turnlog` in a process' place: nothing that it opened is left."""
        return create_app(self.settings).test_cli_runner().invoke(args=list(arguments))

    def find(self, *arguments: str) -> list[tuple[str, Finding]]:
        """Return what the doctor finds, each with its check; the exit status says whether it is anything."""
        result = self.run("doctor", "--json", *arguments)
        told = json.loads(result.stdout)
        found = [(check["check"], finding) for check in told["checks"] for finding in check["findings"]]
        assert (result.exit_code, told["ok"]) == ((1, False) if found else (0, True)), result.output
        return found

    def fix(self, commands: list[str]) -> None:
        """Do what a finding says."""
        for command in commands:
            if not command.startswith("turnlog "):
                self.execute(command)
                continue
            arguments = shlex.split(command, comments=True)[1:]
            result = self.run(*arguments)
            assert result.exit_code == 0, result.output
            if "--print" in arguments:
                self.execute(result.output)  # pasted into the SQL editor

    def execute(self, statement: str) -> list[Any]:
        """Run SQL as the owner of the database; return the rows, if there are any."""
        with psycopg.connect(self.database, autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []
