"""Administration by forms, with and without JavaScript: keys, dead letters, health."""

from collections.abc import Iterator

import pytest

from tests.pages import sample_log
from tests.pages.conftest import Opener, spool_of
from tests.pages.tabs import Tab
from tests.service import Service


@pytest.fixture(params=[True, False], ids=["with JavaScript", "without JavaScript"])
def admin(request: pytest.FixtureRequest, open_pages: Opener) -> Iterator[Tab]:
    with open_pages(java_script_enabled=request.param) as tab:
        yield tab


def test_a_key_is_made_used_and_revoked(admin: Tab, open_tab: Opener) -> None:
    admin.open("/keys")
    admin.page.get_by_label("Name").fill("the night shift")
    for scope, wanted in {"log": False, "read": True, "admin": False}.items():
        admin.page.get_by_label(scope, exact=True).set_checked(wanted)
    admin.send("Create key", 201)
    text = admin.page.locator(".new-key").inner_text()
    with open_tab() as theirs:
        theirs.open("/sign-in?next=/sessions")
        theirs.sign_in(text)
        assert theirs.path == "/sessions"
        assert "Keys" not in theirs.texts("header a")
        theirs.open("/keys", 403)
    admin.open("/keys")
    assert text not in admin.page.content()
    row = admin.page.get_by_role("row", name="the night shift").filter(has=admin.page.get_by_text("Revoke…"))
    row.get_by_text("Revoke…", exact=True).click()
    admin.send(row.get_by_role("button"))
    assert "revoked" in admin.page.get_by_role("status").inner_text()
    assert row.count() == 0


def test_an_invalid_key_form_is_explained_and_keeps_its_input(admin: Tab) -> None:
    admin.open("/keys")
    admin.page.get_by_label("Name").fill("for a page")
    admin.page.get_by_label("publishable: for web pages").check()
    admin.send("Create key", 422)
    assert "origins" in admin.page.get_by_role("alert").inner_text()
    assert admin.page.get_by_label("Name").input_value() == "for a page"


def test_dead_letters_are_sent_again_or_discarded(admin: Tab, service: Service) -> None:
    sample_log.leave_dead_letters(spool_of(service), "Send me again", "Discard me")
    admin.open("/dead-letters")
    again = admin.page.get_by_role("article").filter(has_text="Contradicts what is stored: Send me again")
    admin.send(again.get_by_role("button", name="Resend"))
    assert admin.page.get_by_role("status").inner_text() == "The dead letter was resent and stored."
    assert again.count() == 0
    discarded = admin.page.get_by_role("article").filter(has_text="Contradicts what is stored: Discard me")
    discarded.get_by_text("Discard…").click()
    admin.send(discarded.get_by_role("button", name="Discard"))
    assert admin.page.get_by_role("status").inner_text() == "The dead letter was discarded."
    assert discarded.count() == 0
    admin.open("/sessions")
    assert "Send me again" in admin.texts("main a")
    assert "Discard me" not in admin.page.content()


def test_health_tells_that_writes_are_stored(admin: Tab) -> None:
    admin.open("/health")
    assert "Writable" in admin.page.get_by_role("status").inner_text()


def test_a_folder_shows_its_plan_and_leads_to_its_sessions(admin: Tab) -> None:
    admin.open("/folders")
    with admin.page.expect_navigation():
        admin.page.get_by_role("link", name="Speech lessons").click()
    assert admin.texts(".plan .planned b") == ["1", "2", "3", "4", "5", "6"]
    with admin.page.expect_navigation():
        admin.page.get_by_role("table").get_by_role("link", name="Second lesson").click()
    assert admin.texts("h1") == ["Second lesson"]
    with admin.page.expect_navigation():
        admin.page.get_by_role("link", name="Number 3").click()


def test_the_overview_links_to_the_interactions_behind_its_numbers(admin: Tab) -> None:
    admin.open("/")
    assert "gpt-4o-mini" in admin.texts("main table a")
    with admin.page.expect_navigation():
        admin.page.get_by_role("navigation", name="Span").get_by_role("link", name="7 days").click()
    with admin.page.expect_navigation():
        admin.page.get_by_role("link", name="ben", exact=True).click()
    assert admin.path.startswith("/search?")
    assert "user_id=ben" in admin.path
    assert "Lost luggage" in admin.texts("main a")
    assert "A table for two" not in admin.texts("main a")
