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
_TAGS = {
    "a", "blockquote", "br", "code", "del", "em", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "li", "ol", "p", "pre",
    "strong", "table", "tbody", "td", "th", "thead", "tr", "ul",
}  # fmt: skip
_ATTRIBUTES = {"a": {"href"}, "ol": {"start"}}
_SCHEMES = {"http", "https"}
# as comrak writes them; text that looks so has its brackets escaped
_IMAGE = re.compile(r'<img src="([^"]*)" alt="([^"]*)"(?: title="[^"]*")? />')


def to_html(text: str) -> Markup:
    """Return a text as HTML: of Markdown, unless it is very long."""
    if len(text) > _LONGEST:
        return Markup('<div class="as-written">{}</div>').format(text)
    extensions, rendering = _options()
    html = comrak.render_markdown(text, extension_options=extensions, render_options=rendering)
    return Markup(  # noqa: S704 - cleaned
        nh3.clean(
            _IMAGE.sub(r'<a href="\1">🖼 \2</a>', html),
            tags=_TAGS,
            attributes=_ATTRIBUTES,
            set_tag_attribute_values={"a": {"target": "_blank"}},
            url_schemes=_SCHEMES,
            url_relative="deny",
            link_rel="noopener noreferrer nofollow",
        )
    )


@cache
def _options() -> tuple[comrak.ExtensionOptions, comrak.RenderOptions]:
    extensions, rendering = comrak.ExtensionOptions(), comrak.RenderOptions()
    extensions.table = extensions.strikethrough = extensions.autolink = extensions.cjk_friendly_emphasis = True
    rendering.escape = rendering.hardbreaks = True
    return extensions, rendering
