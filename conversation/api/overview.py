"""What went on in a span of time: the endpoint, and how the store is asked."""

from datetime import UTC, datetime, timedelta
from typing import Any

from flask import Blueprint, Response, jsonify, request

from conversation import access
from conversation.api import http, pagination, pricing
from conversation.api.openapi import describe
from conversation.api.overview_schemas import Overview, Span, floor
from conversation.api.requests import InvalidBody
from logging_store import operations as ops

blueprint = Blueprint("overview", __name__)

HOUR_S, DAY_S = 3600, 86400
_SPANS_H = {"24h": 24, "7d": 7 * 24, "30d": 30 * 24, "90d": 90 * 24}
_BY = {"hour": HOUR_S, "day": DAY_S}
_MOST_BUCKETS = 750  # a month of hours, two years of days

#: How much a look reads: about a second's work. Where there is more, it is a sample, which takes half of that.
_MOST_ROWS, _SAMPLE, _MOST_FAILURES = 150_000, 50_000, 10_000
_TOP, _TOP_MODELS = 10, 50


@blueprint.get("/v1/overview")
@access.requires("read")
@describe("Sum up a span of time", None, {200: Overview}, query=pagination.OverviewQuery)
def get_overview() -> Response:
    return jsonify(look(span_of(pagination.read(request, pagination.OverviewQuery), datetime.now(UTC))))


def look(span: Span) -> dict[str, Any]:
    """Return what went on in a span, as `Overview` has it."""
    return Overview.of(span, http.repository().overview(query_of(span)))


def query_of(span: Span) -> ops.OverviewQuery:
    """Return what a store is asked."""
    return {
        "from": span.not_before.isoformat(),
        "to": span.before.isoformat(),
        "bucket_s": span.bucket_s,
        "most": _MOST_ROWS,
        "sample": _SAMPLE,
        "most_failures": _MOST_FAILURES,
        "top": _TOP,
        "top_models": _TOP_MODELS,
        "tiers": list(pricing.tiers()),
    }


def span_of(query: pagination.OverviewQuery, now: datetime) -> Span:
    """Return the time that is asked for. Raises `InvalidBody`, naming the parameter."""
    if query.not_before is None:
        if query.before is not None:
            raise _invalid("to", "Say from when, too")
        hours = _SPANS_H[query.span or "24h"]
        bucket_s = _BY[query.by or ("hour" if hours <= 24 else "day")]  # noqa: PLR2004 - a day of hours
        before = floor(now, bucket_s) + timedelta(seconds=bucket_s)  # to the end of the part that is under way
        return _checked(Span(before - timedelta(hours=hours), before, bucket_s))
    if query.span is not None:
        raise _invalid("span", "Contradicts from: state one of them")
    before = query.before or now
    if before <= query.not_before:
        raise _invalid("to" if query.before else "from", "The time would end before it begins")
    by = query.by or ("hour" if before - query.not_before < timedelta(days=7) else "day")
    return _checked(Span(query.not_before, before, _BY[by]))


def _checked(span: Span) -> Span:
    if (span.before - span.not_before) / timedelta(seconds=span.bucket_s) > _MOST_BUCKETS:
        what = "from" if span.bucket_s == DAY_S else "by"
        raise _invalid(what, f"More than {_MOST_BUCKETS} parts: take a shorter time, or days instead of hours")
    return span


def _invalid(parameter: str, detail: str) -> InvalidBody:
    return InvalidBody([{"path": f"?{parameter}", "detail": detail}])
