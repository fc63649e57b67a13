"""The overview of a span of time: counts, latencies, costs and errors, scaled from a sample if need be."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Annotated, Any
from uuid import UUID

from flask import Blueprint, Response, jsonify, request
from pydantic import Field

from conversation import access
from conversation.api import caller, pagination, pricing
from conversation.api.openapi import describe
from conversation.api.requests import InvalidBody
from conversation.api.schemas import ResponseModel
from conversation.api.spans import MAX_BUCKETS, By, Span, end_of_bucket, midnight, zone_named
from logging_store import operations as ops

blueprint = Blueprint("overview", __name__)


class Percentiles(ResponseModel):
    """In milliseconds; null if no interaction has the value."""

    p50: float | None
    p95: float | None

    @classmethod
    def of(cls, values: Sequence[float | None] | None) -> dict[str, Any]:
        return dict(zip(("p50", "p95"), values or (None, None), strict=True))


class Shares(ResponseModel):
    """The share of the span that was read. Below 1, counts and sums are estimates, scaled up from that share."""

    interactions: float
    failures: float
    sessions: float


class Cost(ResponseModel):
    """In US dollars: `cost_usd` as callers sent it, `estimated_cost_usd` by known prices for the other interactions.

    `without_cost`: interactions in neither sum, because their tokens or their model's price are unknown. While there
    are any, a sum of no interaction is null, not 0.
    """

    input_tokens: int
    output_tokens: int
    cached_input_tokens: int
    cache_write_tokens: int
    reasoning_tokens: int
    cost_usd: float | None
    estimated_cost_usd: float | None
    without_cost: int


class Total(Cost):
    interactions: int
    completed: int
    failed: int
    pending: int
    abandoned: int
    sessions: Annotated[int, Field(description="Sessions that began in this span")]
    latency_ms: Percentiles
    time_to_first_token_ms: Percentiles


class Bucket(ResponseModel):
    """What began in one bucket of the span."""

    at: datetime
    interactions: int
    failed: int
    sessions: int
    latency_ms: Percentiles


class ModelUse(Cost):
    model: str | None
    provider: str | None
    interactions: int


_SESSIONS = Field(description="Sessions of these interactions; null if only a share was read")


class UserActivity(Cost):
    user_id: str
    interactions: int
    sessions: Annotated[int | None, _SESSIONS]


class FolderActivity(ResponseModel):
    folder_id: UUID
    key: str | None
    name: str | None
    interactions: int
    sessions: Annotated[int | None, _SESSIONS]


class ErrorCount(ResponseModel):
    error: Annotated[
        str | None,
        Field(description="Without its variable parts, such as ids; null: the interaction has no error text"),
    ]
    interactions: int


class Overview(ResponseModel):
    not_before: Annotated[datetime, Field(alias="from")]
    before: Annotated[datetime, Field(alias="to")]
    by: By
    bucket_s: Annotated[int, Field(description="Where the clocks change, a day has an hour less or more")]
    zone: Annotated[str | None, Field(description="As asked for; null: buckets are counted from `from`")]
    looked_at: Shares
    total: Total
    buckets: list[Bucket]
    models: Annotated[list[ModelUse], Field(description="Most used first, the first 50")]
    model_count: int
    users: Annotated[list[UserActivity], Field(description="Most active first, the first 10")]
    folders: Annotated[list[FolderActivity], Field(description="Most active first, the first 10")]
    errors: Annotated[list[ErrorCount], Field(description="Most frequent first, the first 10")]

    @classmethod
    def of(cls, span: Span, found: ops.Overview) -> dict[str, Any]:
        """Return the response body for what a store found in a span."""
        interactions, failures, sessions = found["interactions"], found["failures"], found["sessions"]
        total, share = interactions["total"], interactions["share"]
        eras = eras_of(span)
        models = [priced(row, eras) for row in interactions["models"]]
        estimated = sum(model["estimated"] for model in models)
        return cls.arrange(
            {
                "from": span.not_before,
                "to": span.before,
                "by": span.by,
                "bucket_s": span.bucket_s,
                "zone": span.zone and str(span.zone),
                "looked_at": {"interactions": share, "failures": failures["share"], "sessions": sessions["share"]},
                "total": Total.arrange(
                    scale_row(
                        {
                            **total,
                            **known_costs(
                                total["interactions"],
                                (total["priced"], total["cost_usd"]),
                                (estimated, sum(model["estimated_cost_usd"] or 0 for model in models)),
                            ),
                        },
                        share,
                    )
                    | {
                        "failed": _scale(failures["total"], failures["share"]),
                        "sessions": _scale(sessions["total"], sessions["share"]),
                        "latency_ms": Percentiles.of(total["latency_ms"]),
                        "time_to_first_token_ms": Percentiles.of(total["time_to_first_token_ms"]),
                    }
                ),
                "buckets": _buckets(span, interactions, failures, sessions),
                "models": [ModelUse.arrange(scale_row(model, share)) for model in models],
                "model_count": total["models"],
                "users": [
                    UserActivity.arrange(scale_activity(priced(row, eras), share)) for row in interactions["users"]
                ],
                "folders": [FolderActivity.arrange(scale_activity(row, share)) for row in interactions["folders"]],
                "errors": [ErrorCount.arrange(scale_row(row, failures["share"])) for row in failures["errors"]],
            }
        )


def eras_of(span: Span) -> list[datetime]:
    """Return the times whose prices apply in the eras of the span: between two changes of a price all stay the same."""
    return [pricing.noon(at) for at in (span.not_before, *pricing.prices().changes(span.not_before, span.before))]


def priced(row: Mapping[str, Any], eras: Sequence[datetime]) -> dict[str, Any]:
    """Return `ops.TokensAndCost` with its cost, also estimated, and the number of interactions without one."""
    prices = pricing.prices()
    costs = [
        (size["interactions"], prices.estimate_sum(size["model"], size["provider"], size, eras[size["era"]]))
        for size in row["sizes"]
    ]
    estimated = sum(count for count, cost in costs if cost is not None)
    total = float(sum(cost for _, cost in costs if cost is not None))
    known = known_costs(row["interactions"], (row["priced"], row["cost_usd"]), (estimated, total))
    return {**row, "estimated": estimated, **known}


def known_costs(interactions: int, sent: tuple[int, float], estimated: tuple[int, float]) -> dict[str, Any]:
    """Return the cost of `interactions`. `sent`, `estimated`: how many of them have such a cost, and its sum."""
    without_cost = interactions - sent[0] - estimated[0]
    cost_usd, estimate = (None if without_cost and not count else float(usd) for count, usd in (sent, estimated))
    return {"cost_usd": cost_usd, "estimated_cost_usd": estimate, "without_cost": without_cost}


def _buckets(
    span: Span,
    interactions: ops.InteractionsOverview,
    failures: ops.FailuresOverview,
    sessions: ops.SessionsOverview,
) -> list[dict[str, Any]]:
    """Return one row per bucket of the span, also for empty ones."""
    rows: dict[datetime, dict[str, Any]] = {
        at: {"at": at, "interactions": 0, "failed": 0, "sessions": 0, "latency_ms": Percentiles.of(None)}
        for at in span.buckets()
    }
    parts: tuple[tuple[Sequence[Mapping[str, Any]], float], ...] = (
        (interactions["buckets"], interactions["share"]),
        (failures["buckets"], failures["share"]),
        (sessions["buckets"], sessions["share"]),
    )
    for buckets, share in parts:
        for bucket in buckets:
            at = datetime.fromisoformat(bucket["at"])
            values = scale_row(bucket, share) | {"at": at}
            if "latency_ms" in values:
                values["latency_ms"] = Percentiles.of(values["latency_ms"])
            rows[at] |= values
    return [Bucket.arrange(row) for row in rows.values()]


def scale_activity(row: Mapping[str, Any], share: float) -> dict[str, Any]:
    """Return a row scaled up; its sessions are unknown then, as a sample doesn't show how many there are."""
    return scale_row(row, share) | ({"sessions": None} if share < 1 else {})


