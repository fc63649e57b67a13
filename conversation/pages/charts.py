"""Charts as SVG: drawn here, coloured by the style sheet, so that they are light or dark as the page is.

A chart's own coordinates are 100 high and 10 wide for each part of the time; it is stretched to its place, so what must
not be stretched, its labels, is HTML around it. Each part is a link. The numbers stand in a table behind the chart,
with the same links: that is what the keyboard and screen readers use.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

HEIGHT, STEP = 100, 10
_GAP = 1
_NICE = (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10)  # by which a scale ends: labels stay short


@dataclass(frozen=True, slots=True)
class Part:
    """What a chart shows of one part of the time. `values`: one for each series, None where nothing is known."""

    values: tuple[float | None, ...]
    title: str
    href: str


def top_of(parts: Sequence[Part], *, stacked: bool) -> float:
    """Return where a chart's scale ends."""
    heights = [(sum if stacked else max)(value or 0 for value in part.values) for part in parts]
    highest = max(heights, default=0)
    if highest <= 0:
        return 1
    unit: float = 10.0 ** math.floor(math.log10(highest))
    return next(nice * unit for nice in _NICE if nice * unit >= highest * (1 - 1e-9))


def bars(parts: Sequence[Part], series: Sequence[str]) -> Markup:
    """Draw bars, the series of each upon one another, from the bottom. `series`: the classes of their colours."""
    top = top_of(parts, stacked=True)
    return _drawn(parts, [_stack(part, series, top) for part in parts])


def lines(parts: Sequence[Part], series: Sequence[str]) -> Markup:
    """Draw a line for each series; it is interrupted where nothing is known."""
    top = top_of(parts, stacked=False)
    paths = Markup().join(
        Markup('<path class="line {}" d="{}"/>').format(name, _path([part.values[n] for part in parts], top))
        for n, name in enumerate(series)
    )
    return _drawn(parts, [Markup()] * len(parts), over=paths)


def share(value: float, highest: float) -> Markup:
    """Draw how much a value in a table is of the highest one."""
    width = 0 if highest <= 0 else 100 * value / highest
    return Markup(
        '<svg class="share" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">'
        '<rect width="{:.4g}" height="10"/></svg>'
    ).format(width)


def _drawn(parts: Sequence[Part], inside: Sequence[Markup], over: Markup | str = "") -> Markup:
    grid = Markup().join(
        Markup('<path class="grid" d="M0 {}H{}"/>').format(y, len(parts) * STEP) for y in (0, HEIGHT // 2, HEIGHT)
    )
    links = Markup().join(
        Markup(
            '<a href="{}" tabindex="-1"><title>{}</title>{}<rect class="place" x="{}" width="{}" height="{}"/></a>'
        ).format(part.href, part.title, drawn, n * STEP, STEP, HEIGHT)
        for n, (part, drawn) in enumerate(zip(parts, _shifted(inside), strict=True))
    )
    return Markup('<svg viewBox="0 0 {} {}" preserveAspectRatio="none" aria-hidden="true">{}{}{}</svg>').format(
        len(parts) * STEP, HEIGHT, grid, over, links
    )


def _shifted(inside: Sequence[Markup]) -> list[Markup]:
    return [
        Markup('<g transform="translate({} 0)">{}</g>').format(n * STEP, drawn) if drawn else drawn
        for n, drawn in enumerate(inside)
    ]


def _stack(part: Part, series: Sequence[str], top: float) -> Markup:
    drawn, height = Markup(), 0.0
    for name, value in zip(series, part.values, strict=True):
        if value:
            own = HEIGHT * value / top
            height += own
            drawn += Markup('<rect class="{}" x="{}" y="{:.4g}" width="{}" height="{:.4g}"/>').format(
                name, _GAP, HEIGHT - height, STEP - 2 * _GAP, own
            )
    return drawn


def _path(values: Sequence[float | None], top: float) -> str:
    """Return a line through the values; one that stands alone is a dot."""
    steps = []
    for n, value in enumerate(values):
        if value is not None:
            after_another = n > 0 and values[n - 1] is not None
            place = f"{n * STEP + STEP / 2:g} {HEIGHT * (1 - value / top):.4g}"
            steps.append(f"L{place}" if after_another else f"M{place}h0")
    return str(escape("".join(steps)))
