"""What the API answers of a span of time: the store's figures, counted up to all of it and priced."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, NamedTuple
from uuid import UUID

from pydantic import Field

from conversation.api import pricing
from conversation.api.schemas import Answer
from logging_store import operations as ops


class Span(NamedTuple):
    """The time that an overview is of, in parts of so many seconds, counted from 1970 on."""

    not_before: datetime
    before: datetime
    bucket_s: int

    def buckets(self) -> list[datetime]:
        step = timedelta(seconds=self.bucket_s)
        first = floor(self.not_before, self.bucket_s)
        return [first + n * step for n in range(-((first - self.before) // step))]


class Percentiles(Answer):
    """In milliseconds; null where nobody said."""

    p50: float | None
    p95: float | None

    @classmethod
    def of(cls, values: Sequence[float | None] | None) -> dict[str, Any]:
        return dict(zip(("p50", "p95"), values or (None, None), strict=True))


class Shares(Answer):
    """Which share of the span's time was looked at: below 1, counts and sums are estimates, made from that share."""

    interactions: float
    failures: float
    sessions: float


class Cost(Answer):
    """In US dollars: `cost_usd` is what callers stated, `estimated_cost_usd` is by public prices for what they didn't.

    `without_cost` of the interactions are in neither, since their tokens or their model's price aren't known.
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
    sessions: Annotated[int, Field(description="That began in this time")]
    latency_ms: Percentiles
    time_to_first_token_ms: Percentiles


class Bucket(Answer):
    """What began in one part of the span."""

    at: datetime
    interactions: int
    failed: int
    sessions: int
    latency_ms: Percentiles


class ModelUse(Cost):
    model: str | None
    provider: str | None
    interactions: int


_SESSIONS = Field(description="In which those were; null where only a share was looked at")


class UserActivity(Answer):
    user_id: str
    interactions: int
    sessions: Annotated[int | None, _SESSIONS]


class FolderActivity(Answer):
    folder_id: UUID
    key: str | None
    name: str | None
    interactions: int
    sessions: Annotated[int | None, _SESSIONS]


class ErrorCount(Answer):
    error: Annotated[
        str | None, Field(description="Without what differs each time, such as ids; null: none was stated")
    ]
    interactions: int


class Overview(Answer):
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
        """Return what a store found in a span, as it is answered."""
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
                    _scaled(
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
                "models": [ModelUse.arrange(_scaled(model, share)) for model in models],
                "model_count": total["models"],
                "users": [UserActivity.arrange(_active(row, share)) for row in interactions["users"]],
                "folders": [FolderActivity.arrange(_active(row, share)) for row in interactions["folders"]],
                "errors": [ErrorCount.arrange(_scaled(row, failures["share"])) for row in failures["errors"]],
            }
        )


def floor(time: datetime, seconds: int) -> datetime:
    """Return the beginning of the part that a time lies in."""
    epoch = datetime.fromtimestamp(0, UTC)
    return time - (time - epoch) % timedelta(seconds=seconds)


def _priced(row: ops.ModelActivity, at: datetime) -> dict[str, Any]:
    """Return a model's row with what it cost by the prices `at` a time, and for how many interactions that is."""
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
    """Return one row for each part of the span, also where nothing was."""
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
            stated = _scaled(bucket, share) | {"at": at}
            if "latency_ms" in stated:
                stated["latency_ms"] = Percentiles.of(stated["latency_ms"])
            rows[at] |= stated
    return [Bucket.arrange(row) for row in rows.values()]


def _active(row: Mapping[str, Any], share: float) -> dict[str, Any]:
    """Return a row of who was active; how many sessions a share met says little of how many there are."""
    return _scaled(row, share) | ({"sessions": None} if share < 1 else {})


def _scaled(row: Mapping[str, Any], share: float) -> dict[str, Any]:
    return {name: _scale(value, share) if type(value) in {int, float} else value for name, value in row.items()}


def _scale(value: float, share: float) -> float:
    """Return what a count or a sum of a share of the time would be in all of it."""
    if share == 1:
        return value
    return round(value / share) if isinstance(value, int) else value / share
