"""Interactions: log one, and the receipts that batches share. One record is written as a batch of one."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from flask import Blueprint, Response
from pydantic import BaseModel, ConfigDict, Field, RootModel

from conversation import access
from conversation.api import caller, dry_run, problems, requests, responses
from conversation.api.openapi import describe
from conversation.api.schemas import Altered, FieldProblem, ResponseModel, Stored
from logging_store.records.models import Interaction, InteractionStatus, LoggedInteraction
from logging_store.repository import WriteResult

blueprint = Blueprint("interactions", __name__)

Would = Literal["create", "fill", "nothing", "revise", "conflict", "reject"]


class Alternative(ResponseModel):
    """An interaction that stands in the same place. `current`: it is on the current branch."""

    interaction_id: UUID
    key: str | None
    current: bool


class Question(ResponseModel):
    """What an interaction asked. `asked_at`: when it began, or arrived."""

    interaction_id: UUID
    key: str | None
    participant: str | None
    prompt: str | list[dict[str, Any]]
    asked_at: datetime


class InteractionView(ResponseModel):
    """`alternatives`: all that follow the same interaction, itself included, in the order said; empty if it is alone.

    At most the 50 before and the 50 after it. `chosen_at`: when it was last chosen among them.
    `question`: of an answer without a prompt of its own, what the interaction asked in whose place it stands; null with
    `branches=all`, which has that interaction.
    """

    interaction_id: UUID
    key: str | None
    session_id: UUID
    prompt: str | list[dict[str, Any]] | None
    context: Annotated[
        list[dict[str, Any]] | None, Field(description="Null without `context=true`, and while it is spooled")
    ]
    response: str | list[dict[str, Any]] | None
    model: str | None
    provider: str | None
    status: InteractionStatus
    error: str | None
    finish_reason: str | None
    started_at: datetime | None
    completed_at: datetime | None
    latency_ms: float | None
    time_to_first_token_ms: float | None
    input_tokens: int | None
    output_tokens: int | None
    cached_input_tokens: int | None
    cache_write_tokens: int | None
    reasoning_tokens: int | None
    cost_usd: float | None
    participant: str | None
    reply_to: UUID | None
    alternative_to: UUID | None
    chosen_at: datetime | None
    alternatives: list[Alternative]
    question: Question | None
    turn: int | None
    trace_id: str | None
    span_id: str | None
    tags: list[str]
    metadata: dict[str, Any]
    created_at: datetime
    erased_at: Annotated[datetime | None, Field(description="Set on a tombstone, whose texts were erased")]
    text_expired_at: Annotated[
        datetime | None,
        Field(description="Set if its texts expired: prompt and response are `[expired]`, the error is its beginning"),
    ]
    spooled: bool

    @classmethod
    def arrange(cls, row: Mapping[str, Any]) -> dict[str, Any]:
        question = row.get("question")
        return super().arrange({**row, "question": question and Question.arrange(question)}) | {
            "alternatives": [Alternative.arrange(each) for each in row["alternatives"]]
        }


class Transcript(ResponseModel):
    """`complete` is false while the store is unavailable: then only spooled interactions are listed."""

    session_id: UUID
    key: str | None
    interactions: list[InteractionView]
    complete: bool
    next: str | None


class TurnRange(ResponseModel):
    """Turns that no interaction has, both ends included."""

    first: Annotated[int, Field(alias="from")]
    last: Annotated[int, Field(alias="to")]


class DoubledTurn(ResponseModel):
    turn: int
    interactions: int


class Gaps(ResponseModel):
    """Missing and repeated turns of the caller's own counter, between the lowest and the highest (`first`, `last`).

    Turns missing before `first` or after `last` can't be known; a session that begins at turn 5 has `first` 5.
    `gap_count` and `doubled_count` count all of them; the lists may hold only the lowest.
    """

    session_id: UUID
    key: str | None
    first: int | None
    last: int | None
    counted: Annotated[int, Field(description="Interactions that have a turn")]
    missing: Annotated[int, Field(description="Turns between first and last that no interaction has")]
    gap_count: int
    gaps: list[TurnRange]
    doubled_count: int
    doubled: Annotated[list[DoubledTurn], Field(description="Turns that several interactions have")]

    @classmethod
    def arrange(cls, row: Mapping[str, Any]) -> dict[str, Any]:
        return super().arrange(row) | {
            "gaps": [TurnRange.arrange(gap) for gap in row["gaps"]],
            "doubled": [DoubledTurn.arrange(turn) for turn in row["doubled"]],
        }


class InteractionStored(ResponseModel):
    """`fields`: those that this call filled; of a `revised` record, those that differ from what was stored.

    `reason`: `older` for a `revised` record that isn't shown, or not in all fields.
    """

    session_id: UUID
    session_key: str | None
    interaction_id: UUID
    interaction_key: str | None
    receipt: Stored
    fields: list[str]
    reason: str | None = None
    altered: Altered


class InteractionSpooled(ResponseModel):
    """The store is unavailable: the record is in the spool on the service's disk and is delivered later."""

    session_id: UUID
    session_key: str | None
    interaction_id: UUID
    interaction_key: str | None
    receipt: Literal["spooled"]
    fields: list[str]
    altered: Altered


