"""A table of where the time of a run went: by file, and the dearest tests. `--durations-table` prints it.

Seconds are those that somebody waited for set-up, call and teardown, added up over all processes of the run.
"""

from collections import defaultdict
from dataclasses import dataclass, field

import pytest

_FILES = 40
_TESTS = 10
_PHASES = ("setup", "call", "teardown")


@dataclass
class _Spent:
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(_PHASES, 0.0))
    tests: int = 0

    @property
    def total(self) -> float:
        return sum(self.seconds.values())

    def add(self, report: pytest.TestReport) -> None:
        self.seconds[report.when] += report.duration
        self.tests += report.when == "setup"

    def line(self, name: str) -> str:
        seconds = "".join(f"{self.seconds[phase]:9.1f}" for phase in _PHASES)
        return f"{self.total:9.1f}{seconds}{self.tests:7d}  {name}"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--durations-table", action="store_true", help="print where the time went, by file and test")


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not terminalreporter.config.getoption("--durations-table"):
        return
    whole, files, tests = _Spent(), defaultdict[str, _Spent](_Spent), defaultdict[str, _Spent](_Spent)
    for report in (each for reports in terminalreporter.stats.values() for each in reports):
        if isinstance(report, pytest.TestReport):
            for spent in (whole, files[report.nodeid.split("::")[0]], tests[report.nodeid]):
                spent.add(report)
    terminalreporter.section("where the time went, in seconds")
    terminalreporter.line("    total" + "".join(f"{phase:>9}" for phase in _PHASES) + "  tests")
    terminalreporter.line(whole.line("all"))
    for spents, most in ((files, _FILES), (tests, _TESTS)):
        terminalreporter.line("")
        for name, spent in sorted(spents.items(), key=lambda each: -each[1].total)[:most]:
            terminalreporter.line(spent.line(name))
