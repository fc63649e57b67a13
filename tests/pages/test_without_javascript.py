"""Everything works without JavaScript, by links and forms."""

from collections.abc import Iterator

import pytest

from tests.pages.conftest import OPERATOR, Opener
from tests.pages.tabs import Tab


@pytest.fixture
def plain(open_tab: Opener) -> Iterator[Tab]:
    with open_tab(java_script_enabled=False) as tab:
        yield tab


def test_sign_in_read_and_sign_out(plain: Tab) -> None:
    plain.open("/sessions")
    plain.sign_in("not a key", 401)
    assert "mistyped" in plain.page.get_by_role("alert").inner_text()
    plain.sign_in(OPERATOR)
    assert plain.path == "/sessions"
    with plain.page.expect_navigation():
        plain.page.get_by_role("link", name="A long evening").click()
    assert plain.texts("h1") == ["A long evening"]
    with plain.page.expect_navigation():
        plain.page.get_by_role("link", name="Later").click()
    assert plain.texts(".bubble.user .text")[0] == "Question 51"
    plain.open("/sessions/table")
    plain.page.get_by_text("tool call: book_table").click()
    assert '"place": "Sipan"' in plain.page.locator("details[open] pre").inner_text()
    plain.send("Sign out")
    assert plain.page.get_by_role("status").inner_text() == "You are signed out."
