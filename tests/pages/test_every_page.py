"""Every page is accessible: in light and dark, on a wide screen and on a phone, without JavaScript."""

import itertools
import re
from pathlib import Path
from typing import Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, ViewportSize

from app import create_app
from conversation.access import rule_of
from conversation.settings import Settings
from tests.pages.conftest import Opener
from tests.pages.page_list import (
    EVERY_FILE,
    EVERY_OPEN_PLACE,
    EVERY_PLACE,
    FILES,
    IMAGES,
    OPEN_PLACES,
    PLACES,
    File,
    Place,
)
from tests.pages.tabs import Tab

_SCREENSHOTS = Path(__file__).parents[2] / "test-results" / "pages"
_SERIOUS = {"serious", "critical"}
_SCREENS: dict[str, ViewportSize] = {"wide": {"width": 1280, "height": 900}, "phone": {"width": 390, "height": 844}}
_MAX_CALLS: tuple[Literal["light", "dark"], ...] = ("light", "dark")
#: What no page of ours has: `style` as an attribute needs a policy that lets in everybody's.
_FOREIGN_TO_US = "[style], style, script:not([src]), iframe, object, embed, base, [onclick], [onload], [onerror]"

every_place = pytest.mark.parametrize("place", [*EVERY_OPEN_PLACE, *EVERY_PLACE], ids=lambda place: place.path)


def test_every_page_is_visited() -> None:
    """A page that these tests don't know is one that nobody looks at: add it to tests/pages/page_list.py."""
    app = create_app(Settings.from_mapping({}))
    pages = set()
    for rule in app.url_map.iter_rules():
        says = rule_of(app.view_functions[rule.endpoint])
        if says and says.page and "GET" in (rule.methods or ()):
            pages.add(rule.endpoint)
    assert pages == PLACES.keys() | OPEN_PLACES.keys() | FILES.keys() | IMAGES.keys()


@every_place
def test_everybody_can_read_it(open_tab: Opener, open_pages: Opener, place: Place) -> None:
    open_any = open_tab if place in EVERY_OPEN_PLACE else open_pages
    wrong = []
    with open_any(viewport=_SCREENS["wide"], color_scheme="light") as tab:
        tab.open(place.path)
        assert tab.texts("h1") == [place.heading]
        for screen, look in itertools.product(_SCREENS, _MAX_CALLS):
            tab.page.set_viewport_size(_SCREENS[screen])
            tab.page.emulate_media(color_scheme=look)
            tab.page.wait_for_function("(look) => document.documentElement.dataset.bsTheme === look", arg=look)
            keep_picture(tab.page, f"{place.path}-{look}-{screen}")
            wrong += [f"{look}, {screen}: {each}" for each in violations(tab.page)]
            wider = tab.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            if wider > 0:
                wrong.append(f"{look}, {screen}: the page is {wider} px wider than the screen")
    assert not wrong, "\n".join(wrong)


@every_place
def test_it_is_whole_without_javascript(open_tab: Opener, open_pages: Opener, place: Place) -> None:
    open_any = open_tab if place in EVERY_OPEN_PLACE else open_pages
    with open_any(java_script_enabled=False) as tab:
        tab.open(place.path)
        assert tab.texts("h1") == [place.heading]
        assert tab.page.locator(_FOREIGN_TO_US).count() == 0
        for button in tab.page.get_by_role("button").all():  # one that is seen does something: it posts, or unfolds
            assert button.evaluate("each => each.form !== null && each.type === 'submit'"), button.inner_text()


@pytest.mark.parametrize("file", EVERY_FILE, ids=lambda file: file.path)
def test_a_file_is_never_shown_as_a_page(tab: Tab, file: File) -> None:
    answer = tab.context.request.get(tab.url + file.path)
    assert (answer.status, answer.headers["content-type"]) == (200, file.content_type)
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers.get("content-disposition", "").startswith("attachment" if file.is_kept else "")
    assert "tonight" in answer.text() or "cheaper" in answer.text() or "A table for two" in answer.text()


def test_an_image_in_a_message_is_only_an_image(tab: Tab) -> None:
    for path, content_type in itertools.chain(*(images.items() for images in IMAGES.values())):
        answer = tab.context.request.get(tab.url + path)
        assert (answer.status, answer.headers["content-type"]) == (200, content_type)
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-security-policy"] == "default-src 'none'; sandbox"


def violations(page: Page) -> list[str]:
    """Return what axe finds wrong and calls serious, with where."""
    found = Axe().run(page).response["violations"]
    return [
        f"{each['id']} ({each['impact']}) at {node['target']}: {node['failureSummary']}"
        for each in found
        if each["impact"] in _SERIOUS
        for node in each["nodes"]
    ]


def keep_picture(page: Page, name: str) -> None:
    _SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=_SCREENSHOTS / f"{re.sub(r'[^0-9A-Za-z]+', '-', name).strip('-')}.png", full_page=True)
