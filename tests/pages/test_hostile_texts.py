"""Hostile text in conversations: nothing of it runs, loads, or becomes a part of a page."""

from collections.abc import Iterator
from functools import partial
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from playwright.sync_api import Browser

from tests.browser.conftest import key_registry
from tests.databases import TestServer
from tests.pages import hostile_log, sample_log, tabs
from tests.pages.browser_guard import Watch
from tests.pages.conftest import OPERATOR, Opener, calling, serving, spool_of
from tests.pages.payloads import FAMILIES, PAYLOADS
from tests.pages.tabs import Tab
from tests.service import Service

pytestmark = pytest.mark.timeout(900)  # hundreds of pages, on whatever machine

#: What pages are made of. `svg` are ours where nothing else is in them.
_TAGS = """
html head meta title script link body a header nav main aside footer ul ol li button span b bdi form h1 h2 h3 h4 h5
h6 section article div p dl dt dd table caption thead tbody tfoot tr th td details summary pre code textarea time
input label select option optgroup fieldset legend mark blockquote q kbd progress em strong del s small br hr figure
figcaption datalist svg g path rect line circle title polyline polygon text tspan
"""

#: What pages are asked by.
_PARAMETERS = {
    "/": "span from to by zone",
    "/sessions": "name user_id folder tag metadata rating untagged unrated min_turns max_turns model status has_errors"
    " implicit from to sort cursor limit message",
    "/search": "user_id session model from to order words cursor limit",
    "/live": "model has_errors error from to cursor",
    "/folders": "user_id cursor",
    "/dead-letters": "after",
}

_SHARES = 3  # each parameter is tried with every third family, since each takes a page to load

#: Opens all that is folded; returns what is on a page and isn't ours.
_FOREIGNERS = """(tags) => {
    for (const each of document.querySelectorAll('details')) each.open = true;
    const found = [];
    const say = (what, each) => found.push(`${what}: ${each.outerHTML.slice(0, 200)}`);
    for (const each of document.querySelectorAll('*')) {
        if (!tags.includes(each.localName)) say('an element', each);
        if (each.hasAttribute('data-theirs')) say('theirs', each);
        if (each.shadowRoot) say('a shadow', each);
        for (const {name, value} of each.attributes) {
            if (/^on|^style$|^srcdoc$|^formaction$|^ping$|^hx-|^x-/.test(name)) say(name, each);
            if (!/^(href|src|srcset|action|data|poster|background|xlink:href)$/.test(name)) continue;
            const address = new URL(value, location.href);
            if (address.origin === location.origin) continue;
            const leads = name === 'href' && each.localName === 'a' && /^https?:$/.test(address.protocol)
                && each.rel.includes('noopener') && each.closest('.text');
            if (!leads) say(`${name} to ${address}`, each);
        }
    }
    if (document.baseURI !== location.href) found.push(`the base is ${document.baseURI}`);
    for (const each of document.scripts) if (!each.src) say('a script', each);
    for (const each of document.querySelectorAll('meta:not([charset], [name=viewport])')) say('a meta', each);
    return found;
}"""


@pytest.fixture(scope="module")
def hostile_service(postgres_server: TestServer) -> Iterator[Service]:
    """Yield a service whose log holds each payload in every text."""
    with serving(postgres_server) as service, calling(service) as client:
        hostile_log.fill(client, PAYLOADS)
        sample_log.leave_dead_letters(spool_of(service), *PAYLOADS)
        with key_registry(service) as registry:
            hostile_log.make_keys(registry, PAYLOADS)
        yield service


@pytest.fixture(scope="module")
def open_hostile(chromium: Browser, hostile_service: Service) -> Opener:
    with tabs.opened(chromium, hostile_service.url) as tab:
        tab.open("/sign-in?next=/sessions")
        tab.sign_in(OPERATOR)
        return partial(tabs.opened, chromium, hostile_service.url, storage_state=tab.context.storage_state())


@pytest.fixture
def hostile_tab(open_hostile: Opener) -> Iterator[Tab]:
    with open_hostile() as tab:
        yield tab


def test_there_are_two_hundred_of_them() -> None:
    assert len(set(PAYLOADS)) == len(PAYLOADS) >= 200


def test_the_guard_sees_scripts_and_requests(chromium: Browser, hostile_service: Service) -> None:
    """A watch that sees nothing would find every page harmless: here it looks at pages without any defence."""
    context = chromium.new_context()
    try:
        watch = Watch(context, hostile_service.url)
        page = context.new_page()
        page.set_content("<script>ran(1)</script><img src='https://evil.example/x.png'><p onclick='ran(2)'>x</p>")
        page.set_content("<script>alert(1); throw Error('x')</script>")
        page.wait_for_load_state()
        found = "\n".join(watch.take())
        assert "a script of others ran on" in found
        assert "GET https://evil.example/x.png was asked for" in found
        assert "a dialog opened: 1" in found
        assert "a script of ours failed" in found
        page.set_content("<svg onload=x></svg><a href='javascript:ran(1)'>x</a><base href='https://evil.example/'>")
        assert len(page.evaluate(_FOREIGNERS, _TAGS.split())) >= 3
    finally:
        context.close()


