"""The overview of a span of time: counts, latencies, costs and errors, scaled from a sample if need be."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, NamedTuple
from uuid import UUID

from flask import Blueprint, Response, jsonify, request
from pydantic import Field

from conversation import access
from conversation.api import caller, pagination, pricing
from conversation.api.openapi import describe
from conversation.api.requests import InvalidBody
from conversation.api.schemas import ResponseModel
from logging_store import operations as ops

blueprint = Blueprint("overview", __name__)


class Span(NamedTuple):
    """The time of an overview, from `not_before` until `before`, in buckets of `bucket_s` seconds since 1970."""

    not_before: datetime
    before: datetime
    bucket_s: int

    def buckets(self) -> list[datetime]:
        step = timedelta(seconds=self.bucket_s)
        first = floor(self.not_before, self.bucket_s)
        return [first + n * step for n in range(-((first - self.before) // step))]


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
    """In US dollars: `cost_usd` as callers sent it, `estimated_cost_usd` by public prices for the other interactions.

    `without_cost`: interactions in neither sum, because their tokens or their model's price are unknown.
    """

    input_tokens: int
    output_tokens: int
    cost_usd: float
    estimated_cost_usd: float
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


class UserActivity(ResponseModel):
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
    bucket_s: int
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
        models = [_priced(row, span.before) for row in interactions["models"]]
        estimated = sum(model["estimated"] for model in models)
        return cls.arrange(
            {
                "from": span.not_before,
                "to": span.before,
                "bucket_s": span.bucket_s,
                "looked_at": {"interactions": share, "failures": failures["share"], "sessions": sessions["share"]},
                "total": Total.arrange(
                    _scale_row(
                        {
                            **total,
                            "cost_usd": float(total["cost_usd"]),
                            "without_cost": total["interactions"] - total["priced"] - estimated,
                            "estimated_cost_usd": sum(model["estimated_cost_usd"] for model in models),
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
                "models": [ModelUse.arrange(_scale_row(model, share)) for model in models],
                "model_count": total["models"],
                "users": [UserActivity.arrange(_scale_activity(row, share)) for row in interactions["users"]],
                "folders": [FolderActivity.arrange(_scale_activity(row, share)) for row in interactions["folders"]],
                "errors": [ErrorCount.arrange(_scale_row(row, failures["share"])) for row in failures["errors"]],
            }
        )


def floor(time: datetime, seconds: int) -> datetime:
    """Return the start of the bucket of a time."""
    epoch = datetime.fromtimestamp(0, UTC)
    return time - (time - epoch) % timedelta(seconds=seconds)


def _priced(row: ops.ModelActivity, at: datetime) -> dict[str, Any]:
    """Return a model's row with its cost by the prices `at` a time, and the number of interactions without one."""
    costs = [
        (size["interactions"], pricing.estimate_sum(row["model"], row["provider"], **size, at=at))
        for size in row["sizes"]
    ]
    estimated = sum(count for count, cost in costs if cost is not None)
    return {
        **row,
        "estimated": estimated,
        "cost_usd": float(row["cost_usd"]),
        "estimated_cost_usd": float(sum(cost for _, cost in costs if cost is not None)),
        "without_cost": row["interactions"] - row["priced"] - estimated,
    }


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
            values = _scale_row(bucket, share) | {"at": at}
            if "latency_ms" in values:
                values["latency_ms"] = Percentiles.of(values["latency_ms"])
            rows[at] |= values
    return [Bucket.arrange(row) for row in rows.values()]


def _scale_activity(row: Mapping[str, Any], share: float) -> dict[str, Any]:
    """Return a row scaled up; its sessions are unknown then, as a sample doesn't show how many there are."""
    return _scale_row(row, share) | ({"sessions": None} if share < 1 else {})


def _scale_row(row: Mapping[str, Any], share: float) -> dict[str, Any]:
    return {name: _scale(value, share) if type(value) in {int, float} else value for name, value in row.items()}


def _scale(value: float, share: float) -> float:
    """Return a count or a sum scaled up from a share of the span."""
    if share == 1:
        return value
    return round(value / share) if isinstance(value, int) else value / share


HOUR_S, DAY_S = 3600, 86400
_SPANS_H = {"24h": 24, "7d": 7 * 24, "30d": 30 * 24, "90d": 90 * 24}
_BY = {"hour": HOUR_S, "day": DAY_S}
_MAX_BUCKETS = 750  # a month of hours, two years of days

#: The most rows that an overview reads, about a second's work. Beyond, it reads a sample, which takes half of that.
_MOST_ROWS, _SAMPLE, _MOST_FAILURES = 150_000, 50_000, 10_000
_TOP, _TOP_MODELS = 10, 50


@blueprint.get("/v1/overview")
@access.requires("read")
@describe("Sum up a span of time", None, {200: Overview}, query=pagination.OverviewQuery)
def get_overview() -> Response:
    return jsonify(build_overview(parse_span(pagination.read(request, pagination.OverviewQuery), datetime.now(UTC))))


def build_overview(span: Span) -> dict[str, Any]:
    """Return the overview of a span, in the shape of `Overview`."""
    return Overview.of(span, caller.repository().overview(query_of(span)))


def query_of(span: Span) -> ops.OverviewQuery:
    """Return the store's query for a span."""
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


def parse_span(query: pagination.OverviewQuery, now: datetime) -> Span:
    """Return the span of a query. Raises `InvalidBody`, naming the parameter."""
    if query.not_before is None:
        if query.before is not None:
            raise _invalid("to", "Needs `from` as well")
        hours = _SPANS_H[query.span or "24h"]
        bucket_s = _BY[query.by or ("hour" if hours <= 24 else "day")]  # noqa: PLR2004 - a day of hours
        before = floor(now, bucket_s) + timedelta(seconds=bucket_s)  # to the end of the current bucket
        return _check_length(Span(before - timedelta(hours=hours), before, bucket_s))
    if query.span is not None:
        raise _invalid("span", "Contradicts `from`: send one of them")
    before = query.before or now
    if before <= query.not_before:
        raise _invalid("to" if query.before else "from", "Must be later than `from`")
    by = query.by or ("hour" if before - query.not_before < timedelta(days=7) else "day")
    return _check_length(Span(query.not_before, before, _BY[by]))


def _check_length(span: Span) -> Span:
    if (span.before - span.not_before) / timedelta(seconds=span.bucket_s) > _MAX_BUCKETS:
        what = "from" if span.bucket_s == DAY_S else "by"
        raise _invalid(what, f"More than {_MAX_BUCKETS} buckets: choose a shorter span, or days instead of hours")
    return span


def _invalid(parameter: str, detail: str) -> InvalidBody:
    return InvalidBody([{"path": f"?{parameter}", "detail": detail}])