def scale_row(row: Mapping[str, Any], share: float) -> dict[str, Any]:
    return {name: _scale(value, share) if type(value) in {int, float} else value for name, value in row.items()}


def _scale(value: float, share: float) -> float:
    """Return a count or a sum scaled up from a share of the span."""
    if share == 1:
        return value
    return round(value / share) if isinstance(value, int) else value / share


_SPANS_H = {"24h": 24, "7d": 7 * 24, "30d": 30 * 24, "90d": 90 * 24}
_DAY_H = 24
_WEEK = timedelta(days=7, hours=-1)  # with an hour less where the clocks are put forward

#: The most rows that an overview reads, about a second's work. Beyond, it reads a sample, which takes half of that.
_MOST_ROWS, _SAMPLE, _MOST_FAILURES = 150_000, 50_000, 10_000
_TOP, _TOP_MODELS = 10, 50


@blueprint.get("/v1/overview")
@access.requires("read", heavy=True)
@describe("Sum up a span of time", None, {200: Overview}, query=pagination.OverviewQuery)
def get_overview() -> Response:
    return jsonify(build_overview(parse_span(pagination.read(request, pagination.OverviewQuery), datetime.now(UTC))))


def build_overview(span: Span) -> dict[str, Any]:
    """Return the overview of a span, in the shape of `Overview`."""
    return Overview.of(span, caller.repository().overview(query_of(span, pricing.prices())))