@pytest.mark.parametrize("family", list(FAMILIES))
def test_a_conversation_shows_them_as_they_are_written(hostile_tab: Tab, family: str) -> None:
    for payload in FAMILIES[family]:
        visit(hostile_tab, f"/sessions/{quote(hostile_log.name(payload), safe='')}")
        assert hostile_tab.page.locator(".turn").count() == 3
        assert spaced(payload) in spaced(hostile_tab.page.locator(".bubble.user .text").first.inner_text())
        assert spaced(payload) in spaced(hostile_tab.page.locator("h1").first.inner_text())  # answers have some, too


def test_files_of_them_are_no_pages(hostile_tab: Tab) -> None:
    for first, *_ in FAMILIES.values():
        visit(hostile_tab, f"/sessions/{quote(hostile_log.name(first), safe='')}/json", is_ours=False)
        assert hostile_tab.page.evaluate("document.contentType") == "application/json"


@pytest.mark.parametrize("path", ["/sessions", "/folders", "/keys", "/dead-letters"])
def test_lists_show_them_as_they_are_written(hostile_tab: Tab, path: str) -> None:
    shown = walk(hostile_tab, path)
    missing = [each for each in PAYLOADS if spaced(each) not in shown and spaced(hostile_log.name(each)) not in shown]
    assert not missing


@pytest.mark.parametrize("path", ["/", "/?span=90d", "/health", "/live", "/search?q=evil&limit=50"])
def test_lists_contain_no_elements_of_hostile_texts(hostile_tab: Tab, path: str) -> None:
    walk(hostile_tab, path)


@pytest.mark.parametrize("family", list(FAMILIES))
def test_a_folder_shows_them_as_they_are_written(hostile_tab: Tab, family: str) -> None:
    for payload in FAMILIES[family]:
        visit(hostile_tab, f"/folders/{quote(hostile_log.name(payload), safe='')}")
        assert spaced(payload) in spaced(hostile_tab.page.locator("h1").inner_text())


@pytest.mark.parametrize("family", list(FAMILIES))
def test_hostile_parameters_are_shown_as_text(hostile_tab: Tab, family: str) -> None:
    """Addresses carry them, too: in the path, and in each parameter."""
    for payload in FAMILIES[family]:
        visit(hostile_tab, f"/sessions/nobody{quote(hostile_log.name(payload), safe='')}", 404)
        visit(hostile_tab, f"/sign-in?{urlencode({'next': f'/{payload}', 'said': payload, 'kept': payload})}", None)
        visit(hostile_tab, f"/search?{urlencode({'q': payload})}", None)
    payload = FAMILIES[family][0]
    visit(hostile_tab, f"/no-such-page/{quote(payload, safe='')}", 404)
    asked_by = [(path, parameter) for path, parameters in _PARAMETERS.items() for parameter in parameters.split()]
    for path, parameter in asked_by[list(FAMILIES).index(family) % _SHARES :: _SHARES]:
        visit(hostile_tab, f"{path}?{urlencode({parameter: payload})}", None)


def visit(tab: Tab, path: str, status: int | None = 200, *, is_ours: bool = True) -> None:
    """Open a page with all that is folded, and find nothing there that isn't ours.

    `status`: None for any but an error of ours. `is_ours`: else the browser shows it its own way.
    """
    if status is None:
        answer = tab.page.goto(tab.url + path)
        assert answer is not None
        status = answer.status
        assert status < 500, path
        tab.assert_status(answer, status)
    else:
        tab.open(path, status)
    found: list[Any] = tab.page.evaluate(_FOREIGNERS, _TAGS.split()) if is_ours else []
    # where no page says which icon it has, the browser asks for the usual one
    found += [each for each in tab.watch.take() if is_ours or "/favicon.ico" not in each]
    assert not found, f"{path}: " + "\n".join(found)


def walk(tab: Tab, path: str) -> str:
    """Visit all pages of a list; return what they show."""
    visit(tab, path)
    shown = spaced(tab.main.inner_text())
    while (further := tab.page.locator("a[rel=next]")).count():
        visit(tab, further.get_attribute("href") or "")
        shown += spaced(tab.main.inner_text())
    return shown


def spaced(text: str) -> str:
    """Return a text as a browser shows it on one line."""
    return " ".join(text.split())
