"""`?dry_run=true`: what a call would do, answered without doing it."""

from typing import Annotated, Any

from flask.globals import request_ctx
from pydantic import BaseModel, ConfigDict, Field

from conversation.api import pagination
from logging_store.records.models import Interaction

_WOULD = {
    "created": "create",
    "filled": "fill",
    "duplicate": "nothing",
    "conflict": "conflict",
    "rejected": "reject",
}


class Query(BaseModel):
    """What a call takes that has a dry run. It refuses other parameters, or a misspelled one would write."""

    model_config = ConfigDict(extra="forbid")

    dry_run: Annotated[pagination.Flag, Field(description="Answer what the call would do, and change nothing")] = False


def requested() -> bool:
    """Tell whether this request is a dry run. Raises `InvalidBody` for a query string that isn't understood."""
    sent = request_ctx.request
    return bool(sent.query_string) and pagination.read(sent, Query).dry_run


def plan_of(stated: Interaction, told: dict[str, Any]) -> dict[str, Any]:
    """Return what would become of an interaction, from what was told of it."""
    plan = would(told)
    if stated.key is None:  # what has no name yet gets a new id each time
        if stated.interaction_id is None:
            plan["interaction_id"] = None
        if stated.session_id is None:
            plan["session_id"] = None
    return plan


def would(told: dict[str, Any]) -> dict[str, Any]:
    """Return an item's receipt as a plan."""
    plan = {"would": _WOULD[told["receipt"]]} | told
    del plan["receipt"]
    return plan
