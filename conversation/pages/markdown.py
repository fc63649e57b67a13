"""Markdown, as models write it, as HTML that is safe in a page.

What it says is somebody else's: HTML in it stays text, links lead to http(s) only and tell nothing of where they were
followed, images become links, since fetching one would tell its owner who reads.
"""

from functools import cache

import nh3
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markdown_it.utils import OptionsDict
from markupsafe import Markup

_LONGEST = 50_000  # characters; what is longer is shown as it is written
_TAGS = {
    "a", "blockquote", "br", "code", "del", "em", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "li", "ol", "p", "pre", "s",
    "strong", "table", "tbody", "td", "th", "thead", "tr", "ul",
}  # fmt: skip
_ATTRIBUTES = {"a": {"href", "target"}, "ol": {"start"}}
_SCHEMES = {"http", "https"}


def to_html(text: str) -> Markup:
    """Return a text as HTML: of Markdown, unless it is very long."""
    if len(text) > _LONGEST:
        return Markup('<div class="as-written">{}</div>').format(text)
    return Markup(  # noqa: S704 - cleaned
        nh3.clean(
            _parser().render(text),
            tags=_TAGS,
            attributes=_ATTRIBUTES,
            url_schemes=_SCHEMES,
            url_relative="deny",
            link_rel="noopener noreferrer nofollow",
        )
    )


@cache
def _parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": False, "breaks": True}).enable(["table", "strikethrough"])
    parser.add_render_rule("image", _link_instead_of_image)
    parser.add_render_rule("link_open", _link_in_a_new_tab)
    return parser


def _link_instead_of_image(
    renderer: RendererHTML,  # noqa: ARG001 - a rule is given all of it
    tokens: list[Token],
    index: int,
    options: OptionsDict,  # noqa: ARG001
    env: object,  # noqa: ARG001
) -> str:
    source = str(tokens[index].attrs.get("src", ""))
    return Markup('<a href="{}" target="_blank">{}</a>').format(source, f"🖼 {tokens[index].content or source}")


def _link_in_a_new_tab(
    renderer: RendererHTML, tokens: list[Token], index: int, options: OptionsDict, env: object
) -> str:
    tokens[index].attrSet("target", "_blank")
    rendered: str = renderer.renderToken(tokens, index, options, env)  # type: ignore[arg-type]
    return rendered
