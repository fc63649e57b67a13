"""`?dry_run=true`: returns what a call would do, without doing it."""

from typing import Annotated, Any

from flask.globals import request_ctx
from pydantic import BaseModel, ConfigDict, Field

from conversation.api import pagination
from logging_store.records.models import Interaction

_WOULD = {
    "created": "create",
    "filled": "fill",
    "duplicate": "nothing",
    "revised": "revise",
    "conflict": "conflict",
    "rejected": "reject",
}


class Query(BaseModel):
    """The query of calls with a dry run. Unknown parameters are refused: a mistyped `dry_run` would write."""

    model_config = ConfigDict(extra="forbid")

    dry_run: Annotated[pagination.Flag, Field(description="Return what the call would do, and change nothing")] = False


def requested() -> bool:
    """Return whether this request is a dry run. Raises `InvalidBody` if the query string is invalid."""
    request = request_ctx.request
    return bool(request.query_string) and pagination.read(request, Query).dry_run


def interaction_plan(record: Interaction, receipt: dict[str, Any]) -> dict[str, Any]:
    """Return the plan for an interaction from its receipt; ids that would be generated are null."""
    plan = receipt_as_plan(receipt)
    if record.key is None:  # a generated id would be another one each time
        if record.interaction_id is None:
            plan["interaction_id"] = None
        if record.session_id is None:
            plan["session_id"] = None
    return plan


def receipt_as_plan(receipt: dict[str, Any]) -> dict[str, Any]:
    """Return a receipt with `would` in place of `receipt`."""
    plan = {"would": _WOULD[receipt["receipt"]]} | receipt
    del plan["receipt"]
    return plan
