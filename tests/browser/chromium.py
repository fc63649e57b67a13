"""The browser that the tests drive: found on this machine, or installed by `python -m tests.browser.chromium`."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from unittest import mock

from playwright.sync_api import Browser, Error, Playwright, sync_playwright

from tests import guardian

FOREIGN_NAME = "chat.test"  # of this machine, in the tests' browser; a page of it has no TLS
_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_INSTALL_S = 600
_MISSING = (
    "The tests drive a real Chromium and found none: install one as `chromium` or `google-chrome`, by your system's "
    "package manager or by `.venv/bin/playwright install --with-deps chromium`"
)


def find(playwright: Playwright) -> str:
    """Return the path of Playwright's own browser, or of one that is installed. Raises `FileNotFoundError`."""
    own = playwright.chromium.executable_path
    if Path(own).exists():
        return own
    for name in _NAMES:
        if path := shutil.which(name):
            return path
    raise FileNotFoundError(_MISSING)


@contextmanager
def running(*arguments: str) -> Iterator[Browser]:
    """Yield a headless browser."""
    with ExitStack() as stack:
        temporary = stack.enter_context(guardian.folder())
        with mock.patch.dict(os.environ, TMPDIR=str(temporary)):  # for profiles, which a killed driver doesn't remove
            playwright = stack.enter_context(sync_playwright())
        # it refuses to be root within its sandbox; the pages are the tests' own
        rooted = ("--no-sandbox",) if os.geteuid() == 0 else ()
        browser = playwright.chromium.launch(executable_path=find(playwright), args=[*rooted, *arguments])
        yield browser
        browser.close()


def _install() -> None:
    """Install a browser as this machine can: Playwright's own, or the distribution's package as root."""
    print("No Chromium is here yet: installing one for the tests", flush=True)  # noqa: T201
    ways = [[sys.executable, "-m", "playwright", "install", "chromium"]]
    if os.geteuid() == 0 and shutil.which("apt-get"):
        ways += [["apt-get", "update"], ["apt-get", "install", "--yes", "chromium"]]
    for way in ways:
        with suppress(subprocess.TimeoutExpired):  # the next way may work
            subprocess.run(way, check=False, timeout=_INSTALL_S, stdout=subprocess.DEVNULL)
        if _opens():
            return
    sys.exit(_MISSING)


def _opens() -> bool:
    try:
        with running():
            return True
    except (FileNotFoundError, Error):
        return False


if __name__ == "__main__":
    if not _opens():
        _install()
