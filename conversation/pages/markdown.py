"""Renders Markdown from models as safe HTML.

The text is untrusted: HTML in it stays text, links may lead to http(s) only and send no referrer, and images become
links, since loading one would reveal the reader to its owner.
"""

import re
from functools import cache

import comrak
import nh3
from markupsafe import Markup

_MAX_LENGTH = 20_000  # characters; a longer text is shown as plain text
_MAX_DEPTH = 60  # of nested elements; the time for cleaning grows with its square
_TAGS = {
    "a", "blockquote", "br", "code", "del", "em", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "li", "ol", "p", "pre",
    "strong", "table", "tbody", "td", "th", "thead", "tr", "ul",
}  # fmt: skip
_ATTRIBUTES = {"a": {"href"}, "ol": {"start"}}
_SCHEMES = {"http", "https"}
# tags in comrak's output; brackets in text are escaped there
_TAG = re.compile(r"<(/?)(\w+)")
_VOID = frozenset({"br", "hr", "img"})
_HEADING = re.compile(r"(</?h)([1-6])(?=>)")
_IMAGE = re.compile(r'<img src="([^"]*)" alt="([^"]*)"(?: title="[^"]*")? />')


def to_html(text: str) -> Markup:
    """Return Markdown as HTML; a very long or deeply nested text as plain text."""
    extensions, rendering = _options()
    if len(text) <= _MAX_LENGTH:
        html = comrak.render_markdown(text, extension_options=extensions, render_options=rendering)
        if _depth(html) <= _MAX_DEPTH:
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
    # h1 is the page's own heading
    return Markup(_HEADING.sub(lambda tag: f"{tag[1]}{min(int(tag[2]) + 1, 6)}", clean))  # noqa: S704 - cleaned


def _depth(html: str) -> int:
    """Return the depth of nested elements."""
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
