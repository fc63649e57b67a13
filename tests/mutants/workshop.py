"""A copy of the tree to put bugs into, and one database server for all the test runs in it."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from logging_store.embedded.server import EmbeddedPostgres
from tests.databases import server_folder

ROOT = Path(__file__).parent.parent.parent
PARTS = ["app.py", "bench", "conversation", "deploy", "docs", "gunicorn.conf.py", "logging_store", "mkdocs.yml",
         "pyproject.toml", "README.md", "supabase", "tests"]  # fmt: skip
TEST_S = 60
PATIENCE_S = 8
EXAMPLES = 25  # of a property: most bugs show in the first


@dataclass(frozen=True, slots=True)
class Workshop:
    """A copy of the tree."""

    tree: Path
    runner: subprocess.Popen[str]

    @contextmanager
    def changed(self, file: str, source: bytes) -> Iterator[None]:
        """Let a file say something else for a while."""
        path = self.tree / file
        original = path.read_bytes()
        try:
            self._write(path, source)
            self._make_migration(file)
            yield
        finally:
            self._write(path, original)
            self._make_migration(file)

    def complaint(self, tests: Sequence[str], within_s: float) -> str | None:
        """Run tests until one fails, or doesn't end; return its output, or None if all is well."""
        output = self.tree / "pytest-output"
        arguments = ["-q", "-x", "--tb=short", "-p", "no:cacheprovider", "-p", "no:schemathesis",
            # the runner has imported libraries before pytest could rewrite their assertions
            "-W", "ignore::pytest.PytestAssertRewriteWarning",
                     f"--timeout={TEST_S}", *tests]  # fmt: skip
        assert self.runner.stdin is not None
        assert self.runner.stdout is not None
        request = {"arguments": arguments, "within_s": within_s, "output_path": str(output)}
        self.runner.stdin.write(json.dumps(request) + "\n")
        self.runner.stdin.flush()
        status = int(self.runner.stdout.readline())
        return f"{output.read_text()}\npytest ended with {status}" if status else None

    def _make_migration(self, file: str) -> None:
        """Let a changed file of `supabase/schemas` reach the migration, which is what databases are made with."""
        if file.startswith("supabase/schemas/"):
            make = "from tests import migration; migration.FILE.write_text(migration.text(), encoding='utf-8')"
            subprocess.run([sys.executable, "-c", make], cwd=self.tree, check=True)

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
            command = [sys.executable, "-m", "tests.mutants.runner"]
            with subprocess.Popen(
                command, cwd=tree, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            ) as runner:
                yield Workshop(Path(tree), runner)
                runner.communicate()  # it ends with its input
        finally:
            server.stop()
