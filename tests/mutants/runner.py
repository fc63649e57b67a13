"""Runs tests again and again in forks of one process that has imported the libraries, and what stays as it is.

Takes a JSON line on stdin, `{"arguments": [...], "within_s": n, "output_path": path}`, and prints pytest's exit status
in a line on stdout; 124 for a run that didn't end in time, 125 for one that broke pytest.
"""

import gc
import importlib
import json
import os
import signal
import sys
import time
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any

LIBRARIES = ["apsw", "comrak", "flask", "flask_bootstrap", "flask_swagger_ui", "httpx",
             "hypothesis.stateful", "jiter", "jwt", "limits.storage", "multiprocessing", "nh3", "openapi_pydantic",
             "playwright.sync_api", "prometheus_client", "psutil", "psycopg", "psycopg_pool", "pydantic", "pytest",
             "_pytest.assertion", "redis", "supabase", "tenacity", "uuid_utils", "wtforms", "xdist.plugin"]  # fmt: skip
#: What is imported of the tree, where only files of SQL are changed.
TREE = ["app", "tests.conftest"]
NO_END = 124
BROKEN = 125  # pytest itself
NOTICED = 1
FAILED = "the first that failed:"


class _Hasty:
    """A plugin of pytest: ends at the first failure, since tearing down what a bug holds up may take a minute."""

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed:
            sys.stdout.write(f"\n{FAILED} {report.nodeid}\n{report.longreprtext}\n")
            sys.stdout.flush()
            os._exit(NOTICED)


def run(arguments: list[str], within_s: float, output_path: str) -> int:
    child = os.fork()
    if child == 0:
        status = BROKEN
        try:
            os.setsid()
            with Path(output_path).open("w") as out:
                os.dup2(out.fileno(), 1)
                os.dup2(out.fileno(), 2)
            status = int(importlib.import_module("pytest").main(arguments, plugins=[_Hasty()]))
        except BaseException:
            traceback.print_exc()
            raise
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
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
    for name in LIBRARIES + sys.argv[1:]:
        importlib.import_module(name)
    gc.freeze()  # no collection in a fork looks through it again
    for line in sys.stdin:
        sys.stdout.write(f"{run(**json.loads(line))}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
