"""Markdown, as models write it, as HTML that is safe in a page.

What it says is somebody else's: HTML in it stays text, links lead to http(s) only and tell nothing of where they were
followed, images become links, since fetching one would tell its owner who reads.
"""

import re
from functools import cache

import comrak
import nh3
from markupsafe import Markup

_LONGEST = 20_000  # characters; what is longer is shown as it is written
_DEEPEST = 60  # elements within each other; cleaning takes the square of that
_TAGS = {
    "a", "blockquote", "br", "code", "del", "em", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "li", "ol", "p", "pre",
    "strong", "table", "tbody", "td", "th", "thead", "tr", "ul",
}  # fmt: skip
_ATTRIBUTES = {"a": {"href"}, "ol": {"start"}}
_SCHEMES = {"http", "https"}
# as comrak writes them; text that looks so has its brackets escaped
_TAG = re.compile(r"<(/?)(\w+)")
_VOID = frozenset({"br", "hr", "img"})
_HEADING = re.compile(r"(</?h)([1-6])(?=>)")
_IMAGE = re.compile(r'<img src="([^"]*)" alt="([^"]*)"(?: title="[^"]*")? />')


def to_html(text: str) -> Markup:
    """Return a text as HTML: of Markdown, unless it is very long or very deep."""
    extensions, rendering = _options()
    if len(text) <= _LONGEST:
        html = comrak.render_markdown(text, extension_options=extensions, render_options=rendering)
        if _depth(html) <= _DEEPEST:
            return _cleaned(html)
    return Markup('<div class="as-written">{}</div>').format(text)


def _cleaned(html: str) -> Markup:
    clean = nh3.clean(
        _IMAGE.sub(r'<a href="\1">🖼 \2</a>', html),
        tags=_TAGS,
        attributes=_ATTRIBUTES,
        set_tag_attribute_values={"a": {"target": "_blank"}},
        url_schemes=_SCHEMES,
        url_relative="deny",
        link_rel="noopener noreferrer nofollow",
    )
    # the first heading of a page is its own
    return Markup(_HEADING.sub(lambda tag: f"{tag[1]}{min(int(tag[2]) + 1, 6)}", clean))  # noqa: S704 - cleaned


def _depth(html: str) -> int:
    """Return how many elements stand within each other."""
    depth = deepest = 0
    for closes, name in _TAG.findall(html):
        if name not in _VOID:
            depth += -1 if closes else 1
            deepest = max(deepest, depth)
    return deepest


@cache
def _options() -> tuple[comrak.ExtensionOptions, comrak.RenderOptions]:
    extensions, rendering = comrak.ExtensionOptions(), comrak.RenderOptions()
    extensions.table = extensions.strikethrough = extensions.autolink = extensions.cjk_friendly_emphasis = True
    rendering.escape = rendering.hardbreaks = True
    return extensions, rendering
