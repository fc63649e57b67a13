"""Runs tests again and again in forks of one process that has imported the libraries, but nothing of the tree.

Takes a JSON line on stdin, `{"arguments": [...], "within_s": n, "output_path": path}`, and prints pytest's exit status
in a line on stdout; 124 for a run that didn't end in time.
"""

import importlib
import json
import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

LIBRARIES = ["apsw", "flask", "httpx", "hypothesis.stateful", "jiter", "jwt", "multiprocessing", "openapi_pydantic",
             "prometheus_client", "psutil", "psycopg", "psycopg_pool", "pydantic", "pytest", "_pytest.assertion",
             "supabase", "tenacity", "uuid_utils"]  # fmt: skip
NO_END = 124
NOTICED = 1


class _Hasty:
    """A plugin of pytest: ends at the first failure, since tearing down what a bug holds up may take a minute."""

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed:
            sys.stdout.write(f"{report.nodeid}\n{report.longreprtext}\n")
            sys.stdout.flush()
            os._exit(NOTICED)


def run(arguments: list[str], within_s: float, output_path: str) -> int:
    child = os.fork()
    if child == 0:
        status = NO_END
        try:
            os.setsid()
            with Path(output_path).open("w") as out:
                os.dup2(out.fileno(), 1)
                os.dup2(out.fileno(), 2)
            status = int(importlib.import_module("pytest").main(arguments, plugins=[_Hasty()]))
            sys.stdout.flush()
        finally:
            os._exit(status)
    give_up = time.monotonic() + within_s
    while time.monotonic() < give_up:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            with suppress(ProcessLookupError):  # what the tests had started and could not end
                os.killpg(child, signal.SIGKILL)
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.05)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return NO_END


def main() -> None:
    for name in LIBRARIES:
        importlib.import_module(name)
    for line in sys.stdin:
        sys.stdout.write(f"{run(**json.loads(line))}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
