"""A plugin of pytest that notes which lines each test executes: `python -m pytest -p tests.mutants.tracing`.

Only lines that run in pytest's own process count, in any of its threads. What a test's fixtures execute for it counts,
too; what is executed on import counts for no test. Writes a file of `coverage` and one of seconds by test, for each
process of the run, into the folder that `TURNLOG_TEST_TRACES` names.
"""

import json
import os
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import coverage
import pytest

FOLDER = "TURNLOG_TEST_TRACES"
INCLUDED = "TURNLOG_TEST_TRACED"  # patterns of files, one a line


class _Tracing:
    def __init__(self, folder: Path, included: list[str]) -> None:
        self._seconds_path = folder / f"seconds.{os.getpid()}.json"
        self._coverage = coverage.Coverage(
            data_file=str(folder / "coverage"), data_suffix=f"{os.getpid()}", config_file=False, include=included
        )
        self._coverage.start()
        self._seconds = defaultdict[str, float](float)
        self._unfit = set[str]()

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self._coverage.switch_context(item.nodeid)
        try:
            return (yield)
        finally:
            self._coverage.switch_context("")
            fit = {test: seconds for test, seconds in self._seconds.items() if test not in self._unfit}
            self._seconds_path.write_text(json.dumps(fit))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.passed:
            self._seconds[report.nodeid] += report.duration
        else:  # what fails or is skipped without any change notices none
            self._unfit.add(report.nodeid)

    def pytest_sessionfinish(self) -> None:
        self._coverage.stop()
        self._coverage.save()


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("numprocesses", None) and not hasattr(config, "workerinput"):
        return  # the workers run the tests
    config.pluginmanager.register(_Tracing(Path(os.environ[FOLDER]), os.environ[INCLUDED].splitlines()))