class InteractionReceipt(BaseModel):
    """The receipt of one item. `fields`: the fields that were filled, or those that are wrong, with reasons."""

    model_config = ConfigDict(extra="allow")

    fields: list[str] | list[FieldProblem]
    altered: Altered
    session_id: UUID | None = None
    session_key: str | None = None
    interaction_id: UUID | None = None
    interaction_key: str | None = None
    key: Annotated[dict[str, str | int | bool | float], Field(description="As it was sent")] = {}
    held_by: Annotated[UUID | None, Field(description="The stored record that this one contradicts")] = None
    differs: Annotated[list[FieldProblem], Field(description="Fields that were not stored, although others were")] = []
    reason: str | None = None
    indexes: Annotated[list[int], Field(description="The items with this key, if there are several")] = []


class InteractionPlan(InteractionReceipt):
    """What logging this would do. Ids that would be generated are null."""

    would: Would


class InteractionResponse(RootModel[InteractionStored | InteractionPlan]):
    """The receipt, or with `dry_run=true` the plan."""


_SEVERAL = 'Send several with POST /v1/interactions/batch as {"interactions": […]}'


def interaction_ids(result: WriteResult) -> dict[str, Any]:
    session, interaction = result.session, result.interaction
    if interaction is None:
        return {"session_id": session.id, "session_key": session.key}
    return {
        "session_id": session.id,
        "session_key": session.key,
        "interaction_id": interaction.id,
        "interaction_key": interaction.key,
    }


def base_receipt(result: WriteResult, path: Sequence[str | int] = ()) -> dict[str, Any]:
    """Return what every receipt has: ids, outcome, the fields it concerns, and those that were altered to be stored.

    `path`: the record's place in the request's body.
    """
    body = interaction_ids(result)
    body["receipt"] = result.receipt.receipt
    body["fields"] = result.receipt.fields
    if result.receipt.receipt == "revised" and result.receipt.reason:
        body["reason"] = result.receipt.reason
    body |= requests.altered(path)
    return body


def identifiers(record: Interaction, result: WriteResult) -> dict[str, Any]:
    """Return an interaction's ids, its key of several parts as sent, and after a conflict the stored record's id."""
    names = interaction_ids(result)
    if record.key is not None:
        names["key"] = record.key
    if result.receipt.receipt == "conflict" and result.receipt.fields:
        names["held_by"] = names["interaction_id"]
    return names


def receipt_payload(record: Interaction, result: WriteResult, path: Sequence[str | int] = ()) -> dict[str, Any]:
    """Return the full receipt of an interaction. `path`: its place in the request's body."""
    receipt, item = result.receipt, base_receipt(result, path)
    if record.key is not None:
        item["key"] = record.key
    elif receipt.acknowledged and not receipt.differs:  # nearly always
        return item
    if receipt.differs:
        item["differs"] = requests.listed_conflicts(_field_problems(receipt.differs, None, path, ", and stays"), path)
    if not receipt.acknowledged:
        item |= identifiers(record, result)
        detail = receipt.reason if receipt.receipt == "rejected" else None
        item["fields"] = requests.listed_conflicts(_field_problems(receipt.fields, detail, path), path)
        if receipt.constraint:
            item |= problems.constraint_details(receipt)
    if receipt.reason:
        item["reason"] = receipt.reason
    return item


@blueprint.post("/v1/interactions")
@access.requires("log", restricted=True)
@describe(
    "Log an interaction; its session is ensured in the same transaction",
    LoggedInteraction,
    {201: InteractionStored, 200: InteractionResponse, 202: InteractionSpooled},
    query=dry_run.Query,
)
def log_interaction() -> Response:
    if dry_run.requested():
        record = requests.read(LoggedInteraction, _SEVERAL)
        (result,) = caller.repository().dry_run([record])
        return responses.json_response(200, dry_run.interaction_plan(record, receipt_payload(record, result)))
    record = caller.read_record(LoggedInteraction, _SEVERAL)
    (result,) = caller.repository().log([record])
    if not result.receipt.acknowledged:
        return problems.receipt_problem(result.receipt, identifiers(record, result))
    return responses.json_response(responses.status_of(result.receipt), base_receipt(result))


def _field_problems(
    fields: Sequence[str], detail: str | None, path: Sequence[str | int], more: str = ""
) -> list[dict[str, str]]:
    """Return an entry for each field. `detail`: None for those that contradict what is stored."""
    return [
        {
            "path": requests.json_path((*path, *field.split(".", 1))),
            "detail": detail or problems.contradiction(field) + more,
        }
        for field in fields
    ]
