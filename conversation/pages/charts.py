"""Charts as SVG, coloured by the style sheet, so that they follow the light or dark theme.

A chart's coordinates are 100 high and 10 wide for each bucket of time. The browser stretches the SVG, so the labels are
HTML around it. Each bucket is a link. A table with the same numbers and links serves keyboards and screen readers.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

HEIGHT, STEP = 100, 10
_GAP = 1
_ROUND_TOPS = (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10)  # times a power of ten, so that labels stay short


@dataclass(frozen=True, slots=True)
class Bucket:
    """One step of the time axis. `values`: one for each series, None for no data."""

    values: tuple[float | None, ...]
    title: str
    href: str


def top_of(buckets: Sequence[Bucket], *, stacked: bool) -> float:
    """Return the upper end of a chart's scale."""
    heights = [(sum if stacked else max)(value or 0 for value in bucket.values) for bucket in buckets]
    highest = max(heights, default=0)
    if highest <= 0:
        return 1
    unit: float = 10.0 ** math.floor(math.log10(highest))
    return next(nice * unit for nice in _ROUND_TOPS if nice * unit >= highest * (1 - 1e-9))


def bars(buckets: Sequence[Bucket], series: Sequence[str]) -> Markup:
    """Draw stacked bars. `series`: the CSS classes of the series, from the bottom."""
    top = top_of(buckets, stacked=True)
    return _svg(buckets, [_stack(bucket, series, top) for bucket in buckets])


def lines(buckets: Sequence[Bucket], series: Sequence[str]) -> Markup:
    """Draw a line for each series, with a gap where there is no data. `series`: their CSS classes."""
    top = top_of(buckets, stacked=False)
    paths = Markup().join(
        Markup('<path class="line {}" d="{}"/>').format(name, _path([bucket.values[n] for bucket in buckets], top))
        for n, name in enumerate(series)
    )
    return _svg(buckets, [Markup()] * len(buckets), over=paths)


def share_bar(value: float, highest: float) -> Markup:
    """Draw a table's value as a bar, relative to the highest one."""
    width = 0 if highest <= 0 else 100 * value / highest
    return Markup(
        '<svg class="share" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">'
        '<rect width="{:.4g}" height="10"/></svg>'
    ).format(width)


def _svg(buckets: Sequence[Bucket], inside: Sequence[Markup], over: Markup | str = "") -> Markup:
    grid = Markup().join(
        Markup('<path class="grid" d="M0 {}H{}"/>').format(y, len(buckets) * STEP) for y in (0, HEIGHT // 2, HEIGHT)
    )
    links = Markup().join(
        Markup(
            '<a href="{}" tabindex="-1"><title>{}</title>{}<rect class="place" x="{}" width="{}" height="{}"/></a>'
        ).format(bucket.href, bucket.title, drawn, n * STEP, STEP, HEIGHT)
        for n, (bucket, drawn) in enumerate(zip(buckets, _positioned(inside), strict=True))
    )
    return Markup('<svg viewBox="0 0 {} {}" preserveAspectRatio="none" aria-hidden="true">{}{}{}</svg>').format(
        len(buckets) * STEP, HEIGHT, grid, over, links
    )


def _positioned(inside: Sequence[Markup]) -> list[Markup]:
    return [
        Markup('<g transform="translate({} 0)">{}</g>').format(n * STEP, drawn) if drawn else drawn
        for n, drawn in enumerate(inside)
    ]


def _stack(bucket: Bucket, series: Sequence[str], top: float) -> Markup:
    drawn, height = Markup(), 0.0
    for name, value in zip(series, bucket.values, strict=True):
        if value:
            own = HEIGHT * value / top
            height += own
            drawn += Markup('<rect class="{}" x="{}" y="{:.4g}" width="{}" height="{:.4g}"/>').format(
                name, _GAP, HEIGHT - height, STEP - 2 * _GAP, own
            )
    return drawn


def _path(values: Sequence[float | None], top: float) -> str:
    """Return the path of a line through the values; a single value between gaps is a dot."""
    steps = []
    for n, value in enumerate(values):
        if value is not None:
            after_another = n > 0 and values[n - 1] is not None
            place = f"{n * STEP + STEP / 2:g} {HEIGHT * (1 - value / top):.4g}"
            steps.append(f"L{place}" if after_another else f"M{place}h0")
    return str(escape("".join(steps)))
