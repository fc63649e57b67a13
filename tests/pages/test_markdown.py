"""Markdown of models is rendered, and can do nothing to a page."""

import pytest
from bs4 import BeautifulSoup

from conversation.pages import markdown


def elements(text: str) -> BeautifulSoup:
    return BeautifulSoup(markdown.to_html(text), "html.parser")


def test_markdown_becomes_elements() -> None:
    shown = elements(
        "# A\n\n**b** *c* ~~d~~ `e`\n\n```python\nf < g\n```\n\n| h | i |\n|---|---|\n| j | k |\n\n3. l\n4. m\n"
    )
    assert shown.h2  # the page has a heading of its own
    assert [each.name for each in shown.p.find_all()] == ["strong", "em", "del", "code"]  # type: ignore[union-attr]
    assert shown.pre
    assert shown.pre.get_text() == "f < g\n"
    assert [each.get_text() for each in shown.select("th, td")] == ["h", "i", "j", "k"]
    assert shown.ol
    assert shown.ol["start"] == "3"


def test_lines_stay_lines() -> None:
    assert markdown.to_html("one\ntwo").count("<br>") == 1


def test_a_link_to_the_web_opens_apart_and_tells_nothing() -> None:
    link = elements("[here](https://example.com/?a=1&b=2)").a
    assert link
    assert link["href"] == "https://example.com/?a=1&b=2"
    assert link["target"] == "_blank"
    assert set(str(link["rel"] if isinstance(link["rel"], str) else " ".join(link["rel"])).split()) >= {
        "noopener", "noreferrer", "nofollow",
    }  # fmt: skip


@pytest.mark.parametrize(
    "target",
    ["javascript:alert(1)", "JaVaScRiPt:alert(1)", "data:text/html,x", "vbscript:x", "file:///etc/passwd", "/keys",
     "//evil.example", "mailto:a@b.example", "?message=x", "#main"],
)  # fmt: skip
def test_a_link_to_anything_else_leads_nowhere(target: str) -> None:
    assert not elements(f"[here]({target})").select("a[href]")
    assert "here" in elements(f"[here]({target})").get_text()


def test_an_image_becomes_a_link() -> None:
    shown = elements("![a cat](https://evil.example/pixel.gif)")
    assert not shown.img
    assert shown.a
    assert shown.a["href"] == "https://evil.example/pixel.gif"
    assert "a cat" in shown.get_text()


@pytest.mark.parametrize(
    "html",
    ["<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "<iframe src=//evil.example></iframe>",
     "<svg onload=alert(1)>", "<style>*{display:none}</style>", "<a href='javascript:x'>y</a>", "<form action=/keys>",
     '"><script>alert(1)</script>', "<!-- x -->", "<math><mi//xlink:href='data:x,<script>alert(4)</script>'>"],
)  # fmt: skip
def test_html_is_shown_and_not_obeyed(html: str) -> None:
    shown = elements(f"before\n\n{html}\n\nafter")
    assert {each.name for each in shown.find_all()} <= {"p", "br", "code", "pre"}
    assert "".join(html.split()) in "".join(shown.get_text().split())


def test_very_long_text_is_shown_plain() -> None:
    text = "**b** <b>" + "x" * 60_000
    shown = elements(text)
    assert shown.get_text() == text
    assert not shown.strong


@pytest.mark.parametrize("text", [">" * 19_990, "> " * 9_000 + "x", "- " * 200 + "x", "> - " * 100 + "x"])
def test_deeply_nested_text_is_shown_plain(text: str) -> None:
    assert elements(text).get_text() == text
    assert [each.name for each in elements(text).find_all()] == ["div"]


def test_usual_nesting_is_rendered_as_markdown() -> None:
    assert len(elements("> " * 8 + "quoted").find_all("blockquote")) == 8


@pytest.mark.parametrize("text", ["[" * 20_000, "*" * 20_000, "`" * 10_000 + "x", "![" * 10_000, "[a](" * 5_000])
def test_no_text_holds_a_page_up(text: str) -> None:
    assert markdown.to_html(text)
