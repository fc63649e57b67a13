"""Parses pages for tests."""

from bs4 import BeautifulSoup, Tag
from werkzeug.test import TestResponse


def page_of(answer: TestResponse, status: int = 200) -> BeautifulSoup:
    """Return a page's elements; it must be one, and have this status."""
    assert (answer.status_code, answer.mimetype) == (status, "text/html"), answer.text[:500]
    return BeautifulSoup(answer.text, "html.parser")


def texts(page: Tag, selector: str) -> list[str]:
    """Return what the elements that match a CSS selector say, each with its white space as one space."""
    return [" ".join(each.get_text(" ").split()) for each in page.select(selector)]


def link(page: Tag, text: str) -> str:
    """Return where the one link with this text leads."""
    (found,) = [each for each in page.select("a[href]") if text in each.get_text()]
    return str(found["href"])
