"""A copy of the tree to put bugs into, and one database server for all the test runs in it."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg.conninfo import make_conninfo

from logging_store.embedded.server import EmbeddedPostgres
from logging_store.postgres import migrations
from tests.databases import server_folder
from tests.migration import FILE as MIGRATION
from tests.mutants.runner import FAILED, TREE

ROOT = Path(__file__).parent.parent.parent
PARTS = ["app.py", "bench", "conversation", "deploy", "docs", "gunicorn.conf.py", "logging_store", "mkdocs.yml",
         "pyproject.toml", "README.md", "supabase", "tests"]  # fmt: skip
TEST_S = 60
PATIENCE_S = 8
EXAMPLES = 25  # of a property: most bugs show in the first
_SCRATCH = "scratch"
_FAILED = re.compile(rf"^{FAILED} (\S.*)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Complaint:
    """What tests say against a tree. `test`: the one that failed, if it was one. `status`: of pytest."""

    test: str
    status: int
    output: str


@dataclass(frozen=True, slots=True)
class Workshop:
    """A copy of the tree."""

    tree: Path
    server: str
    runner: subprocess.Popen[str]
    sql_runner: subprocess.Popen[str]  # has imported the tree's Python

    def applies(self, source: str) -> bool:
        """Return whether PostgreSQL takes a file of `supabase/schemas`."""
        with psycopg.connect(make_conninfo(self.server, dbname=_SCRATCH)) as connection:
            try:
                connection.execute(source.encode())
            except psycopg.Error:
                return False
            finally:
                connection.rollback()
        return True

    @contextmanager
    def changed(self, file: str, source: bytes) -> Iterator[None]:
        """Let a file say something else for a while."""
        path = self.tree / file
        original = path.read_bytes()
        try:
            self._write(path, source)
            self._migrate(file, original, source)
            yield
        finally:
            self._write(path, original)
            self._migrate(file, source, original)

    def complaint(self, tests: Sequence[str], within_s: float, *, changed: str = "") -> Complaint | None:
        """Run tests until one fails, or doesn't end; return None if all is well. `changed`: the file that is."""
        runner = self.sql_runner if changed.endswith(".sql") else self.runner
        output = self.tree / "pytest-output"
        arguments = ["-q", "-x", "--tb=short", "-p", "no:cacheprovider", "-p", "no:schemathesis",
            # the runner has imported libraries before pytest could rewrite their assertions
            "-W", "ignore::pytest.PytestAssertRewriteWarning",
                     f"--timeout={TEST_S}", *tests]  # fmt: skip
        assert runner.stdin is not None
        assert runner.stdout is not None
        request = {"arguments": arguments, "within_s": within_s, "output_path": str(output)}
        runner.stdin.write(json.dumps(request) + "\n")
        runner.stdin.flush()
        status = int(runner.stdout.readline())
        self._drop_databases()
        if not status:
            return None
        said = output.read_text(errors="replace")
        failed = _FAILED.search(said)
        return Complaint(failed[1] if failed else "", status, f"{said}\npytest ended with {status}")

    def _drop_databases(self) -> None:
        """Drop what a run had no time to drop."""
        with psycopg.connect(self.server, autocommit=True) as connection:
            rows = connection.execute("select datname from pg_database where datname like 'turnlog\\_t%'").fetchall()
            for (name,) in rows:
                connection.execute(f"drop database if exists {name} with (force)".encode())

    def _migrate(self, file: str, before: bytes, after: bytes) -> None:
        """Let a changed file of `supabase/schemas` reach the migration, which is what databases are made with."""
        if file.startswith("supabase/schemas/"):
            migration = self.tree / MIGRATION.relative_to(ROOT)
            text = migration.read_bytes()
            assert text.count(before) == 1
            migration.write_bytes(text.replace(before, after))

    def _write(self, path: Path, source: bytes) -> None:
        path.write_bytes(source)
        # compiled code is told from its source by second and size only
        Path(importlib.util.cache_from_source(str(path))).unlink(missing_ok=True)


@contextmanager
def opened() -> Iterator[Workshop]:
    with server_folder() as folder, tempfile.TemporaryDirectory(prefix="turnlog-mutants-") as tree:
        for part in PARTS:
            source, target = ROOT / part, Path(tree) / part
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, target)
        server = EmbeddedPostgres(folder)
        server.start()
        try:
            environment = {
                **os.environ,
                "TURNLOG_TEST_DATABASE_URL": server.conninfo(),
                "TURNLOG_TEST_PATIENCE_S": str(PATIENCE_S),
                "TURNLOG_TEST_EXAMPLES": str(EXAMPLES),
            }
            with psycopg.connect(server.conninfo(), autocommit=True) as connection:
                connection.execute(f"create database {_SCRATCH}".encode())
            migrations.migrate(make_conninfo(server.conninfo(), dbname=_SCRATCH))
            with (
                _runner(Path(tree), environment, []) as runner,
                _runner(Path(tree), environment, TREE) as sql_runner,
            ):
                yield Workshop(Path(tree), server.conninfo(), runner, sql_runner)
        finally:
            server.stop()


@contextmanager
def _runner(tree: Path, environment: dict[str, str], modules: list[str]) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "tests.mutants.runner", *modules]
    with subprocess.Popen(
        command, cwd=tree, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as runner:
        yield runner
        runner.communicate()  # it ends with its input
