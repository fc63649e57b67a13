"""The overview: the activity of a span of time, in tiles, charts and tables that link to what they count."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, NamedTuple
from urllib.parse import unquote
from zoneinfo import ZoneInfo

from flask import Blueprint, Response, current_app, request, url_for
from pydantic import ConfigDict
from pydantic_core import PydanticCustomError

from conversation import access, pages
from conversation.api import caller, pagination
from conversation.api.overview import build_overview, parse_span
from conversation.api.spans import Span, zone_named
from conversation.pages import charts, forms
from conversation.settings import Settings
from logging_store.errors import StoreBusy, StoreReconnecting, StoreUnavailable
from logging_store.store import Backlog

blueprint = Blueprint("pages_overview", __name__)

_ZONE_COOKIE = "turnlog_zone"
SPANS = {"24h": "24 hours", "7d": "7 days", "30d": "30 days", "90d": "90 days"}
_MAX_MODELS = 15  # the API returns more


class Query(pagination.OverviewQuery):
    """As in the API, but other parameters are ignored: sites that link here may add tracking parameters."""

    model_config = ConfigDict(extra="ignore")


class Chart(NamedTuple):
    """A chart and its table.

    `top`: the label of the scale's upper end. `has_data`: false if no value is known; zeros are data. `columns`: name
    and CSS class of each series. `rows`: start, link and formatted values of each bucket.
    """

    name: str
    drawing: str
    top: str
    has_data: bool
    columns: list[tuple[str, str]]
    rows: list[tuple[datetime, str, list[str]]]


@blueprint.get("/")
@access.page("read", restricted=True, heavy=True)
def overview() -> Response:
    if pages.is_restricted():
        return pages.redirect(url_for("pages_sessions.sessions"))  # the overview counts everybody's sessions
    zone = _zone()
    query, errors = forms.read_with_times(Query, zone or UTC)
    if errors:
        query = Query()
    if zone and not query.zone:
        query.zone = str(zone)
    span = parse_span(query, datetime.now(UTC).replace(microsecond=0))  # form fields have whole seconds
    chosen = query.span or (None if query.not_before else "24h")
    status = 422 if errors else 200
    page: dict[str, Any] = {
        "span": span,
        "chosen": chosen,
        "spans": SPANS,
        "zone": request.args.get("zone", ""),
        "here": here,
        "errors": errors,
        "backlog": _backlog(),
        "dead_letters": _dead_letters(),
    }
    try:
        found = build_overview(span)
        is_new = not found["total"]["interactions"] and not caller.repository().sessions({"limit": 1})["sessions"]
    except StoreUnavailable as error:
        reconnecting = error.retry_after if isinstance(error, StoreReconnecting) else None
        is_slow = isinstance(error, StoreBusy)
        return pages.render("overview.html", 503, found=None, is_slow=is_slow, reconnecting=reconnecting, **page)
    return pages.render(
        "overview.html",
        status,
        found=found,
        is_new=is_new,
        sampled=found["looked_at"]["interactions"] < 1,
        charts=list(_charts(span, found["buckets"])),
        models=found["models"][:_MAX_MODELS],
        share_bar=charts.share_bar,
        interactions=_list_url_for("pages_search.search", span),
        failures=_list_url_for("pages_live.live", span, has_errors="true"),
        sessions=_list_url_for("pages_sessions.sessions", span, begun="true"),
        **page,
    )


def here(**query: Any) -> str:
    """Return the URL of this page, with the zone that its own URL has."""
    zone = request.args.get("zone") or None
    return url_for("pages_overview.overview", **query, zone=zone)


def _zone() -> ZoneInfo | None:
    """Return the zone that the URL names, else the browser's, which a script keeps in a cookie; None for UTC."""
    if name := request.args.get("zone"):
        return _valid_zone(name)
    return _valid_zone(unquote(request.cookies.get(_ZONE_COOKIE, "")))


def _valid_zone(name: str) -> ZoneInfo | None:
    try:
        return zone_named(name) if name else None
    except PydanticCustomError:
        return None  # of the URL: refused with the other parameters


def in_url(time: datetime) -> str:
    """Format a time for a query string, without characters that need escaping."""
    return time.astimezone(UTC).replace(tzinfo=None).isoformat() + "Z"


def _list_url_for(endpoint: str, span: Span, **always: Any) -> Callable[..., str]:
    """Return a function from further filters to the URL of a list, filtered by a span of time and `always`."""

    def list_url(**filters: Any) -> str:
        time: dict[str, Any] = {"from": in_url(span.not_before), "to": in_url(span.before)}
        return url_for(endpoint, **always, **filters, **time)

    return list_url


def _backlog() -> Backlog | None:
    """Return the spool of this machine. It is shared by all projects, so only the service's own project sees it."""
    settings: Settings = current_app.extensions["turnlog_settings"]
    log = caller.repository()
    return log.store.backlog() if log.project == settings.turnlog_project else None


def _dead_letters() -> str | None:
    """Return the URL of the dead letters; None for visitors without the scope admin."""
    return url_for("pages_dead_letters.dead_letters") if pages.visitor().may("admin") else None


def _charts(span: Span, buckets: list[dict[str, Any]]) -> Iterator[Chart]:
    number, duration = (current_app.jinja_env.filters[name] for name in ("number", "duration"))

    def chart(
        name: str,
        series: dict[str, str],
        values: Callable[[dict[str, Any]], tuple[float | None, ...]],
        *,
        lines: bool = False,
        list_url: Callable[[Span], str] = lambda span: _list_url_for("pages_search.search", span)(),
    ) -> Chart:
        formatted = duration if lines else number
        drawn, rows = [], []
        starts = span.buckets()
        for bucket, end in zip(buckets, [*starts[1:], span.before], strict=True):
            at, row = bucket["at"].astimezone(span.zone or UTC), values(bucket)
            url = list_url(span._replace(not_before=at, before=end))
            texts = [formatted(value) for value in row]
            title = ", ".join(f"{column} {text}" for column, text in zip(series, texts, strict=True))
            drawn.append(charts.Bucket(row if lines else _stacked_values(row), f"{at:%Y-%m-%d %H:%M}: {title}", url))
            rows.append((at, url, texts))
        has_data = any(value is not None for each in drawn for value in each.values)
        draw = charts.lines if lines else charts.bars
        top = charts.top_of(drawn, stacked=not lines)
        return Chart(name, draw(drawn, list(series.values())), formatted(top), has_data, list(series.items()), rows)

    yield chart(
        "Interactions",
        {"all": "all", "failed": "failed"},
        lambda bucket: (bucket["interactions"], bucket["failed"]),
    )
    yield chart(
        "Latency",
        {"p50": "p50", "p95": "p95"},
        lambda bucket: (bucket["latency_ms"]["p50"], bucket["latency_ms"]["p95"]),
        lines=True,
    )
    yield chart(
        "Sessions started",
        {"sessions": "all"},
        lambda bucket: (bucket["sessions"],),
        list_url=lambda span: _list_url_for("pages_sessions.sessions", span, begun="true")(),
    )


def _stacked_values(values: tuple[float | None, ...]) -> tuple[float | None, ...]:
    """Return the parts of a stacked bar from (all, failed …): the successful ones come first."""
    total, *failed = (value or 0 for value in values)
    return (max(total - sum(failed), 0), *failed)
