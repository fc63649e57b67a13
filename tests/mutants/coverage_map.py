"""Which tests execute which lines: made once for a commit by running the tests, then kept in `.mutants/`."""

import ast
import json
import os
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import chain, zip_longest
from pathlib import Path

from coverage import CoverageData

from tests.mutants import tracing
from tests.mutants.workshop import EXAMPLES, PATIENCE_S, ROOT

CACHE = ROOT / ".mutants"
#: Tests that run what is changed in their own process, those that are worth their time.
_TRACED_TESTS = ["tests/access", "tests/api", "tests/redaction", "tests/scenarios", "tests/spool", "tests/store",
                 "tests/turns", "tests/pages/test_sign_in.py", "tests/pages/test_by_keys.py"]  # fmt: skip
_MOST_S = 120  # of tests at once for one change, as long as they took with a trace
_FIRST_FILES = 3  # a run imports each file of its tests
_LEAST_S = 0.05  # a test that takes less isn't better for it


@dataclass(frozen=True, slots=True)
class CoverageMap:
    """`tests`: by file and line, those that execute it. `seconds`: what each takes. `breadth`: lines it executes."""

    tests: dict[str, dict[int, list[str]]]
    seconds: dict[str, float]
    breadth: dict[str, int]

    def tests_of(self, file: str, source: str, first: int, last: int) -> list[list[str]]:
        """Return tests of some lines in the order to run them: those that most likely notice a change, then others.

        Lines of a class are executed on import, for no test: their tests are those of the class's methods.
        """
        lines = self.tests.get(file, {})
        found = set(chain.from_iterable(lines.get(line, ()) for line in range(first, last + 1)))
        if not found:
            first, last = _around(source, first)
            found = set(chain.from_iterable(lines.get(line, ()) for line in range(first, last + 1)))
        if not found:  # a class without methods
            found = set(chain.from_iterable(lines.values()))
        own = Counter(chain.from_iterable(lines.values()))
        by_file = self._by_file(found, own)
        return [_affordable(by_file[:_FIRST_FILES], self.seconds), _affordable(by_file[_FIRST_FILES:], self.seconds)]

    def tests_in(self, *parts: Iterable[str]) -> list[list[str]]:
        """Return tests of some files, as many of each part as can be afforded."""
        return [
            _affordable(
                self._by_file((test for test in self.seconds if test.partition("::")[0] in files), self.breadth),
                self.seconds,
            )
            for files in map(set, parts)
        ]

    def _by_file(self, tests: Iterable[str], own: Mapping[str, int]) -> list[list[str]]:
        """Return tests by file, the best first, as well of the files as in each.

        The best are quick, and a large part of the lines that they execute are `own` ones, of the changed file.
        """

        def price(test: str) -> float:
            return max(self.seconds[test], _LEAST_S) * self.breadth[test] / max(own[test], 1)

        by_file = defaultdict[str, list[str]](list)
        for test in sorted(tests, key=price):
            by_file[test.partition("::")[0]].append(test)
        return list(by_file.values())


def _affordable(by_file: Iterable[list[str]], seconds: Mapping[str, float]) -> list[str]:
    """Return one test of each file, then the next ones, until the time is spent."""
    left, tests = float(_MOST_S), []
    for test in filter(None, chain.from_iterable(zip_longest(*by_file))):
        left -= seconds[test]
        if left < 0:
            break
        tests.append(test)
    return tests


def _around(source: str, line: int) -> tuple[int, int]:
    """Return the first and last line of the smallest function or class around a line."""
    spans = [
        (node.lineno, node.end_lineno or node.lineno)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.lineno <= line <= (node.end_lineno or node.lineno)
    ]
    return min(spans, key=lambda span: span[1] - span[0], default=(line, line))


def of_commit(files: Iterable[str]) -> CoverageMap:
    """Return the map of the commit that is checked out, made anew if it isn't cached."""
    folder = CACHE / _git("rev-parse", "HEAD")
    if _git("status", "--porcelain", "--", "conversation", "logging_store"):
        sys.exit("Commit the changes in conversation/ and logging_store/ first: the coverage map is a commit's.")
    if not (folder / "done").exists():
        _make(folder)
    return read(folder, files)


def _make(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for each in folder.iterdir():
        each.unlink()
    environment = {
        **os.environ,
        tracing.FOLDER: str(folder),
        tracing.INCLUDED: "*/conversation/*\n*/logging_store/*",
        "TURNLOG_TEST_PATIENCE_S": str(PATIENCE_S),
        "TURNLOG_TEST_EXAMPLES": str(EXAMPLES),
    }
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.mutants.tracing", "--numprocesses", "logical",
               "--maxprocesses", "4", "--dist", "worksteal", "-m", "not (browser or faults or slow)",
               "-k", "not supabase", *_TRACED_TESTS]  # fmt: skip
    subprocess.run(command, cwd=ROOT, env=environment, check=True)
    (folder / "done").touch()


def read(folder: Path, files: Iterable[str]) -> CoverageMap:
    """Return the map that a traced run of the tests left in a folder."""
    seconds: dict[str, float] = {}
    for path in folder.glob("seconds.*.json"):
        seconds |= json.loads(path.read_text())
    tests: dict[str, dict[int, list[str]]] = {file: defaultdict(list) for file in files}
    breadth = Counter[str]()
    for path in folder.glob("coverage.*"):
        data = CoverageData(str(path))
        data.read()
        for measured in data.measured_files():
            lines = data.contexts_by_lineno(measured)
            breadth.update(test for tests_ in lines.values() for test in tests_)
            if (file := str(Path(measured).relative_to(ROOT))) in tests:
                for line, executing in lines.items():
                    tests[file][line] += [test for test in executing if test in seconds]
    return CoverageMap(tests, seconds, breadth)


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()
