"""Browser tabs on the pages, and signing in there."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import Browser, BrowserContext, Locator, Page, Response

from tests.pages.browser_guard import Watch

_PATIENCE_MS = 30_000


class Tab:
    """One page in one browser, which is watched. `url`: of the service."""

    def __init__(self, context: BrowserContext, url: str, watch: Watch) -> None:
        self.context = context
        self.url = url
        self.watch = watch
        self.page: Page = context.new_page()

    def open(self, path: str, status: int = 200) -> None:
        """Go to a path of the service; it must answer so."""
        answer = self.page.goto(self.url + path)
        assert answer is not None
        self.assert_status(answer, status)

    def assert_status(self, answer: Response, status: int) -> None:
        told = answer.status
        assert told == status, f"{answer.url} answered {told}: {self.page.inner_text('body')[:500]}"
        if status >= 400:  # the browser's console calls that an error
            self.forgive("Failed to load resource")

    def forgive(self, words: str) -> None:
        """Forget an error of the console that a test has provoked; it must be there."""
        self.page.evaluate("0")  # by then it was told
        rest = [each for each in self.watch.found if words not in each]
        assert len(rest) < len(self.watch.found), f"nothing says {words!r}: {self.watch.found}"
        self.watch.found = rest

    def send(self, button: Locator | str, status: int = 200) -> None:
        """Press a button that posts a form, and follow to the page that comes of it."""
        pressed = self.page.get_by_role("button", name=button, exact=True) if isinstance(button, str) else button
        with self.page.expect_navigation() as followed:
            pressed.click()
        self.assert_status(followed.value, status)

    def sign_in(self, key: str, status: int = 200) -> None:
        """Fill in the form of the page that is open."""
        self.page.get_by_label("Key").fill(key)
        self.send(self.page.get_by_role("main").get_by_role("button", name="Sign in"), status)

    @property
    def path(self) -> str:
        """Where the tab is now: path and query."""
        return self.page.url.removeprefix(self.url)

    @property
    def main(self) -> Locator:
        return self.page.get_by_role("main")

    def is_signed_in(self) -> bool:
        return self.page.get_by_role("button", name="Sign out").count() == 1

    def texts(self, css: str) -> list[str]:
        """Return the texts of elements, spaces made one."""
        return [re.sub(r"\s+", " ", text).strip() for text in self.page.locator(css).all_inner_texts()]


@contextmanager
def opened(browser: Browser, url: str, **options: Any) -> Iterator[Tab]:
    """Yield a tab of a browser of its own; at its end it must have done nothing that it shouldn't."""
    context = browser.new_context(**options)
    context.set_default_timeout(_PATIENCE_MS)
    try:
        tab = Tab(context, url, Watch(context, url))
        yield tab
        if not tab.page.is_closed():
            tab.page.wait_for_load_state()
        found = tab.watch.take()
        assert not found, "\n".join(found)
    finally:
        context.close()
