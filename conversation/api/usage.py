"""Tokens and cost of each user in a span of time."""

from datetime import UTC, datetime
from typing import Annotated, Any

from flask import Blueprint, Response, jsonify, request
from pydantic import Field

from conversation import access
from conversation.api import caller, cursors, pagination, pricing
from conversation.api.openapi import describe
from conversation.api.overview import Cost, UserActivity, eras_of, parse_span, priced, scale_activity, scale_row
from conversation.api.schemas import ResponseModel
from conversation.api.spans import Span
from logging_store import operations as ops

blueprint = Blueprint("usage", __name__)

#: The most interactions of which sums are exact. Of more, a sample is read.
_MOST_ROWS, _SAMPLE = 200_000, 100_000


class TotalUsage(Cost):
    interactions: int


class Usage(ResponseModel):
    """`total` is of all users, and of sessions without one."""

    not_before: Annotated[datetime, Field(alias="from")]
    before: Annotated[datetime, Field(alias="to")]
    looked_at: Annotated[
        float,
        Field(
            description="The share of the span that was read: 1 if the sums are exact, else they are scaled up from it"
        ),
    ]
    total: TotalUsage
    user_count: Annotated[int, Field(description="How many users were found in what was read")]
    users: Annotated[list[UserActivity], Field(description="Those with the most tokens first")]
    next: str | None


@blueprint.get("/v1/usage")
@access.requires("read", heavy=True)
@describe(
    "Sum up the tokens and the cost of each user in a span of time", None, {200: Usage}, query=pagination.UsageQuery
)
def get_usage() -> Response:
    query = pagination.read(request, pagination.UsageQuery)
    span = parse_span(query.overview(), datetime.now(UTC))
    return jsonify(build_usage(span, query))


def build_usage(span: Span, query: pagination.UsageQuery) -> dict[str, Any]:
    """Return the usage of a span, in the shape of `Usage`."""
    eras = eras_of(span)
    asked: ops.UsageQuery = {
        "from": span.not_before.isoformat(),
        "to": span.before.isoformat(),
        "limit": query.limit,
        "most": _MOST_ROWS,
        "sample": _SAMPLE,
        "tiers": list(pricing.tiers()),
        "eras": [at.isoformat() for at in pricing.prices().changes(span.not_before, span.before)],
    }
    if query.user_id is not None:
        asked["user_id"] = query.user_id
    if query.after is not None:
        asked["after"] = query.after
    found = caller.repository().usage(asked)
    share = found["share"]
    return Usage.arrange(
        {
            "from": span.not_before,
            "to": span.before,
            "looked_at": share,
            "total": TotalUsage.arrange(scale_row(priced(found["total"], eras), share)),
            "user_count": found["user_count"],
            "users": [UserActivity.arrange(scale_activity(priced(row, eras), share)) for row in found["users"]],
            "next": cursors.usage_cursor(found["after"]),
        }
    )
