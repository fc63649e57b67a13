"""Signing in with a key, and the ends of a sign-in."""

import time

import pytest

from conversation.access.cached_lookup import FRESH_S
from tests.browser.conftest import key_registry
from tests.pages.conftest import OPERATOR, make_key
from tests.pages.tabs import Tab
from tests.service import Service


def test_a_visitor_signs_in_and_gets_to_the_page(stranger: Tab) -> None:
    stranger.open("/sessions/table?turn=table-2")
    assert stranger.path == "/sign-in?next=/sessions/table?turn%3Dtable-2"
    assert not stranger.is_signed_in()
    stranger.sign_in(OPERATOR)
    assert stranger.path == "/sessions/table?turn=table-2"
    assert stranger.texts("h1") == ["A table for two"]


def test_a_key_with_read_opens_the_pages(stranger: Tab, service: Service) -> None:
    stranger.open("/sign-in?next=/sessions")
    stranger.sign_in(make_key(service, "read").text)
    assert stranger.is_signed_in()
    assert "A table for two" in stranger.texts("main a")


@pytest.mark.parametrize(
    "key", ["correct horse battery staple", "turnlog_sk_" + 30 * "0", "<script>ran('key')</script>", "ключ"]
)
def test_an_invalid_key_opens_nothing(stranger: Tab, key: str) -> None:
    stranger.open("/sign-in?next=/sessions/table")
    stranger.sign_in(key, 401)
    assert "This key is mistyped or incomplete" in stranger.page.get_by_role("alert").inner_text()
    assert stranger.context.cookies() == []
    stranger.sign_in(OPERATOR)  # the way on is still known
    assert stranger.path == "/sessions/table"


def test_a_publishable_key_opens_no_pages(stranger: Tab, service: Service) -> None:
    stranger.open("/sign-in")
    stranger.sign_in(make_key(service, "log", kind="publishable", origins=[service.url]).text, 403)
    assert "publishable key opens no pages" in stranger.page.get_by_role("alert").inner_text()
    assert stranger.context.cookies() == []


def test_a_key_without_read_opens_nothing(stranger: Tab, service: Service) -> None:
    stranger.open("/sign-in?next=/sessions")
    stranger.sign_in(make_key(service, "log").text, 403)
    assert "read" in stranger.main.inner_text()
    assert "A table for two" not in stranger.page.content()


@pytest.mark.parametrize(
    "elsewhere",
    ["https://evil.example/", "//evil.example/", "/\\evil.example", "javascript:ran('next')", "/\t/evil.example"],
)
def test_signing_in_leads_nowhere_else(stranger: Tab, elsewhere: str) -> None:
    stranger.open("/sign-in")
    stranger.page.locator("input[name=next]").evaluate("(field, value) => { field.value = value }", elsewhere)
    stranger.sign_in(OPERATOR)
    assert stranger.path == "/"
    assert stranger.is_signed_in()


def test_signing_out_ends_it_here(stranger: Tab) -> None:
    stranger.open("/sign-in?next=/sessions")
    stranger.sign_in(OPERATOR)
    stranger.send("Sign out")
    assert stranger.page.get_by_role("status").inner_text() == "You are signed out."
    assert stranger.context.cookies() == []
    stranger.open("/sessions")
    assert stranger.path == "/sign-in?next=/sessions"


def test_a_key_that_is_revoked_ends_its_sign_ins(stranger: Tab, service: Service) -> None:
    made = make_key(service, "read")
    stranger.open("/sign-in?next=/sessions")
    stranger.sign_in(made.text)
    assert stranger.path == "/sessions"
    with key_registry(service) as registry:
        registry.revoke(made.key)
    give_up = time.monotonic() + FRESH_S + 20
    while stranger.path == "/sessions":  # a worker believes for a while what it was told of a key
        assert time.monotonic() < give_up
        stranger.page.wait_for_timeout(200)
        stranger.open("/sessions")
    assert stranger.path == "/sign-in?next=/sessions"
    stranger.sign_in(made.text, 401)
    assert "revoked" in stranger.page.get_by_role("alert").inner_text()


def test_scripts_and_other_sites_never_see_the_cookie(stranger: Tab) -> None:
    stranger.open("/sign-in?next=/sessions")
    stranger.sign_in(OPERATOR)
    (cookie,) = [each for each in stranger.context.cookies() if each["name"] != "turnlog_zone"]
    assert cookie["name"].startswith("turnlog-")  # and the port
    assert (cookie["httpOnly"], cookie["sameSite"], cookie["path"]) == (True, "Lax", "/")
    assert OPERATOR not in cookie["value"]
    assert OPERATOR not in stranger.page.evaluate("document.cookie")
    assert cookie["value"] not in stranger.page.evaluate("document.cookie")
