"""The pages work without a mouse: Tab and Enter reach everything, and the focus is visible."""

from tests.pages.conftest import OPERATOR
from tests.pages.tabs import Tab

_MOST = 60  # presses of a key until somebody gives up


def test_somebody_signs_in_and_reads_a_conversation_by_keys_alone(stranger: Tab) -> None:
    stranger.open("/sign-in?next=/sessions")
    assert focused(stranger) == "Key"  # where one types first
    stranger.page.keyboard.type(OPERATOR)
    press_until(stranger, "Sign in")
    stranger.page.keyboard.press("Enter")
    stranger.page.get_by_role("heading", name="Sessions", exact=True).wait_for()
    press_until(stranger, "A table for two")
    stranger.page.keyboard.press("Enter")
    stranger.page.get_by_role("heading", name="A table for two").wait_for()
    press_until(stranger, "tool call: book_table")
    call = stranger.page.locator("details", has=stranger.page.get_by_text("tool call: book_table"))
    stranger.page.keyboard.press("Enter")
    assert call.locator("pre").is_visible()
    stranger.page.keyboard.press("Enter")
    assert not call.locator("pre").is_visible()


def test_the_way_past_the_navigation_is_the_first(tab: Tab) -> None:
    tab.open("/sessions")
    tab.page.keyboard.press("Tab")
    assert focused(tab) == "Skip to the content"
    assert tab.page.locator(":focus").is_visible()
    tab.page.keyboard.press("Enter")
    assert tab.page.evaluate("document.activeElement.id") == "main"


def test_the_theme_is_chosen_by_keyboard_and_remembered(tab: Tab) -> None:
    tab.open("/sessions")
    press_until(tab, "Dark")
    tab.page.keyboard.press("Enter")
    assert tab.page.evaluate("document.documentElement.dataset.bsTheme") == "dark"
    tab.open("/sessions/table")
    assert tab.page.evaluate("document.documentElement.dataset.bsTheme") == "dark"
    assert tab.page.get_by_role("button", name="Light").count() == 1


def press_until(tab: Tab, name: str) -> None:
    """Press Tab until what is called so has the focus, and shows it."""
    passed = []
    while (now := focused(tab)) != name:
        passed.append(now)
        assert len(passed) < _MOST, f"Tab leads to {passed}, never to {name}"
        tab.page.keyboard.press("Tab")
    shown = tab.page.evaluate(
        """() => {
            const {outlineStyle, outlineWidth, boxShadow} = getComputedStyle(document.activeElement);
            return (outlineStyle !== 'none' && parseFloat(outlineWidth) > 0) || boxShadow !== 'none';
        }"""
    )
    assert shown, f"nothing shows that {name} has the focus"


def focused(tab: Tab) -> str:
    """Return what the element with the focus is called."""
    named: str = tab.page.evaluate(
        "() => { const each = document.activeElement;"
        " return (each.labels?.[0] ?? each).innerText.replace(/\\s+/g, ' ').trim() }"
    )
    return named
