"""The first page: what went on in a span of time, in numbers and charts that lead to what they count."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from flask import Blueprint, Response, current_app, url_for
from pydantic import ConfigDict

from conversation import access, pages
from conversation.api import http, pagination
from conversation.api.overview import look, span_of
from conversation.api.overview_schemas import Span
from conversation.pages import charts, forms
from conversation.settings import Settings
from logging_store.errors import StoreBusy, StoreUnavailable
from logging_store.store import Backlog

blueprint = Blueprint("pages_overview", __name__)

SPANS = {"24h": "24 hours", "7d": "7 days", "30d": "30 days", "90d": "90 days"}
_MODELS = 15  # shown; the API tells more


class Query(pagination.OverviewQuery):
    """As in the API; an address that others link to may carry parameters of theirs."""

    model_config = ConfigDict(extra="ignore")


class Chart(NamedTuple):
    """A chart and its table.

    `is_known`: whether there is anything to draw; that nothing happened is, too. `columns`: what the values are called,
    and the class of their colour. `rows`: time, link, the values as written.
    """

    name: str
    drawing: str
    top: str
    is_known: bool
    columns: list[tuple[str, str]]
    rows: list[tuple[datetime, str, list[str]]]


@blueprint.get("/")
@access.page("read", restricted=True)
def overview() -> Response:
    if pages.sees_only_their_own():
        return pages.go("pages_sessions.sessions")  # what they see first; the numbers are of everybody's
    asked = forms.read(Query)
    span = span_of(asked, datetime.now(UTC).replace(microsecond=0))  # fields of forms have no more
    chosen = asked.span or (None if asked.not_before else "24h")
    page: dict[str, Any] = {
        "span": span,
        "chosen": chosen,
        "spans": SPANS,
        "here": here,
        "backlog": _backlog(),
        "dead_letters": _dead_letters(),
    }
    try:
        found = look(span)
        is_new = not found["total"]["interactions"] and not http.repository().sessions({"limit": 1})["sessions"]
    except StoreUnavailable as error:
        return pages.render("overview.html", 503, found=None, is_slow=isinstance(error, StoreBusy), **page)
    return pages.render(
        "overview.html",
        found=found,
        is_new=is_new,
        sampled=found["looked_at"]["interactions"] < 1,
        charts=list(_charts(span, found["buckets"])),
        models=found["models"][:_MODELS],
        share=charts.share,
        interactions=_leading_to("pages_search.search", span),
        failures=_leading_to("pages_live.live", span, has_errors="true"),
        sessions=_leading_to("pages_sessions.sessions", span, begun="true"),
        **page,
    )


def here(**query: Any) -> str:
    return url_for("pages_overview.overview", **query)


def in_url(time: datetime) -> str:
    """Write a time so that nothing of it is encoded in an address."""
    return time.astimezone(UTC).replace(tzinfo=None).isoformat() + "Z"


def _leading_to(endpoint: str, span: Span, **always: Any) -> Callable[..., str]:
    """Return what makes the address of a list of what began in a span, with more filters."""

    def address(**filters: Any) -> str:
        time: dict[str, Any] = {"from": in_url(span.not_before), "to": in_url(span.before)}
        return url_for(endpoint, **always, **filters, **time)

    return address


def _backlog() -> Backlog | None:
    """Return what waits on this machine; it is of all projects, so only the service's own one is told."""
    settings: Settings = current_app.extensions["turnlog_settings"]
    log = http.repository()
    return log.store.backlog() if log.project == settings.turnlog_project else None


def _dead_letters() -> str | None:
    """Return where who looks may see the dead letters, if they may."""
    return url_for("pages_dead_letters.dead_letters") if pages.visitor().may("admin") else None


def _charts(span: Span, buckets: list[dict[str, Any]]) -> Iterator[Chart]:
    number, duration = (current_app.jinja_env.filters[name] for name in ("number", "duration"))

    def chart(
        name: str,
        series: dict[str, str],
        values: Callable[[dict[str, Any]], tuple[float | None, ...]],
        *,
        lines: bool = False,
        leads_to: Callable[[Span], str] = lambda part: _leading_to("pages_search.search", part)(),
    ) -> Chart:
        written = duration if lines else number
        parts, rows = [], []
        for bucket in buckets:
            at, its = bucket["at"], values(bucket)
            link = leads_to(_part(span, at))
            told = [written(value) for value in its]
            said = ", ".join(f"{column} {value}" for column, value in zip(series, told, strict=True))
            parts.append(charts.Part(_upon(its) if not lines else its, f"{at:%Y-%m-%d %H:%M}: {said}", link))
            rows.append((at, link, told))
        is_known = any(value is not None for part in parts for value in part.values)
        draw = charts.lines if lines else charts.bars
        top = charts.top_of(parts, stacked=not lines)
        return Chart(name, draw(parts, list(series.values())), written(top), is_known, list(series.items()), rows)

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
        "Sessions begun",
        {"sessions": "all"},
        lambda bucket: (bucket["sessions"],),
        leads_to=lambda part: _leading_to("pages_sessions.sessions", part, begun="true")(),
    )


def _upon(values: tuple[float | None, ...]) -> tuple[float | None, ...]:
    """Return what stands upon one another in a bar: of all of them first those that didn't fail."""
    every, *failed = (value or 0 for value in values)
    return (max(every - sum(failed), 0), *failed)


def _part(span: Span, at: datetime) -> Span:
    end = at + timedelta(seconds=span.bucket_s)
    return Span(max(at, span.not_before), min(end, span.before), span.bucket_s)