def query_of(span: Span, prices: pricing.Prices) -> ops.OverviewQuery:
    """Return the store's query for a span, which `prices` divide into eras."""
    return {
        "from": span.not_before.isoformat(),
        "to": span.before.isoformat(),
        "buckets": [at.isoformat() for at in span.buckets()],
        "most": _MOST_ROWS,
        "sample": _SAMPLE,
        "most_failures": _MOST_FAILURES,
        "top": _TOP,
        "top_models": _TOP_MODELS,
        "tiers": list(pricing.tiers()),
        "eras": [at.isoformat() for at in prices.changes(span.not_before, span.before)],
    }


def parse_span(query: pagination.OverviewQuery, now: datetime) -> Span:
    """Return the span of a query. Raises `InvalidBody`, naming the parameter."""
    zone = zone_named(query.zone) if query.zone else None
    if query.not_before is None:
        if query.before is not None:
            raise _invalid("to", "Needs `from` as well")
        return _check_length(_until_now(_SPANS_H[query.span or "24h"], query.by, zone, now))
    if query.span is not None:
        raise _invalid("span", "Contradicts `from`: send one of them")
    before = query.before or now
    if before <= query.not_before:
        raise _invalid("to" if query.before else "from", "Must be later than `from`")
    by = query.by or ("hour" if before - query.not_before < _WEEK else "day")
    return _check_length(Span(query.not_before, before, by, zone))


def _until_now(hours: int, by: By | None, zone: tzinfo | None, now: datetime) -> Span:
    """Return the span that ends with the current bucket."""
    by = by or ("hour" if hours <= _DAY_H else "day")
    before = end_of_bucket(now, by, zone or UTC)
    if by == "hour":
        return Span(before - timedelta(hours=hours), before, by, zone)
    first_day = before.astimezone(zone or UTC).date() - timedelta(hours=hours)
    return Span(midnight(first_day, zone or UTC), before, by, zone)


def _check_length(span: Span) -> Span:
    if (span.before - span.not_before) / timedelta(seconds=span.bucket_s) > MAX_BUCKETS:
        what = "by" if span.by == "hour" else "from"
        raise _invalid(what, f"More than {MAX_BUCKETS} buckets: choose a shorter span, or longer buckets")
    return span


def _invalid(parameter: str, detail: str) -> InvalidBody:
    return InvalidBody([{"path": f"?{parameter}", "detail": detail}])
