"""`?explain=true`: what a call would do, told without doing it."""

from typing import Annotated, Any

from flask.globals import request_ctx
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from conversation.api import pagination
from logging_store.records.models import Interaction

_WOULD = {
    "created": "create",
    "filled": "fill",
    "duplicate": "nothing",
    "conflict": "conflict",
    "rejected": "reject",
}


def _truth(text: object) -> bool:
    if text not in {"true", "false"}:
        raise PydanticCustomError("truth", "Must be true or false")
    return text == "true"


class Query(BaseModel):
    """What a call takes that can be explained. It refuses other parameters, or a misspelled one would write."""

    model_config = ConfigDict(extra="forbid")

    explain: Annotated[
        bool, Field(description="Tell what the call would do, and write nothing"), BeforeValidator(_truth)
    ] = False


def is_asked_for() -> bool:
    """Tell whether this request shall be explained. Raises `InvalidBody` for a query string that isn't understood."""
    sent = request_ctx.request
    return bool(sent.query_string) and pagination.read(sent, Query).explain


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
